//! The `OTEL_*` variables, as the OpenTelemetry specification has them.
//!
//! Endpoints, headers, compression and temporality the exporters read themselves. A bad value is
//! warned of, with what is used instead, and passed over, as the specification demands: it never keeps the job from starting.

use std::time::Duration;

use crate::model::percent::decoded;
use crate::model::pipeline::{PerPipeline, Pipeline};
use crate::plan::{
    AttributeLimits, Choice, Credentials, OtlpPlan, PipelinePlan, Protocol, SpanLimits,
    TraceSampler,
};

/// Returns the plan that the variables ask for; `None` if nothing should be sent.
pub(super) fn plan(variable: impl Fn(&str) -> Option<String>) -> Option<OtlpPlan> {
    // The specification: a variable that is empty is unset. Blanks are not a value either.
    let mut reader = Reader {
        variable: |name: &str| variable(name).filter(|value| !value.trim().is_empty()),
        warnings: Vec::new(),
    };
    if reader.flag("OTEL_SDK_DISABLED") {
        return None;
    }
    let pipelines = PerPipeline::of(|pipeline| reader.pipeline(pipeline));
    if pipelines.each().all(|(_, plan)| plan.is_none()) && reader.warnings.is_empty() {
        return None;
    }
    if let Some(file) = reader.text("OTEL_CONFIG_FILE") {
        reader.warn("OTEL_CONFIG_FILE", &file, "not read here: the other variables are");
    }
    let attributes = reader.attributes();
    let from_attributes = || {
        let name = attributes.iter().rev().find(|(key, _)| key == "service.name");
        name.map(|(_, name)| name.clone())
    };
    let service_name = reader.text("OTEL_SERVICE_NAME").or_else(from_attributes);
    let propagators = reader.text("OTEL_PROPAGATORS").unwrap_or_else(|| "tracecontext".into());
    let propagates = propagators.split(',').any(|word| word.trim() == "tracecontext");
    let parent = reader.text("TRACEPARENT").filter(|_| propagates);
    let (span_limits, record_limits) = (reader.span_limits(), reader.attribute_limits("LOGRECORD"));
    let sampler = reader.sampler();
    Some(OtlpPlan {
        pipelines,
        service_name,
        attributes,
        is_exponential: reader.is_exponential(),
        metric_interval: reader.span("OTEL_METRIC_EXPORT_INTERVAL", 60_000),
        span_delay: reader.span("OTEL_BSP_SCHEDULE_DELAY", 5_000),
        span_queue: reader.size("OTEL_BSP_MAX_QUEUE_SIZE", 2_048),
        span_batch: reader.size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512),
        log_delay: reader.span("OTEL_BLRP_SCHEDULE_DELAY", 1_000),
        log_queue: reader.size("OTEL_BLRP_MAX_QUEUE_SIZE", 2_048),
        log_batch: reader.size("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", 512),
        span_limits,
        record_limits,
        sampler,
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
    fn pipeline(&mut self, pipeline: Pipeline) -> Option<PipelinePlan> {
        let signal = &pipeline.word().to_ascii_uppercase();
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
        self.check_compression(signal);
        self.check_headers(signal);
        if pipeline == Pipeline::Metrics {
            self.check_temporality();
        }
        let protocol = self.protocol(signal);
        let is_of_all = self.name(signal, "ENDPOINT") == "OTEL_EXPORTER_OTLP_ENDPOINT";
        let endpoint = match endpoint {
            Some(base) if is_of_all && protocol == Protocol::HttpProtobuf => {
                Some(of_the_signal(&base, pipeline.word()))
            }
            other => other,
        };
        Some(PipelinePlan { protocol, endpoint, credentials, timeout })
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
        let mut pairs = pairs.unwrap_or_else(|| {
            self.warn(NAME, &text, "not KEY=VALUE,... with %XX for odd bytes; none is taken");
            Vec::new()
        });
        pairs.retain(|(_, value)| !value.trim().is_empty());
        pairs
    }

    /// A number that may be 0; `None` if it is not set, or bad, which is warned of.
    fn limit(&mut self, name: &str, instead: &str) -> Option<u32> {
        let text = self.text(name)?;
        let limit = text.trim().parse().ok();
        if limit.is_none() {
            self.warn(name, &text, &format!("not a number from 0 up; {instead} is used"));
        }
        limit
    }

    /// Of spans (`SPAN`) or of log records; what is not set for these is set for all.
    fn attribute_limits(&mut self, of: &str) -> AttributeLimits {
        let mut either = |what: &str, default: &str| {
            let general = format!("OTEL_{what}");
            let is_set = self.text(&general).is_some();
            let instead = if is_set { general.clone() } else { default.to_owned() };
            let own = self.limit(&format!("OTEL_{of}_{what}"), &instead);
            own.or_else(|| self.limit(&general, default))
        };
        let count = either("ATTRIBUTE_COUNT_LIMIT", "128").unwrap_or(COUNT_DEFAULT);
        let length = either("ATTRIBUTE_VALUE_LENGTH_LIMIT", "no limit");
        AttributeLimits { count, length: length.and_then(|length| usize::try_from(length).ok()) }
    }

    fn span_limits(&mut self) -> SpanLimits {
        let attributes = self.attribute_limits("SPAN");
        let mut count = |name: &str| self.limit(name, "128").unwrap_or(COUNT_DEFAULT);
        SpanLimits {
            attributes,
            events: count("OTEL_SPAN_EVENT_COUNT_LIMIT"),
            links: count("OTEL_SPAN_LINK_COUNT_LIMIT"),
            event_attributes: count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"),
            link_attributes: count("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT"),
        }
    }

    fn sampler(&mut self) -> TraceSampler {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        let word = self.text(NAME).unwrap_or_else(|| "parentbased_always_on".to_owned());
        let word = word.trim();
        let (is_parent_based, own) = match word.strip_prefix("parentbased_") {
            Some(own) => (true, own),
            None => (false, word),
        };
        let choice = match own {
            "always_on" => Choice::On,
            "always_off" => Choice::Off,
            "traceidratio" => Choice::Ratio(self.ratio().to_bits()),
            _ => {
                let known = "always_on, always_off and traceidratio are known, also with \
                             parentbased_ before them; parentbased_always_on is used";
                self.warn(NAME, word, known);
                return TraceSampler { is_parent_based: true, choice: Choice::On };
            }
        };
        TraceSampler { is_parent_based, choice }
    }

    fn ratio(&mut self) -> f64 {
        const NAME: &str = "OTEL_TRACES_SAMPLER_ARG";
        let text = self.text(NAME).unwrap_or_default();
        let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.unwrap_or_else(|| {
            self.warn(NAME, &text, "not a ratio from 0 to 1; 1 is used");
            1.0
        })
    }

    /// The exporter reads it; what it does not know it passes over.
    fn check_compression(&mut self, signal: &str) {
        let general = "OTEL_EXPORTER_OTLP_COMPRESSION".to_owned();
        let is_known =
            |text: &str| ["gzip", "none"].iter().any(|known| text.eq_ignore_ascii_case(known));
        for name in [format!("OTEL_EXPORTER_OTLP_{signal}_COMPRESSION"), general] {
            let Some(text) = self.text(&name) else { continue };
            if is_known(&text) {
                return;
            }
            let instead = match self.text("OTEL_EXPORTER_OTLP_COMPRESSION") {
                Some(general) if is_known(&general) => general,
                _ => "none".to_owned(),
            };
            self.warn(&name, &text, &format!("gzip and none are known; {instead} is used"));
        }
    }

    fn check_temporality(&mut self) {
        const NAME: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        let Some(text) = self.text(NAME) else { return };
        let known = ["cumulative", "delta", "lowmemory"];
        if !known.iter().any(|known| text.eq_ignore_ascii_case(known)) {
            self.warn(NAME, &text, "cumulative, delta and lowmemory are known; the first is used");
        }
    }

    fn is_exponential(&mut self) -> bool {
        const NAME: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        let Some(text) = self.text(NAME) else { return false };
        let is = |known: &str| text.trim().eq_ignore_ascii_case(known);
        let is_exponential = is("base2_exponential_bucket_histogram");
        if !is_exponential && !is("explicit_bucket_histogram") {
            let known = "explicit_bucket_histogram and base2_exponential_bucket_histogram are known; \
                         the first is used";
            self.warn(NAME, &text, known);
        }
        is_exponential
    }

    /// The exporter leaves out bad pairs without a word. The values are secrets, and are not shown.
    fn check_headers(&mut self, signal: &str) {
        let name = self.name(signal, "HEADERS");
        let Some(text) = self.text(&name) else { return };
        let is_in_name =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_header = |pair: &str| {
            pair.split_once('=').is_some_and(|(name, value)| {
                let (name, value) = (name.trim(), decoded(value.trim()));
                let is_text = |value: String| {
                    !value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 127)
                };
                !name.is_empty() && name.bytes().all(is_in_name) && value.is_some_and(is_text)
            })
        };
        let pairs = text.split(',').map(str::trim).enumerate().filter(|(_, pair)| !pair.is_empty());
        let bad: Vec<String> = pairs
            .filter(|(_, pair)| !is_header(pair))
            .map(|(index, _)| (index + 1).to_string())
            .collect();
        if !bad.is_empty() {
            let what = "not NAME=VALUE with %XX for odd bytes; it is not sent";
            let text = format!("{name}: header {}: {what}", bad.join(", "));
            if !self.warnings.contains(&text) {
                self.warnings.push(text);
            }
        }
    }
}

