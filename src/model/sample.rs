//! What the observing thread sees of the job's processes.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::process::{Pid, ProcessKey};
use crate::model::time::Moment;

/// One reading of the whole tree below childminder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TreeSample {
    #[serde(skip)]
    pub at: Moment,
    /// Without zombies.
    pub processes: u64,
    pub threads: u64,
    /// CPU time of the tree since the attempt began, of ended processes too; never falls.
    #[serde(serialize_with = "seconds", rename = "cpu_seconds")]
    pub cpu: Duration,
    /// Resident memory of the living, added up: shared pages count once for each.
    pub rss_bytes: u64,
    /// Open descriptors of the living, of those that we may look into.
    pub open_fds: u64,
    /// Bytes that went through read(2) and write(2) and their like, ended processes included;
    /// `None` where it may not be read. Read less often than the rest.
    pub io: Option<IoBytes>,
    /// Pressure stall information and load of the host, where the kernel has it.
    pub host: HostLoad,
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

impl fmt::Display for TreeSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.rss_bytes as f64 / (1 << 20) as f64;
        write!(
            f,
            "{} processes, {} threads, CPU {:.2} s, resident {mib:.1} MiB, {} descriptors",
            self.processes,
            self.threads,
            self.cpu.as_secs_f64(),
            self.open_fds
        )?;
        if let Some(io) = self.io {
            write!(f, ", read {} and wrote {} bytes", io.read, io.written)?;
        }
        if let Some(load) = self.host.load1 {
            write!(f, ", load {load}")?;
        }
        let HostLoad { cpu_pressure, memory_pressure, io_pressure, .. } = self.host;
        for (name, share) in
            [("CPU", cpu_pressure), ("memory", memory_pressure), ("I/O", io_pressure)]
        {
            if let Some(share) = share {
                write!(f, ", {name} pressure {share} %")?;
            }
        }
        Ok(())
    }
}

/// Bytes read and written (`rchar` and `wchar` of /proc/PID/io in proc(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IoBytes {
    pub read: u64,
    pub written: u64,
}

/// How busy the host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HostLoad {
    /// Average number of runnable processes over a minute (/proc/loadavg).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load1: Option<f64>,
    /// Share of time in the last ten seconds, in percent, in which some task waited for the
    /// processor (`some avg10` of /proc/pressure/cpu).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_pressure: Option<f64>,
    /// The same for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<f64>,
    /// The same for input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<f64>,
}

/// How a file was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileUse {
    /// Whether it was open for reading.
    pub is_read: bool,
    /// Whether it was open for writing.
    pub is_written: bool,
    /// The furthest position seen, in bytes.
    pub position_bytes: u64,
    /// Who had it open first.
    pub pid: Pid,
}

/// The highest values that any sample of the attempt had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peaks {
    /// Without zombies.
    pub processes: u64,
    pub threads: u64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    pub open_fds: u64,
}

impl Peaks {
    /// Returns the higher of each, of those that there are.
    #[must_use]
    pub fn highest(one: Option<Peaks>, other: Option<Peaks>) -> Option<Peaks> {
        let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
        Some(Peaks {
            processes: one.processes.max(other.processes),
            threads: one.threads.max(other.threads),
            rss_bytes: one.rss_bytes.max(other.rss_bytes),
            open_fds: one.open_fds.max(other.open_fds),
        })
    }
}

/// A process of the job as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenProcess {
    pub key: ProcessKey,
    /// Its name (`comm` in proc(5)).
    pub name: String,
    /// Its resident memory then, in bytes.
    pub rss_bytes: u64,
}

/// All that the observing thread knows of an attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// How many samples there were.
    pub samples: u64,
    /// Readings that failed for another reason than that the process had gone.
    pub errors: u64,
    pub peaks: Peaks,
    /// The last samples, oldest first: the flight recorder.
    pub recent: Vec<TreeSample>,
    /// The processes of the last sample, and after them those that left last, the latest first;
    /// a bounded number of each.
    pub processes: Vec<SeenProcess>,
    /// The interval that the thread keeps now; longer than asked for if a sample cost too much.
    pub interval: Duration,
}

/// A process of another user, or several of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Neighbour {
    /// Its effective user id.
    pub uid: u32,
    /// Its name (`comm` in proc(5)).
    pub name: String,
    /// How many there were.
    pub count: u64,
    /// Whether it began in the last seconds.
    pub is_recent: bool,
}
