//! `nanny rerun`: runs again, through childminder, exactly the jobs that failed and have not succeeded
//! since. Which those are is read from the record each time, so an interrupted rerun goes on where it
//! was. Never two of one job at once: one rerun has the lock, and a job that is started by anybody
//! else is left alone, also if that happens while we work.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::fleet::index::{self, Sieve};
use crate::fleet::jobs::{self, Identifier, Identity, Job};
use crate::fleet::lock::Lock;
use crate::fleet::presence::{Fate, Here};
use crate::fleet::workers::{Task, Workers};
use crate::fleet::{Failure, NOTHING, note, plural, words};
use crate::model::shell;
use crate::question::{Filter, Rerun};
use crate::record::read::{Place, Record};
use crate::record::row::{Column, Row};
use crate::sys::clock;
use crate::sys::entry::Given;

/// So many jobs that cannot be run again are told one by one.
const TOLD_MAX: usize = 20;

pub(super) fn answer(rerun: &Rerun, given: &Given, out: &mut dyn Write) -> Result<u8, Failure> {
    let file = std::path::absolute(&rerun.file).map_err(|source| Failure::File {
        action: "find",
        path: rerun.file.clone(),
        source,
    })?;
    // A dry run changes nothing, so it need not wait for a rerun that goes on.
    let _lock = if rerun.is_dry { None } else { Some(Lock::take(&file)?) };
    let record = index::open(std::slice::from_ref(&file))?;
    let mut again = Again::read(record, &rerun.filter, &file)?;
    again.tell_refused();
    let refused = again.refused.len();
    if rerun.is_dry {
        for (_, task) in &again.tasks {
            writeln!(out, "{}", task.line)?;
        }
        return Ok(if refused > 0 { NOTHING } else { 0 });
    }
    let tasks = std::mem::take(&mut again.tasks);
    if tasks.is_empty() {
        let but = if refused > 0 { " that can be" } else { "" };
        writeln!(out, "nothing{but} to run again")?;
        return Ok(if refused > 0 { NOTHING } else { 0 });
    }
    let count = tasks.len() as u64;
    let mut workers = Workers::new(given, rerun.jobs, count)?;
    for (identity, task) in tasks {
        workers.wait_for_room()?;
        if workers.is_stopping() {
            break;
        }
        match again.news(&identity)? {
            None => workers.start(&task)?,
            Some(why) => workers.leave_out(&format!("left alone, {why}: {}", task.line)),
        }
    }
    let done = workers.finish()?;
    let failed = done.started - done.succeeded;
    let not_started = count - done.started;
    let s = plural(done.started);
    write!(
        out,
        "{} job{s} run again: {} succeeded, {failed} failed",
        done.started, done.succeeded
    )?;
    if not_started > 0 {
        write!(out, "; {not_started} not started (nanny rerun goes on with them)")?;
    }
    writeln!(out)?;
    Ok(if failed + not_started > 0 || refused > 0 { NOTHING } else { 0 })
}

/// What is to be run again, and what became of it while we worked.
struct Again {
    record: Record,
    identifier: Identifier,
    tasks: Vec<(Identity, Task)>,
    /// Why others are not run again.
    refused: Vec<String>,
    /// Of the tasks: those that somebody else ran meanwhile, and what he started.
    pending: HashSet<Identity>,
    succeeded: HashSet<Identity>,
    started: HashMap<Identity, Vec<Row>>,
}

impl Again {
    /// Reads what failed and was not seen to succeed or to run since.
    fn read(record: Record, filter: &Filter, file: &Path) -> Result<Again, Failure> {
        let identifier = Identifier::new();
        let sieve = Sieve::new(filter, clock::wall());
        let jobs = jobs::jobs(&record, &sieve, &identifier, &HashSet::new())?;
        let here = Here::look();
        let mut refused = Vec::new();
        let mut places: Vec<(Place, Identity)> = Vec::new();
        for (identity, mut job) in jobs {
            let going_on = settle(&record, &here, &mut job)?;
            match (job.to_run_again(), going_on) {
                (Some(_), Some(why)) => refused.push(why),
                (Some(place), None) => places.push((place, identity)),
                (None, _) => {}
            }
        }
        // In the order in which they failed.
        places.sort_unstable();
        let mut tasks = Vec::new();
        for (place, identity) in places {
            let Some(row) = record.row_at(place)? else { continue };
            match task(&row, file) {
                Ok(task) => tasks.push((identity, task)),
                Err(why) => refused.push(why),
            }
        }
        let pending = tasks.iter().map(|(identity, _)| *identity).collect();
        let (succeeded, started) = (HashSet::new(), HashMap::new());
        Ok(Again { record, identifier, tasks, refused, pending, succeeded, started })
    }

    fn tell_refused(&self) {
        for why in self.refused.iter().take(TOLD_MAX) {
            note(why);
        }
        if let Some(more @ 1..) = self.refused.len().checked_sub(TOLD_MAX) {
            note(&format!("and {more} more that cannot be run again"));
        }
    }

