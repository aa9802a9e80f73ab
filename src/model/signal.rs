//! Signals: their numbers, their names, and what came with one (signal(7), sigaction(2)).
//!
//! Does not send or receive them: that is `sys::signals`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::model::process::Sender;

/// A signal number that the kernel knows, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// The first real-time signal that a program may use: glibc keeps 32 and 33 for its threads.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// The names in numerical order, from 1; x86 and arm agree on all of them (signal(7)). The C
/// library keeps 32 and 33 for its threads.
#[rustfmt::skip]
const NAMES: [&str; 64] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT",
    "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2",
    "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT",
    "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU",
    "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
    "SIGSYS", "SIG32", "SIG33", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+2",
    "SIGRTMIN+3", "SIGRTMIN+4", "SIGRTMIN+5", "SIGRTMIN+6", "SIGRTMIN+7", "SIGRTMIN+8",
    "SIGRTMIN+9", "SIGRTMIN+10", "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14",
    "SIGRTMIN+15", "SIGRTMIN+16", "SIGRTMIN+17", "SIGRTMIN+18", "SIGRTMIN+19", "SIGRTMIN+20",
    "SIGRTMIN+21", "SIGRTMIN+22", "SIGRTMIN+23", "SIGRTMIN+24", "SIGRTMIN+25", "SIGRTMIN+26",
    "SIGRTMIN+27", "SIGRTMIN+28", "SIGRTMIN+29", "SIGRTMAX",
];

/// Other names in use for the same numbers.
const ALIASES: [(&str, Signal); 3] =
    [("SIGIOT", Signal::ABRT), ("SIGPOLL", Signal(29)), ("SIGCLD", Signal::CHLD)];

impl Signal {
    pub const HUP: Signal = Signal(1);
    pub const INT: Signal = Signal(2);
    pub const QUIT: Signal = Signal(3);
    pub const ILL: Signal = Signal(4);
    pub const TRAP: Signal = Signal(5);
    pub const ABRT: Signal = Signal(6);
    pub const BUS: Signal = Signal(7);
    pub const FPE: Signal = Signal(8);
    pub const KILL: Signal = Signal(9);
    pub const USR1: Signal = Signal(10);
    pub const SEGV: Signal = Signal(11);
    pub const PIPE: Signal = Signal(13);
    pub const ALRM: Signal = Signal(14);
    pub const TERM: Signal = Signal(15);
    pub const CHLD: Signal = Signal(17);
    pub const CONT: Signal = Signal(18);
    pub const STOP: Signal = Signal(19);
    pub const TSTP: Signal = Signal(20);
    pub const TTIN: Signal = Signal(21);
    pub const TTOU: Signal = Signal(22);
    pub const XCPU: Signal = Signal(24);
    pub const XFSZ: Signal = Signal(25);
    pub const VTALRM: Signal = Signal(26);
    pub const PROF: Signal = Signal(27);
    pub const WINCH: Signal = Signal(28);
    pub const IO: Signal = Signal(29);
    pub const SYS: Signal = Signal(31);
}

impl Signal {
    /// Returns the signal of that number, if there is one.
    #[must_use]
    pub fn new(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|n| (1..=RTMAX).contains(n)).map(Signal)
    }

    /// Returns the number, as kill(2) takes it.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Returns whether a process may block it and read it from a signalfd(2): not SIGKILL and
    /// SIGSTOP, and not the two that the C library keeps for itself (nptl(7)).
    #[must_use]
    pub fn is_trappable(self) -> bool {
        !matches!(self, Signal::KILL | Signal::STOP) && !matches!(self.0, 32 | 33)
    }

    /// Returns every signal that can be trapped, in numerical order.
    pub fn trappable() -> impl Iterator<Item = Signal> {
        (1..=RTMAX).map(Signal).filter(|s| s.is_trappable())
    }

    /// Returns whether its default action is to stop the process because of its terminal.
    #[must_use]
    pub fn is_terminal_stop(self) -> bool {
        matches!(self, Signal::TSTP | Signal::TTIN | Signal::TTOU)
    }

    /// Returns whether a terminal sends it, to its whole foreground process group (termios(3),
    /// credentials(7)).
    #[must_use]
    pub fn is_of_terminal(self) -> bool {
        self.is_terminal_stop()
            || matches!(
                self,
                Signal::INT | Signal::QUIT | Signal::HUP | Signal::CONT | Signal::WINCH
            )
    }

    /// Returns whether it asks a program to end, by custom (signal(7)); a hang-up may also mean to read its
    /// files again.
    #[must_use]
    pub fn asks_to_stop(self) -> bool {
        matches!(self, Signal::TERM | Signal::INT | Signal::QUIT | Signal::HUP)
    }

    /// Returns whether the kernel raises it for a fault of the program itself (signal(7)).
    #[must_use]
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Signal::SEGV
                | Signal::BUS
                | Signal::ILL
                | Signal::FPE
                | Signal::ABRT
                | Signal::TRAP
                | Signal::SYS
        )
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES[usize::from(self.0) - 1])
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A word that names no signal.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownSignal(pub String);

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no signal is called '{}' (say TERM, SIGTERM, 15, RTMIN+3)", self.0)
    }
}

