//! Medians.

/// Returns the middle of the numbers; of an even count the mean of the two in the middle.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the median of the ratios of numbers that were measured one after the other.
pub fn paired_ratio(numbers: &[f64], bases: &[f64]) -> f64 {
    let ratios: Vec<f64> = numbers.iter().zip(bases).map(|(number, base)| number / base).collect();
    median(&ratios)
}

/// Returns the numbers below which and above which a quarter of them lies.
pub fn quartiles(numbers: &[f64]) -> (f64, f64) {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = sorted.split_at(sorted.len() / 2);
    (median(low), median(&high[sorted.len() % 2..]))
}