    /// Returns why a job is left alone after all, by what was written to the record since.
    fn news(&mut self, identity: &Identity) -> Result<Option<&'static str>, Failure> {
        let grown = self.record.grown()?;
        let all = Sieve::new(&Filter::default(), clock::wall());
        for (found, job) in jobs::jobs(&grown, &all, &self.identifier, &self.pending)? {
            if !self.pending.contains(&found) {
                continue;
            }
            if job.has_succeeded() {
                self.succeeded.insert(found);
            }
            for start in job.started() {
                let row = grown.row_at(start.place)?;
                self.started.entry(found).or_default().extend(row);
            }
        }
        self.record = grown;
        // What we start ourselves from here on is no news.
        self.pending.remove(identity);
        if self.succeeded.contains(identity) {
            return Ok(Some("it has succeeded meanwhile"));
        }
        let Some(started) = self.started.get(identity) else { return Ok(None) };
        let here = Here::look();
        let is_going_on = |row: &Row| !matches!(here.fate(row), Fate::Lost(..));
        Ok(started.iter().any(is_going_on).then_some("somebody else started it"))
    }
}

/// Finds out about the runs of a job that have no end: the lost ones have failed. Returns why the job
/// must not be started if one goes on, or may.
fn settle(record: &Record, here: &Here, job: &mut Job) -> Result<Option<String>, Failure> {
    let mut going_on = None;
    for start in job.started().to_vec() {
        let Some(row) = record.row_at(start.place)? else { continue };
        let why = match here.fate(&row) {
            Fate::Lost(..) => {
                job.give_up(start);
                continue;
            }
            Fate::Running => "it still runs".to_owned(),
            Fate::Orphaned => {
                "its processes are still there, though childminder is gone".to_owned()
            }
            Fate::Elsewhere => {
                let host = row.text(Column::Host);
                format!(
                    "it began on {host} and has no end: if that host is gone, \
                     `nanny collect --host-gone {host}` says so"
                )
            }
        };
        going_on = Some(refusal(&row, &why));
    }
    Ok(going_on)
}

fn refusal(row: &Row, why: &str) -> String {
    let (run, command) = (words::short_id(row), row.text(Column::Command));
    format!("not run again: {run} ({command}): {why}")
}

/// Makes of a row what runs it again, or says why that cannot be.
fn task(row: &Row, file: &Path) -> Result<Task, String> {
    let refused = |why: &str| Err(refusal(row, why));
    if row.text(Column::Redacted) == "true" {
        return refused("a secret in its command line or options was hidden in the record");
    }
    let (Some(command), Some(options)) = (row.words(Column::Command), row.words(Column::Options))
    else {
        return refused("its command line was too long for the record");
    };
    if command.is_empty() {
        return refused("the record does not have its command line");
    }
    let directory = PathBuf::from(OsString::from_vec(row.get(Column::WorkingDirectory).to_vec()));
    if !directory.is_dir() {
        return refused(&format!("its directory {} is not there", directory.display()));
    }
    // Relative to wherever -w leads; ours is absolute.
    let is_record = |word: &OsString| word.as_bytes().starts_with(b"--central-log=");
    let mut words: Vec<OsString> = options.into_iter().filter(|word| !is_record(word)).collect();
    let mut record = OsString::from("--central-log=");
    record.push(file);
    words.extend([record, "--".into()]);
    words.extend(command);
    let line = [vec!["childminder".into()], words.clone()].concat();
    let directory_word = shell::words(&[directory.clone().into_os_string()]);
    let line = format!("cd {directory_word} && {}", shell::command(&line));
    Ok(Task { directory, words, line })
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

    #[test]
    fn a_row_becomes_the_line_that_made_it() {
        let task = task(&row("/tmp"), Path::new("/var/log/r.csv")).map_err(|_| ()).expect("a task");
        let words = ["--output=a b", "--batch=b1", "--central-log=/var/log/r.csv", "--", "sh"];
        assert_eq!(task.words[..5], words.map(OsString::from));
        let options = "'--output=a b' '--batch=b1' --central-log=/var/log/r.csv -- sh -c 'exit 3'";
        let expected =
            format!("cd /tmp && childminder {}", options.replace("'--batch=b1'", "--batch=b1"));
        assert_eq!(task.line, expected);
    }

    #[test]
    fn what_cannot_be_repeated_is_refused_and_says_why() {
        let refused = |row: &Row| task(row, Path::new("/r.csv")).err().expect("refused");
        assert!(refused(&row("/nowhere/at/all")).ends_with("/nowhere/at/all is not there"));
        let mut hidden = row("/tmp");
        hidden.set(Column::Redacted, "true");
        assert!(refused(&hidden).contains("0123456789ab (sh -c 'exit 3'): a secret"));
        let mut cut = row("/tmp");
        cut.set(Column::Command, "sh -c 'exit ...(cut)");
        assert!(refused(&cut).contains("too long"));
    }
}
