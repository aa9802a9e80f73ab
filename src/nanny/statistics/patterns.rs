//! What goes with failure: all that `nanny patterns` finds, from a table of runs.

use std::collections::{HashMap, HashSet};

use crate::nanny::statistics::attribute::{Attribute, DAY, HOUR, StratumKind};
use crate::nanny::statistics::campaigns::{Campaign, campaigns};
use crate::nanny::statistics::run_table::RunTable;
use crate::nanny::statistics::senders::{FailureBurst, KillingSender, bursts, senders};
use crate::nanny::statistics::stratified::{Comparison, Place, adjusted, compare};

/// A value is tested if it has this number of runs.
const RUNS_MIN: u64 = 20;

/// A finding has at least this number of bad runs, in this number of clusters, and is this many times as frequent.
const BAD_MIN: u64 = 5;
const CLUSTERS_MIN: u64 = 4;
const RATIO_MIN: f64 = 1.5;

/// The rate of false findings that is accepted.
const FALSE_RATE: f64 = 0.05;

/// A part that has this share of the failures beyond expectation explains the whole.
const EXPLAINS: f64 = 0.8;

/// A part beside a whole that is a finding must be this many times as bad.
const PART_FACTOR: f64 = 2.0;

/// A suspect: this many times as many failures as elsewhere, at least this number, and this many standard
/// deviations more than expected.
const SUSPECT_RATIO: f64 = 1.5;
const SUSPECT_BAD: u64 = 20;
const SUSPECT_Z: f64 = 4.0;

/// A value that goes with failure.
#[derive(Clone, Debug)]
pub struct Factor {
    pub attribute: Attribute,
    pub value: u64,
    pub comparison: Comparison,
    /// The rate of false findings at which it would be one.
    pub adjusted: f64,
    /// Failures in place of runs alone: how it looks without comparing like with like.
    pub crude: f64,
    /// Other values that the very same runs have.
    pub aliases: Vec<(Attribute, u64)>,
    /// Of a host: time in its bad runs, in seconds.
    pub lost_seconds: Option<f64>,
}

/// A value that looks bad and is not.
#[derive(Clone, Debug)]
pub struct Cleared {
    pub attribute: Attribute,
    pub value: u64,
    pub comparison: Comparison,
    pub crude: f64,
    /// Whose command most of its failures are, how many, and what the ratio is without that command.
    pub user: u32,
    pub command: u32,
    pub of_command: u64,
    pub crude_without: f64,
}

/// All findings, each kind with what explains the most first.
#[derive(Clone, Debug, Default)]
pub struct PatternFindings {
    pub campaigns: Vec<Campaign>,
    pub senders: Vec<KillingSender>,
    pub factors: Vec<Factor>,
    pub cleared: Vec<Cleared>,
    pub bursts: Vec<FailureBurst>,
    /// How many values were tested.
    pub tested: usize,
}

/// One attribute with its comparisons.
type Compared = (Attribute, HashMap<u64, Comparison>);

/// Looks for all of it.
#[must_use]
pub fn patterns(table: &RunTable) -> PatternFindings {
    let mut order: Vec<u32> = (0..table.len() as u32).collect();
    let mut compared: Vec<Compared> = Vec::new();
    order.sort_unstable_by_key(|run| {
        let kind = table.kind(*run as usize);
        (u64::from(kind.user) << 32 | u64::from(kind.command), table.time(*run as usize), *run)
    });
    let campaigns = campaigns(table, &order);
    for attribute in Attribute::ALL {
        if matches!(
            attribute.stratum(),
            StratumKind::UserCommandAndHour | StratumKind::UserAndCommand
        ) {
            compared.push((attribute, compare_attribute(table, &order, attribute)));
        }
    }
    order.sort_unstable_by_key(|run| {
        (table.kind(*run as usize).command, table.time(*run as usize) / DAY, *run)
    });
    compared.push((Attribute::User, compare_attribute(table, &order, Attribute::User)));
    order.sort_unstable_by_key(|run| (table.time(*run as usize) / DAY, *run));
    compared.push((Attribute::Command, compare_attribute(table, &order, Attribute::Command)));
    drop(order);
    let (factors, tested) = factors(table, &compared);
    let cleared = cleared(table, &compared, &factors);
    PatternFindings {
        campaigns,
        senders: senders(table),
        factors,
        cleared,
        bursts: bursts(table),
        tested,
    }
}

