//! What one run shall be: checked, complete, and not changed afterwards.
//!
//! Made by `cli`, carried out by `run`. Opens nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::policy::Policy;
use crate::model::signal::Signal;

/// One run, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// `-w`: where childminder goes before anything else.
    pub working_directory: Option<PathBuf>,
    /// Where the log goes.
    pub log: LogPlan,
    /// What it is called.
    pub naming: Naming,
    /// The central record.
    pub record: Option<RecordPlan>,
    /// Metrics and traces, if any were asked for.
    pub telemetry: Option<Box<TelemetryPlan>>,
    /// What is minded.
    pub work: Work,
}

impl RunPlan {
    /// A run about which nothing else was said.
    #[must_use]
    pub fn new(log: LogPlan, work: Work) -> RunPlan {
        RunPlan {
            working_directory: None,
            log,
            naming: Naming::default(),
            record: None,
            telemetry: None,
            work,
        }
    }
}

/// What the run is called in the record and in telemetry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// `--name`; by default the base name of the program.
    pub name: Option<String>,
    /// `--batch`.
    pub batch: Option<String>,
    /// `--tag`.
    pub tags: Vec<(String, String)>,
    /// `--redact`: patterns of words to hide besides the usual secrets.
    pub redact: Vec<String>,
}

/// The central record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlan {
    /// `--central-log`.
    pub file: PathBuf,
    /// `--central-sync`.
    pub sync: bool,
}

/// What is told to other machines while the run goes on and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryPlan {
    /// The HTTP server.
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
    pub pipelines: [Option<Pipeline>; 3],
    /// `service.name`.
    pub service_name: Option<String>,
    /// Attributes of the resource.
    pub attributes: Vec<(String, String)>,
    /// Between two exports of metrics.
    pub metric_interval: Duration,
    /// Between two exports of spans.
    pub span_delay: Duration,
    /// So many spans may wait.
    pub span_queue: usize,
    /// So many go into one export.
    pub span_batch: usize,
    /// Between two exports of log records.
    pub log_delay: Duration,
    /// So many log records may wait.
    pub log_queue: usize,
    /// So many go into one export.
    pub log_batch: usize,
    /// What spans may hold.
    pub span_limits: SpanLimits,
    /// What the attributes of a log record may be.
    pub record_limits: AttributeLimits,
    /// Which runs are traced.
    pub sampler: Sampler,
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
pub struct Sampler {
    /// Whether a parent in TRACEPARENT decides, if there is one.
    pub is_parent_based: bool,
    /// What else decides.
    pub choice: Choice,
}

/// See [`Sampler`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All.
    On,
    /// None.
    Off,
    /// This part of them, from 0 to 1, as the bits of an `f64`: plans can be compared.
    Ratio(u64),
}

/// How one signal is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// The transport.
    pub protocol: Protocol,
    /// Where it goes; the default of the specification if nothing was said.
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
    /// Whom to trust besides the system's authorities.
    pub certificate: Option<PathBuf>,
    /// Our own key.
    pub client_key: Option<PathBuf>,
    /// Our own certificate.
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
}

impl WebPlan {
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
    /// This.
    Given(String),
}

/// What is minded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A command.
    Job(Box<JobPlan>),
    /// A built-in function (`-f`).
    Probe(ProbePlan),
}

/// A command and how it is to be treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPlan {
    /// The program and its arguments; at least one word, none with a NUL byte, the first not empty.
    pub command: Vec<OsString>,
    /// `-i`.
    pub input: Option<PathBuf>,
    /// `-o`.
    pub output: Option<PathBuf>,
    /// `-e`.
    pub error: Option<PathBuf>,
    /// `--append`.
    pub append: bool,
    /// `--child-directory`.
    pub directory: Option<PathBuf>,
    /// All about signals and restarts.
    pub policy: Policy,
    /// What is watched while it runs.
    pub observation: Observation,
}

/// What is watched while the job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// `--sample`: between two samples; zero is none at all.
    pub interval: Duration,
    /// `--files`: files that the job has open are noted.
    pub files: bool,
    /// `--clean-written`: before a restart, what the attempt created is moved aside.
    pub clean_written: bool,
    /// `--clean-within`: where that is allowed besides the job's working directory.
    pub clean_within: Vec<PathBuf>,
    /// `--neighbours`: other users' processes are listed when the job fails.
    pub neighbours: bool,
}

impl Default for Observation {
    fn default() -> Observation {
        Observation {
            interval: Duration::from_secs(1),
            files: false,
            clean_written: false,
            clean_within: Vec::new(),
            neighbours: false,
        }
    }
}

/// A built-in function and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// Which.
    pub function: Function,
    /// No call starts after this span.
    pub span: Duration,
    /// `-q`: no answer lines.
    pub quiet: bool,
    /// `--stop-on`.
    pub stop_on: Vec<Signal>,
}

/// The built-in functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Operations on a 64-bit integer.
    MathInt,
    /// Operations on a double.
    MathFp,
    /// Operations on a C string.
    String,
    /// Temporary files written, read and deleted.
    File,
    /// Memory allocated, filled and freed.
    Memory,
    /// One of those five, anew each call.
    Random,
    /// Waiting.
    Sleep,
}

impl Function {
    /// The five that do work, which `random` chooses from.
    pub const WORKING: [Function; 5] =
        [Function::MathInt, Function::MathFp, Function::String, Function::File, Function::Memory];

    /// All seven, in the order of the original's help.
    pub const ALL: [Function; 7] = [
        Function::MathInt,
        Function::MathFp,
        Function::String,
        Function::File,
        Function::Memory,
        Function::Random,
        Function::Sleep,
    ];

    /// Returns the word for it on the command line and in the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Function::MathInt => "math-int",
            Function::MathFp => "math-fp",
            Function::String => "string",
            Function::File => "file",
            Function::Memory => "memory",
            Function::Random => "random",
            Function::Sleep => "sleep",
        }
    }
}

/// Where the log goes, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// `-l`.
    pub target: LogTarget,
    /// `--log-format`.
    pub format: LogFormat,
    /// `-d`: no log file is kept after a full success.
    pub delete_on_success: bool,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// As [`LogTarget::Directory`], in `log`. Nobody asked for it: where it cannot be made, standard error.
    Default,
    /// A file of its own in this directory, which is made if it is missing.
    Directory(PathBuf),
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The original's lines.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
