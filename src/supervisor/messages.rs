//! What the supervisor is given, and what it answers.

use crate::model::event::Event;
use crate::model::facts::{Facts, Reach};
use crate::model::findings::Findings;
use crate::model::outcome::{SpawnFailure, Termination};
use crate::model::process::{Descendant, Pid};
use crate::model::signal::{Signal, SignalInfo};
use crate::model::usage::ResourceUsage;
use crate::model::verdict::{Verdict, VerdictKind};

/// What happened in the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Begin,
    /// The attempt was started.
    Spawned(Pid),
    /// The attempt could not be started.
    SpawnFailed(SpawnFailure),
    /// childminder received a signal.
    Signal(Received),
    /// A process beside the job received that signal: it was sent to every process.
    AlsoReceived(Signal),
    /// The job was stopped by that signal.
    JobStopped(Signal),
    /// The job runs again.
    JobContinued,
    /// The job was reaped; what was read before that.
    JobEnded(Termination, ResourceUsage, Box<EndReport>),
    /// The job is gone without a status (ECHILD).
    JobLost,
    /// A descendant whose parent had gone was reaped by us.
    OrphanEnded(Pid, Termination, ResourceUsage),
    /// What is left of the job.
    Tree(Remaining),
    /// Where the processes of the job wait, as far as it was asked for.
    StallReport(Vec<Event>),
    /// The judgement that was asked for.
    Judged(Verdict),
    /// The world reports something that decides nothing.
    News(Event),
    /// The deadline passed, or nothing in particular happened.
    Woken,
}

/// What was read while the job was a zombie: the findings for the judge, and lines for the log alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndReport {
    /// What the judge sees.
    pub findings: Findings,
    /// The files that the job had open: logged with any end.
    pub open_files: Vec<Event>,
    /// What surrounded a failure, such as the last samples: logged only if the attempt failed.
    pub failure_context: Vec<Event>,
}

/// What is left of the job: what could be seen, and whether it is proven that nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// The living processes that were seen. There may be others.
    pub seen: Vec<Descendant>,
    /// Those of them that were killed already and end just now.
    pub dying: Vec<Pid>,
    /// Whether none of them is a descendant of ours, whose end would be reported: they are in the job's cgroup.
    pub has_no_child: bool,
    /// Whether no process of the job exists, as the kernel says: that nobody was seen proves nothing.
    pub is_gone: bool,
}

/// A signal, and what the world knows about its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// What the kernel says.
    pub info: SignalInfo,
    /// Who got it besides us.
    pub reach: Reach,
    /// Whether somebody would continue us if we stopped now: our process group is not orphaned.
    pub can_suspend: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start the job with these things in its environment.
    Spawn(AttemptContext),
    /// Send a signal of our own.
    Send(Target, Signal),
    /// Pass a signal on to the job, with the integer of sigqueue(3) if it carried one.
    Forward(Signal, Option<i32>),
    /// Find out which processes of the job live.
    Look,
    /// Find out where the processes of the job wait, before they are ended.
    Inspect,
    Judge(Box<Facts>),
    Publish(Event),
    /// The run is over.
    Finish(Outcome),
}

/// Who should get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The process that we started.
    Job,
    /// It and all its descendants.
    Tree,
    /// Those of them that are stopped.
    StoppedInTree,
    Ourselves,
}

/// What an attempt finds in its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptContext {
    /// 1 for the first.
    pub attempt: u32,
    /// The verdict on the one before.
    pub previous: Option<VerdictKind>,
}

/// How the run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub exit_status: u8,
    /// The verdict on the last attempt.
    pub verdict: Verdict,
}
