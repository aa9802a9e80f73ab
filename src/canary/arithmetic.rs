//! `math-int` and `math-fp`: the processor's two kinds of arithmetic, each step depending on the
//! one before.

use std::f64::consts::{E, PI};
use std::hint::black_box;

/// Steps of one call.
pub(super) const STEPS: i64 = 102_400_000;

/// Integer operations with wrap-around.
pub(super) fn math_int(steps: i64) -> i64 {
    let mut answer = 0_i64;
    for i in 0..black_box(steps) {
        answer = answer.wrapping_add(1) ^ i;
        answer = answer.wrapping_shl((i & 15) as u32).wrapping_mul(19);
    }
    answer
}

/// Floating-point operations, in the order written: no step may be rearranged, for the answer
/// would change.
pub(super) fn math_fp(steps: i64) -> f64 {
    let mut answer = 0.0;
    for i in 0..black_box(steps) {
        answer += (i * i) as f64;
        answer = if i & 1 == 1 { answer * E } else { answer / PI };
    }
    answer
}