fn compare_attribute(
    table: &RunTable,
    order: &[u32],
    attribute: Attribute,
) -> HashMap<u64, Comparison> {
    let kind = attribute.stratum();
    let place = |run: usize| {
        let (job, time) = (table.kind(run), table.time(run));
        let (hour, day) = (u64::from(time / HOUR), u64::from(time / DAY));
        let who = u64::from(job.user) << 32 | u64::from(job.command);
        // It only has to differ between neighbours in the order.
        let with = |when: u64| {
            who.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ when.wrapping_mul(0xbf58_476d_1ce4_e5b9)
        };
        let (stratum, cluster) = match kind {
            StratumKind::UserCommandAndHour => (with(hour), with(day)),
            StratumKind::UserAndCommand => (with(0), day),
            StratumKind::CommandAndDay => {
                let both = u64::from(job.command) << 32 | day;
                (both, both)
            }
            StratumKind::Day => (day, day),
        };
        Place { stratum, cluster, value: attribute.value(table, run) }
    };
    // Days lie in many strata.
    let boundary = |one: usize, other: usize| {
        kind != StratumKind::UserAndCommand && place(one).cluster != place(other).cluster
    };
    compare(order, |run| table.is_bad(run), place, boundary)
}

/// Returns the values that go with failure, and how many were tested.
fn factors(table: &RunTable, compared: &[Compared]) -> (Vec<Factor>, usize) {
    let mut candidates: Vec<Factor> = Vec::new();
    let (all, bad) = (table.len() as f64, table.bad() as f64);
    for (attribute, comparisons) in compared {
        for (value, comparison) in comparisons {
            // An empty text: nobody knows.
            let is_known = !attribute.is_named() || !table.names.text(*value as u32).is_empty();
            if comparison.runs < RUNS_MIN || comparison.z == 0.0 || !is_known {
                continue;
            }
            let (runs, own_bad) = (comparison.runs as f64, comparison.bad as f64);
            candidates.push(Factor {
                attribute: *attribute,
                value: *value,
                comparison: *comparison,
                adjusted: 1.0,
                crude: own_bad / runs / ((bad - own_bad) / (all - runs)),
                aliases: Vec::new(),
                lost_seconds: (*attribute == Attribute::Host)
                    .then(|| table.lost_seconds.get(&(*value as u32)).copied().unwrap_or(0.0)),
            });
        }
    }
    let tested = candidates.len();
    let probabilities: Vec<f64> = candidates.iter().map(|one| one.comparison.p()).collect();
    for (candidate, adjusted) in candidates.iter_mut().zip(adjusted(&probabilities)) {
        candidate.adjusted = adjusted;
    }
    candidates.retain(|one| {
        one.adjusted <= FALSE_RATE
            && one.comparison.ratio >= RATIO_MIN
            && one.comparison.bad >= BAD_MIN
            && one.comparison.clusters >= CLUSTERS_MIN
    });
    let mut factors = closed(table, merged(candidates));
    factors.sort_by(|one, other| {
        let by_excess = other.comparison.excess.total_cmp(&one.comparison.excess);
        by_excess
            .then((one.attribute as usize, one.value).cmp(&(other.attribute as usize, other.value)))
    });
    (factors, tested)
}

/// Makes one of the values that the very same runs have; the first attribute gives it its name.
fn merged(mut candidates: Vec<Factor>) -> Vec<Factor> {
    candidates.sort_by_key(|one| (one.attribute as usize, one.value));
    let mut kept: Vec<Factor> = Vec::new();
    for candidate in candidates {
        let key = |one: &Factor| (one.comparison.identity, one.comparison.runs, one.comparison.bad);
        match kept.iter_mut().find(|one| key(one) == key(&candidate)) {
            // A host on which one command runs is that command on that host.
            Some(_) if candidate.attribute == Attribute::HostAndCommand => {}
            Some(same) => same.aliases.push((candidate.attribute, candidate.value)),
            None => kept.push(candidate),
        }
    }
    kept
}

