//! The jobs that failed and have not succeeded since, and what others do about them meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::FileId;
use crate::model::text::plural;
use crate::nanny::commands::rerun::task::{NOT_RECORDED_YET, NotRunAgain, RefusalReason, Task};
use crate::nanny::failure::Failure;
use crate::nanny::notes::note;
use crate::nanny::source::index::{self, Matcher};
use crate::nanny::source::jobs::{self, Identifier, JobIdentity, Jobs, RecordedJob, Start};
use crate::nanny::source::presence::{RunState, ThisHost};
use crate::nanny::source::proof::Proof;
use crate::nanny::view::words;
use crate::question::{Filter, Rerun};
use crate::record::read::{RawRow, ReadError, Record};
use crate::record::row::{Column, Row};
use crate::record::row_place::RowPlace;
use crate::record::write::LOCK_PATIENCE;
use crate::sys::{account, clock, environment, poll};

/// Jobs that cannot be run again and are listed one by one, at most.
const LISTED_MAX: usize = 20;

/// A run that began at most this time ago may still wait for the lock of the record with its first row.
const START_ROW_WITHIN: Duration = LOCK_PATIENCE.saturating_add(Duration::from_secs(1));

/// A row that says that a job runs may be among them.
const OVERTAKEN: &str = "rows beside the record were merged while they were read: try again later";

/// How often such a row is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What is to be run again, and what became of it while we worked.
pub(super) struct Backlog {
    record: Record,
    identifier: Identifier,
    proof: Proof,
    pub(super) tasks: Vec<(JobIdentity, Task)>,
    /// Why others are not run again.
    pub(super) refused: Vec<NotRunAgain>,
    /// What else is to be said.
    notes: Vec<String>,
    pub(super) is_damaged: bool,
    /// Of the tasks: those that somebody else ran meanwhile, and what he started.
    pending: HashSet<JobIdentity>,
    succeeded: HashSet<JobIdentity>,
    started: HashMap<JobIdentity, Vec<Row>>,
    /// Runs that are in the record, and the one that we are part of ourselves.
    known: HashSet<Vec<u8>>,
    /// Other users with a run that is not in the record.
    not_recorded: BTreeSet<u32>,
    file: PathBuf,
}

impl Backlog {
    /// Reads what failed and was not seen to succeed or to run since.
    pub(super) fn read(rerun: &Rerun, file: &Path) -> Result<Backlog, Failure> {
        let mut backlog = Backlog {
            record: Record::open(&[])?,
            identifier: Identifier::new(),
            proof: Proof::new(rerun.is_as_recorded_user),
            tasks: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            is_damaged: false,
            pending: HashSet::new(),
            succeeded: HashSet::new(),
            started: HashMap::new(),
            known: environment::entries()
                .filter_map(|entry| entry.strip_prefix(b"CHILDMINDER_RUN_ID="))
                .map(<[u8]>::to_vec)
                .collect(),
            not_recorded: BTreeSet::new(),
            file: file.to_owned(),
        };
        backlog.await_starts(&[])?;
        backlog.record = index::open(&[file.to_owned()])?;
        if let Some(error) = backlog.unread().filter(|_| !rerun.is_dry) {
            return Err(Failure::Refused(format!(
                "nothing is run again while {} cannot be read, which may say what runs: {}",
                error.path.display(),
                error.source
            )));
        }
        let matcher = Matcher::new(&rerun.filter, clock::wall());
        let with = (&backlog.identifier, &backlog.proof);
        let mut jobs = jobs::jobs(&backlog.record, &matcher, with, &HashSet::new())?;
        backlog.is_damaged = jobs.is_damaged;
        let here = ThisHost::look();
        let mut places: Vec<(RowPlace, JobIdentity)> = Vec::new();
        for (identity, job) in &mut jobs.by_identity {
            let going_on = settle(&backlog.record, &here, job)?;
            match (job.to_run_again(), going_on) {
                (Some(_), Some(why)) => backlog.refused.push(why),
                (Some(place), None) => places.push((place, *identity)),
                (None, _) => {}
            }
        }
        // In the order in which they failed.
        places.sort_unstable();
        for (place, identity) in places {
            let Some(row) = backlog.record.row_at(place)? else { continue };
            let user = row.number(Column::Uid).filter(|_| rerun.is_as_recorded_user);
            let task = match user.filter(|uid| *uid != 0) {
                None => Task::new(&row, file, None),
                Some(uid) if backlog.not_recorded.contains(&uid) => {
                    Err(NotRunAgain::new(&row, RefusalReason::UserNotRecordedYet))
                }
                Some(uid) => match account::of(uid) {
                    Some(account) => Task::new(&row, file, Some(account)),
                    None => Err(NotRunAgain::new(&row, RefusalReason::UnknownUser(uid))),
                },
            };
            match task {
                Ok(task) => backlog.tasks.push((identity, task)),
                Err(why) => backlog.refused.push(why),
            }
        }
        if backlog.record.is_overtaken() && !rerun.is_dry {
            return Err(Failure::Refused(OVERTAKEN.to_owned()));
        }
        backlog.note_doubts(&jobs)?;
        backlog.pending = backlog.tasks.iter().map(|(identity, _)| *identity).collect();
        Ok(backlog)
    }

