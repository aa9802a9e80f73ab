#![doc = include_str!("ARCHITECTURE.md")]
#![deny(unsafe_code)]

// In reading order, low to high; see "Which part may import which" in ARCHITECTURE.md. All are
// private, so that the compiler finds what nobody uses.
mod files;
mod model;

mod diagnose;
mod plan;
mod question;
mod supervisor;
mod trace;

mod canary;
mod cli;
mod observe;
mod record;
mod sink;
#[expect(unsafe_code, reason = "the one gate to the kernel: thin, typed, checked")]
mod sys;

mod nanny;
mod telemetry;

mod run;

pub mod programs;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

/// What this project's own tests and benches use. It is not an interface: it changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::cli::nanny::vocabulary;
    pub use crate::model::crash::CrashReport;
    pub use crate::model::redact::{HIDDEN, Redactor};
    pub use crate::model::sample::{SeenProcess, TreeSample};
    pub use crate::model::verdict::VerdictKind;
    pub use crate::model::{proc_stat, process, shell, signal, time};
    pub use crate::observe::crash::CrashSource;
    pub use crate::observe::files::Files;
    pub use crate::observe::sampler;
    pub use crate::record::key;
    pub use crate::record::recorder::Recorder;
    pub use crate::record::row::{Column, Header, Row, RowEvent};
    pub use crate::record::write::{Kept, Writer};
    pub use crate::sys::{clock, wait};
    pub use crate::telemetry::metrics::catalogue::FAMILIES;
    pub use crate::telemetry::metrics::metric::MetricKind;
    pub use crate::trace::fault::Fault;
    pub use crate::trace::registers::Registers;
}
