//! What `nanny patterns` found, a line for each finding; and as JSON.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::text::{plural, printable_json};
use crate::model::time::WallTime;
use crate::nanny::statistics::attribute::{Attribute, StratumKind};
use crate::nanny::statistics::campaigns::Campaign;
use crate::nanny::statistics::patterns::{Cleared, Factor, PatternFindings};
use crate::nanny::statistics::run_table::RunTable;
use crate::nanny::statistics::senders::{FailureBurst, KillingSender, SLOT};
use crate::nanny::view::words;
use crate::record::row::csv;

/// Lines of one kind.
const LINES_MAX: usize = 10;

/// What the runs that are asked about are called.
pub struct SetWords {
    /// `1 failure`, `2 failures`.
    noun: &'static str,
    /// `3 of 7 runs failed`.
    verb: &'static str,
    /// `fails 2.0 times as often`.
    does: &'static str,
}

pub const FAILURES: SetWords = SetWords { noun: "failure", verb: "failed", does: "fails" };

/// Other sets of runs have no name of their own.
pub const CHOSEN: SetWords =
    SetWords { noun: "chosen run", verb: "were chosen", does: "is among the chosen" };

const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The texts of numbers.
struct Namer<'a>(&'a RunTable);

impl Namer<'_> {
    fn text(&self, number: u32) -> String {
        csv::text_of(self.0.names.text(number))
    }

    fn value(&self, attribute: Attribute, value: u64) -> String {
        let low = || self.text(value as u32);
        match attribute {
            Attribute::HostAndCommand => {
                format!("{} on host {}", low(), self.text((value >> 32) as u32))
            }
            Attribute::Hour => format!("{value:02}:00 to {value:02}:59 UTC"),
            Attribute::Weekday => WEEKDAYS[value as usize % 7].to_owned(),
            _ => low(),
        }
    }

    fn thing(&self, attribute: Attribute, value: u64) -> String {
        let name = self.value(attribute, value);
        match attribute {
            Attribute::Host => format!("host {name}"),
            Attribute::Boot => format!("host {name}"),
            Attribute::HostAndCommand => name,
            Attribute::Queue => format!("queue {name}"),
            Attribute::Batch => format!("batch {name}"),
            Attribute::Directory => format!("directory {name}"),
            Attribute::Memory => format!("memory {name}"),
            Attribute::Hour => format!("the hour {name}"),
            Attribute::Weekday => name,
            Attribute::User => format!("user {name}"),
            Attribute::Command => format!("command {name}"),
        }
    }

    fn command_of(&self, command: u32, user: u32) -> String {
        format!("{} of user {}", self.text(command), self.text(user))
    }
}

/// Writes all findings in words.
///
/// # Errors
///
/// Of `out`.
pub fn text(
    table: &RunTable,
    found: &PatternFindings,
    words: &SetWords,
    out: &mut dyn Write,
) -> io::Result<()> {
    let namer = Namer(table);
    let (runs, bad, noun) = (table.len(), table.bad(), words.noun);
    let share = bad as f64 / runs as f64 * 100.0;
    writeln!(out, "{runs} run{}, {bad} {} ({share:.1} %)", plural(runs as u64), words.verb)?;
    let campaigns = found.campaigns.iter().map(|one| campaign(&namer, words, one));
    section(out, &format!("{noun}s that belong together"), campaigns)?;
    let senders = found.senders.iter().map(|one| sender(&namer, one));
    section(out, "who ended runs by a signal", senders)?;
    let tested = found.tested;
    let factors = found.factors.iter().map(|one| factor(&namer, words, one));
    let title = format!(
        "what goes with a {noun} ({tested} value{} tested; at most 5 % of the lines are expected to be chance)",
        plural(tested as u64)
    );
    section(out, &title, factors)?;
    let cleared = found.cleared.iter().map(|one| cleared_line(&namer, words, one));
    section(out, "what looks bad and is not", cleared)?;
    let bursts = found.bursts.iter().map(|one| burst(&namer, words, one));
    section(out, &format!("many {noun}s at once on several hosts"), bursts)?;
    if found.campaigns.is_empty()
        && found.senders.is_empty()
        && found.factors.is_empty()
        && found.bursts.is_empty()
    {
        writeln!(
            out,
            "\nnothing goes with a {noun} more than chance would ({tested} values tested)"
        )?;
    }
    Ok(())
}

