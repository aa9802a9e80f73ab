//! The `OTEL_*` variables, as the OpenTelemetry specification has them.
//!
//! Endpoints, headers and compression the exporters read themselves. A bad value is
//! warned of and passed over, as the specification demands: it never keeps the job from starting.

use std::time::Duration;

use crate::model::percent::decoded;
use crate::plan::{Credentials, OtlpPlan, Pipeline, Protocol};

/// Returns the plan that the variables ask for; `None` if nothing shall be sent.
pub(super) fn plan(variable: impl Fn(&str) -> Option<String>) -> Option<OtlpPlan> {
    // The specification: a variable that is empty is unset.
    let mut reader = Reader {
        variable: |name: &str| variable(name).filter(|value| !value.is_empty()),
        warnings: Vec::new(),
    };
    if reader.flag("OTEL_SDK_DISABLED") {
        return None;
    }
    let pipelines = ["TRACES", "METRICS", "LOGS"].map(|signal| reader.pipeline(signal));
    if pipelines.iter().all(Option::is_none) && reader.warnings.is_empty() {
        return None;
    }
    if let Some(file) = reader.text("OTEL_CONFIG_FILE") {
        reader.warn("OTEL_CONFIG_FILE", &file, "not read here: the other variables are");
    }
    let attributes = reader.attributes();
    let from_attributes = || {
        let name = attributes.iter().find(|(key, _)| key == "service.name");
        name.map(|(_, name)| name.clone())
    };
    let service_name = reader.text("OTEL_SERVICE_NAME").or_else(from_attributes);
    let propagators = reader.text("OTEL_PROPAGATORS").unwrap_or_else(|| "tracecontext".into());
    let propagates = propagators.split(',').any(|word| word.trim() == "tracecontext");
    let parent = reader.text("TRACEPARENT").filter(|_| propagates);
    Some(OtlpPlan {
        pipelines,
        service_name,
        attributes,
        metric_interval: reader.span("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        span_delay: reader.span("OTEL_BSP_SCHEDULE_DELAY", 5_000),
        span_queue: reader.size("OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
        span_batch: reader.size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        log_delay: reader.span("OTEL_BLRP_SCHEDULE_DELAY", 1_000),
        log_queue: reader.size("OTEL_BLRP_MAX_QUEUE_SIZE", 2_048),
        log_batch: reader.size("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512),
        propagates,
        parent: parent.map(|parent| (parent, reader.trace_state())),
        warnings: reader.warnings,
    })
}

struct Reader<F> {
    variable: F,
    warnings: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    /// TRACESTATE goes on to the job and to other machines: one with other characters than the W3C
    /// allows counts as none.
    fn trace_state(&self) -> String {
        let is_allowed = |text: &String| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        self.text("TRACESTATE").filter(is_allowed).unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// True only for `true`, however it is written.
    fn flag(&mut self, name: &str) -> bool {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(text) if !text.eq_ignore_ascii_case("false") => {
                self.warn(name, &text, "it is true or false; false is taken");
                false
            }
            _ => false,
        }
    }

    fn warn(&mut self, name: &str, value: &str, what: &str) {
        let text = format!("{name}={value}: {what}");
        // One variable may be read for three signals.
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// A number of milliseconds.
    fn span(&mut self, name: &str, default: u64) -> Duration {
        Duration::from_millis(self.number(name, default))
    }

    fn size(&mut self, name: &str, default: u64) -> usize {
        usize::try_from(self.number(name, default)).unwrap_or(usize::MAX)
    }

    fn number(&mut self, name: &str, default: u64) -> u64 {
        let Some(text) = self.text(name) else { return default };
        match text.trim().parse() {
            Ok(0) | Err(_) => {
                self.warn(name, &text, &format!("no number above 0; {default} is taken"));
                default
            }
            Ok(number) => number,
        }
    }

    /// A signal is sent if its exporter is `otlp`, or if that is not said and an endpoint is.
    fn pipeline(&mut self, signal: &str) -> Option<Pipeline> {
        let exporter_name = format!("OTEL_{signal}_EXPORTER");
        let endpoint = self.of_signal(signal, "ENDPOINT");
        let is_sent = match self.text(&exporter_name).as_deref() {
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => {
                self.warn(&exporter_name, other, "only otlp and none are known here");
                endpoint.is_some()
            }
            None => endpoint.is_some(),
        };
        if !is_sent {
            return None;
        }
        let credentials = self.credentials(signal);
        let timeout = self.timeout(signal);
        Some(Pipeline { protocol: self.protocol(signal), endpoint, credentials, timeout })
    }

    /// The value for one signal, or else the one for all.
    fn of_signal(&self, signal: &str, what: &str) -> Option<String> {
        self.text(&self.name(signal, what))
    }

    /// The variable for one signal, if it is set, or else the one for all.
    fn name(&self, signal: &str, what: &str) -> String {
        let of_signal = format!("OTEL_EXPORTER_OTLP_{signal}_{what}");
        match self.text(&of_signal) {
            Some(_) => of_signal,
            None => format!("OTEL_EXPORTER_OTLP_{what}"),
        }
    }

    fn timeout(&mut self, signal: &str) -> Duration {
        let name = self.name(signal, "TIMEOUT");
        self.span(&name, 10_000)
    }

    fn credentials(&mut self, signal: &str) -> Credentials {
        let file = |what: &str| self.of_signal(signal, what).map(Into::into);
        let credentials = Credentials {
            certificate: file("CERTIFICATE"),
            client_key: file("CLIENT_KEY"),
            client_certificate: file("CLIENT_CERTIFICATE"),
        };
        let halves = [
            ("CLIENT_KEY", &credentials.client_key),
            ("CLIENT_CERTIFICATE", &credentials.client_certificate),
        ];
        if let [(what, Some(path)), (other, None)] | [(other, None), (what, Some(path))] = halves {
            let (name, path) = (self.name(signal, what), path.display().to_string());
            self.warn(&name, &path, &format!("of no use without {other}; it is passed over"));
        }
        credentials
    }

    fn protocol(&mut self, signal: &str) -> Protocol {
        match self.of_signal(signal, "PROTOCOL").as_deref() {
            None | Some("http/protobuf") => Protocol::HttpProtobuf,
            Some("grpc") => Protocol::Grpc,
            Some(other) => {
                let name = self.name(signal, "PROTOCOL");
                self.warn(&name, other, "grpc and http/protobuf are known; the latter is taken");
                Protocol::HttpProtobuf
            }
        }
    }

    /// `key=value,...`, where `%XX` stands for a byte. One bad pair spoils all (specification).
    fn attributes(&mut self) -> Vec<(String, String)> {
        const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let Some(text) = self.text(NAME) else { return Vec::new() };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            let (key, value) = (decoded(key.trim())?, decoded(value.trim())?);
            (!key.is_empty()).then_some((key, value))
        };
        let pairs: Option<Vec<_>> =
            text.split(',').filter(|one| !one.trim().is_empty()).map(pair).collect();
        pairs.unwrap_or_else(|| {
            self.warn(NAME, &text, "not KEY=VALUE,... with %XX for odd bytes; none is taken");
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<OtlpPlan> {
        plan(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn sent(variables: &[(&str, &str)]) -> [bool; 3] {
        with(variables).map(|plan| plan.pipelines.map(|one| one.is_some())).unwrap_or_default()
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn nothing_is_sent_unless_a_variable_asks_for_it() {
        assert!(with(&[]).is_none());
        assert!(with(&[("OTEL_SERVICE_NAME", "x"), ("TRACEPARENT", "y")]).is_none());
        assert!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).is_none());
        assert_eq!(sent(&[ENDPOINT]), [true; 3]);
        assert_eq!(sent(&[("OTEL_TRACES_EXPORTER", "otlp")]), [true, false, false]);
        let logs = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://h/x");
        assert_eq!(sent(&[logs]), [false, false, true]);
        assert_eq!(sent(&[ENDPOINT, ("OTEL_LOGS_EXPORTER", "none")]), [true, true, false]);
        assert!(with(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).is_none());
        assert_eq!(sent(&[ENDPOINT, ("OTEL_SDK_DISABLED", "1")]), [true; 3]);
    }

    #[test]
    fn the_variable_of_a_signal_comes_before_the_general_one() {
        let plan = with(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/a"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/b"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "50"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "70"),
        ])
        .unwrap();
        let [traces, metrics, logs] = plan.pipelines.map(Option::unwrap);
        let millis = [&traces, &metrics, &logs].map(|one| one.timeout.as_millis());
        assert_eq!(millis, [50, 70, 70]);
        assert_eq!((traces.protocol, logs.protocol), (Protocol::Grpc, Protocol::HttpProtobuf));
        assert_eq!(traces.credentials.certificate, Some("/b".into()));
        assert_eq!(metrics.credentials.certificate, Some("/a".into()));
    }

    #[test]
    fn bad_values_are_told_and_passed_over() {
        let plan = with(&[
            ENDPOINT,
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c"),
            ("OTEL_CONFIG_FILE", "/f"),
        ])
        .unwrap();
        assert_eq!(plan.span_delay, Duration::from_secs(5));
        assert_eq!(plan.metric_interval, Duration::from_millis(250));
        assert!(plan.attributes.is_empty());
        // Each once, though some are read for three signals.
        assert_eq!(plan.warnings.len(), 5, "{:?}", plan.warnings);
    }

    #[test]
    fn attributes_are_decoded_and_name_the_service() {
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%20b, k=%2c%3D");
        let plan = with(&[ENDPOINT, attributes]).unwrap();
        assert_eq!(plan.service_name.as_deref(), Some("a b"));
        assert_eq!(plan.attributes[1], ("k".to_owned(), ",=".to_owned()));
        let plan = with(&[ENDPOINT, attributes, ("OTEL_SERVICE_NAME", "c")]).unwrap();
        assert_eq!(plan.service_name.as_deref(), Some("c"));
    }

    #[test]
    fn the_context_is_taken_unless_it_shall_not_be_passed_on() {
        let parent = ("TRACEPARENT", "00-1-2-01");
        let taken = with(&[ENDPOINT, parent, ("TRACESTATE", "a=b")]).unwrap();
        assert_eq!(taken.parent, Some(("00-1-2-01".into(), "a=b".into())));
        let none = with(&[ENDPOINT, parent, ("OTEL_PROPAGATORS", "b3")]).unwrap();
        assert_eq!((none.parent, none.propagates), (None, false));
    }
}
