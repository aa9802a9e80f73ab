//! How busy the host is, and the newest pid in it: /proc/loadavg and /proc/pressure (proc(5)).
//!
//! The files stay open and are read again for each sample. What a kernel does not have is absent,
//! never an error. Called by the sampler.

use std::fs::File;

use crate::model::process::Pid;
use crate::model::sample::HostLoad;
use crate::observe::procfs::{self, Procfs};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadAverage {
    pub load1: f64,
    /// How many threads the whole host has.
    pub threads: u64,
    /// The pid that was given out last in our pid namespace, to a process or to a thread.
    pub newest: Pid,
}

pub struct HostFiles {
    loadavg: Option<File>,
    /// Whether the newest pid there is one of our pid namespace.
    is_newest_ours: bool,
    cpu: Option<File>,
    memory: Option<File>,
    io: Option<File>,
}

impl HostFiles {
    /// Opens what there is.
    #[must_use]
    pub fn open(proc: &Procfs) -> HostFiles {
        let loadavg = proc.host_file("loadavg");
        let is_newest_ours = loadavg.as_ref().is_some_and(|file| proc.is_genuine(file));
        let pressure = |name| {
            // Without CONFIG_PSI_DEFAULT_DISABLED=n the file opens, but reading says EOPNOTSUPP.
            proc.host_file(name).filter(|file| some_avg10(Some(file)).is_some())
        };
        HostFiles {
            loadavg,
            is_newest_ours,
            cpu: pressure("pressure/cpu"),
            memory: pressure("pressure/memory"),
            io: pressure("pressure/io"),
        }
    }

    /// Reads them all; the second is `None` if the newest pid is not known.
    #[must_use]
    pub fn read(&self) -> (HostLoad, Option<LoadAverage>) {
        let mut buffer = [0; 128];
        let text = self.loadavg.as_ref().and_then(|file| read(file, &mut buffer));
        let average = text.and_then(parse_loadavg);
        let host = HostLoad {
            load1: average.map(|average| average.load1),
            cpu_pressure: some_avg10(self.cpu.as_ref()),
            memory_pressure: some_avg10(self.memory.as_ref()),
            io_pressure: some_avg10(self.io.as_ref()),
        };
        (host, average.filter(|average| self.is_newest_ours && average.newest.0 > 0))
    }
}

fn some_avg10(file: Option<&File>) -> Option<f64> {
    read(file?, &mut [0; 256]).and_then(parse_pressure)
}

fn read<'b>(file: &File, buffer: &'b mut [u8]) -> Option<&'b str> {
    std::str::from_utf8(procfs::read_start(file, buffer).ok()??).ok()
}

/// Reads a line such as `0.20 0.18 0.12 1/80 11206`.
#[must_use]
pub fn parse_loadavg(text: &str) -> Option<LoadAverage> {
    let mut words = text.split_ascii_whitespace();
    let load1 = words.next()?.parse().ok()?;
    let (_, threads) = words.nth(2)?.split_once('/')?;
    let newest = Pid(words.next()?.parse().ok()?);
    Some(LoadAverage { load1, threads: threads.parse().ok()?, newest })
}

/// Returns `avg10` of the line that begins with `some`, in percent.
#[must_use]
pub fn parse_pressure(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOADAVG: &str = include_str!("../../tests/fixtures/proc/loadavg");
    const PRESSURE: &str = include_str!("../../tests/fixtures/proc/pressure-cpu");

    #[test]
    fn captured_files_are_read() {
        let newest = Pid(12_280);
        let expected = LoadAverage { load1: 1.55, threads: 123, newest };
        assert_eq!(parse_loadavg(LOADAVG), Some(expected));
        assert_eq!(parse_pressure(PRESSURE), Some(32.8));
    }

    #[test]
    fn half_a_line_is_none() {
        for text in ["", "1.0", "1.0 1.0 1.0 5", "1.0 1.0 1.0 5/6", "x 1 1 5/6 7", "1 1 1 5/6 y"] {
            assert_eq!(parse_loadavg(text), None, "{text}");
        }
        for text in ["", "full avg10=1.0", "some avg60=1.0", "some avg10="] {
            assert_eq!(parse_pressure(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,100}") {
            std::hint::black_box(parse_loadavg(&text));
            std::hint::black_box(parse_pressure(&text));
        }
    }
}