fn section(
    out: &mut dyn Write,
    title: &str,
    lines: impl ExactSizeIterator<Item = String>,
) -> io::Result<()> {
    let count = lines.len();
    if count == 0 {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for line in lines.take(LINES_MAX) {
        writeln!(out, "  {line}")?;
    }
    if let Some(more @ 1..) = count.checked_sub(LINES_MAX) {
        writeln!(out, "  and {more} more (--json has all)")?;
    }
    Ok(())
}

fn campaign(namer: &Namer<'_>, words: &SetWords, one: &Campaign) -> String {
    let Campaign { bad, runs, bursts, days, alike, .. } = one;
    let what = namer.command_of(one.command, one.user);
    let when = match (bursts, one.first / 86_400 == one.last / 86_400) {
        (1, true) => format!("on {}", day(one.first)),
        (1, false) => format!("from {} to {}", moment(one.first), moment(one.last)),
        _ => format!(
            "in {bursts} bursts on {days} day{} from {} to {}",
            plural(*days),
            day(one.first),
            day(one.last)
        ),
    };
    let ending = namer.text(one.ending);
    let alike = if alike == bad { ending } else { format!("{alike} of them {ending}") };
    format!("{bad} {}s are {what}, {when}: {bad} of {runs} runs meanwhile; {alike}", words.noun)
}

fn sender(namer: &Namer<'_>, one: &KillingSender) -> String {
    let KillingSender { bad, hosts, users, days, in_slot, .. } = *one;
    let times = match days {
        1 => format!("on {}", day(one.first)),
        _ => format!("on {days} days from {} to {}", day(one.first), day(one.last)),
    };
    let is_at_a_time = days > 1 && in_slot * 2 > bad;
    let slot = if is_at_a_time {
        format!(
            "; {in_slot} of them between {} and {} UTC",
            clock(one.slot),
            clock(one.slot + SLOT)
        )
    } else {
        String::new()
    };
    format!(
        "'{}' ended {bad} run{} on {hosts} host{}, of {users} user{}, {times}{slot}",
        namer.text(one.sender),
        plural(bad),
        plural(hosts),
        plural(users)
    )
}

fn factor(namer: &Namer<'_>, words: &SetWords, one: &Factor) -> String {
    let comparison = &one.comparison;
    let (low, high) = comparison.interval();
    let beside = match one.attribute.stratum() {
        StratumKind::UserCommandAndHour => "as other runs of the same user, command and hour",
        StratumKind::UserAndCommand => "as other runs of the same user and command",
        StratumKind::CommandAndDay => "as other users' runs of the same command and day",
        StratumKind::Day => "as other commands on the same days",
    };
    let often = if comparison.ratio.is_finite() {
        format!("{:.1} times as often (95 %: {low:.1} to {high:.1})", comparison.ratio)
    } else {
        "always more often".to_owned()
    };
    let aliases: Vec<String> =
        one.aliases.iter().map(|(attribute, value)| namer.thing(*attribute, *value)).collect();
    let aliases = match aliases.is_empty() {
        true => String::new(),
        false => format!(" (the same runs: {})", aliases.join(", ")),
    };
    let mut line = format!(
        "{}{aliases}: {} {often} {beside}; {} of {} runs, {:.0} more than expected, adjusted p {}",
        namer.thing(one.attribute, one.value),
        words.does,
        comparison.bad,
        comparison.runs,
        comparison.excess,
        probability(one.adjusted)
    );
    if let Some(seconds) = one.lost_seconds {
        line +=
            &format!(", {} lost; to keep jobs away: {}", words::span(seconds), drain(namer, one));
    }
    line
}

/// Returns the line for Slurm that keeps jobs from a node.
fn drain(namer: &Namer<'_>, one: &Factor) -> String {
    let host = crate::model::shell::words(&[namer.text(one.value as u32).into()]);
    let (ratio, bad) = (one.comparison.ratio, one.comparison.bad);
    format!(
        "scontrol update NodeName={host} State=DRAIN Reason='childminder: {bad} failures, {ratio:.1} times as often'"
    )
}

fn cleared_line(namer: &Namer<'_>, words: &SetWords, one: &Cleared) -> String {
    let noun = words.noun;
    format!(
        "{}: {} {:.1} times as often as others, but {} of its {} {noun}s are {}; without those {:.1} times, and {:.1} \
         times beside runs of the same user, command and hour",
        namer.thing(one.attribute, one.value),
        words.does,
        one.crude,
        one.of_command,
        one.comparison.bad,
        namer.command_of(one.command, one.user),
        one.crude_without,
        one.comparison.ratio
    )
}

fn burst(namer: &Namer<'_>, words: &SetWords, one: &FailureBurst) -> String {
    let FailureBurst { bad, hosts, users, alike, .. } = *one;
    let sender = namer.text(one.ending.sender);
    let by = if sender.is_empty() { String::new() } else { format!(" by '{sender}'") };
    format!(
        "{}: {bad} {}s on {hosts} hosts, of {users} user{}; {alike} of them {}{by}",
        moment(one.begin),
        words.noun,
        plural(users),
        namer.text(one.ending.words)
    )
}

/// Writes an object a line.
///
/// # Errors
///
/// Of `out`.
pub fn json(table: &RunTable, found: &PatternFindings, out: &mut dyn Write) -> io::Result<()> {
    let namer = Namer(table);
    let summary = json!({
        "kind": "summary", "runs": table.len(), "bad": table.bad(), "values_tested": found.tested,
    });
    let campaigns = found.campaigns.iter().map(|one| {
        json!({
            "kind": "campaign", "user": namer.text(one.user), "command": namer.text(one.command),
            "bad": one.bad, "runs": one.runs, "bursts": one.bursts, "days": one.days,
            "first": rfc3339(one.first), "last": rfc3339(one.last),
            "ending": namer.text(one.ending), "alike": one.alike,
        })
    });
    let senders = found.senders.iter().map(|one| {
        json!({
            "kind": "sender", "sender": namer.text(one.sender), "bad": one.bad, "hosts": one.hosts,
            "users": one.users, "days": one.days, "first": rfc3339(one.first), "last": rfc3339(one.last),
            "slot": clock(one.slot), "in_slot": one.in_slot,
        })
    });
    let factors = found.factors.iter().map(|one| {
        let (low, high) = one.comparison.interval();
        let same: Vec<Value> = one
            .aliases
            .iter()
            .map(|(attribute, value)| json!({"factor": attribute.word(), "value": namer.value(*attribute, *value)}))
            .collect();
        json!({
            "kind": "factor", "factor": one.attribute.word(), "value": namer.value(one.attribute, one.value),
            "same_runs": same, "runs": one.comparison.runs, "bad": one.comparison.bad,
            "excess": one.comparison.excess, "risk_ratio": finite(one.comparison.ratio),
            "low": finite(low), "high": finite(high), "crude_ratio": finite(one.crude),
            "clusters": one.comparison.clusters, "p": one.comparison.p(), "adjusted_p": one.adjusted,
            "lost_seconds": one.lost_seconds,
        })
    });
    let cleared = found.cleared.iter().map(|one| {
        json!({
            "kind": "cleared", "factor": one.attribute.word(), "value": namer.value(one.attribute, one.value),
            "runs": one.comparison.runs, "bad": one.comparison.bad, "crude_ratio": finite(one.crude),
            "risk_ratio": finite(one.comparison.ratio), "user": namer.text(one.user),
            "command": namer.text(one.command), "bad_of_command": one.of_command,
            "crude_ratio_without": finite(one.crude_without),
        })
    });
    let bursts = found.bursts.iter().map(|one| {
        json!({
            "kind": "burst", "begin": rfc3339(one.begin), "bad": one.bad, "hosts": one.hosts,
            "users": one.users, "ending": namer.text(one.ending.words),
            "sender": namer.text(one.ending.sender), "alike": one.alike,
        })
    });
    for line in [summary]
        .into_iter()
        .chain(campaigns)
        .chain(senders)
        .chain(factors)
        .chain(cleared)
        .chain(bursts)
    {
        writeln!(out, "{}", printable_json(&line.to_string()))?;
    }
    Ok(())
}

/// JSON has no infinity.
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

fn rfc3339(seconds: u32) -> String {
    WallTime(Duration::from_secs(seconds.into())).rfc3339()
}

fn moment(seconds: u32) -> String {
    words::moment(&rfc3339(seconds)).get(..16).unwrap_or_default().to_owned()
}

fn day(seconds: u32) -> String {
    words::day(&rfc3339(seconds))
}

fn clock(seconds: u32) -> String {
    format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
}

fn probability(p: f64) -> String {
    if p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
}
