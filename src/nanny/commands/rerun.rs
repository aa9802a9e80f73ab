//! `nanny rerun`: runs again, through childminder, exactly the jobs that failed and have not succeeded
//! since. Which those are is read from the record each time, so an interrupted rerun goes on where it
//! was. Never two of one job at once: one rerun has the lock, and a job that is started by anybody
//! else is left alone, also if that happens while we work. Only rows count that are proven to be those
//! of the user who is to run them.

use std::collections::BTreeSet;
use std::io::Write;

use crate::model::text::plural;
use crate::nanny::commands::rerun::backlog::Backlog;
use crate::nanny::commands::rerun::lock::RerunLock;
use crate::nanny::commands::rerun::task::Task;
use crate::nanny::commands::rerun::workers::Workers;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::source::jobs::JobIdentity;
use crate::question::Rerun;
use crate::record::key;
use crate::sys::account;
use crate::sys::entry::Given;

mod backlog;
mod lock;
mod task;
mod workers;

pub fn answer(rerun: &Rerun, given: &Given, out: &mut dyn Write) -> Result<u8, Failure> {
    let uid = nix::unistd::geteuid().as_raw();
    if rerun.is_as_recorded_user && uid != 0 {
        return Err(Failure::Refused("only root can run jobs as other users".into()));
    }
    // One record may have several names; where it is not there yet, all its rows wait beside it.
    let file = std::fs::canonicalize(&rerun.file).or_else(|_| std::path::absolute(&rerun.file));
    let file =
        file.map_err(|source| Failure::File { action: "find", path: rerun.file.clone(), source })?;
    // A dry run changes nothing, so it need not wait for a rerun that goes on.
    let mut locks = Vec::new();
    if !rerun.is_dry {
        let state = key::directory(&account::state_directories(), uid).ok();
        locks.push(RerunLock::take(&file, uid, state.as_deref())?);
    }
    let mut backlog = Backlog::read(rerun, &file)?;
    backlog.report();
    let is_incomplete = !backlog.refused.is_empty() || backlog.is_damaged;
    if rerun.is_dry {
        for (_, task) in &backlog.tasks {
            writeln!(out, "{}", task.line)?;
        }
        return Ok(if is_incomplete { NOTHING } else { 0 });
    }
    let tasks = std::mem::take(&mut backlog.tasks);
    if tasks.is_empty() {
        let but = if is_incomplete { " that can be" } else { "" };
        writeln!(out, "nothing{but} to run again")?;
        return Ok(if is_incomplete { NOTHING } else { 0 });
    }
    let users: BTreeSet<u32> =
        tasks.iter().filter_map(|(_, task)| Some(task.user.as_ref()?.uid)).collect();
    for user in users {
        // So that their own reruns are kept away.
        locks.push(RerunLock::take(&file, user, None)?);
    }
    let is_clean = run(&mut backlog, tasks, Workers::new(given, rerun.jobs)?, out)?;
    Ok(if is_incomplete || !is_clean { NOTHING } else { 0 })
}

/// Runs the jobs, and returns whether all of them were run and succeeded.
fn run(
    backlog: &mut Backlog,
    tasks: Vec<(JobIdentity, Task)>,
    mut workers: Workers<'_>,
    out: &mut dyn Write,
) -> Result<bool, Failure> {
    let count = tasks.len() as u64;
    workers.expect(count);
    for (identity, task) in tasks {
        workers.wait_for_room()?;
        if workers.is_stopping() {
            break;
        }
        let user = task.user.as_ref().map(|user| user.uid);
        match backlog.news(&identity, user, &workers.pids())? {
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
    Ok(failed + not_started == 0)
}
