//! The built-in workloads: fixed amounts of work, the original's, so that times compare across
//! machines and with the logs of the original.
//!
//! Pure work: no signal, no log, no clock. `run::canary` calls them on a thread of their own.

mod arithmetic;
mod file;
mod memory;
mod text;
pub mod wrong;

use std::io;
use std::path::Path;

use crate::plan::Function;

/// Calls a working function once and returns its answer as the log shows it.
///
/// `directory` is where `file` makes its temporary files.
///
/// # Errors
///
/// `file` alone can fail, as the filesystem may.
pub fn call(function: Function, directory: &Path) -> io::Result<String> {
    Ok(match function {
        Function::MathInt => arithmetic::math_int(arithmetic::STEPS).to_string(),
        Function::MathFp => format!("{:.6}", arithmetic::math_fp(arithmetic::STEPS)),
        Function::String => text::string(text::BUFFER_BYTES).to_string(),
        Function::File => file::file(directory, file::FILES)?.to_string(),
        Function::Memory => memory::memory(memory::ROUNDS).to_string(),
        // These two are schedules, not work: the caller resolves them.
        Function::Random | Function::Sleep => String::new(),
    })
}

/// Returns what a call of a working function has to answer: the work is fixed, so another answer
/// is a fault of the machine or of this program.
#[must_use]
pub fn right_answer(function: Function) -> &'static str {
    match function {
        Function::MathInt => "-2511207747183378432",
        Function::MathFp => "278870312088662048.000000",
        Function::String => "8191998",
        Function::File => "240009",
        Function::Memory => "0",
        Function::Random | Function::Sleep => "",
    }
}

/// Returns how many steps of work a call has, so that the speeds of machines compare: steps of
/// arithmetic, bytes of text, files, blocks of memory.
#[must_use]
pub fn operations(function: Function) -> u64 {
    match function {
        Function::MathInt | Function::MathFp => arithmetic::STEPS.unsigned_abs(),
        Function::String => text::BUFFER_BYTES as u64,
        Function::File => file::FILES as u64,
        Function::Memory => memory::ROUNDS as u64,
        Function::Random | Function::Sleep => 0,
    }
}

/// Chooses one of the working functions for one call of `random`, each as likely as the others
/// for evenly spread `bits`.
#[must_use]
pub fn choose(bits: u64) -> Function {
    let count = Function::WORKING.len() as u64;
    // The product's high half: no bias worth mentioning, and no remainder of low bits.
    let index = (u128::from(bits) * u128::from(count)) >> 64;
    Function::WORKING[index as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_gives_the_originals_answer() {
        let dir = tempfile::tempdir().expect("a directory");
        for function in Function::WORKING {
            let word = function.word();
            assert_eq!(call(function, dir.path()).expect(word), right_answer(function), "{word}");
        }
        let left = std::fs::read_dir(dir.path()).expect("the directory").count();
        assert_eq!(left, 0, "temporary files left behind");
    }

    #[test]
    fn random_chooses_each_function_as_often() {
        let mut counts = [0; 5];
        for step in 0..1000_u64 {
            let chosen = choose(step * (u64::MAX / 1000));
            let index = Function::WORKING.iter().position(|f| *f == chosen).expect("a working one");
            counts[index] += 1;
        }
        assert!(counts.iter().all(|count| (198..=202).contains(count)), "{counts:?}");
    }
}
