//! Partial success: a receiver accepted an export and rejected some of its items.
//!
//! The exporters return success then, and report the answer as an event of `tracing`, for HTTP and for gRPC
//! alike. This subscriber takes in these events of one thread and no others.

use std::fmt::Debug;
use std::sync::Arc;

use tracing_core::dispatcher::{self, DefaultGuard};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Dispatch, Event, Level, LevelFilter, Metadata, Subscriber};

use crate::model::pipeline::Pipeline;
use crate::telemetry::published::Published;
use crate::telemetry::warn::Warnings;

/// The crate whose events are taken in.
const TARGET: &str = "opentelemetry-otlp";

/// Returns the field that holds the number of rejected items, and the kind under which it is reported once.
const fn names(pipeline: Pipeline) -> (&'static str, &'static str) {
    match pipeline {
        Pipeline::Traces => ("rejected_spans", "rejected traces"),
        Pipeline::Metrics => ("rejected_data_points", "rejected metrics"),
        Pipeline::Logs => ("rejected_log_records", "rejected logs"),
    }
}

/// Counts and reports rejected items of this thread's exports until the guard is dropped.
pub fn report(published: &Arc<Published>, warnings: &Arc<Warnings>) -> DefaultGuard {
    let reporter = Reporter { published: Arc::clone(published), warnings: Arc::clone(warnings) };
    dispatcher::set_default(&Dispatch::new(reporter))
}

struct Reporter {
    published: Arc<Published>,
    warnings: Arc<Warnings>,
}

impl Subscriber for Reporter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET && metadata.is_event() && *metadata.level() == Level::WARN
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut rejected = Rejected::default();
        event.record(&mut rejected);
        let Some((pipeline, count)) = rejected.items else { return };
        self.published.note_health(|health| health.dropped[pipeline] += count);
        let what = match count {
            0 => "the receiver warns".to_owned(),
            count => format!("the receiver rejected {count} item(s)"),
        };
        let reason = if rejected.reason.is_empty() { "no reason given" } else { &rejected.reason };
        let text = format!("OTLP {}: {what}: {reason}", pipeline.word());
        self.warnings.once(names(pipeline).1, &text);
    }

    // Spans are not enabled, so none of these is called.

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What such an event says.
#[derive(Default)]
struct Rejected {
    /// Of which pipeline, and how many.
    items: Option<(Pipeline, u64)>,
    reason: String,
}

impl Visit for Rejected {
    fn record_i64(&mut self, field: &Field, value: i64) {
        let is_its = |pipeline: &Pipeline| names(*pipeline).0 == field.name();
        let pipeline = Pipeline::ALL.into_iter().find(is_its);
        if let Some(pipeline) = pipeline {
            self.items = Some((pipeline, u64::try_from(value).unwrap_or(0)));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "error_message" {
            // What a stranger sends goes into one line of bounded length.
            self.reason = value.chars().take(200).collect();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}
