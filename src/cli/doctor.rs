//! What `--doctor` looks at: the files and the collectors that a run with the same options would use.

use std::path::PathBuf;

use crate::plan::{DoctorPlan, LogTarget, Protocol, TelemetryPlan};

/// Returns what is tried besides the kernel.
pub(super) fn plan(
    log: LogTarget,
    record: Option<PathBuf>,
    telemetry: TelemetryPlan,
    is_json: bool,
) -> DoctorPlan {
    let log_directory = match log {
        LogTarget::Default => Some("log".into()),
        LogTarget::Directory(directory) => Some(directory),
        LogTarget::Stderr | LogTarget::Stdout => None,
    };
    let pipelines = telemetry.otlp.map(|otlp| otlp.pipelines);
    let pipelines = pipelines.map(|all| [all.traces, all.metrics, all.logs]);
    let endpoint = |(endpoint, protocol): (Option<String>, Protocol)| {
        let usual = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        };
        authority(endpoint.as_deref().unwrap_or(usual)).to_owned()
    };
    let pipelines = pipelines.into_iter().flatten().flatten();
    let mut endpoints: Vec<String> =
        pipelines.map(|one| endpoint((one.endpoint, one.protocol))).collect();
    endpoints.dedup();
    DoctorPlan { log_directory, record, endpoints, is_json }
}

/// Returns an endpoint without the path that each signal has of its own.
fn authority(endpoint: &str) -> &str {
    let begin = endpoint.find("://").map_or(0, |at| at + 3);
    let length = endpoint[begin..].find('/').unwrap_or(endpoint.len() - begin);
    &endpoint[..begin + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_same_whatever_its_path() {
        for (endpoint, expected) in [
            ("http://h:1/v1/traces", "http://h:1"),
            ("http://h:1", "http://h:1"),
            ("h:1/x", "h:1"),
            ("", ""),
        ] {
            assert_eq!(authority(endpoint), expected);
        }
    }
}
