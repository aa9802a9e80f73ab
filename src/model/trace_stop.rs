//! Stops of a traced thread, as the kernel reports them (ptrace(2)).

use crate::model::signal::Signal;

/// Why a traced thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceStop {
    /// A signal is about to be delivered to it.
    Signal(Signal),
    /// It stopped with its whole process, by that signal.
    Group(Signal),
    /// It is new, or continues after a stop of its process.
    Trap,
    /// It made a process.
    Fork,
    /// It made a process, and waits until that executes a program.
    Vfork,
    /// It made a thread, or a process whose end is not reported by SIGCHLD.
    Clone,
    /// Its process executed a program.
    Exec,
    /// An event that was not asked for.
    Other(i32),
}

impl TraceStop {
    /// Decodes `si_status` of waitid(2) for a traced thread that stopped.
    #[must_use]
    pub fn from_status(status: i32) -> TraceStop {
        let signal = Signal::new(status & 0x7f);
        match (status >> 8, signal) {
            (0, Some(signal)) => TraceStop::Signal(signal),
            (libc::PTRACE_EVENT_STOP, Some(signal))
                if signal == Signal::STOP || signal.is_terminal_stop() =>
            {
                TraceStop::Group(signal)
            }
            (libc::PTRACE_EVENT_STOP, _) => TraceStop::Trap,
            (libc::PTRACE_EVENT_FORK, _) => TraceStop::Fork,
            (libc::PTRACE_EVENT_VFORK, _) => TraceStop::Vfork,
            (libc::PTRACE_EVENT_CLONE, _) => TraceStop::Clone,
            (libc::PTRACE_EVENT_EXEC, _) => TraceStop::Exec,
            (event, _) => TraceStop::Other(event),
        }
    }

    /// Returns whether it comes with a number of another thread (PTRACE_GETEVENTMSG).
    #[must_use]
    pub fn has_message(self) -> bool {
        matches!(self, TraceStop::Fork | TraceStop::Vfork | TraceStop::Clone | TraceStop::Exec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_status_of_a_stop_is_decoded() {
        let event = |event: i32, signal: i32| TraceStop::from_status(event << 8 | signal);
        assert_eq!(event(0, libc::SIGTERM), TraceStop::Signal(Signal::TERM));
        assert_eq!(event(0, 64), TraceStop::Signal(Signal::new(64).expect("a signal")));
        for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
            let group = TraceStop::Group(Signal::new(signal).expect("a signal"));
            assert_eq!(event(libc::PTRACE_EVENT_STOP, signal), group);
        }
        assert_eq!(event(libc::PTRACE_EVENT_STOP, libc::SIGTRAP), TraceStop::Trap);
        assert_eq!(event(libc::PTRACE_EVENT_FORK, libc::SIGTRAP), TraceStop::Fork);
        assert_eq!(event(libc::PTRACE_EVENT_VFORK, libc::SIGTRAP), TraceStop::Vfork);
        assert_eq!(event(libc::PTRACE_EVENT_CLONE, libc::SIGTRAP), TraceStop::Clone);
        assert_eq!(event(libc::PTRACE_EVENT_EXEC, libc::SIGTRAP), TraceStop::Exec);
        assert_eq!(event(libc::PTRACE_EVENT_EXIT, libc::SIGTRAP), TraceStop::Other(6));
    }
}