impl std::error::Error for UnknownSignal {}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Reads `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-1`, in any case.
    fn from_str(text: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return Signal::new(number).ok_or_else(unknown);
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = |full: &str| full.strip_prefix("SIG") == Some(bare);
        if let Some(index) = NAMES.iter().position(|name| named(name)) {
            return Ok(Signal(u8::try_from(index + 1).map_err(|_| unknown())?));
        }
        if let Some((_, signal)) = ALIASES.iter().find(|(name, _)| named(name)) {
            return Ok(*signal);
        }
        real_time(bare).ok_or_else(unknown)
    }
}

/// Reads `RTMIN`, `RTMIN+N`, `RTMAX` and `RTMAX-N`.
fn real_time(bare: &str) -> Option<Signal> {
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse::<u8>().ok(),
    };
    let number = if let Some(rest) = bare.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?)?
    } else {
        RTMAX.checked_sub(offset(bare.strip_prefix("RTMAX")?, '-')?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(Signal(number))
}

/// How a signal was made, from `si_code` of sigaction(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// kill(2), or raise by an old library.
    Kill,
    /// sigqueue(3): the sender fills in its own name, and may lie.
    Queue,
    /// tgkill(2) or tkill(2).
    Thread,
    /// The kernel itself: terminal, limits, faults.
    Kernel,
    /// A POSIX timer.
    Timer,
    /// A message queue, asynchronous input or output, or a descriptor made ready.
    Descriptor,
    /// A child changed its state.
    Child,
    /// A code that sigaction(2) does not list for this signal.
    Other(i32),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Kill => "kill(2)",
            Origin::Queue => "sigqueue(3)",
            Origin::Thread => "tgkill(2)",
            Origin::Kernel => "the kernel",
            Origin::Timer => "a POSIX timer",
            Origin::Descriptor => "a file descriptor or message queue",
            Origin::Child => "a child process",
            Origin::Other(code) => return write!(f, "si_code {code}"),
        })
    }
}

/// One signal that childminder received, with all that the kernel says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignalInfo {
    pub signal: Signal,
    /// How it was made.
    pub origin: Origin,
    pub sender: Sender,
    /// The integer that sigqueue(3) carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<i32>,
}

impl fmt::Display for SignalInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.signal.number();
        write!(f, "signal {number} ({}) from {}", self.signal, self.origin)?;
        if let Some(value) = self.value {
            write!(f, " with value {value}")?;
        }
        match &self.sender {
            Sender::Kernel => Ok(()),
            Sender::OutsideNamespace => {
                f.write_str(". Signal sent from outside this pid namespace")
            }
            Sender::Process(process) => write!(f, ". Signal sent by {process}"),
        }?;
        if self.origin == Origin::Queue {
            f.write_str(" [as the sender states it: sigqueue can lie]")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_signals_are_trappable() {
        let all: Vec<Signal> = Signal::trappable().collect();
        assert_eq!(all.len(), 60);
        assert!(!all.contains(&Signal::KILL) && !all.contains(&Signal::STOP));
    }

    #[test]
    fn every_name_reads_back_as_its_number() {
        for signal in (1..=64).filter_map(Signal::new) {
            if !matches!(signal.number(), 32 | 33) {
                assert_eq!(signal.to_string().parse(), Ok(signal));
            }
            assert_eq!(signal.number().to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn names_are_read_with_or_without_sig_in_any_case() {
        for text in ["TERM", "SIGTERM", "sigterm", "term", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM));
        }
        assert_eq!("RTMAX-1".parse(), Ok(Signal(63)));
        assert_eq!("CLD".parse(), Ok(Signal::CHLD));
    }

    #[test]
    fn words_that_name_no_signal_are_refused() {
        for text in ["", "0", "65", "-1", "SIG", "SIGFOO", "RTMIN+31", "RTMAX-31", "RTMIN+"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
