//! Does a value go with failure, among runs that are otherwise alike?
//!
//! Runs are compared within strata: runs of the same user, command and hour, say. The risk ratio is that of Mantel and
//! Haenszel. A user's script that fails a thousand times in an hour is one event, so the test does not count runs: the
//! differences between observed and expected failures are summed for each cluster (such as user, command and day).
//! If the value makes no difference, each sum could as well have the other sign: the probability is that of a sum
//! as large by random signs (`signs`). With few clusters it cannot be small. The interval is the test-based one of Miettinen.

use std::collections::HashMap;

use crate::nanny::statistics::signs;

/// Where a run belongs in one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Runs with the same stratum are compared.
    pub stratum: u64,
    /// Runs of one cluster count as one observation.
    pub cluster: u64,
    /// What is asked about.
    pub value: u64,
}

/// What was found about a value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Comparison {
    pub runs: u64,
    pub bad: u64,
    /// Bad runs among those that had runs of another value beside them.
    pub compared: u64,
    /// Bad runs beyond expectation.
    pub excess: f64,
    /// The risk ratio of Mantel and Haenszel; infinite if nothing else failed beside it.
    pub ratio: f64,
    /// The standard deviations from no difference that have the probability of what was found; 0 if there are no
    /// more bad runs than expected.
    pub z: f64,
    /// Clusters in which the value had more bad runs than expected.
    pub clusters: u64,
    /// The same for the same set of runs.
    pub identity: u64,
}

impl Comparison {
    /// Returns the probability of what was found if there were no difference.
    #[must_use]
    pub fn p(&self) -> f64 {
        signs::upper_tail(self.z)
    }

    /// Returns the 95 % interval of the ratio.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        if !self.ratio.is_finite() || self.z < 0.05 {
            return (0.0, f64::INFINITY);
        }
        let log = self.ratio.ln();
        let width = (1.96 * log / self.z).abs();
        ((log - width).exp(), (log + width).exp())
    }
}

#[derive(Default)]
struct Sums {
    comparison: Comparison,
    risk: f64,
    risk_beside: f64,
    /// Of each cluster.
    scores: Vec<f32>,
}

/// Compares all values. `order` has the runs with those of one stratum together; clusters that are
/// not divided by `boundary` (which says whether a new group of clusters begins) may lie in several strata.
pub fn compare(
    order: &[u32],
    is_bad: impl Fn(usize) -> bool,
    place: impl Fn(usize) -> Place,
    boundary: impl Fn(usize, usize) -> bool,
) -> HashMap<u64, Comparison> {
    let mut all: HashMap<u64, Sums> = HashMap::new();
    let mut scores: HashMap<(u64, u64), f64> = HashMap::new();
    let strata =
        order.chunk_by(|one, other| place(*one as usize).stratum == place(*other as usize).stratum);
    let mut last = None;
    let mut stratum = Stratum::default();
    for runs in strata {
        let first = runs[0] as usize;
        if last.is_some_and(|last| boundary(last, first)) {
            flush(&mut scores, &mut all);
        }
        last = runs.last().map(|run| *run as usize);
        stratum.fill(runs, &is_bad, &place);
        stratum.add_to(&mut all, &mut scores);
        for run in runs {
            let sums = all.entry(place(*run as usize).value).or_default();
            sums.comparison.identity =
                sums.comparison.identity.wrapping_add(mixed(u64::from(*run)));
        }
    }
    flush(&mut scores, &mut all);
    all.into_iter().map(|(value, sums)| (value, sums.finished())).collect()
}

/// Keeps what each cluster has; then others begin.
fn flush(scores: &mut HashMap<(u64, u64), f64>, all: &mut HashMap<u64, Sums>) {
    for ((value, _), score) in scores.drain() {
        // What rounding leaves of nothing is not a difference.
        if score.abs() > 1e-9 {
            all.entry(value).or_default().scores.push(score as f32);
        }
    }
}

/// The bits of a number, each depending on all (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Runs, and bad ones among them.
type Count = (f64, f64);

/// The counts of one stratum.
#[derive(Default)]
struct Stratum {
    all: Count,
    values: HashMap<u64, Count>,
    clusters: HashMap<u64, Count>,
    both: HashMap<(u64, u64), Count>,
}

impl Stratum {
    fn fill(
        &mut self,
        runs: &[u32],
        is_bad: &impl Fn(usize) -> bool,
        place: &impl Fn(usize) -> Place,
    ) {
        self.all = (0.0, 0.0);
        self.values.clear();
        self.clusters.clear();
        self.both.clear();
        for run in runs {
            let run = *run as usize;
            let bad = f64::from(u8::from(is_bad(run)));
            let Place { cluster, value, .. } = place(run);
            let add = |count: &mut Count| *count = (count.0 + 1.0, count.1 + bad);
            add(&mut self.all);
            add(self.values.entry(value).or_default());
            add(self.clusters.entry(cluster).or_default());
            add(self.both.entry((value, cluster)).or_default());
        }
    }

