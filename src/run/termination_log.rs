//! `--termination-log`: why a run failed, in the file that Kubernetes shows (`kubectl describe pod`).

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::model::text::Printable;
use crate::model::verdict::Verdict;

/// Kubernetes keeps this number of bytes.
const BYTES_MAX: usize = 4096;

/// Where Kubernetes reads by default, and what shows that it started us.
const USUAL: &str = "/dev/termination-log";
const SIGN: &str = "KUBERNETES_SERVICE_HOST";

/// Returns the file that is asked for, or the usual one of a container of Kubernetes.
#[expect(clippy::disallowed_methods, reason = "what started us is found out when the run is over")]
pub(super) fn place(asked: Option<&Path>) -> Option<PathBuf> {
    usual_place(asked, std::env::var_os(SIGN).as_deref(), Path::new(USUAL))
}

fn usual_place(asked: Option<&Path>, sign: Option<&OsStr>, usual: &Path) -> Option<PathBuf> {
    let is_container = sign.is_some_and(|host| !host.is_empty()) && usual.exists();
    asked.map(Path::to_owned).or_else(|| is_container.then(|| usual.to_owned()))
}

/// Writes the verdict, and as many of the last lines of standard error as there is room for.
///
/// # Errors
///
/// Of open(2) and write(2).
pub(super) fn write(place: &Path, verdict: &Verdict, last_lines: &[String]) -> io::Result<()> {
    // It is a mount of a file: it can be written, and not replaced.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(place)?;
    file.write_all(text(verdict, last_lines).as_bytes())
}

fn text(verdict: &Verdict, last_lines: &[String]) -> String {
    let mut text = Printable(&verdict.to_string()).to_string();
    text.truncate(text.floor_char_boundary(BYTES_MAX - 1));
    text.push('\n');
    // The last lines say most.
    let mut room = BYTES_MAX - text.len();
    let mut kept = Vec::new();
    for line in last_lines.iter().rev() {
        let line = format!("{}\n", Printable(line));
        let Some(left) = room.checked_sub(line.len()) else { break };
        room = left;
        kept.push(line);
    }
    text.extend(kept.into_iter().rev());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdict::{Confidence, Evidence, Quality, VerdictKind};

    fn verdict(fact: &str) -> Verdict {
        let evidence = Evidence { fact: fact.into(), source: "waitid(2)", quality: Quality::Exact };
        Verdict {
            kind: VerdictKind::ExitNonzero,
            confidence: Confidence::Certain,
            evidence: vec![evidence],
        }
    }

    #[test]
    fn the_verdict_and_the_last_lines_fit() {
        let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
        let whole = text(&verdict("exit status 3"), &lines[..2]);
        assert!(whole.starts_with("exit_nonzero (certain): exit status 3"), "{whole}");
        assert!(whole.ends_with("\nline 0\nline 1\n"), "{whole}");
        let cut = text(&verdict("exit status 3"), &lines);
        assert!(cut.len() <= BYTES_MAX && cut.ends_with("\nline 498\nline 499\n"), "{cut}");
        assert!(!cut.contains("line 0\n"));
        let long = text(&verdict(&"\u{e9}".repeat(9000)), &lines);
        assert!(long.len() <= BYTES_MAX && long.ends_with('\n'));
    }

    #[test]
    fn the_usual_file_is_used_in_a_container_only() {
        let here = tempfile::NamedTempFile::new().expect("a file");
        let (asked, there) = (Path::new("/x"), here.path());
        let sign = Some(OsStr::new("10.0.0.1"));
        assert_eq!(usual_place(Some(asked), sign, there).as_deref(), Some(asked));
        assert_eq!(usual_place(None, sign, there).as_deref(), Some(there));
        assert_eq!(usual_place(None, None, there), None);
        assert_eq!(usual_place(None, sign, Path::new("/no/such/file")), None);
    }
}
