//! The span of one attempt, and what an attempt used as attributes.

use std::path::Path;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Status};
use opentelemetry_sdk::trace::Span;

use crate::model::outcome::{SpawnFailure, Termination};
use crate::model::usage::ResourceUsage;
use crate::model::verdict::VerdictKind;

/// The span of an attempt that goes on.
pub(super) struct AttemptSpan {
    pub(super) span: Span,
    /// How many events it has.
    pub(super) events: usize,
}

impl AttemptSpan {
    /// Names the program: by the file that runs, or by the command if that cannot be read.
    pub(super) fn executed(&mut self, path: Option<&Path>, command: &str) {
        let name = path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| command.to_owned());
        self.span.set_attribute(KeyValue::new("process.executable.name", name));
        if let Some(path) = path {
            let path = path.to_string_lossy().into_owned();
            self.span.set_attribute(KeyValue::new("process.executable.path", path));
        }
    }

    pub(super) fn not_started(&mut self, failure: &SpawnFailure) {
        let code = i64::from(failure.exit_status());
        self.span.set_attribute(KeyValue::new("process.exit.code", code));
        let errno = nix::errno::Errno::from_raw(failure.errno);
        self.span.set_attribute(KeyValue::new("childminder.exec.errno", format!("{errno:?}")));
    }

    pub(super) fn judged(&mut self, kind: VerdictKind, end: Option<Termination>) {
        if let Some(end) = end {
            let code = i64::from(end.exit_status());
            self.span.set_attribute(KeyValue::new("process.exit.code", code));
        }
        if let Some(Termination::Signaled { signal, .. }) = end {
            let name = signal.to_string();
            self.span.set_attribute(KeyValue::new("childminder.exit.signal", name));
        }
        self.span.set_attribute(KeyValue::new("childminder.verdict", kind.word()));
        if kind.is_success() {
            return;
        }
        self.span.set_attribute(KeyValue::new("error.type", kind.word()));
        // The evidence names processes, which would make each text another one.
        self.span.set_status(Status::error(kind.word()));
    }
}

pub(super) fn usage_attributes(usage: &ResourceUsage) -> impl Iterator<Item = KeyValue> {
    let (seconds, counts) = usage_values(usage);
    let seconds = seconds.map(|(name, value)| KeyValue::new(name, value));
    seconds.into_iter().chain(counts.map(|(name, value)| KeyValue::new(name, value)))
}

/// Names and values.
type Numbers<T> = [(&'static str, T); 2];

/// What an attempt used, by the names of attributes of spans and log records.
pub(super) fn usage_values(usage: &ResourceUsage) -> (Numbers<f64>, Numbers<i64>) {
    let kib = i64::try_from(usage.max_rss_kib).unwrap_or(i64::MAX);
    let faults = i64::try_from(usage.major_faults).unwrap_or(i64::MAX);
    (
        [
            ("childminder.child.cpu_user_seconds", usage.user.as_secs_f64()),
            ("childminder.child.cpu_system_seconds", usage.system.as_secs_f64()),
        ],
        [
            ("childminder.child.max_rss_bytes", kib.saturating_mul(1024)),
            ("childminder.child.major_faults", faults),
        ],
    )
}
