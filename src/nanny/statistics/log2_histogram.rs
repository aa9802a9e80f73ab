//! How values of any size are distributed, in a fixed amount of memory.

/// Steps in which a value doubles.
const STEPS: usize = 4;
const SIZE: usize = 64 * STEPS;

/// Counts of positive values, in steps of the fourth root of two: a quantile is at most 10 % off.
#[derive(Clone, Debug)]
pub struct Log2Histogram {
    counts: Box<[u64; SIZE]>,
    pub count: u64,
    /// Exact; 0 of no values.
    pub largest: f64,
}

impl Default for Log2Histogram {
    fn default() -> Log2Histogram {
        Log2Histogram { counts: Box::new([0; SIZE]), count: 0, largest: 0.0 }
    }
}

impl Log2Histogram {
    /// Adds a value; what is below 1 counts as 1.
    pub fn add(&mut self, value: f64) {
        let step = (value.max(1.0).log2() * STEPS as f64) as usize;
        self.counts[step.min(SIZE - 1)] += 1;
        self.count += 1;
        self.largest = self.largest.max(value);
    }

    pub fn merge(&mut self, other: &Log2Histogram) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(ours, theirs)| *ours += theirs);
        self.count += other.count;
        self.largest = self.largest.max(other.largest);
    }

    /// Returns the upper end of the step that this share of the values does not pass; `None` of no values.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(((step + 1) as f64 / STEPS as f64).exp2().min(self.largest))
    }

    /// Returns the counts of each doubling, from `2^n` on, without the empty ones at both ends: the first `n`, and
    /// the counts from there.
    #[must_use]
    pub fn doublings(&self) -> (usize, Vec<u64>) {
        let counts: Vec<u64> = self.counts.chunks(STEPS).map(|steps| steps.iter().sum()).collect();
        let Some(first) = counts.iter().position(|count| *count > 0) else {
            return (0, Vec::new());
        };
        let last = counts.iter().rposition(|count| *count > 0).unwrap_or(first);
        (first, counts[first..=last].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_the_true_ones() {
        let mut histogram = Log2Histogram::default();
        (1..=1000).for_each(|value| histogram.add(f64::from(value)));
        for (share, truth) in [(0.5, 500.0), (0.9, 900.0), (1.0, 1000.0)] {
            let found = histogram.quantile(share).expect("values");
            assert!((1.0..1.2).contains(&(found / truth)), "{share}: {found}");
        }
        assert_eq!(Log2Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn doublings_have_every_value_once() {
        let (mut one, mut other) = (Log2Histogram::default(), Log2Histogram::default());
        [4.0, 5.0, 7.9].into_iter().for_each(|value| one.add(value));
        [0.0, 40.0].into_iter().for_each(|value| other.add(value));
        assert_eq!(one.doublings(), (2, vec![3]));
        one.merge(&other);
        assert_eq!(one.doublings(), (0, vec![1, 0, 3, 0, 0, 1]));
        assert_eq!((one.count, one.largest), (5, 40.0));
    }
}
