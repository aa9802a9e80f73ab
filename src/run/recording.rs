//! What all rows of a run have in common: what was asked for, and where it runs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{geteuid, getpid};

use crate::model::header::LogHeader;
use crate::model::process::RunId;
use crate::model::redact::Redactor;
use crate::model::{shell, trace_context};
use crate::observe::cgroup::MemoryCgroup;
use crate::plan::{RunPlan, Work};
use crate::record::key::{self, NoKey};
use crate::record::options;
use crate::record::row::{Column, Row};
use crate::record::seal::Key;
use crate::record::write::Writer;
use crate::run::senders;
use crate::sink::record::RecordSink;
use crate::sys::{account, clock, environment, host};

/// A longer command line is cut: all three rows of a run have it.
const WORDS_BYTES_MAX: usize = 128 * 1024;

/// What follows a command line that was cut, and makes it none.
const CUT: &str = " ...(cut)";

/// Returns the sink of the central record, if there is to be one. `began_in` is where we were before
/// `--working-directory`.
pub(super) fn sink(
    plan: &RunPlan,
    (run_id, trace_id): (RunId, Option<String>),
    began_in: Option<PathBuf>,
    log: Option<&Path>,
) -> Option<RecordSink> {
    let record = plan.record.as_ref()?;
    let writer = Writer::new(&record.file, format!("{run_id}-{}", getpid()), clock::now);
    let redactor = Redactor::new(&plan.naming.redact);
    let known = Known {
        plan: plan.clone(),
        run_id,
        trace_id,
        began_in: began_in.unwrap_or_default(),
        log: log.map(|log| std::path::absolute(log).unwrap_or_else(|_| log.to_owned())),
        redactor: redactor.clone(),
    };
    let base = Box::new(move || known.base());
    let writer = writer.synced(record.sync).sealed(Box::new(own_key));
    Some(RecordSink::new(writer, base, redactor))
}

/// The key of the effective user: its uid is in the rows.
fn own_key() -> Result<Key, NoKey> {
    let uid = geteuid().as_raw();
    key::read_or_make(&key::directory(&account::state_directories(), uid)?, uid)
}

/// The command, or the words of the functions.
fn command_of(plan: &RunPlan) -> Vec<OsString> {
    match &plan.work {
        Work::Job(job) => job.command.clone(),
        Work::Canary(canary) => {
            canary.functions.iter().map(|function| function.word().into()).collect()
        }
    }
}

/// What the run is called.
pub(super) fn name_of(plan: &RunPlan) -> OsString {
    match (&plan.naming.name, &plan.work) {
        (Some(name), _) => name.into(),
        (None, Work::Job(job)) => base_name(&job.command),
        (None, Work::Canary(canary)) => canary.name().into(),
    }
}

/// What options belong to.
const PROGRAM: &str = "childminder";

/// What is run, for the first line of the log.
pub(super) fn header(plan: &RunPlan) -> LogHeader {
    let uid = geteuid().as_raw();
    let directory = std::env::current_dir().unwrap_or_default();
    // A first word that begins with '-' is quoted, for a command it would be.
    let mut words = vec![OsString::from(PROGRAM)];
    words.extend(options::of_plan(plan));
    let options = shell::words(&words);
    LogHeader {
        version: env!("CARGO_PKG_VERSION"),
        command: shell::words(&command_of(plan)),
        directory: directory.to_string_lossy().into_owned(),
        uid,
        user: senders::user_name(uid).unwrap_or_default(),
        options: options.strip_prefix(PROGRAM).unwrap_or_default().trim_start().to_owned(),
    }
}

struct Known {
    plan: RunPlan,
    run_id: RunId,
    /// Of our own trace; else the one in TRACEPARENT.
    trace_id: Option<String>,
    began_in: PathBuf,
    log: Option<PathBuf>,
    redactor: Redactor,
}

impl Known {
    fn base(&self) -> Row {
        let mut row = Row::default();
        row.show(Column::RunId, self.run_id);
        row.show(Column::Pid, getpid());
        self.show_plan(&mut row);
        show_place(&mut row);
        show_limits(&mut row);
        let environment: Vec<(&str, &str)> = environment::entries().filter_map(named).collect();
        show_scheduler(&mut row, &environment);
        let value =
            |name| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let given = || value("TRACEPARENT").and_then(trace_context::parse);
        let given = || given().map(|parent| parent.trace_id);
        if let Some(id) = self.trace_id.as_deref().or_else(given) {
            row.set(Column::TraceId, id);
        }
        row
    }

