//! One job to be run again, made of a row of the record.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::model::shell;
use crate::nanny::source::proof::Doubt;
use crate::nanny::view::words;
use crate::record::row::{Column, Row};
use crate::sys::account::Account;

/// A run whose start is not in the record.
pub(super) const NOT_RECORDED_YET: &str = "began and is not in the record yet: try again later";

/// One job to be run again.
pub struct Task {
    /// Where childminder is started.
    pub directory: PathBuf,
    /// Its options and the command.
    pub words: Vec<OsString>,
    /// The file mode creation mask, if the record has it.
    pub umask: Option<u32>,
    /// The user that it is started as, if not our own.
    pub user: Option<Account>,
    /// The same for a shell.
    pub line: String,
}

/// A job that is not run again, and why.
#[derive(Debug)]
pub struct NotRunAgain {
    run: String,
    command: String,
    reason: RefusalReason,
}

/// Why a job is not run again.
#[derive(Debug)]
pub enum RefusalReason {
    HiddenSecret,
    CutCommandLine,
    NoCommandLine,
    NoDirectory(PathBuf),
    /// Another user may have put this file there since then.
    MayBeSwapped(PathBuf),
    UnreadableUmask,
    /// A run of its user began and is not in the record.
    UserNotRecordedYet,
    UnknownUser(u32),
    Unproven(Doubt),
    StillRuns,
    /// childminder is gone, and processes of the job are not.
    Orphaned,
    /// Why nobody can know.
    MayRun(String),
    /// The host that it began on.
    Elsewhere(String),
}

impl NotRunAgain {
    #[must_use]
    pub fn new(row: &Row, reason: RefusalReason) -> NotRunAgain {
        let command = row.text(Column::Command).into_owned();
        NotRunAgain { run: words::short_id(row), command, reason }
    }
}

impl fmt::Display for NotRunAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not run again: {} ({}): {}", self.run, self.command, self.reason)
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefusalReason::HiddenSecret => {
                f.write_str("a secret in its command line or options was hidden in the record")
            }
            RefusalReason::CutCommandLine => {
                f.write_str("its command line was too long for the record")
            }
            RefusalReason::NoCommandLine => {
                f.write_str("the record does not have its command line")
            }
            RefusalReason::NoDirectory(path) => {
                write!(f, "its directory {} is not there", path.display())
            }
            RefusalReason::MayBeSwapped(path) => {
                let why = "by now it is another user's, in a directory that all may write to";
                write!(f, "{}: {why}", path.display())
            }
            RefusalReason::UnreadableUmask => f.write_str("its umask cannot be read"),
            RefusalReason::UserNotRecordedYet => {
                write!(f, "a run of its user {NOT_RECORDED_YET}")
            }
            RefusalReason::UnknownUser(uid) => write!(f, "/etc/passwd has no uid {uid}"),
            RefusalReason::Unproven(doubt) => f.write_str(&doubt.words()),
            RefusalReason::StillRuns => f.write_str("it still runs"),
            RefusalReason::Orphaned => {
                f.write_str("its processes are still there, though childminder is gone")
            }
            RefusalReason::MayRun(why) => write!(f, "it may still run: {why}"),
            RefusalReason::Elsewhere(host) => write!(
                f,
                "it began on {host} and has no end: if that host is gone, \
                 `nanny collect --host-gone {host}` says so"
            ),
        }
    }
}

impl Task {
    /// Makes one of a row, or says why that cannot be. `file` is the record.
    ///
    /// # Errors
    ///
    /// Why the job cannot be run again.
    pub fn new(row: &Row, file: &Path, user: Option<Account>) -> Result<Task, NotRunAgain> {
        let refused = |reason| Err(NotRunAgain::new(row, reason));
        if row.text(Column::Redacted) == "true" {
            return refused(RefusalReason::HiddenSecret);
        }
        let (Some(command), Some(options)) =
            (row.words(Column::Command), row.words(Column::Options))
        else {
            return refused(RefusalReason::CutCommandLine);
        };
        if command.is_empty() {
            return refused(RefusalReason::NoCommandLine);
        }
        let directory =
            PathBuf::from(OsString::from_vec(row.get(Column::WorkingDirectory).to_vec()));
        if !directory.is_dir() {
            return refused(RefusalReason::NoDirectory(directory));
        }
        let uid = user.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid);
        let mut paths = vec![directory.clone()];
        let inside = options.iter().find_map(|word| {
            word.as_bytes().strip_prefix(b"--child-directory=").map(OsStr::from_bytes)
        });
        let inside = directory.join(inside.unwrap_or_default());
        // A word without a slash is looked for in PATH.
        let program = command.first().filter(|word| word.as_bytes().contains(&b'/'));
        paths.extend(program.map(|word| inside.join(word)));
        paths.push(inside);
        if let Some(path) = paths.iter().find(|path| may_be_swapped(path, uid)) {
            return refused(RefusalReason::MayBeSwapped(path.clone()));
        }
        let umask = match &*row.text(Column::Umask) {
            "" => None,
            text => match u32::from_str_radix(text, 8).ok().filter(|umask| *umask <= 0o777) {
                Some(umask) => Some(umask),
                None => return refused(RefusalReason::UnreadableUmask),
            },
        };
        // Relative to wherever -w leads; ours is absolute.
        let is_record = |word: &OsString| word.as_bytes().starts_with(b"--central-log=");
        let mut words: Vec<OsString> =
            options.into_iter().filter(|word| !is_record(word)).collect();
        let mut record = OsString::from("--central-log=");
        record.push(file);
        words.extend([record, "--".into()]);
        words.extend(command);
        let line = line(&directory, umask, &words, user.as_ref());
        Ok(Task { directory, words, umask, user, line })
    }
}

