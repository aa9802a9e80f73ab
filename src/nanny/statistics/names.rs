//! Names of jobs that differ by a number only are one name.

/// Digits behind a letter may be a version; from here on they are a number.
const LONG: usize = 5;
const SHORT: usize = 3;

/// Replaces the numbers of jobs and tasks by `#`: `align-000123`, `part.7781` and `job48213`, but not `app184` or `bzip2`.
#[must_use]
pub fn folded(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    for part in name.chunk_by(|one, other| one.is_ascii_digit() == other.is_ascii_digit()) {
        let is_behind_letter = folded.last().is_some_and(|last: &u8| last.is_ascii_alphabetic());
        let least = if is_behind_letter { LONG } else { SHORT };
        let is_number = part.len() >= least && part[0].is_ascii_digit();
        folded.extend_from_slice(if is_number { b"#" } else { part });
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_folded_and_versions_are_not() {
        for (name, expected) in [
            ("sort2", "sort2"),
            ("app184", "app184"),
            ("job48213", "job#"),
            ("job-1234_7", "job-#_7"),
            ("", ""),
            ("999", "#"),
        ] {
            assert_eq!(folded(name.as_bytes()), expected.as_bytes());
        }
    }
}