    fn show_plan(&self, row: &mut Row) {
        let (plan, naming) = (&self.plan, &self.plan.naming);
        let command = command_of(plan);
        row.set(Column::Name, name_of(plan).into_vec());
        row.set(Column::Batch, naming.batch.clone().unwrap_or_default());
        let tags = naming.tags.iter().map(|(key, value)| OsString::from(format!("{key}={value}")));
        let tags = self.redactor.command(&tags.collect::<Vec<_>>());
        row.set(Column::Tags, cut(shell::words(&tags.words)));
        let (options, has_hidden) = self.options();
        row.set(Column::Options, cut(shell::words(&options)));
        let command = self.redactor.command(&command);
        row.set(Column::Command, cut(shell::command(&command.words)));
        row.show(Column::Redacted, command.has_hidden || has_hidden);
        row.set(Column::WorkingDirectory, bytes(self.began_in.as_os_str()));
        if let Work::Job(job) = &plan.work {
            for (column, file) in [
                (Column::Input, &job.input),
                (Column::Output, &job.output),
                (Column::Error, &job.error),
            ] {
                file.iter().for_each(|file| row.set(column, bytes(file.as_os_str())));
            }
            row.show(Column::Append, job.append);
        }
        self.log.iter().for_each(|log| row.set(Column::LogFile, bytes(log.as_os_str())));
    }
}

impl Known {
    /// A pattern of `--redact` matches itself. It is needed for a rerun, and hidden only if it is the
    /// very secret.
    fn options(&self) -> (Vec<OsString>, bool) {
        let is_pattern = |word: &OsString| {
            let bytes = word.as_bytes();
            bytes.starts_with(b"--redact=") && bytes.iter().any(|byte| b"*?".contains(byte))
        };
        let mut has_hidden = false;
        let words = options::of_plan(&self.plan).into_iter().map(|word| {
            if is_pattern(&word) {
                return word;
            }
            let redacted = self.redactor.command(std::slice::from_ref(&word));
            has_hidden |= redacted.has_hidden;
            redacted.words.into_iter().next().unwrap_or(word)
        });
        let words = words.collect();
        (words, has_hidden)
    }
}

fn bytes(text: &OsStr) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn base_name(command: &[OsString]) -> OsString {
    let first = command.first().map_or(Path::new(""), Path::new);
    first.file_name().unwrap_or(first.as_os_str()).to_owned()
}

fn cut(mut words: String) -> String {
    if words.len() > WORDS_BYTES_MAX {
        let end = (0..=WORDS_BYTES_MAX).rev().find(|at| words.is_char_boundary(*at));
        words.truncate(end.unwrap_or(0));
        words.push_str(CUT);
    }
    words
}

fn show_place(row: &mut Row) {
    row.set(Column::Host, host::name().into_vec());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    row.set(Column::BootId, boot.trim());
    let uid = geteuid().as_raw();
    row.show(Column::Uid, uid);
    row.set(Column::User, senders::user_name(uid).unwrap_or_default());
    row.set(Column::Umask, umask().unwrap_or_default());
    let namespace = fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino());
    namespace.iter().for_each(|inode| row.show(Column::PidNamespace, inode));
    let groups = fs::read("/proc/self/cgroup").unwrap_or_default();
    row.set(Column::Cgroup, cgroup_path(&groups).unwrap_or_default());
    let limit = MemoryCgroup::find(Path::new("/")).and_then(|cgroup| cgroup.limit_bytes());
    limit.iter().for_each(|limit| row.show(Column::CgroupMemoryBytes, limit));
}

/// The umask as proc(5) shows it: umask(2) can only be asked by changing it.
fn umask() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    Some(mask.trim().to_owned())
}

/// The path in the unified hierarchy or, before there was one, in that of the memory controller
/// (cgroups(7)).
fn cgroup_path(groups: &[u8]) -> Option<&[u8]> {
    let lines = || groups.split(|byte| *byte == b'\n');
    let path = |line: &'static str| {
        lines().find_map(move |one| {
            let mut fields = one.splitn(3, |byte| *byte == b':');
            let controllers = fields.nth(1)?;
            let is_it = controllers.split(|byte| *byte == b',').any(|one| one == line.as_bytes());
            is_it.then(|| fields.next()).flatten()
        })
    };
    path("memory").or_else(|| path(""))
}

