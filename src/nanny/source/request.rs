//! What was asked of a batch system, from the words of `scheduler_request`.

use std::ffi::OsString;

/// The variables of each batch system, and what an import writes.
const QUEUES: [&str; 4] = ["QUEUE=", "SLURM_JOB_PARTITION=", "PBS_QUEUE=", "LSB_QUEUE="];

fn value<'a>(words: &'a [OsString], names: &[&str]) -> Option<&'a str> {
    let texts = || words.iter().filter_map(|word| word.to_str());
    names.iter().find_map(|name| texts().find_map(|text| text.strip_prefix(name)))
}

/// Returns the queue; empty if none is known.
#[must_use]
pub fn queue(words: &[OsString]) -> &str {
    value(words, &QUEUES).unwrap_or_default()
}

/// Returns the memory of a node in bytes.
#[must_use]
pub fn memory_bytes(words: &[OsString]) -> Option<f64> {
    let number =
        |text: &str| text.parse().ok().filter(|bytes: &f64| bytes.is_finite() && *bytes > 0.0);
    // Slurm counts in MiB.
    let mib = value(words, &["SLURM_MEM_PER_NODE="]).and_then(number);
    mib.map(|mib| mib * 1024.0 * 1024.0)
        .or_else(|| value(words, &["MEMORY_BYTES="]).and_then(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_whoever_was_asked() {
        let words = ["SLURM_JOB_PARTITION=gpu", "SLURM_MEM_PER_NODE=2"].map(OsString::from);
        assert_eq!((queue(&words), memory_bytes(&words)), ("gpu", Some(2_097_152.0)));
        let words = ["QUEUE=long", "MEMORY_BYTES=77"].map(OsString::from);
        assert_eq!((queue(&words), memory_bytes(&words)), ("long", Some(77.0)));
        assert_eq!((queue(&[]), memory_bytes(&["MEMORY_BYTES=x".into()])), ("", None));
    }
}