    /// Returns a file beside the record that cannot be read and may say that a job runs.
    fn unread(&self) -> Option<&ReadError> {
        self.record.unread(self.user())
    }

    /// What the record says and is not believed, or does not say clearly.
    fn note_doubts(&mut self, jobs: &Jobs) -> Result<(), Failure> {
        for one in jobs.unproven() {
            let row = self.record.row_at(one.place)?.unwrap_or_default();
            self.refused.push(NotRunAgain::new(&row, RefusalReason::Unproven(one.doubt.clone())));
        }
        for one in jobs.claims().take(LISTED_MAX) {
            let row = self.record.row_at(one.place)?.unwrap_or_default();
            let (run, command) = (words::short_id(&row), row.text(Column::Command));
            let why = one.doubt.words();
            self.notes.push(format!("{run} ({command}) is said to have succeeded: {why}"));
        }
        let disagreements = jobs.by_identity.values().filter_map(RecordedJob::disagreement);
        for rows in disagreements.take(LISTED_MAX) {
            let [latest, later] = rows.map(|place| self.record.row_at(place));
            let [latest, later] = [latest?.unwrap_or_default(), later?.unwrap_or_default()];
            let command = latest.text(Column::Command);
            let [one, other] = [&latest, &later].map(|row| row.text(Column::Host));
            self.notes.push(format!(
                "the clocks of {one} and {other} disagree: of {command}, the row of run {} has the \
                 latest time, but that of run {} stands behind it; the time decides",
                words::short_id(&latest),
                words::short_id(&later)
            ));
        }
        if jobs.of_others > 0 {
            let (count, s) = (jobs.of_others, plural(jobs.of_others));
            self.notes.push(format!("{count} failed run{s} of other users: theirs to run again"));
        }
        Ok(())
    }

    pub(super) fn report(&self) {
        self.refused.iter().take(LISTED_MAX).for_each(|refused| note(&refused.to_string()));
        if let Some(more @ 1..) = self.refused.len().checked_sub(LISTED_MAX) {
            note(&format!("and {more} more that cannot be run again"));
        }
        self.notes.iter().for_each(|text| note(text));
    }

