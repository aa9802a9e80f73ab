//! What is sent to other machines, and where.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::pipeline::PerPipeline;

/// What is exported while the run continues and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryPlan {
    pub web: WebPlan,
    /// `--textfile-directory`.
    pub textfile_directory: Option<PathBuf>,
    /// `--pushgateway`.
    pub pushgateway: Option<String>,
    /// `--metric-label`: label names and values, at most five.
    pub labels: Vec<(String, String)>,
    /// `--otel-flush-timeout`.
    pub flush_timeout: Duration,
    /// `--new-trace`.
    pub new_trace: bool,
    /// `--record-args`.
    pub record_arguments: bool,
    /// `--instance-id`.
    pub instance: InstanceId,
    /// `--otel-env-strip`.
    pub strip_environment: bool,
    /// OTLP, if a variable asks for it.
    pub otlp: Option<OtlpPlan>,
}

impl Default for TelemetryPlan {
    fn default() -> TelemetryPlan {
        TelemetryPlan {
            web: WebPlan::default(),
            textfile_directory: None,
            pushgateway: None,
            labels: Vec::new(),
            flush_timeout: Duration::from_secs(2),
            new_trace: false,
            record_arguments: false,
            instance: InstanceId::Derived,
            strip_environment: false,
            otlp: None,
        }
    }
}

/// What is sent by OTLP; from the `OTEL_*` variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpPlan {
    /// Traces, metrics and logs, each if it is sent.
    pub pipelines: PerPipeline<Option<PipelinePlan>>,
    /// `service.name`.
    pub service_name: Option<String>,
    /// Attributes of the resource.
    pub attributes: Vec<(String, String)>,
    /// Between two exports of metrics.
    pub metric_interval: Duration,
    /// Whether histograms have exponential buckets, which Prometheus calls native, and not those of
    /// the table of metrics.
    pub is_exponential: bool,
    /// Between two exports of spans.
    pub span_delay: Duration,
    /// Spans that may wait at most.
    pub span_queue: usize,
    /// Items in one export at most.
    pub span_batch: usize,
    /// Between two exports of log records.
    pub log_delay: Duration,
    /// Log records that may wait at most.
    pub log_queue: usize,
    /// Items in one export at most.
    pub log_batch: usize,
    /// What spans may hold.
    pub span_limits: SpanLimits,
    /// What the attributes of a log record may be.
    pub record_limits: AttributeLimits,
    /// Which runs are traced.
    pub sampler: TraceSampler,
    /// Whether the trace context is passed on to the job.
    pub propagates: bool,
    /// TRACEPARENT and TRACESTATE as we got them.
    pub parent: Option<(String, String)>,
    /// What could not be understood.
    pub warnings: Vec<String>,
}

impl OtlpPlan {
    /// Returns an attribute of the resource that was given. The last one of a name holds.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let pair = self.attributes.iter().rev().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.as_str())
    }
}

/// How many attributes there may be, and how long their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLimits {
    /// More are left out.
    pub count: u32,
    /// Longer texts are cut, in characters.
    pub length: Option<usize>,
}

/// What spans may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLimits {
    /// Attributes of a span; the length holds for its events and links as well.
    pub attributes: AttributeLimits,
    /// Events of a span.
    pub events: u32,
    /// Links of a span.
    pub links: u32,
    /// Attributes of an event.
    pub event_attributes: u32,
    /// Attributes of a link.
    pub link_attributes: u32,
}

/// Which runs are traced (`OTEL_TRACES_SAMPLER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceSampler {
    /// Whether a parent in TRACEPARENT decides, if there is one.
    pub is_parent_based: bool,
    /// What decides where no parent does.
    pub choice: Choice,
}

/// See [`TraceSampler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    On,
    Off,
    /// This part of them, from 0 to 1, as the bits of an `f64`: plans can be compared.
    Ratio(u64),
}

/// How one signal is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelinePlan {
    pub protocol: Protocol,
    /// Where it goes, with the path of the signal for HTTP; the default of the specification if nothing
    /// was said.
    pub endpoint: Option<String>,
    /// For TLS.
    pub credentials: Credentials,
    /// How long one export may take (`OTEL_EXPORTER_OTLP_TIMEOUT`).
    pub timeout: Duration,
}

/// The transports of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http/protobuf`.
    HttpProtobuf,
    /// `grpc`.
    Grpc,
}

/// Files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Authorities to trust besides those of the system.
    pub certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebPlan {
    /// `--web.listen-address`: `HOST:PORT` each.
    pub listen: Vec<String>,
    /// `--web.systemd-socket`.
    pub systemd_socket: bool,
    /// `--web.telemetry-path`.
    pub metrics_path: String,
    /// `--web.config.file`.
    pub config: Option<PathBuf>,
    /// `--web.file-sd`.
    pub file_sd: Option<PathBuf>,
    /// `--web.linger`: how long after the end one more scrape is waited for; zero is not at all.
    pub linger: Duration,
}

impl WebPlan {
    /// The paths of the page about the job, with what each is: metrics cannot be at one of them.
    pub const PAGE: [(&str, &str); 5] = [
        ("/", "the page about the job"),
        ("/status.json", "the data of that page"),
        ("/page.js", "its script"),
        ("/page.css", "its style sheet"),
        ("/healthz", "the health check"),
    ];

    /// Whether anything is to be served.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.listen.is_empty() || self.systemd_socket
    }
}

impl Default for WebPlan {
    fn default() -> WebPlan {
        WebPlan {
            listen: Vec::new(),
            systemd_socket: false,
            metrics_path: "/metrics".to_owned(),
            config: None,
            file_sd: None,
            linger: Duration::ZERO,
        }
    }
}

/// What `service.instance.id` is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceId {
    /// Of machine and job: the same for each run.
    Derived,
    /// Another one for each run.
    Random,
    Given(String),
}
