//! Counts of values by size, as Prometheus and OpenTelemetry have them.

/// A histogram with fixed bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The upper bounds of the buckets, which belong to them, in rising order.
    pub bounds: &'static [f64],
    /// The values in each bucket, and at the end those above the last bound.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Histogram {
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Takes in a value.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns, for each bound, how many values are not above it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let mut histogram = Histogram::new(&[1.0, 10.0]);
        for value in [0.5, 1.0, 1.5, 10.0, 11.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts, [2, 2, 1]);
        assert_eq!((histogram.count(), histogram.sum), (5, 24.0));
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1.0, 2), (10.0, 4)]);
    }
}
