//! What the death of a descendant explains: a failure of the job just after it, or a loss.

use crate::diagnose::evidence::{Judgement, PROMPT, ago, exact};
use crate::diagnose::{memory, requests, traced};
use crate::model::facts::Facts;
use crate::model::findings::{Death, KernelLine};
use crate::model::signal::Signal;
use crate::model::verdict::{Confidence, Evidence, VerdictKind};

/// Returns the losses that nobody asked for, the first of them first, and how many there were.
pub(super) fn losses(facts: &Facts) -> (Vec<&Death>, u64) {
    let deaths = &facts.findings.deaths;
    let all: Vec<&Death> = deaths.kept().filter(|death| death.is_loss()).collect();
    let unasked: Vec<&Death> =
        all.iter().copied().filter(|death| is_unasked(facts, death)).collect();
    let is_all = all.len() == unasked.len();
    let count = if is_all { deaths.losses } else { unasked.len() as u64 };
    (unasked, count)
}

/// A shell returns 128+n when a command of its own died of signal n; other programs fail in their
/// own way just after a child of theirs was lost.
pub(super) fn explain(facts: &Facts, status: u8) -> Option<Judgement> {
    let named = Signal::new(i32::from(status) - 128).and_then(|signal| latest_by(facts, signal));
    let (death, confidence) = match named {
        Some(death) if facts.ended_at - death.at <= PROMPT => (death, Confidence::Certain),
        Some(death) => (death, Confidence::Likely),
        None => {
            let (all, _) = losses(facts);
            let just_before = |death: &&&Death| facts.ended_at - death.at <= PROMPT;
            (*all.iter().find(just_before)?, Confidence::Likely)
        }
    };
    let mut evidence = vec![words(facts, death)];
    evidence.extend(kernel_words(facts, death));
    if let Some((strength, proof)) = memory::of_descendant(facts, death) {
        evidence.extend(proof);
        evidence.extend(memory::size_words(&facts.findings.memory));
        return Some((VerdictKind::OomKilled, confidence.min(strength), evidence));
    }
    if death.signal() == Some(Signal::PIPE) {
        return Some((VerdictKind::BrokenPipe, Confidence::Likely, evidence));
    }
    Some((VerdictKind::DescendantKilled, confidence, evidence))
}

/// Says which descendant was lost, and to what, where that is not what ended the job.
pub(super) fn mention(facts: &Facts) -> Vec<Evidence> {
    let (all, _) = losses(facts);
    let Some(death) = all.first() else { return Vec::new() };
    let mut evidence = vec![words(facts, death)];
    evidence.extend(kernel_words(facts, death));
    let proof = memory::of_descendant(facts, death);
    evidence.extend(proof.into_iter().flat_map(|(_, proof)| proof));
    evidence
}

/// Says which processes were lost that may have been descendants.
pub(super) fn unclear_losses(facts: &Facts) -> Option<Evidence> {
    unclear(facts, Death::is_loss)
}

/// The same of those that died of that signal.
pub(super) fn unclear_of(facts: &Facts, signal: Signal) -> Option<Evidence> {
    unclear(facts, |death| death.signal() == Some(signal))
}

fn unclear(facts: &Facts, is_wanted: impl Fn(&Death) -> bool) -> Option<Evidence> {
    let all = facts.findings.deaths.unclear.iter().filter(|death| is_wanted(death));
    let mut all = all.filter(|death| is_unasked(facts, death));
    let death = all.next()?;
    let more = match all.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let fact = format!(
        "{death}{more} and may have been a descendant: it and its parent were gone before that could \
         be checked"
    );
    Some(exact(fact, death.source))
}

pub(super) fn words(facts: &Facts, death: &Death) -> Evidence {
    let when = ago(facts.ended_at - death.at);
    let gap = if when.is_empty() { "" } else { " " };
    let sender = death.signal().and_then(|signal| traced::of_descendant(facts, death.pid, signal));
    let comma = if sender.is_some() { ", " } else { "" };
    let sender = sender.unwrap_or_default();
    exact(format!("its descendant {death}{gap}{when}{comma}{sender}"), death.source)
}

/// What the kernel logged about that descendant.
pub(super) fn kernel_words(facts: &Facts, death: &Death) -> Option<Evidence> {
    let lines = &facts.findings.kernel_lines;
    let signal = death.signal()?;
    lines.iter().find(|line| line.explains(&[death.pid], signal)).map(line_words)
}

pub(super) fn line_words(line: &KernelLine) -> Evidence {
    let is_audit = line.text.contains("type=1326 ");
    let what = if is_audit { " (a system call that seccomp(2) forbids)" } else { "" };
    exact(format!("the kernel's log: {}{what}", line.text), "/dev/kmsg")
}

fn latest_by(facts: &Facts, signal: Signal) -> Option<&Death> {
    let deaths = facts.findings.deaths.kept().filter(|death| death.signal() == Some(signal));
    deaths.filter(|death| is_unasked(facts, death)).max_by_key(|death| death.at)
}

/// What dies after the job, or after it was asked to stop, is not a loss.
fn is_unasked(facts: &Facts, death: &Death) -> bool {
    death.at <= facts.ended_at && !requests::had_come(facts, death.at)
}
