//! Evidence in words, as several rules use it.

use std::time::Duration;

use crate::model::facts::{Heard, Reach};
use crate::model::outcome::Termination;
use crate::model::process::{Sender, SenderProcess};
use crate::model::verdict::{Confidence, Evidence, Quality, VerdictKind};

/// Within this time an end is taken for the effect of what happened before it.
pub(super) const PROMPT: Duration = Duration::from_secs(1);

/// At most this number of characters of a sender's command line stands in a verdict; the log has more.
const COMMAND_MAX: usize = 100;

/// What a rule says.
pub(super) type Judgement = (VerdictKind, Confidence, Vec<Evidence>);

/// Who sent it: the terminal, a program that signals all of the job itself, or a process by our hands. Only
/// some signals ask to stop.
pub(super) fn requested_kind(heard: &Heard) -> VerdictKind {
    match heard.reach {
        Reach::WholeGroup => VerdictKind::KilledByTerminal,
        Reach::OnlyUs | Reach::Unclear(_) | Reach::WholeJob(_) | Reach::OurFault
            if heard.info.signal.asks_to_stop() =>
        {
            VerdictKind::StopRequested
        }
        _ => VerdictKind::KilledByProcess,
    }
}

pub(super) fn request_words(request: &Heard) -> Evidence {
    let way = match request.reach {
        Reach::WholeGroup => "to the whole process group of the terminal",
        Reach::WholeJob(_) => "to every process of the job",
        Reach::FromJob { is_in_group: true } => "sent by the job itself to its process group",
        Reach::FromJob { is_in_group: false } => "sent by the job itself and passed on",
        Reach::OnlyUs | Reach::Unclear(_) | Reach::OurFault => {
            "received by childminder and passed on"
        }
    };
    let asked = if request.info.sender.is_slurm() { "asked by Slurm: " } else { "" };
    let mut info = request.info.clone();
    if let Sender::Process(SenderProcess { command: Some(command), .. }) = &mut info.sender
        && let Some((end, _)) = command.char_indices().nth(COMMAND_MAX)
    {
        command.truncate(end);
        command.push_str("...");
    }
    exact(format!("{asked}{info}, {way}"), "signalfd(2)")
}

pub(super) fn end_words(end: Termination) -> String {
    match end {
        Termination::Exited(status) => format!("exit status {status}"),
        Termination::Signaled { signal, core_dumped: true } => format!("{signal}, core dumped"),
        Termination::Signaled { signal, core_dumped: false } => signal.to_string(),
    }
}

/// Says how long before the end something was; nothing if that was just before it.
pub(super) fn ago(span: Duration) -> String {
    if span < Duration::from_millis(100) {
        return String::new();
    }
    format!("{:.1} s before the end", span.as_secs_f64())
}

pub(super) fn exact(fact: impl Into<String>, source: &'static str) -> Evidence {
    Evidence { fact: fact.into(), source, quality: Quality::Exact }
}

pub(super) fn inferred(fact: impl Into<String>, source: &'static str) -> Evidence {
    Evidence { fact: fact.into(), source, quality: Quality::Inferred }
}
