//! Failures that belong together: one user's command that failed again and again.

use crate::nanny::statistics::run_table::RunTable;

/// A pause that ends a burst, in seconds.
const PAUSE: u32 = 6 * 3600;

/// A burst has at least this number of bad runs, and this share of the runs meanwhile.
const BURST_BAD: u64 = 10;
const BURST_SHARE: f64 = 0.5;

/// The bursts of one user and command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Campaign {
    pub user: u32,
    pub command: u32,
    pub bad: u64,
    /// Runs from the beginning to the end of each burst.
    pub runs: u64,
    pub bursts: u64,
    /// Days on which a burst began.
    pub days: u64,
    /// Seconds since 1970 of the first and the last failure.
    pub first: u32,
    pub last: u32,
    /// The ending of most of them, and how many had it.
    pub ending: u32,
    pub alike: u64,
}

/// Returns the campaigns, the largest first. `order` has the runs by user, command and time.
#[must_use]
pub fn campaigns(table: &RunTable, order: &[u32]) -> Vec<Campaign> {
    let who = |run: u32| {
        let kind = table.kind(run as usize);
        (kind.user, kind.command)
    };
    let mut found: Vec<Campaign> = order
        .chunk_by(|one, other| who(*one) == who(*other))
        .filter_map(|runs| campaign(table, runs))
        .collect();
    found.sort_by_key(|campaign| (std::cmp::Reverse(campaign.bad), campaign.first));
    found
}

/// Looks at the runs of one user and command.
fn campaign(table: &RunTable, runs: &[u32]) -> Option<Campaign> {
    let mut endings = std::collections::HashMap::<u32, u64>::new();
    let mut campaign = Campaign::default();
    let mut last_day = None;
    let bad: Vec<usize> = (0..runs.len()).filter(|at| table.is_bad(runs[*at] as usize)).collect();
    let time = |at: usize| table.time(runs[at] as usize);
    for burst in bad.chunk_by(|one, other| time(*other) - time(*one) <= PAUSE) {
        let (first, last) = (burst[0], burst[burst.len() - 1]);
        let (count, all) = (burst.len() as u64, (last - first + 1) as u64);
        if count < BURST_BAD || (count as f64) < all as f64 * BURST_SHARE {
            continue;
        }
        if campaign.bursts == 0 {
            campaign.first = time(first);
        }
        campaign.last = time(last);
        campaign.bad += count;
        campaign.runs += all;
        campaign.bursts += 1;
        let day = time(first) / 86_400;
        campaign.days += u64::from(last_day != Some(day));
        last_day = Some(day);
        for at in burst {
            let ending = table.ending(runs[*at] as usize);
            *endings.entry(ending.map_or(0, |ending| ending.words)).or_default() += 1;
        }
    }
    let (ending, alike) = endings.into_iter().max_by_key(|(ending, count)| (*count, *ending))?;
    let kind = table.kind(runs[0] as usize);
    Some(Campaign { user: kind.user, command: kind.command, ending, alike, ..campaign })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nanny::statistics::run_table::{BadFacts, RunFacts};

    #[test]
    fn bursts_of_a_command_are_one_campaign() {
        let mut table = RunTable::default();
        let mut add = |time: u64, command: &'static [u8], is_bad: bool| {
            let bad = is_bad.then_some(BadFacts { words: b"exit_nonzero", ..BadFacts::default() });
            table.add(&RunFacts { time, user: b"u", command, bad, ..RunFacts::default() });
        };
        // Twelve on one day, eleven of fifteen two days later, and some that are far apart.
        (0..12).for_each(|run| add(86_400 + run, b"bursts", true));
        (0..15)
            .for_each(|run| add(3 * 86_400 + run, b"bursts", run == 0 || run == 14 || run % 4 > 0));
        (10..30).for_each(|day| add(day * 86_400, b"bursts", day % 2 == 0));
        // Many failures, but few of its runs.
        (0..100).for_each(|run| add(86_400 + run, b"large", run % 3 == 0));
        let order: Vec<u32> = (0..table.len() as u32).collect();
        let found = campaigns(&table, &order);
        assert_eq!(found.len(), 1);
        let campaign = &found[0];
        assert_eq!(table.names.text(campaign.command), b"bursts");
        let bad = 12 + (0..15).filter(|run| *run == 0 || *run == 14 || run % 4 > 0).count() as u64;
        assert_eq!((campaign.bad, campaign.runs, campaign.bursts, campaign.days), (bad, 27, 2, 2));
        assert_eq!((campaign.first, campaign.last, campaign.alike), (86_400, 3 * 86_400 + 14, bad));
    }
}
