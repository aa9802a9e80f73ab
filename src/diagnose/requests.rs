//! Whether a signal that childminder received as well explains the end: by time, and by what the
//! job did with it.

use std::time::Duration;

use crate::diagnose::evidence::{Judgement, PROMPT, ago, exact, request_words, requested_kind};
use crate::model::facts::{EndedByUs, Facts, Heard, Reach};
use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::process::Sender;
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::model::verdict::{Confidence, Evidence, VerdictKind};

/// A program that catches a request may need this time to end with a status of its own choice.
const REACTION: Duration = Duration::from_secs(2);

/// A program that says by its end which signal it had caught may need this time for its last work.
const LAST_WORK: Duration = Duration::from_secs(60);

/// The job died of a signal that it got from us or together with us, or of our SIGKILL after it did
/// not end when it was asked to.
pub(super) fn died(facts: &Facts, signal: Signal, ended: &Evidence) -> Option<Judgement> {
    if let Some(request) = &facts.stop_request
        && facts.ended_by_us == Some(EndedByUs::StopRequestIgnored)
        && signal == Signal::KILL
    {
        let late = exact("not ended within --kill-after", "--kill-after");
        let evidence = vec![ended.clone(), request_words(request), late];
        return Some((requested_kind(request), Confidence::Certain, evidence));
    }
    // It may have been asked more than once, each time by another signal.
    let heard = all(facts).find(|heard| heard.info.signal == signal)?;
    by(facts, heard, ended)
}

/// Shells and well-kept programs turn the signal into 128+n, or end in another way of their own. A hang-up
/// may have been ignored (nohup), or meant as "read your files again"; SIGQUIT may have asked for a dump.
pub(super) fn exited(facts: &Facts, status: u8, ended: &Evidence) -> Option<Judgement> {
    let named = |heard: &&Heard| i32::from(status) == 128 + heard.info.signal.number();
    if let Some(judgement) = all(facts).find(named).and_then(|heard| by(facts, heard, ended)) {
        return Some(judgement);
    }
    let request = all(facts)
        .filter(|heard| is_plain_request(heard))
        .filter(|heard| facts.ended_at - heard.at <= REACTION)
        .find(|heard| !had_no_effect(facts, heard))?;
    let evidence = vec![ended.clone(), request_words(request)];
    Some((requested_kind(request), Confidence::Likely, evidence))
}

/// The end names the signal.
fn by(facts: &Facts, heard: &Heard, ended: &Evidence) -> Option<Judgement> {
    let since = facts.ended_at - heard.at;
    if since > LAST_WORK || had_no_effect(facts, heard) {
        return None;
    }
    let mut evidence = vec![ended.clone(), request_words(heard)];
    if heard.info.sender == Sender::Kernel && !heard.info.signal.is_of_terminal() {
        // A timer or a limit of the process that executed us: the kernel does not say which.
        return Some((VerdictKind::Unknown, Confidence::Likely, evidence));
    }
    let at_once = match facts.end {
        // The kernel itself ends what does not catch the signal.
        AttemptEnd::Ended(Termination::Signaled { .. }) => PROMPT / 2,
        _ => PROMPT,
    };
    if since <= at_once {
        return Some((requested_kind(heard), Confidence::Certain, evidence));
    }
    // Another process may have sent the same signal meanwhile.
    evidence.push(exact(format!("that was {}", ago(since)), "signalfd(2)"));
    Some((requested_kind(heard), Confidence::Likely, evidence))
}

/// Says what asked the job to stop where that is not what ended it.
pub(super) fn mention(facts: &Facts) -> Option<Evidence> {
    let request =
        all(facts).filter(|heard| is_plain_request(heard)).max_by_key(|heard| heard.at)?;
    let when = ago(facts.ended_at - request.at);
    let when = if when.is_empty() { "just before the end" } else { &when };
    let mut evidence = request_words(request);
    evidence.fact = format!("a stop was requested {when}: {}", evidence.fact);
    if had_no_effect(facts, request) {
        evidence.fact += ", which the job ignored or blocked";
    }
    Some(evidence)
}

/// A job that was asked to stop ends its own processes within this time.
const CLEANING_UP: Duration = Duration::from_secs(10);

/// Returns whether a request had come when that happened, and not long before: what dies then,
/// dies of it.
pub(super) fn had_come(facts: &Facts, at: Moment) -> bool {
    let is_ending = facts.ending_since.is_some_and(|since| since <= at);
    let mut requests =
        all(facts).filter(|heard| heard.info.signal.asks_to_stop() && !had_no_effect(facts, heard));
    is_ending || requests.any(|heard| heard.at <= at && at - heard.at <= CLEANING_UP)
}

/// What only the job got, and ignored or blocked, had no effect; what it died of had: that signal is still
/// pending in the zombie, for the kernel ends a process that sleeps by a SIGKILL of its own.
fn had_no_effect(facts: &Facts, heard: &Heard) -> bool {
    let signal = heard.info.signal;
    let died_of_it = matches!(
        facts.end,
        AttemptEnd::Ended(Termination::Signaled { signal: killer, .. }) if killer == signal
    );
    heard.reach == Reach::OnlyUs
        && !died_of_it
        && facts.findings.dispositions.is_some_and(|known| known.had_no_effect(signal))
}

/// SIGHUP may also mean "read your files again", SIGQUIT asks for a dump, and what the job sends to
/// its own process group asks nobody.
fn is_plain_request(heard: &Heard) -> bool {
    matches!(heard.info.signal, Signal::TERM | Signal::INT)
        && !matches!(heard.reach, Reach::FromJob { .. })
}

fn all(facts: &Facts) -> impl Iterator<Item = &Heard> {
    facts.stop_request.iter().chain(&facts.heard)
}
