//! What is said of exports by OTLP that failed: address and cause, once, with the signals that it is about.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use opentelemetry_sdk::error::OTelSdkError;

use crate::model::pipeline::{PerPipeline, Pipeline};
use crate::model::shared::lock;
use crate::telemetry::warn::Warnings;

/// Why an export failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExportCause {
    /// Nobody answered: it is the same for all signals that go to that address.
    Unreachable(String),
    /// The answer to this signal, or a configuration that nothing can be sent with.
    Refused(String),
}

impl ExportCause {
    /// `connection` is what the HTTP client knows of a request that had no answer.
    pub(super) fn of(error: &OTelSdkError, connection: Option<String>) -> ExportCause {
        let text = match (error, connection) {
            (OTelSdkError::InternalFailure(_), Some(cause)) => {
                return ExportCause::unreachable(&cause);
            }
            (OTelSdkError::InternalFailure(text), None) => text.clone(),
            (OTelSdkError::Timeout(_), _) => {
                return ExportCause::unreachable("no answer within the time limit");
            }
            (other, _) => other.to_string(),
        };
        // The exporters put their own name first: it says nothing to a user.
        let text = text.split_once(" export failed with ").map_or(&*text, |(_, rest)| rest);
        match text.split_once("transport error: ") {
            Some((_, cause)) => ExportCause::unreachable(cause),
            None => ExportCause::refused(&format!("the receiver answered {text}")),
        }
    }

    fn unreachable(text: &str) -> ExportCause {
        ExportCause::Unreachable(without_repetition(text))
    }

    pub(super) fn refused(text: &str) -> ExportCause {
        ExportCause::Refused(without_repetition(text))
    }

    fn text(&self) -> &str {
        match self {
            ExportCause::Unreachable(text) | ExportCause::Refused(text) => text,
        }
    }
}

/// An error of an error of an error: each part once.
fn without_repetition(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split(": ") {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// Failures of all signals, until they are reported.
pub(super) struct Failures {
    /// Where each signal goes, without passwords.
    addresses: PerPipeline<String>,
    waiting: Mutex<Vec<(Pipeline, ExportCause)>>,
    reported: Mutex<ReportedFailures>,
    warnings: Arc<Warnings>,
}

#[derive(Default)]
struct ReportedFailures {
    pipelines: BTreeSet<Pipeline>,
    unreachable: BTreeSet<(String, ExportCause)>,
}

impl Failures {
    pub(super) fn new(addresses: PerPipeline<String>, warnings: &Arc<Warnings>) -> Failures {
        let warnings = Arc::clone(warnings);
        Failures { addresses, waiting: Mutex::default(), reported: Mutex::default(), warnings }
    }

    /// Notes a failure of a signal.
    pub(super) fn note(&self, pipeline: Pipeline, cause: ExportCause) {
        lock(&self.waiting).push((pipeline, cause));
    }

    /// Says what was noted and not said before; signals with the same address and cause in one line.
    pub(super) fn report(&self) {
        let mut waiting = std::mem::take(&mut *lock(&self.waiting));
        let mut reported = lock(&self.reported);
        waiting.sort();
        waiting.dedup_by_key(|(pipeline, _)| *pipeline);
        waiting.retain(|(pipeline, cause)| {
            let is_known = matches!(cause, ExportCause::Unreachable(_))
                && reported
                    .unreachable
                    .contains(&(self.addresses[*pipeline].clone(), cause.clone()));
            reported.pipelines.insert(*pipeline) && !is_known
        });
        while let Some((pipeline, cause)) = waiting.first().cloned() {
            let address = &self.addresses[pipeline];
            let is_same = |(other, reason): &(Pipeline, ExportCause)| {
                self.addresses[*other] == *address && *reason == cause
            };
            let names: Vec<&str> =
                waiting.iter().filter(|one| is_same(one)).map(|one| one.0.word()).collect();
            let text = format!("OTLP {} could not be sent to {address}: ", listed(&names));
            self.warnings.problem(&(text + cause.text()));
            waiting.retain(|one| !is_same(one));
            reported.unreachable.insert((address.clone(), cause));
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(text: &str) -> OTelSdkError {
        OTelSdkError::InternalFailure(text.to_owned())
    }

    #[test]
    fn a_cause_is_said_once_and_without_names_of_types() {
        let unreachable = |text: &str| ExportCause::Unreachable(text.to_owned());
        for (error, connection, cause) in [
            (
                "TonicLogsClient export failed with gRPC code: Unavailable: transport error: \
                 dns error: dns error: failed to look up",
                None,
                unreachable("dns error: failed to look up"),
            ),
            (
                "TonicLogsClient export failed with gRPC code: Unavailable: transport error: \
                 bad certificate: A(B): bad certificate: A(B)",
                None,
                unreachable("bad certificate: A(B)"),
            ),
            (
                "network error",
                Some("tcp connect error: refused"),
                unreachable("tcp connect error: refused"),
            ),
            (
                "HTTP export failed with status code: 404",
                None,
                ExportCause::Refused("the receiver answered status code: 404".into()),
            ),
            (
                "TonicLogsClient export failed with gRPC code: Unauthenticated: no token",
                None,
                ExportCause::Refused(
                    "the receiver answered gRPC code: Unauthenticated: no token".into(),
                ),
            ),
        ] {
            assert_eq!(ExportCause::of(&failure(error), connection.map(str::to_owned)), cause);
        }
    }

    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn signals_of_one_address_and_cause_are_in_one_line() {
        let warnings = Arc::new(Warnings::new(|text| lock(&SAID).push(text.to_owned())));
        let [traces, metrics, logs] = ["http://a", "http://a", "http://b"].map(str::to_owned);
        let addresses = PerPipeline { traces, metrics, logs };
        let failures = Failures::new(addresses.clone(), &warnings);
        let refused = || ExportCause::Unreachable("refused".into());
        for pipeline in [Pipeline::Logs, Pipeline::Traces, Pipeline::Metrics] {
            failures.note(pipeline, refused());
        }
        failures.report();
        failures.note(Pipeline::Traces, refused());
        failures.report();
        let said = std::mem::take(&mut *lock(&SAID));
        let line = |what| format!("OTLP {what}: refused; the job goes on");
        let lines = [
            line("traces and metrics could not be sent to http://a"),
            line("logs could not be sent to http://b"),
        ];
        assert_eq!(said, lines);
        // One after the other: a dead address is said once, an answer for each signal.
        let failures = Failures::new(addresses.clone(), &warnings);
        for pipeline in [Pipeline::Traces, Pipeline::Metrics] {
            failures.note(pipeline, refused());
            failures.report();
        }
        let said = std::mem::take(&mut *lock(&SAID));
        assert_eq!(said, [line("traces could not be sent to http://a")]);
        let failures = Failures::new(addresses, &warnings);
        for pipeline in [Pipeline::Traces, Pipeline::Metrics] {
            failures.note(pipeline, ExportCause::refused("status code: 404"));
            failures.report();
        }
        assert_eq!(std::mem::take(&mut *lock(&SAID)).len(), 2);
    }
}
