//! What one run should be: checked, complete, and not changed afterwards.
//!
//! Made by `cli`, carried out by `run`. Opens nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::policy::Policy;
use crate::model::signal::Signal;

mod telemetry;

pub use telemetry::{
    AttributeLimits, Choice, Credentials, InstanceId, OtlpPlan, PipelinePlan, Protocol, SpanLimits,
    TelemetryPlan, TraceSampler, WebPlan,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// `-w`: where childminder goes before anything else.
    pub working_directory: Option<PathBuf>,
    /// Where the log goes.
    pub log: LogPlan,
    /// What it is called.
    pub naming: Naming,
    pub record: Option<RecordPlan>,
    /// Metrics and traces, if any were asked for.
    pub telemetry: Option<Box<TelemetryPlan>>,
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlan {
    /// `--central-log`.
    pub file: PathBuf,
    /// `--central-sync`.
    pub sync: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    Job(Box<JobPlan>),
    /// A built-in function (`-f`).
    Canary(CanaryPlan),
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
    /// `--quiet-success`: what the job writes is kept aside, and after a failure this number of bytes of it is shown.
    pub quiet_success: Option<u64>,
    /// `--on-failure`, `--on-success`, `--on-end`.
    pub hooks: HookPlan,
    /// `--termination-log`.
    pub termination_log: Option<PathBuf>,
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
    /// `--sample`: between two samples; zero turns sampling off.
    pub interval: Duration,
    /// `--files`: files that the job has open are noted.
    pub files: bool,
    /// `--clean-written`: before a restart, what the attempt created is moved aside.
    pub clean_written: bool,
    /// `--clean-within`: where that is allowed besides the job's working directory.
    pub clean_within: Vec<PathBuf>,
    /// `--neighbours`: other users' processes are listed when the job fails.
    pub neighbours: bool,
    /// `--trace`.
    pub trace: TraceMode,
}

/// Who is traced (ptrace(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceMode {
    #[default]
    Off,
    /// The job and all its descendants.
    All,
    /// The process that childminder starts, and none of its descendants.
    Main,
    /// As [`TraceMode::All`]; without it nothing is started.
    Required,
}

impl Default for Observation {
    fn default() -> Observation {
        Observation {
            interval: Duration::from_secs(1),
            files: false,
            clean_written: false,
            clean_within: Vec::new(),
            neighbours: false,
            trace: TraceMode::Off,
        }
    }
}

/// Commands for a shell that are run once the end of the run is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPlan {
    pub on_failure: Option<OsString>,
    pub on_success: Option<OsString>,
    pub on_end: Option<OsString>,
    /// `--hook-timeout`.
    pub timeout: Duration,
}

impl Default for HookPlan {
    fn default() -> HookPlan {
        let timeout = Duration::from_secs(60);
        HookPlan { on_failure: None, on_success: None, on_end: None, timeout }
    }
}

impl HookPlan {
    /// Returns whether there is one.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.on_failure.is_some() || self.on_success.is_some() || self.on_end.is_some()
    }
}

/// `--doctor`: what a run would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorPlan {
    /// `None`: standard error or standard output.
    pub log_directory: Option<PathBuf>,
    pub record: Option<PathBuf>,
    /// Addresses of collectors.
    pub endpoints: Vec<String>,
    /// One JSON object a line.
    pub is_json: bool,
}

/// Built-in functions and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryPlan {
    /// In turn, a call each; at least one.
    pub functions: Vec<Function>,
    /// No call starts after this span; `None`: until it is stopped.
    pub span: Option<Duration>,
    /// `--every`: a call starts that long after the one before started, or at once if that took longer.
    pub every: Option<Duration>,
    /// `--cores each`: the calls run on every processor that is allowed, in turn.
    pub each_core: bool,
    /// `-q`: no answer lines.
    pub quiet: bool,
    /// `--stop-on`.
    pub stop_on: Vec<Signal>,
}

impl CanaryPlan {
    /// Returns what the run is called: `math-int`, `file+memory`.
    #[must_use]
    pub fn name(&self) -> String {
        self.functions.iter().map(|function| function.word()).collect::<Vec<_>>().join("+")
    }

    /// Returns whether it does nothing but wait.
    #[must_use]
    pub fn is_sleep(&self) -> bool {
        self.functions == [Function::Sleep]
    }
}

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
    /// One of those five, chosen for each call.
    Random,
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
    Stderr,
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