/// Returns whether somebody else may have put something in the place of what the user meant when he
/// started the job: where everybody may make files, only what he, root or the directory's owner made is
/// what it was. That holds for each link on the way, and for what the whole path leads to; directories on
/// the way may belong to other users that he trusts. What is not there is left to childminder.
fn may_be_swapped(path: &Path, uid: u32) -> bool {
    let is_strange = |path: &Path, meta: io::Result<Metadata>| {
        let above = path.parent().and_then(|above| fs::metadata(above).ok());
        let above = above.filter(|above| above.mode() & 0o002 != 0);
        meta.ok()
            .zip(above)
            .is_some_and(|(meta, above)| ![uid, 0, above.uid()].contains(&meta.uid()))
    };
    let is_link = |part: &Path| fs::symlink_metadata(part).is_ok_and(|meta| meta.is_symlink());
    let mut links = path.ancestors().filter(|part| is_link(part));
    is_strange(path, fs::metadata(path))
        || links.any(|part| is_strange(part, fs::symlink_metadata(part)))
}

/// What a shell would need.
fn line(
    directory: &Path,
    umask: Option<u32>,
    words: &[OsString],
    user: Option<&Account>,
) -> String {
    let childminder = [&["childminder".into()], words].concat();
    let directory = shell::words(&[directory.as_os_str().to_owned()]);
    let umask = umask.map(|umask| format!("umask {umask:04o} && ")).unwrap_or_default();
    let line = format!("cd {directory} && {umask}{}", shell::command(&childminder));
    match user {
        Some(user) => {
            let words = ["runuser", "-u", &user.name, "--", "sh", "-c", &line];
            shell::command(&words.map(OsString::from))
        }
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(directory: &str) -> Row {
        let mut row = Row::default();
        row.set(Column::RunId, "01900000-0000-7000-8000-0123456789ab");
        row.set(Column::WorkingDirectory, directory);
        row.set(Column::Command, "sh -c 'exit 3'");
        row.set(Column::Options, "--output='a b' --central-log=r.csv --batch=b1");
        row
    }

    fn task(row: &Row, file: &str) -> Result<Task, NotRunAgain> {
        Task::new(row, Path::new(file), None)
    }

    #[test]
    fn a_row_becomes_the_line_that_made_it() {
        let task = task(&row("/tmp"), "/var/log/r.csv").map_err(|_| ()).expect("a task");
        let words = ["--output=a b", "--batch=b1", "--central-log=/var/log/r.csv", "--", "sh"];
        assert_eq!(task.words[..5], words.map(OsString::from));
        let options = "'--output=a b' '--batch=b1' --central-log=/var/log/r.csv -- sh -c 'exit 3'";
        let expected =
            format!("cd /tmp && childminder {}", options.replace("'--batch=b1'", "--batch=b1"));
        assert_eq!(task.line, expected);
    }

    #[test]
    fn the_umask_of_the_run_is_that_of_the_next() {
        let mut masked = row("/tmp");
        masked.set(Column::Umask, "0027");
        let masked_task = task(&masked, "/r.csv").map_err(|_| ()).expect("a task");
        assert_eq!(masked_task.umask, Some(0o27));
        assert!(masked_task.line.starts_with("cd /tmp && umask 0027 && childminder "));
        masked.set(Column::Umask, "99");
        assert!(task(&masked, "/r.csv").err().expect("refused").to_string().contains("umask"));
    }

    #[test]
    fn what_cannot_be_repeated_is_refused_and_says_why() {
        let refused = |row: &Row| task(row, "/r.csv").err().expect("refused").to_string();
        assert!(refused(&row("/nowhere/at/all")).ends_with("/nowhere/at/all is not there"));
        let mut hidden = row("/tmp");
        hidden.set(Column::Redacted, "true");
        assert!(refused(&hidden).contains("0123456789ab (sh -c 'exit 3'): a secret"));
        let mut cut = row("/tmp");
        cut.set(Column::Command, "sh -c 'exit ...(cut)");
        assert!(refused(&cut).contains("too long"));
    }
}