/// The specification's default for all counts.
const COUNT_DEFAULT: u32 = 128;

/// Appends the path of a signal to the endpoint of all; a query stays behind the path.
fn of_the_signal(base: &str, signal: &str) -> String {
    let (path, query) = base.split_at(base.find('?').unwrap_or(base.len()));
    format!("{}/v1/{signal}{query}", path.strip_suffix('/').unwrap_or(path))
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
        let plan = with(variables);
        let is_sent =
            |pipeline| plan.as_ref().is_some_and(|plan| plan.pipelines[pipeline].is_some());
        Pipeline::ALL.map(is_sent)
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
        let [traces, metrics, logs] =
            Pipeline::ALL.map(|pipeline| plan.pipelines[pipeline].clone().unwrap());
        let millis = [&traces, &metrics, &logs].map(|one| one.timeout.as_millis());
        assert_eq!(millis, [50, 70, 70]);
        assert_eq!((traces.protocol, logs.protocol), (Protocol::Grpc, Protocol::HttpProtobuf));
        assert_eq!(traces.credentials.certificate, Some("/b".into()));
        assert_eq!(metrics.credentials.certificate, Some("/a".into()));
    }

    #[test]
    fn bad_values_are_reported_and_passed_over() {
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
    fn limits_of_a_kind_come_before_those_for_all() {
        let plan = with(&[
            ENDPOINT,
            ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "20"),
            ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "0"),
            ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "-1"),
        ])
        .unwrap();
        assert_eq!(plan.span_limits.attributes, AttributeLimits { count: 7, length: Some(0) });
        assert_eq!(plan.record_limits, AttributeLimits { count: 3, length: Some(20) });
        assert_eq!(plan.span_limits.events, COUNT_DEFAULT);
        let bad = "OTEL_SPAN_EVENT_COUNT_LIMIT=-1: not a number from 0 up; 128 is used";
        assert_eq!(plan.warnings, [bad]);
    }

    #[test]
    fn a_bad_sampler_is_warned_of_once_with_what_is_used_instead() {
        let always = TraceSampler { is_parent_based: true, choice: Choice::On };
        let all = Choice::Ratio(1f64.to_bits());
        for (word, ratio, expected, warned) in [
            ("always_off", "", TraceSampler { is_parent_based: false, choice: Choice::Off }, 0),
            (
                "parentbased_traceidratio",
                "1",
                TraceSampler { is_parent_based: true, choice: all },
                0,
            ),
            ("traceidratio", "NaN", TraceSampler { is_parent_based: false, choice: all }, 1),
            ("traceidratio", "-1", TraceSampler { is_parent_based: false, choice: all }, 1),
            ("traceidratio", "inf", TraceSampler { is_parent_based: false, choice: all }, 1),
            ("traceidratio", "", TraceSampler { is_parent_based: false, choice: all }, 1),
            ("jaeger_remote", "", always, 1),
            ("sometimes", "0.5", always, 1),
        ] {
            let sampler = ("OTEL_TRACES_SAMPLER", word);
            let plan = with(&[ENDPOINT, sampler, ("OTEL_TRACES_SAMPLER_ARG", ratio)]).unwrap();
            assert_eq!(plan.sampler, expected, "{word} {ratio}");
            assert_eq!(plan.warnings.len(), warned, "{:?}", plan.warnings);
        }
    }

    #[test]
    fn what_the_exporters_pass_over_is_warned_of_without_secrets() {
        let plan = with(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20x,api key=hush,=hush,y=a%0ahush",
            ),
        ])
        .unwrap();
        let warnings = plan.warnings.join("|");
        assert_eq!(plan.warnings.len(), 3, "{warnings}");
        assert!(warnings.contains("zstd: gzip and none are known; none is used"), "{warnings}");
        assert!(warnings.contains("HEADERS: header 2, 3, 4:"), "{warnings}");
        assert!(!warnings.contains("hush"), "{warnings}");
        let good =
            [("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,")];
        assert!(with(&[ENDPOINT, good[0], good[1]]).unwrap().warnings.is_empty());
    }

    #[test]
    fn the_buckets_of_histograms_are_chosen() {
        let name = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
        for (value, is_exponential, warned) in [
            ("", false, 0),
            ("explicit_bucket_histogram", false, 0),
            ("Base2_Exponential_Bucket_Histogram", true, 0),
            ("native", false, 1),
        ] {
            let plan = with(&[ENDPOINT, (name, value)]).unwrap();
            assert_eq!(plan.is_exponential, is_exponential, "{value}");
            assert_eq!(plan.warnings.len(), warned, "{:?}", plan.warnings);
        }
    }

    #[test]
    fn what_is_blank_is_unset() {
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=,host.name=%20,a=b");
        let plan = with(&[ENDPOINT, attributes, ("OTEL_SERVICE_NAME", " ")]).unwrap();
        assert_eq!(plan.service_name, None);
        assert_eq!(plan.attributes, [("a".to_owned(), "b".to_owned())]);
        assert!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).is_none());
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
