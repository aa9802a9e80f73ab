//! What is read at the moment when somebody asks: the job's own process, and ours.
//!
//! The `procfs` crate serves here; the sampler, which must be cheap for thousands of processes, has
//! parsers of its own.

use std::time::Duration;

use procfs::process::Process;

use crate::model::process::Pid;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChildReading {
    /// CPU time in user mode, of it and the children that it waited for.
    pub user: Duration,
    /// The same in system mode.
    pub system: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    pub threads: u64,
    /// Open descriptors, if we may look.
    pub open_fds: Option<u64>,
    /// Page faults without and with reading from a disk, of it and the children it waited for.
    pub faults: [u64; 2],
    /// Bytes read from and written to storage, if we may look.
    pub storage_bytes: Option<[u64; 2]>,
    /// Voluntary and involuntary context switches.
    pub switches: Option<[u64; 2]>,
}

impl ChildReading {
    /// Reads it; `None` if it has gone, or its pid is another process's by now.
    #[must_use]
    pub fn take(pid: Pid, ourselves: Pid) -> Option<ChildReading> {
        let process = Process::new(pid.0).ok()?;
        let stat = process.stat().ok()?;
        if stat.ppid != ourselves.0 {
            return None;
        }
        let tick = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second());
        let waited = |ticks: i64| u64::try_from(ticks).unwrap_or(0);
        let io = process.io().ok();
        let status = process.status().ok();
        let switches = status.and_then(|status| {
            Some([status.voluntary_ctxt_switches?, status.nonvoluntary_ctxt_switches?])
        });
        Some(ChildReading {
            user: tick(stat.utime + waited(stat.cutime)),
            system: tick(stat.stime + waited(stat.cstime)),
            resident_bytes: stat.rss * procfs::page_size(),
            virtual_bytes: stat.vsize,
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
            open_fds: process.fd_count().ok().map(|count| count as u64),
            faults: [stat.minflt + stat.cminflt, stat.majflt + stat.cmajflt],
            storage_bytes: io.map(|io| [io.read_bytes, io.write_bytes]),
            switches,
        })
    }
}

/// childminder's own process, as every client library of Prometheus reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SelfReading {
    /// CPU time.
    pub cpu: Duration,
    pub open_fds: u64,
    /// How many there may be.
    pub max_fds: Option<u64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// When we were started, since 1970.
    pub start: Option<Duration>,
    pub threads: u64,
}

impl SelfReading {
    #[must_use]
    pub fn take() -> Option<SelfReading> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let boot = procfs::boot_time_secs().ok();
        let since_boot = stat.starttime as f64 / ticks_per_second();
        let limits = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
        Some(SelfReading {
            cpu: Duration::from_secs_f64((stat.utime + stat.stime) as f64 / ticks_per_second()),
            open_fds: process.fd_count().unwrap_or(0) as u64,
            max_fds: match limits {
                Some(procfs::process::LimitValue::Value(value)) => Some(value),
                _ => None,
            },
            virtual_bytes: stat.vsize,
            resident_bytes: stat.rss * procfs::page_size(),
            start: boot.map(|boot| Duration::from_secs_f64(boot as f64 + since_boot)),
            threads: u64::try_from(stat.num_threads).unwrap_or(0),
        })
    }
}

fn ticks_per_second() -> f64 {
    procfs::ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_can_read_ourselves() {
        let reading = SelfReading::take().unwrap();
        assert!(reading.resident_bytes > 0 && reading.virtual_bytes >= reading.resident_bytes);
        assert!(reading.threads > 0 && reading.open_fds > 2);
        assert!(reading.start.is_some_and(|start| start.as_secs() > 1_000_000_000));
    }

    #[test]
    fn a_process_that_is_not_our_child_is_not_read() {
        let pid = Pid(std::process::id().cast_signed());
        assert_eq!(ChildReading::take(pid, pid), None);
        let parent = Pid(std::os::unix::process::parent_id().cast_signed());
        assert!(ChildReading::take(pid, parent).is_some_and(|reading| reading.threads > 0));
    }
}