/// Leaves out wholes that a part explains, and parts that are hardly worse than their whole.
fn closed(table: &RunTable, factors: Vec<Factor>) -> Vec<Factor> {
    let boots: HashMap<u64, u64> = (0..table.len())
        .map(|run| table.spot(run))
        .map(|spot| (u64::from(spot.boot), u64::from(spot.host)))
        .collect();
    let wholes = |one: &Factor| -> Vec<(Attribute, u64)> {
        match one.attribute {
            Attribute::HostAndCommand => {
                vec![
                    (Attribute::Host, one.value >> 32),
                    (Attribute::Command, one.value & 0xffff_ffff),
                ]
            }
            Attribute::Boot => {
                boots.get(&one.value).map(|host| (Attribute::Host, *host)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    };
    let mut gone: HashSet<(Attribute, u64)> = HashSet::new();
    for part in &factors {
        for whole in wholes(part) {
            let Some(found) = factors.iter().find(|one| (one.attribute, one.value) == whole) else {
                continue;
            };
            let (part_of_it, whole_of_it) = (&part.comparison, &found.comparison);
            if part_of_it.excess >= EXPLAINS * whole_of_it.excess
                && part_of_it.ratio > whole_of_it.ratio
            {
                gone.insert(whole);
            } else if part_of_it.ratio < PART_FACTOR * whole_of_it.ratio {
                gone.insert((part.attribute, part.value));
            }
        }
    }
    factors.into_iter().filter(|one| !gone.contains(&(one.attribute, one.value))).collect()
}

/// Runs and bad runs of a user's command on a value.
type OwnCounts = HashMap<(u32, u32), (u64, u64)>;

/// Returns hosts and queues that look bad, and are not where like is compared with like.
fn cleared(table: &RunTable, compared: &[Compared], factors: &[Factor]) -> Vec<Cleared> {
    let (all, bad) = (table.len() as u64, table.bad() as u64);
    let mut cleared = Vec::new();
    for (attribute, comparisons) in compared {
        if !matches!(attribute, Attribute::Host | Attribute::Queue) {
            continue;
        }
        let is_suspect = |(value, one): &(&u64, &Comparison)| {
            let expected = one.runs as f64 * bad as f64 / all as f64;
            let is_bad = one.bad >= SUSPECT_BAD
                && crude((one.runs, one.bad), (all, bad)) >= SUSPECT_RATIO
                && (one.bad as f64 - expected) / expected.sqrt() >= SUSPECT_Z;
            let is_host = |factor: &&Factor| {
                factor.attribute == Attribute::HostAndCommand && *attribute == Attribute::Host
            };
            let is_found = factors.iter().any(|factor| {
                (factor.attribute, factor.value) == (*attribute, **value)
                    || factor.aliases.contains(&(*attribute, **value))
                    || is_host(&factor) && factor.value >> 32 == **value
            });
            is_bad && !is_found && !table.names.text(**value as u32).is_empty()
        };
        let suspects: HashMap<u64, Comparison> =
            comparisons.iter().filter(is_suspect).map(|(value, one)| (*value, *one)).collect();
        let mut own: HashMap<u64, OwnCounts> = HashMap::new();
        let mut everywhere = OwnCounts::new();
        if suspects.is_empty() {
            continue;
        }
        for run in 0..table.len() {
            let (kind, value) = (table.kind(run), attribute.value(table, run));
            let add = |counts: &mut OwnCounts| {
                let count = counts.entry((kind.user, kind.command)).or_default();
                *count = (count.0 + 1, count.1 + u64::from(table.is_bad(run)));
            };
            add(&mut everywhere);
            if suspects.contains_key(&value) {
                add(own.entry(value).or_default());
            }
        }
        for (value, comparison) in suspects {
            let most = own
                .get(&value)
                .and_then(|own| own.iter().max_by_key(|(who, count)| (count.1, **who)));
            let Some(((user, command), (runs, of_command))) =
                most.map(|(who, count)| (*who, *count))
            else {
                continue;
            };
            let (all_runs, all_bad) = everywhere.get(&(user, command)).copied().unwrap_or_default();
            let one = Cleared {
                attribute: *attribute,
                value,
                comparison,
                crude: crude((comparison.runs, comparison.bad), (all, bad)),
                user,
                command,
                of_command,
                crude_without: crude(
                    (comparison.runs - runs, comparison.bad - of_command),
                    (all - all_runs, bad - all_bad),
                ),
            };
            // Else nobody knows.
            let is_like_others = comparison.compared >= BAD_MIN && comparison.ratio < SUSPECT_RATIO;
            cleared.extend((is_like_others || one.crude_without < SUSPECT_RATIO).then_some(one));
        }
    }
    cleared.sort_by_key(|one| (std::cmp::Reverse(one.comparison.bad), one.value));
    cleared
}

/// Returns how many times as often as the others some runs are bad.
fn crude((runs, bad): (u64, u64), (all, all_bad): (u64, u64)) -> f64 {
    let rate = |bad: u64, runs: u64| bad as f64 / (runs.max(1)) as f64;
    rate(bad, runs) / rate(all_bad - bad, all - runs)
}

#[cfg(test)]
mod tests;
