//! What nanny is asked: checked and complete. Made by `cli`, answered by `nanny`.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which runs there were.
    Runs(Runs),
    /// Why one of them failed.
    Why(Why),
    /// Run again what failed.
    Rerun(Rerun),
    /// Put the record in order.
    Collect(Collect),
    /// What failures have in common.
    Patterns(Patterns),
    /// The history of another program as a record.
    Import(Import),
    /// All runs as one page of HTML.
    Report(Report),
    /// How long the calls of built-in functions took.
    Dist(Dist),
    /// Where the processes of a running job wait: a pid, or the beginning of the id of a run.
    Stacks(String),
    /// Which runs these records had last, for the completions of shells.
    Ids(Vec<PathBuf>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    Ago(Duration),
    /// From the beginning of a day in UTC: today, or this number of days before.
    DaysBack(u64),
    /// From the beginning of the last such day in UTC, which may be today; Monday is 0.
    Weekday(u64),
    /// From that instant on: RFC 3339 in UTC with microseconds, as the record has it, so that
    /// instants compare as texts do.
    At(String),
}

/// Which runs are meant; what is not given holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Started then or later.
    pub since: Option<Since>,
    pub batch: Option<String>,
    pub host: Option<String>,
    pub name: Option<String>,
    pub verdict: Option<String>,
    pub is_failed: bool,
    pub is_lost: bool,
}

/// How a list is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListForm {
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// RFC 4180.
    Csv,
}

/// `nanny runs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    pub files: Vec<PathBuf>,
    pub filter: Filter,
    /// At most this number, the newest.
    pub limit: Option<usize>,
    pub form: ListForm,
}

/// `nanny why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub files: Vec<PathBuf>,
    /// A run id or the beginning of one; else the run that failed last.
    pub run: Option<String>,
}

/// `nanny rerun`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerun {
    /// The record that is read and written.
    pub file: PathBuf,
    pub filter: Filter,
    /// Jobs at the same time.
    pub jobs: usize,
    /// Only say what would be done.
    pub is_dry: bool,
    /// Jobs of all users, each as its own.
    pub is_as_recorded_user: bool,
}

/// `nanny collect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    pub files: Vec<PathBuf>,
    /// Hosts that will not come back: what ran there is lost.
    pub gone_hosts: Vec<String>,
}

/// `nanny report`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub files: Vec<PathBuf>,
    pub filter: Filter,
    /// Where the page goes; else to standard output.
    pub output: Option<PathBuf>,
}

/// `nanny patterns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    pub files: Vec<PathBuf>,
    pub filter: Filter,
    /// The runs that are asked about: those that meet all of these.
    pub bad: Vec<Condition>,
    /// The runs that they are compared with; else all others.
    pub against: Option<Vec<Condition>>,
    /// One JSON object a line.
    pub is_json: bool,
}

/// What a run must meet to be in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Failed,
    Succeeded,
    Verdict(String),
    /// It took longer than that.
    Slower(Duration),
    /// It ended then or later.
    Since(Since),
    /// It ended earlier.
    Before(Since),
}

/// `nanny import`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub form: ImportForm,
    pub files: Vec<PathBuf>,
    /// The record that is made.
    pub output: PathBuf,
}

/// What wrote a log that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportForm {
    Sacct,
    Pbs,
    Swf,
    Joblog,
}

/// `nanny dist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dist {
    /// Logs, and directories of logs.
    pub paths: Vec<PathBuf>,
    /// A table of percentiles.
    pub percentiles: bool,
    /// A histogram for the terminal.
    pub plot: bool,
    pub svg: Option<PathBuf>,
}
