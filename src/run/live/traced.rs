//! The stops of a traced job, and its ends as the tracer reports them.

use crate::model::event::Event;
use crate::model::findings::Death;
use crate::model::outcome::{Termination, WaitStatus};
use crate::model::process::Pid;
use crate::model::trace_stop::TraceStop;
use crate::run::live::Live;
use crate::run::tracing::Tracer;
use crate::run::world::contained;
use crate::supervisor::Input;
use crate::sys::ptrace::{self, Stopped};
use crate::sys::spawn::{Child, Tracing};
use crate::sys::wait::Waited;
use crate::sys::{SysError, clock, wait};

/// At most this many stops are answered before anything else is looked at again.
const STOPS_MAX: usize = 256;

impl Live {
    /// Notes whether the job that was just started is traced.
    pub(super) fn begin_tracing(&mut self, child: &Child) {
        self.tracer = None;
        let mode = self.observation.trace;
        match child.tracing {
            Tracing::NotRequested => {}
            Tracing::Traced => self.tracer = Some(Tracer::new(child.pid, mode)),
            Tracing::Refused(errno) => {
                let reason = ptrace::refusal(errno);
                let text = format!("not traced: {reason}; the run goes on untraced");
                self.pending.push_back(Input::News(Event::Notice { text }));
            }
        }
        let is_complete = self.tracer.as_ref().is_some_and(Tracer::knows_descendants);
        if let Some(gatherer) = &mut self.gatherer {
            gatherer.deaths.set_traced(is_complete);
        }
    }

    /// Returns what became of a child or, once the stops of all threads are answered, the end of one that is traced.
    pub(super) fn look_for_change(&mut self) -> Result<Waited, SysError> {
        if self.tracer.is_none() {
            return wait::look();
        }
        self.answer_stops()?;
        wait::look_for_end()
    }

    /// Answers the stops of all threads.
    pub(super) fn answer_stops(&mut self) -> Result<(), SysError> {
        for _ in 0..STOPS_MAX {
            match wait::look_for_stop()? {
                Waited::Changed(pid, WaitStatus::Traced(stop)) => {
                    if stop == TraceStop::Exec {
                        // No signal can be lost, and the kernel answers to a thread that changed its number then only.
                        wait::take_stop(pid)?;
                    }
                    self.answer(Stopped::new(pid, stop));
                }
                // An orphan that is not traced.
                Waited::Changed(pid, _) => {
                    wait::take_stop(pid)?;
                }
                Waited::Nothing | Waited::NoChild => return Ok(()),
            }
        }
        self.waiting.has_more_changes = true;
        self.answer_each();
        Ok(())
    }

    /// Answers each thread once. The kernel looks at them in the same order each time: in a storm the last ones would
    /// have to wait for its end.
    fn answer_each(&mut self) {
        let threads = self.tracer.as_ref().map(Tracer::threads).unwrap_or_default();
        for thread in threads {
            if let Ok(Waited::Changed(_, WaitStatus::Traced(stop))) = wait::look_at(thread)
                && stop != TraceStop::Exec
            {
                self.answer(Stopped::new(thread, stop));
            }
        }
    }

    /// Answers a stop. What fails in here costs evidence: the thread goes on.
    pub(super) fn answer(&mut self, stopped: Stopped) {
        let (tracer, pending) = (&mut self.tracer, &mut self.pending);
        contained(|| match tracer {
            Some(tracer) => tracer.answer(stopped, pending),
            None => stopped.resume(),
        });
    }

    /// Notes the end of a thread, if it was traced; the last one of a process is that of the process.
    pub(super) fn note_traced_end(&mut self, pid: Pid, end: Termination) {
        let Some(tracer) = &mut self.tracer else { return };
        let Some(process) = tracer.ended(pid, end, &mut self.pending) else { return };
        let is_killed = matches!(end, Termination::Signaled { .. });
        if let (true, Some(gatherer)) =
            (is_killed && tracer.knows_descendants(), &mut self.gatherer)
        {
            let at = clock::now();
            let name = Some(process.name).filter(|name| !name.is_empty());
            let death = Death { pid, name, end, source: "ptrace(2)", at };
            gatherer.deaths.traced(death, self.child.as_ref().map(|child| child.pid));
        }
    }
}
