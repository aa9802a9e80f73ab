//! The probability that differences with random signs have a sum as large as theirs.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Returns the probability of a normal value at least this number of standard deviations above the mean.
#[must_use]
pub fn upper_tail(deviations: f64) -> f64 {
    0.5 * libm::erfc(deviations / SQRT_2)
}

/// Returns how many standard deviations above the mean a normal value would be that is as improbable as the sum of
/// these differences, if the sign of each were as probable as the other one; 0 if the sum is not above 0.
///
/// It is the saddlepoint approximation of Lugannani and Rice, in the form of Barndorff-Nielsen, but no less probable
/// than that all positive differences are positive: then the sum is as large whatever the signs of the others are.
/// So it is exact if all are.
#[must_use]
pub fn deviations(differences: &[f32]) -> f64 {
    let sum: f64 = differences.iter().map(|one| f64::from(*one)).sum();
    let squares: f64 = differences.iter().map(|one| f64::from(*one).powi(2)).sum();
    if sum <= 0.0 || squares == 0.0 {
        return 0.0;
    }
    let positive = differences.iter().filter(|one| **one > 0.0).count();
    let most = of_log_probability(-(positive as f64) * LN_2);
    if differences.iter().all(|one| *one >= 0.0) {
        return most;
    }
    let scale = squares.sqrt();
    let sizes = || differences.iter().map(|one| f64::from(one.abs()) / scale);
    let sum = sum / scale;
    // The mean of the tilted distribution, which grows with the tilt.
    let mean = |tilt: f64| sizes().map(|size| size * (size * tilt).tanh()).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    while mean(high) < sum && high < 1e9 {
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if mean(middle) < sum { low = middle } else { high = middle }
    }
    let tilt = 0.5 * (low + high);
    let cumulants: f64 = sizes().map(|size| log_cosh(size * tilt)).sum();
    let variance: f64 = sizes().map(|size| (size / (size * tilt).cosh().min(1e150)).powi(2)).sum();
    let root = (2.0 * (tilt * sum - cumulants)).max(0.0).sqrt();
    let other = tilt * variance.sqrt();
    // Near the mean the correction is 0 divided by 0.
    if root < 1e-3 || other <= 0.0 {
        return root.min(most);
    }
    (root + (other / root).ln() / root).clamp(0.0, most)
}

/// Without an overflow for large arguments.
fn log_cosh(x: f64) -> f64 {
    let x = x.abs();
    x + (-2.0 * x).exp().ln_1p() - LN_2
}

/// Returns the standard deviations of an upper tail whose probability has this logarithm.
fn of_log_probability(wanted: f64) -> f64 {
    // Where erfc(3) is 0, its asymptotic form.
    let log_tail = |at: f64| {
        if at < 30.0 { upper_tail(at).ln() } else { -0.5 * at * at - (at * (2.0 * PI).sqrt()).ln() }
    };
    let (mut low, mut high) = (0.0, 10_000.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if log_tail(middle) > wanted { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By all choices of signs.
    fn exact(differences: &[f32]) -> f64 {
        let sum: f64 = differences.iter().map(|one| f64::from(*one)).sum();
        let all = 1_u64 << differences.len();
        let is_as_large = |signs: &u64| {
            let value = differences.iter().enumerate().map(|(at, one)| {
                let size = f64::from(one.abs());
                if signs >> at & 1 == 1 { size } else { -size }
            });
            value.sum::<f64>() >= sum - 1e-9
        };
        (0..all).filter(is_as_large).count() as f64 / all as f64
    }

    #[test]
    fn tails_of_the_normal_distribution() {
        // R: pnorm(c(0, 1.959964, 5), lower.tail = FALSE)
        for (at, expected) in [(0.0, 0.5), (1.959_964, 0.025), (5.0, 2.866_516e-7)] {
            assert!((upper_tail(at) / expected - 1.0).abs() < 1e-4, "{at}");
        }
        for log in [-0.7, -3.0, -50.0, -5000.0] {
            let at = of_log_probability(log);
            assert!(
                at > 0.0 && (at > 30.0 || (upper_tail(at).ln() - log).abs() < 1e-6),
                "{log} {at}"
            );
        }
    }

    #[test]
    fn probabilities_are_near_the_exact_ones() {
        let cases: [&[f32]; 6] = [
            &[1.0, 2.0, 3.0],
            &[5.0, 1.3, 0.7, 2.2, 4.1, -0.4, 3.3, 2.9, 1.1, 0.6],
            &[0.9, 1.1, -1.0, 1.2, 0.8, 1.05, -0.95, 1.3, 0.7, 1.15, -1.2, 0.85, 1.4],
            &[9.0, -0.1, -0.2, 0.1, 0.3, -0.1, 0.2, 0.15, -0.05, 0.12],
            &[3.1, 2.7, 4.4, 1.9, 2.2, 5.0, 3.3, 2.1, -0.2, 2.8, 3.6, 1.4, 2.6, 4.1],
            &[0.3, -0.2, 0.25, -0.35, 0.1, 0.4, -0.15, 0.2, -0.3, 0.12],
        ];
        for differences in cases {
            let (found, exact) = (upper_tail(deviations(differences)), exact(differences));
            // The sums of few differences are discrete.
            assert!((0.5..2.1).contains(&(found / exact)), "{differences:?}: {found} {exact}");
        }
    }

    #[test]
    fn what_is_not_above_expectation_is_nothing() {
        assert_eq!(deviations(&[]), 0.0);
        assert_eq!(deviations(&[1.0, -1.0, -3.0]), 0.0);
        assert!((upper_tail(deviations(&[7.0])) - 0.5).abs() < 1e-9);
        assert!(deviations(&vec![1.0; 100_000]) > 300.0);
        assert!(deviations(&[vec![1.0; 1000], vec![-0.001]].concat()) > 30.0);
    }
}
