//! What a death by signal means where the signal was seen on its way (`--trace`).

use std::time::Duration;

use crate::diagnose::evidence::{Judgement, ago, exact};
use crate::diagnose::exit_words;
use crate::model::facts::{Facts, Heard};
use crate::model::process::{Pid, Sender};
use crate::model::signal::{Origin, Signal};
use crate::model::tracing::{Author, Delivery, FatalSignal};
use crate::model::verdict::{Confidence, Evidence, VerdictKind};

/// How we know.
const SOURCE: &str = "ptrace(2)";

/// A program that reacts to a signal by sending it to itself may need this time for its last work.
const LAST_WORK: Duration = Duration::from_secs(60);

/// Judges a job that died of a signal of another process or of its own; what came from the kernel or was passed on
/// by childminder is for other rules.
pub(super) fn judge(facts: &Facts, signal: Signal, ended: &Evidence) -> Option<Judgement> {
    let fatal = facts.findings.fatal_of(facts.pid?, signal)?;
    match fatal.author {
        Author::Kernel | Author::Childminder => None,
        Author::Another => killed(facts, &fatal.delivery, ended, None),
        Author::Itself => by_itself(facts, fatal, ended),
    }
}

fn killed(
    facts: &Facts,
    delivery: &Delivery,
    ended: &Evidence,
    more: Option<Evidence>,
) -> Option<Judgement> {
    // It went to childminder as well, and those rules know what that means.
    let sender = pid(&delivery.info.sender);
    let is_same = |heard: &Heard| {
        heard.info.signal == delivery.info.signal && pid(&heard.info.sender) == sender
    };
    if sender.is_some() && facts.stop_request.iter().chain(&facts.heard).any(is_same) {
        return None;
    }
    let confidence = match delivery.info.origin {
        // The sender fills in its own name.
        Origin::Queue => Confidence::Likely,
        _ => Confidence::Certain,
    };
    let who = exact(format!("it came {delivery}"), SOURCE);
    let evidence = [ended.clone(), who].into_iter().chain(more).collect();
    Some((VerdictKind::KilledByProcess, confidence, evidence))
}

fn by_itself(facts: &Facts, fatal: &FatalSignal, ended: &Evidence) -> Option<Judgement> {
    let signal = fatal.delivery.info.signal;
    // The kernel sends these in the name of the process that causes them.
    if matches!(signal, Signal::PIPE | Signal::XFSZ | Signal::XCPU) {
        return None;
    }
    if let Some((delivery, author, before)) = &fatal.earlier
        && *before <= LAST_WORK
    {
        return match author {
            Author::Another => {
                let reacted = "it had caught that, and then sent the signal to itself";
                killed(facts, delivery, ended, Some(exact(reacted, SOURCE)))
            }
            Author::Itself | Author::Childminder | Author::Kernel => None,
        };
    }
    if signal.is_fault() {
        let raised = "the program raised it itself (abort(3), raise(3)): no other process sent it";
        let why = exact(fatal.crash.clone().unwrap_or_else(|| raised.to_owned()), SOURCE);
        let evidence =
            [ended.clone(), why].into_iter().chain(exit_words::core(&facts.findings)).collect();
        return Some((VerdictKind::Crashed, Confidence::Certain, evidence));
    }
    let why = exact("the job sent it to itself: no other process did", SOURCE);
    Some((VerdictKind::KilledByProcess, Confidence::Certain, vec![ended.clone(), why]))
}

/// Returns what the kernel reported in the fault that ended the job.
pub(super) fn fault(facts: &Facts, signal: Signal) -> Option<Evidence> {
    let fatal = facts.findings.fatal_of(facts.pid?, signal)?;
    let words = || fatal.crash.clone().unwrap_or_else(|| fatal.delivery.to_string());
    fatal.delivery.is_fault().then(|| exact(words(), SOURCE))
}

/// Says where the signal came from that a descendant died of, and when that was not at its end.
pub(super) fn of_descendant(facts: &Facts, pid: Pid, signal: Signal) -> Option<String> {
    let fatal = facts.findings.fatal_of(pid, signal)?;
    let when = ago(fatal.before);
    let gap = if when.is_empty() { "" } else { ", " };
    if let Some(crash) = &fatal.crash
        && matches!(fatal.author, Author::Itself | Author::Kernel)
    {
        return Some(format!("{crash}{gap}{when}"));
    }
    Some(match fatal.author {
        Author::Itself => "which it sent to itself".to_owned(),
        Author::Childminder => "sent by childminder".to_owned(),
        Author::Kernel => format!("{}{gap}{when}", fatal.delivery),
        Author::Another => format!("sent {}{gap}{when}", fatal.delivery),
    })
}

fn pid(sender: &Sender) -> Option<Pid> {
    match sender {
        Sender::Process(process) => Some(process.pid),
        Sender::Kernel | Sender::OutsideNamespace => None,
    }
}