    /// Waits for the rows of runs that began just now: each may wait for the lock of the record, and
    /// then be found beside it. `ours` are the childminders that we started.
    fn await_starts(&mut self, ours: &[i32]) -> Result<(), Failure> {
        let deadline = clock::now() + START_ROW_WITHIN;
        let identity = std::fs::metadata(&self.file).map(|meta| FileId::from(&meta)).ok();
        let mut awaited: Option<HashSet<Vec<u8>>> = None;
        loop {
            let here = ThisHost::look();
            let mut runs = here.on_their_way(identity, &self.known, ours, self.user());
            // Others that began meanwhile are for the next time.
            runs.retain(|run| awaited.as_ref().is_none_or(|awaited| awaited.contains(run)));
            if runs.is_empty() {
                return Ok(());
            }
            let record = Record::open(std::slice::from_ref(&self.file))?;
            let see = |found: &mut Vec<Vec<u8>>, row: &RawRow<'_>| {
                let run = row.raw(Column::RunId);
                found.extend(runs.contains(run).then(|| run.to_vec()));
            };
            self.known.extend(record.scan(Vec::new, see)?.0.concat());
            runs.retain(|run| !self.known.contains(run));
            if clock::now() > deadline {
                runs.iter().try_for_each(|run| self.give_up_waiting(run, &here))?;
                return Ok(());
            }
            awaited = Some(runs);
            poll::wait([], Some(clock::now() + LOOK_INTERVAL))?;
        }
    }

    /// A run that began and is not in the record may be of any job of its user. Another user's holds up
    /// no job but his own.
    fn give_up_waiting(&mut self, run: &[u8], here: &ThisHost) -> Result<(), Failure> {
        let users = here.users_of(run);
        if users.is_empty() || users.contains(&nix::unistd::geteuid().as_raw()) {
            let run = String::from_utf8_lossy(run);
            let run = words::last_group(&run);
            return Err(Failure::Refused(format!("run {run} {NOT_RECORDED_YET}")));
        }
        self.known.insert(run.to_vec());
        self.not_recorded.extend(users);
        Ok(())
    }

    /// Whose runs matter; `None` for those of all users.
    fn user(&self) -> Option<u32> {
        (!self.proof.is_for_all()).then(|| nix::unistd::geteuid().as_raw())
    }

    /// Returns why a job is not started after all, by what was written to the record since then.
    pub(super) fn news(
        &mut self,
        identity: &JobIdentity,
        user: Option<u32>,
        ours: &[i32],
    ) -> Result<Option<&'static str>, Failure> {
        self.await_starts(ours)?;
        let grown = self.record.grown()?;
        let all = Matcher::new(&Filter::default(), clock::wall());
        let with = (&self.identifier, &self.proof);
        let here = ThisHost::look();
        for (found, job) in jobs::jobs(&grown, &all, with, &self.pending)?.by_identity {
            if !self.pending.contains(&found) {
                continue;
            }
            if job.has_succeeded() {
                self.succeeded.insert(found);
            }
            for start in job.started() {
                let row = grown.row_at(start.place)?.filter(|row| may_go_on(&here, *start, row));
                self.started.entry(found).or_default().extend(row);
            }
        }
        self.record = grown;
        if self.record.is_overtaken() {
            return Ok(Some(OVERTAKEN));
        }
        if user.is_some_and(|user| self.not_recorded.contains(&user)) {
            return Ok(Some("a run of its user began and is not in the record yet"));
        }
        if self.unread().is_some() {
            return Ok(Some(
                "a file beside the record, which may say that it runs, cannot be read",
            ));
        }
        // What we start ourselves from here on is not news.
        self.pending.remove(identity);
        if self.succeeded.contains(identity) {
            return Ok(Some("it has succeeded meanwhile"));
        }
        let Some(started) = self.started.get(identity) else { return Ok(None) };
        let is_going_on = |row: &Row| !matches!(here.fate(row), RunState::Lost(..));
        Ok(started.iter().any(is_going_on).then_some("somebody else started it"))
    }
}

/// A start that somebody else wrote holds up nothing, unless a process that we may ask is of that run.
fn may_go_on(here: &ThisHost, start: Start, row: &Row) -> bool {
    start.is_proven || here.is_minded(row)
}

/// Finds out about the runs of a job that have no end: the lost ones have failed. Returns why the job
/// must not be started if one goes on, or may.
fn settle(
    record: &Record,
    here: &ThisHost,
    job: &mut RecordedJob,
) -> Result<Option<NotRunAgain>, Failure> {
    let mut going_on = None;
    for start in job.started().to_vec() {
        let Some(row) = record.row_at(start.place)? else { continue };
        if !may_go_on(here, start, &row) {
            continue;
        }
        let why = match here.fate(&row) {
            RunState::Lost(..) => {
                job.give_up(start);
                continue;
            }
            RunState::Running => RefusalReason::StillRuns,
            RunState::Orphaned => RefusalReason::Orphaned,
            RunState::Unknown(why) => RefusalReason::MayRun(why),
            RunState::Elsewhere => RefusalReason::Elsewhere(row.text(Column::Host).into_owned()),
        };
        going_on = Some(NotRunAgain::new(&row, why));
    }
    Ok(going_on)
}