/// The soft limits that bound something, by the names of prlimit(1).
fn show_limits(row: &mut Row) {
    let limits = [
        ("as", Resource::RLIMIT_AS),
        ("core", Resource::RLIMIT_CORE),
        ("cpu", Resource::RLIMIT_CPU),
        ("data", Resource::RLIMIT_DATA),
        ("fsize", Resource::RLIMIT_FSIZE),
        ("memlock", Resource::RLIMIT_MEMLOCK),
        ("nofile", Resource::RLIMIT_NOFILE),
        ("nproc", Resource::RLIMIT_NPROC),
        ("rss", Resource::RLIMIT_RSS),
        ("stack", Resource::RLIMIT_STACK),
    ];
    let words = limits.into_iter().filter_map(|(name, resource)| match getrlimit(resource) {
        Ok((soft, _)) if soft != RLIM_INFINITY => Some(OsString::from(format!("{name}={soft}"))),
        _ => None,
    });
    row.set(Column::Limits, shell::words(&words.collect::<Vec<_>>()));
}

/// Batch systems: the variable with the name of the job, and those that say what was asked for.
const SCHEDULERS: [(&str, &str, &[&str]); 4] = [
    (
        "slurm",
        "SLURM_JOB_ID",
        &[
            "SLURM_ARRAY_JOB_ID",
            "SLURM_ARRAY_TASK_ID",
            "SLURM_CPUS_PER_TASK",
            "SLURM_GPUS",
            "SLURM_JOB_ACCOUNT",
            "SLURM_JOB_CPUS_PER_NODE",
            "SLURM_JOB_NAME",
            "SLURM_JOB_NODELIST",
            "SLURM_JOB_PARTITION",
            "SLURM_JOB_QOS",
            "SLURM_MEM_PER_CPU",
            "SLURM_MEM_PER_NODE",
            "SLURM_NTASKS",
            "SLURM_PROCID",
            "SLURM_RESTART_COUNT",
            "SLURM_STEP_ID",
        ],
    ),
    (
        "pbs",
        "PBS_JOBID",
        &["NCPUS", "PBS_ARRAY_INDEX", "PBS_JOBNAME", "PBS_NUM_PPN", "PBS_QUEUE", "PBS_WALLTIME"],
    ),
    ("lsf", "LSB_JOBID", &["LSB_DJOB_NUMPROC", "LSB_JOBINDEX", "LSB_JOBNAME", "LSB_QUEUE"]),
    ("sge", "SGE_TASK_ID", &["JOB_ID", "JOB_NAME", "NSLOTS", "QUEUE"]),
];

fn show_scheduler(row: &mut Row, environment: &[(&str, &str)]) {
    let value =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    for (name, job, requests) in SCHEDULERS {
        let Some(id) = value(job) else { continue };
        row.set(Column::Scheduler, name);
        // SGE_TASK_ID is always there, and "undefined" out of arrays.
        row.set(
            Column::SchedulerJob,
            if name == "sge" { value("JOB_ID").unwrap_or(id) } else { id },
        );
        let asked = requests
            .iter()
            .filter_map(|name| value(name).map(|value| OsString::from(format!("{name}={value}"))));
        row.set(Column::SchedulerRequest, cut(shell::words(&asked.collect::<Vec<_>>())));
        return;
    }
}

/// Takes an entry apart; what is not UTF-8 is neither a number nor the name of a batch system.
fn named(entry: &'static [u8]) -> Option<(&'static str, &'static str)> {
    std::str::from_utf8(entry).ok()?.split_once('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_system_is_known_by_its_variables() {
        let mut row = Row::default();
        show_scheduler(&mut row, &[("SLURM_JOB_ID", "7"), ("SLURM_MEM_PER_NODE", "4096")]);
        assert_eq!(row.text(Column::Scheduler), "slurm");
        assert_eq!(row.text(Column::SchedulerJob), "7");
        assert_eq!(row.text(Column::SchedulerRequest), "SLURM_MEM_PER_NODE=4096");
    }

    #[test]
    fn a_command_that_was_cut_is_none() {
        let long = cut(shell::command(&["x".repeat(WORDS_BYTES_MAX + 1).into()]));
        assert!(long.ends_with(CUT));
        assert_eq!(shell::split(&long), None);
    }

    #[test]
    fn the_cgroup_is_that_of_the_memory() {
        assert_eq!(cgroup_path(b"0::/a/b\n"), Some(&b"/a/b"[..]));
        assert_eq!(cgroup_path(b"3:cpu:/c\n2:memory:/m:x\n0::/u\n"), Some(&b"/m:x"[..]));
    }
}
