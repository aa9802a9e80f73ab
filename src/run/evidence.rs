//! Watches from the start of an attempt what its end may have to be explained by.
//!
//! Deaths of descendants are reported from the start of the job; the rest begins 10 ms later, so that a
//! short job does not pay for it, and none of it with `--sample 0`. What is unavailable is logged once
//! and is never an error.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::getuid;

use crate::model::event::Event;
use crate::model::findings::{Findings, MemoryFindings};
use crate::model::outcome::Termination;
use crate::model::process::{Pid, ProcessKey};
use crate::model::sample::{Seen, TreeSample};
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::model::usage::ResourceUsage;
use crate::observe::files::Files;
use crate::observe::watch::{self, Clocks, SampleCallback, Watch, WatchPlan};
use crate::observe::{autopsy, host, neighbours, sampler};
use crate::plan::Observation;
use crate::run::deaths::DeathWatch;
use crate::run::oom_counters::OomCounters;
use crate::run::place::JobPlace;
use crate::supervisor::EndReport;
use crate::sys::reaper::Tree;
use crate::sys::{clock, proc, proc_events, program, threads};

/// Takes a sample in, on the observing thread.
pub(super) type OnSample = Arc<dyn Fn(&TreeSample) + Send + Sync>;

/// When that begins which short jobs shall not pay for.
pub(super) const LATE: Duration = Duration::from_millis(10);

/// What was written this time before the end of the job may be what it died of.
const JUST_BEFORE: Duration = Duration::from_millis(10);

/// The clock of the kernel's log may differ from ours by this, and by this part of the time since
/// the machine was booted: NTP does not adjust it.
const LOG_SLACK: Duration = Duration::from_millis(100);
const LOG_DRIFT: u32 = 10_000;

/// At most this number of files is logged for one attempt.
const FILES_LOGGED: usize = 1000;

/// At most this number of samples of the flight recorder is logged.
const RECORDED_MAX: usize = 60;

/// See the module's documentation.
pub(super) struct EvidenceGatherer {
    root: PathBuf,
    plan: Observation,
    strangers: Vec<ProcessKey>,
    /// From 10 ms after the first start on.
    counters: Option<OomCounters>,
    job: Option<Pid>,
    pub(super) deaths: DeathWatch,
    began: Moment,
    began_wall: SystemTime,
    late_at: Option<Moment>,
    watch_at: Option<Moment>,
    watch: Option<Watch>,
    /// What each sample is passed to.
    on_sample: Option<OnSample>,
    /// Of the attempt that ended last.
    files: Files,
}

impl EvidenceGatherer {
    /// Begins to watch: to be called just before the first attempt is started.
    pub(super) fn new(plan: &Observation, tree: &Tree) -> EvidenceGatherer {
        let mut gatherer = EvidenceGatherer {
            plan: plan.clone(),
            strangers: tree.strangers(),
            counters: None,
            job: None,
            deaths: DeathWatch::new(),
            began: clock::now(),
            began_wall: SystemTime::UNIX_EPOCH,
            late_at: None,
            watch_at: None,
            watch: None,
            on_sample: None,
            files: Files::default(),
            root: PathBuf::from("/"),
        };
        let is_on = plan.interval > Duration::ZERO;
        if is_on {
            // A descendant may die in the first moment of the job.
            gatherer.deaths.open();
        }
        gatherer.begin_attempt();
        gatherer.late_at = is_on.then(|| gatherer.began + LATE);
        if !is_on {
            // Nothing wakes us later.
            program::give_back_code();
        }
        gatherer
    }

    /// Passes each sample to that.
    pub(super) fn with_sample_callback(self, on_sample: Option<OnSample>) -> EvidenceGatherer {
        EvidenceGatherer { on_sample, ..self }
    }

