//! The judgement on an attempt: what happened, how sure we are, and why.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What happened. The words are stable: they are a CSV column, a metric label and `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Exit status 0 and nothing lost.
    Success,
    /// Exit status 0, but a descendant was killed or crashed.
    SuccessWithLosses,
    /// It returned another status of its own will.
    ExitNonzero,
    /// It could not be executed or was not found.
    ExecFailed,
    /// The kernel's OOM killer ended it.
    OomKilled,
    /// A process sent the signal that ended it.
    KilledByProcess,
    /// The terminal sent it: Ctrl-C, Ctrl-\ or a hang-up.
    KilledByTerminal,
    /// childminder was asked to stop, passed it on, and the job obeyed.
    StopRequested,
    /// A fault of its own.
    Crashed,
    /// SIGPIPE: the reader of its output ended first.
    BrokenPipe,
    /// RLIMIT_CPU or RLIMIT_RTTIME.
    CpuLimit,
    /// RLIMIT_FSIZE.
    FileSizeLimit,
    /// `--timeout`.
    TimedOut,
    /// A descendant was killed, and the job ended because of it.
    DescendantKilled,
    /// It stayed stopped, and was ended to be restarted (`-p`).
    Stopped,
    /// It is gone, and its wait status with it.
    StatusLost,
    /// None of the above can be shown.
    Unknown,
}

impl VerdictKind {
    pub const ALL: [VerdictKind; 17] = [
        VerdictKind::Success,
        VerdictKind::SuccessWithLosses,
        VerdictKind::ExitNonzero,
        VerdictKind::ExecFailed,
        VerdictKind::OomKilled,
        VerdictKind::KilledByProcess,
        VerdictKind::KilledByTerminal,
        VerdictKind::StopRequested,
        VerdictKind::Crashed,
        VerdictKind::BrokenPipe,
        VerdictKind::CpuLimit,
        VerdictKind::FileSizeLimit,
        VerdictKind::TimedOut,
        VerdictKind::DescendantKilled,
        VerdictKind::Stopped,
        VerdictKind::StatusLost,
        VerdictKind::Unknown,
    ];

    /// Returns the stable word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            VerdictKind::Success => "success",
            VerdictKind::SuccessWithLosses => "success_with_losses",
            VerdictKind::ExitNonzero => "exit_nonzero",
            VerdictKind::ExecFailed => "exec_failed",
            VerdictKind::OomKilled => "oom_killed",
            VerdictKind::KilledByProcess => "killed_by_process",
            VerdictKind::KilledByTerminal => "killed_by_terminal",
            VerdictKind::StopRequested => "stop_requested",
            VerdictKind::Crashed => "crashed",
            VerdictKind::BrokenPipe => "broken_pipe",
            VerdictKind::CpuLimit => "cpu_limit",
            VerdictKind::FileSizeLimit => "file_size_limit",
            VerdictKind::TimedOut => "timed_out",
            VerdictKind::DescendantKilled => "descendant_killed",
            VerdictKind::Stopped => "stopped",
            VerdictKind::StatusLost => "status_lost",
            VerdictKind::Unknown => "unknown",
        }
    }

    /// Returns whether the job did what it was asked for, with or without losses.
    #[must_use]
    pub fn is_success(self) -> bool {
        matches!(self, VerdictKind::Success | VerdictKind::SuccessWithLosses)
    }
}

impl FromStr for VerdictKind {
    type Err = ();

    fn from_str(text: &str) -> Result<VerdictKind, ()> {
        VerdictKind::ALL.into_iter().find(|kind| kind.word() == text).ok_or(())
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// It fits, and so would other causes.
    Possible,
    /// Other causes would be strange.
    Likely,
    /// The evidence excludes every other cause.
    Certain,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confidence::Possible => "possible",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        })
    }
}

/// How good a piece of evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// The kernel states it of this very attempt.
    Exact,
    /// It was true when we last looked.
    Sampled,
    /// It follows from other facts.
    Inferred,
}

/// One fact that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The fact in words.
    pub fact: String,
    /// Who says so: a system call, a file, an option.
    pub source: &'static str,
    /// How good it is.
    pub quality: Quality,
}

/// The judgement on one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    #[serde(rename = "verdict")]
    pub kind: VerdictKind,
    pub confidence: Confidence,
    /// Why, strongest first.
    pub evidence: Vec<Evidence>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind.word(), self.confidence)?;
        for (index, evidence) in self.evidence.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            f.write_str(&evidence.fact)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_equal_the_json() {
        for kind in VerdictKind::ALL {
            assert_eq!(kind.word().parse(), Ok(kind));
            let json = serde_json::to_string(&kind).expect("a unit variant serialises");
            assert_eq!(json, format!("\"{}\"", kind.word()));
        }
        assert_eq!("killed".parse::<VerdictKind>(), Err(()));
    }
}