    fn add_to(&self, all: &mut HashMap<u64, Sums>, scores: &mut HashMap<(u64, u64), f64>) {
        let (runs, bad) = self.all;
        for (value, (own, own_bad)) in &self.values {
            let sums = all.entry(*value).or_default();
            sums.comparison.runs += *own as u64;
            sums.comparison.bad += *own_bad as u64;
            // Nothing else is beside it, or there is no difference to be seen.
            if *own == runs || bad == 0.0 {
                continue;
            }
            sums.comparison.compared += *own_bad as u64;
            sums.risk += own_bad * (runs - own) / runs;
            sums.risk_beside += (bad - own_bad) * own / runs;
            sums.comparison.excess += own_bad - own * bad / runs;
            let rate = bad / runs;
            for (cluster, (here, here_bad)) in &self.clusters {
                let (ours, ours_bad) =
                    self.both.get(&(*value, *cluster)).copied().unwrap_or_default();
                let score = (ours_bad - rate * ours) - own / runs * (here_bad - rate * here);
                *scores.entry((*value, *cluster)).or_default() += score;
            }
        }
    }
}

impl Sums {
    fn finished(self) -> Comparison {
        let mut comparison = self.comparison;
        comparison.ratio = match (self.risk, self.risk_beside) {
            (0.0, 0.0) => 1.0,
            (risk, beside) => risk / beside,
        };
        comparison.clusters = self.scores.iter().filter(|score| **score > 0.0).count() as u64;
        comparison.z = signs::deviations(&self.scores);
        comparison
    }
}

/// Returns the smallest rate of false findings at which each would be one (Benjamini and Hochberg), in the order
/// of the given probabilities.
#[must_use]
pub fn adjusted(probabilities: &[f64]) -> Vec<f64> {
    let count = probabilities.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|one, other| probabilities[*other].total_cmp(&probabilities[*one]));
    let mut adjusted = vec![1.0; count];
    let mut least: f64 = 1.0;
    for (place, index) in order.into_iter().enumerate() {
        let rank = count - place;
        least = least.min(probabilities[index] * count as f64 / rank as f64);
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stratum, cluster, value, bad.
    type Case = (u64, u64, u64, bool);

    fn compared(runs: &[Case]) -> HashMap<u64, Comparison> {
        let order: Vec<u32> = (0..runs.len() as u32).collect();
        let place =
            |run: usize| Place { stratum: runs[run].0, cluster: runs[run].1, value: runs[run].2 };
        compare(&order, |run| runs[run].3, place, |_, _| false)
    }

    /// Two strata with known counts: (4 of 10 against 2 of 20) and (3 of 6 against 1 of 4).
    #[test]
    fn the_ratio_is_that_of_mantel_and_haenszel() {
        let mut runs: Vec<Case> = Vec::new();
        for (stratum, value, bad, all) in [(1, 1, 4, 10), (1, 2, 2, 20), (2, 1, 3, 6), (2, 2, 1, 4)]
        {
            runs.extend((0..all).map(|run| (stratum, stratum, value, run < bad)));
        }
        let found = compared(&runs);
        let expected =
            (4.0 * 20.0 / 30.0 + 3.0 * 4.0 / 10.0) / (2.0 * 10.0 / 30.0 + 1.0 * 6.0 / 10.0);
        assert!((found[&1].ratio - expected).abs() < 1e-12, "{:?}", found[&1]);
        assert!((found[&2].ratio - 1.0 / expected).abs() < 1e-12);
        assert_eq!((found[&1].runs, found[&1].bad, found[&1].clusters), (16, 7, 2));
        // Observed minus expected: 4 - 10 * 6 / 30, and 3 - 6 * 4 / 10.
        assert!((found[&1].excess - 2.6).abs() < 1e-12);
        // Two clusters, both with more than expected: one of four ways to choose the signs.
        assert!((found[&1].p() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_burst_of_one_cluster_is_one_observation() {
        let mut runs: Vec<Case> = (0..1000).map(|run| (1, 1, run % 2, run % 2 == 0)).collect();
        assert!((compared(&runs)[&0].p() - 0.5).abs() < 1e-9);
        // The same number of failures in a hundred clusters is a difference.
        runs.iter_mut()
            .enumerate()
            .for_each(|(at, run)| (run.0, run.1) = (at as u64 / 10, at as u64 / 10));
        assert!(compared(&runs)[&0].p() < 1e-9);
    }

    #[test]
    fn clusters_within_a_stratum_share_its_expectation() {
        // One stratum over two days: the value fails on one day as everything else does.
        let mut runs: Vec<Case> = Vec::new();
        for day in [1, 2] {
            for value in [1, 2] {
                runs.extend((0..10).map(|run| (1, day, value, day == 1 && run < 8)));
            }
        }
        let found = compared(&runs);
        assert!(found[&1].z.abs() < 1e-9 && (found[&1].ratio - 1.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn probabilities_are_adjusted() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "BH")
        let found = adjusted(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in found.iter().zip([0.02, 0.04, 0.04, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
        assert!(adjusted(&[]).is_empty());
    }

    #[test]
    fn intervals_contain_the_ratio_and_exclude_one_exactly_if_significant() {
        for (ratio, z, excludes) in [(2.0, 3.0, true), (2.0, 1.0, false), (5.0, 9.0, true)] {
            let (low, high) = Comparison { ratio, z, ..Comparison::default() }.interval();
            assert!(low < ratio && ratio < high);
            assert_eq!(low > 1.0 || high < 1.0, excludes, "{ratio} {z}");
        }
    }
}