    /// Prepares for another attempt.
    pub(super) fn begin_attempt(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.read(&self.root);
        }
        self.deaths.begin_attempt();
        self.began = clock::now();
        self.began_wall = SystemTime::UNIX_EPOCH + clock::wall().0;
        self.watch = None;
        // A job that ends within the first interval pays for no sample.
        let is_on = self.plan.interval > Duration::ZERO;
        let wait = if self.wants_files() { Duration::ZERO } else { self.plan.interval };
        self.watch_at = is_on.then(|| self.began + wait);
    }

    /// Closes what is open before the job starts.
    pub(super) fn release_descriptor(&mut self) {
        self.deaths.close();
    }

    /// To be called when the job was just started.
    pub(super) fn follow(&mut self, job: Pid) {
        self.job = Some(job);
        if self.late_at.is_none() && self.plan.interval > Duration::ZERO {
            self.deaths.follow(job);
        }
    }

    /// What to wait for besides signals and the job.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.deaths.fd()
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        [self.late_at, self.watch_at].into_iter().flatten().min()
    }

    /// Begins what begins later, when its time has come; returns what there is to say about it.
    pub(super) fn begin_late(&mut self, now: Moment, tree: &Tree) -> Option<Event> {
        let is_late = self.late_at.is_some_and(|at| at <= now);
        if is_late {
            self.late_at = None;
            // This job is not a short one, and now we wait.
            program::give_back_code();
            self.counters = Some(OomCounters::open(&self.root, tree));
            self.job.into_iter().for_each(|job| self.deaths.follow(job));
        }
        if self.watch_at.is_some_and(|at| at <= now) {
            self.watch_at = None;
            match self.start_watch() {
                Ok(watch) => {
                    self.watch = Some(watch);
                    // What follows is waiting and sampling, for as long as it takes.
                    program::give_back_code();
                }
                Err(error) => {
                    let text = format!("the job's processes cannot be sampled: {error}");
                    return Some(Event::Notice { text });
                }
            }
        }
        is_late.then(|| self.capabilities())
    }

    /// Leaves a process of our own out of the samples.
    pub(super) fn leave_out(&mut self, process: ProcessKey) {
        self.strangers.push(process);
    }

    fn wants_files(&self) -> bool {
        self.plan.files || self.plan.clean_written
    }

    /// Returns what the last attempt that ended had open, and when it had begun.
    pub(super) fn last_files(&self) -> (&Files, SystemTime) {
        (&self.files, self.began_wall)
    }

    /// What is done after each sample, on the observing thread.
    fn sample_callback(&mut self) -> SampleCallback {
        let mut look = self.deaths.sample_callback();
        let mut count = self
            .counters
            .as_ref()
            .zip(self.job)
            .and_then(|(counters, job)| counters.on_sample(self.root.clone(), job));
        let on_sample = self.on_sample.clone();
        Box::new(move |sample, rows| {
            look(sample, rows);
            if let Some(count) = &mut count {
                count(sample.at);
            }
            if let Some(call) = &on_sample {
                call(sample);
            }
        })
    }

    fn start_watch(&mut self) -> io::Result<Watch> {
        threads::check_room(watch::STACK_BYTES as u64 + threads::HEAP_BYTES)?;
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Watch::start(WatchPlan {
            root: self.root.join("proc"),
            ourselves: Pid(nix::unistd::getpid().as_raw()),
            strangers: self.strangers.clone(),
            interval: self.plan.interval,
            kept_max: sampler::kept_max(soft),
            files: self.wants_files(),
            sample_callback: Some(self.sample_callback()),
            clocks: Clocks { now: clock::now, thread_cpu: clock::thread_cpu },
        })
    }

    /// Takes in what a process of the job had used that was reaped just now.
    pub(super) fn reaped(&self, pid: Pid, usage: &ResourceUsage) {
        self.deaths.reaped(pid);
        if let Some(watch) = &self.watch {
            watch.reaped(usage.user + usage.system);
        }
    }

    fn capabilities(&self) -> Event {
        let mut in_force = Vec::new();
        let mut missing = Vec::new();
        let mut note = |name: String, is_there: bool| {
            if is_there { in_force.push(name) } else { missing.push(name) }
        };
        if let Some(counters) = &self.counters {
            counters.report(&mut note);
        }
        note("/dev/kmsg".into(), host::can_read_kernel_log());
        self.deaths.report(note);
        Event::EvidenceSources { in_force, missing }
    }

    fn seen(&self) -> Seen {
        self.watch.as_ref().map(Watch::seen).unwrap_or_default()
    }

    /// Takes in deaths by signal of the job's descendants; `job` itself is known by waitid(2).
    pub(super) fn take_deaths(&mut self, tree: &Tree, job: Option<Pid>) {
        let watch = self.watch.as_ref();
        self.deaths.take_in(tree, job, || watch.map(Watch::seen).unwrap_or_default());
    }

    /// Reads what explains the end of the job, while it is still a zombie.
    pub(super) fn examine(
        &mut self,
        dead: Pid,
        end: Termination,
        place: &JobPlace<'_>,
    ) -> EndReport {
        let deaths = self.deaths.take();
        let mut findings = Findings { deaths, ..Findings::default() };
        let has_failed = end != Termination::Exited(0);
        if let Some(counters) = &self.counters {
            counters.look_at_own(&mut findings.memory, (&self.root, dead), place.tree);
            findings.memory.floor_bytes = counters.floor_bytes;
        }
        let is_counted = findings.memory.own.as_ref().is_some_and(|own| own.rise() > 0);
        findings.peaks = self.watch.as_ref().and_then(Watch::peaks);
        self.files = self.watch.as_ref().map(Watch::files).unwrap_or_default();
        let open_files = if self.plan.files { self.inventory() } else { Vec::new() };
        if !has_failed && findings.deaths.losses == 0 && !is_counted {
            return EndReport { findings, open_files, failure_context: Vec::new() };
        }
        let seen = self.seen();
        self.look_at_memory(&mut findings.memory, (dead, place.tree), &seen);
        // In another pid namespace's /proc the number is that of another process.
        if proc::is_usable() {
            if let Some(remains) = autopsy::remains(&self.root, dead) {
                findings.cpu = Some(remains.cpu);
                findings.is_real_time = remains.is_real_time;
            }
            findings.dispositions = autopsy::dispositions(&self.root, dead);
            findings.limits = autopsy::limits(&self.root, dead);
        }
        if matches!(end, Termination::Signaled { signal: Signal::XFSZ, .. })
            && let Some(size) = findings.limits.and_then(|limits| limits.file_size_bytes)
        {
            let of_size = autopsy::TruncatedFile::OfSize { size, since: self.began_wall };
            findings.file_at_limit = place.find(&self.root, of_size);
            let ended = clock::wall().0.saturating_sub(self.deaths.time_since_end());
            let since = SystemTime::UNIX_EPOCH + ended.saturating_sub(JUST_BEFORE);
            let smaller = autopsy::TruncatedFile::Smaller { size, since };
            findings.file_just_touched = place.find(&self.root, smaller);
        }
        findings.core =
            autopsy::core_dump(&self.root, (dead, end), place.directory, self.began_wall);
        findings.full = place.full();
        findings.last_words.clone_from(&place.last_words);
        // The last thread of a process is reported just after its end is known to waitid(2).
        self.take_deaths(place.tree, Some(dead));
        findings.threads = self.deaths.threads();
        self.read_kernel_log(end, &mut findings);
        EndReport { findings, open_files, failure_context: self.failure_context(&seen, place) }
    }

    /// The files that were written, and then those that were only read.
    fn inventory(&self) -> Vec<Event> {
        let used = |is_written: bool| {
            let files = self.files.by_path.iter();
            files.filter(move |(_, file)| file.is_written == is_written)
        };
        let all = used(true).chain(used(false)).take(FILES_LOGGED);
        let mut events: Vec<Event> = all
            .map(|(path, file)| Event::FileUsed { path: path.clone(), file: file.clone() })
            .collect();
        let not_logged =
            self.files.by_path.len() as u64 - events.len() as u64 + self.files.not_kept;
        if not_logged > 0 {
            events.push(Event::Notice { text: format!("{not_logged} more files were open") });
        }
        events
    }

    fn look_at_memory(&self, memory: &mut MemoryFindings, (dead, tree): (Pid, &Tree), seen: &Seen) {
        if let Some(counters) = &self.counters {
            return counters.look_at_host(memory, &self.root, (seen, self.began));
        }
        // It ended before they were read: all that can be said is which never rose at all.
        let late = OomCounters::of_the_end(&self.root);
        memory.floor_bytes = late.floor_bytes;
        late.look_at_own(memory, (&self.root, dead), tree);
        late.look_at_host(memory, &self.root, (seen, self.began));
    }

    /// The kernel's log is long: it is read only for deaths that it may have something about.
    fn read_kernel_log(&self, end: Termination, findings: &mut Findings) {
        let is_of_interest = |signal: Signal| signal == Signal::KILL || signal.is_fault();
        let job = match end {
            Termination::Signaled { signal, .. } => is_of_interest(signal),
            Termination::Exited(_) => false,
        };
        let is_counted = findings.memory.own.as_ref().is_some_and(|own| own.rise() > 0);
        if !job && findings.deaths.losses == 0 && !is_counted {
            return;
        }
        // In another pid namespace its pids are not ours.
        if !proc_events::is_initial_pid_namespace() {
            return;
        }
        let slack = LOG_SLACK + self.began.0 / LOG_DRIFT;
        let since = self.began.0.saturating_sub(slack);
        let Some(log) = host::kernel_log_since(since.as_micros().try_into().unwrap_or(u64::MAX))
        else {
            return;
        };
        findings.memory.victims = log.victims;
        findings.memory.names_all_victims = log.is_complete;
        findings.kernel_lines = log.lines;
    }

    /// What is logged about a failure besides its cause: the flight recorder, the neighbours, and
    /// the job's last words.
    fn failure_context(&self, seen: &Seen, place: &JobPlace<'_>) -> Vec<Event> {
        let now = clock::now();
        let skipped = seen.recent.len().saturating_sub(RECORDED_MAX);
        let recorded = seen.recent.iter().skip(skipped);
        let mut events: Vec<Event> = recorded
            .map(|sample| Event::PastSample { before: now - sample.at, sample: *sample })
            .collect();
        if self.plan.neighbours {
            let processes = neighbours::of_others(&self.root, getuid().as_raw(), now);
            events.push(Event::Neighbours { processes });
        }
        let lines = place.last_words.iter().cloned();
        events.extend(lines.map(|text| Event::StderrLine { text }));
        if self.deaths.is_lossy() {
            let text = "the kernel dropped some process events: deaths may be missing".to_owned();
            events.push(Event::Notice { text });
        }
        if seen.interval > self.plan.interval {
            let (now, asked) = (seen.interval.as_secs_f64(), self.plan.interval.as_secs_f64());
            let text = format!(
                "samples cost more than 1 % of their interval, so they came every {now:.3} \
                 seconds in place of {asked:.3}"
            );
            events.push(Event::Notice { text });
        }
        events
    }
}
