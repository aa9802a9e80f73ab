//! The names that spans, log records and metrics have in common.

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::Severity;

use crate::model::event::Event;
use crate::model::tracing::TraceEvent;

/// Returns the name and the severity of an event that is worth a record.
#[must_use]
pub fn name_and_severity(event: &Event) -> Option<(&'static str, Severity)> {
    Some(match event {
        Event::Started { .. } => ("childminder.attempt.start", Severity::Info),
        Event::StartFailed { .. } => ("childminder.attempt.start_failed", Severity::Error),
        Event::Judged(verdict) if verdict.kind.is_success() => {
            ("childminder.attempt.end", Severity::Info)
        }
        Event::Judged(_) => ("childminder.attempt.end", Severity::Warn),
        Event::Crashed(_) => ("childminder.crash", Severity::Error),
        Event::Restarting { .. } => ("childminder.attempt.backoff", Severity::Info),
        Event::RestartsExhausted { .. } | Event::RestartRefused { .. } => {
            ("childminder.restart.refused", Severity::Warn)
        }
        Event::Received(_) => ("childminder.signal.received", Severity::Info),
        Event::Traced(TraceEvent::Delivered { .. }) => {
            ("childminder.trace.signal", Severity::Debug)
        }
        Event::Traced(TraceEvent::Ended { .. }) => ("childminder.trace.end", Severity::Debug),
        Event::Forwarded { .. } => ("childminder.signal.sent", Severity::Info),
        Event::Stopped { .. } => ("childminder.child.stopped", Severity::Info),
        Event::Continued { .. } => ("childminder.child.continued", Severity::Info),
        Event::TimedOut { .. } => ("childminder.timeout", Severity::Warn),
        Event::Killing { .. } => ("childminder.escalation", Severity::Warn),
        Event::OrphanEnded { .. } => ("childminder.orphan.reaped", Severity::Debug),
        Event::Called { is_right: false, .. } => ("childminder.canary.mismatch", Severity::Error),
        _ => return None,
    })
}

/// The instrumentation scope of all that we send.
#[must_use]
pub fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("childminder")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url("https://opentelemetry.io/schemas/1.42.0")
        .build()
}
