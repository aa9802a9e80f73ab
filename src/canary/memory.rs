//! `memory`: allocating, filling and freeing arrays of growing size.

use std::hint::black_box;

/// Arrays of one call.
pub(super) const ROUNDS: usize = 1000;

/// Adds up one element of each array.
pub(super) fn memory(rounds: usize) -> i64 {
    let mut answer = 0;
    for i in 1..=black_box(rounds) {
        let mut numbers = vec![0_i32; i * 1024];
        for (j, number) in numbers.iter_mut().enumerate() {
            *number = (j % i) as i32;
        }
        answer += i64::from(black_box(&numbers)[i]);
    }
    answer
}
