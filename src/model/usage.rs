//! What a process used: the rusage of getrusage(2) with units in the types.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::time::Seconds;

/// The rusage of one reaped process and of the children that it waited for (wait4(2)).
///
/// The fields that Linux never fills (`ixrss`, `nswap`, `nsignals`, ...) are not kept; the log
/// shows those of the original's line as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResourceUsage {
    /// CPU time in user mode.
    #[serde(serialize_with = "seconds", rename = "user_seconds")]
    pub user: Duration,
    /// CPU time in the kernel.
    #[serde(serialize_with = "seconds", rename = "system_seconds")]
    pub system: Duration,
    /// The largest resident set, in KiB. The kernel counts what childminder had when it started the job
    /// as well; where samples of the job know better, that is left out.
    pub max_rss_kib: u64,
    /// Page faults served without reading a disk.
    pub minor_faults: u64,
    /// Page faults that read a disk.
    pub major_faults: u64,
    /// Blocks of 512 bytes read.
    pub input_blocks: u64,
    /// Blocks of 512 bytes written.
    pub output_blocks: u64,
    /// Times it waited of its own will.
    pub voluntary_switches: u64,
    /// Times the scheduler took the processor from it.
    pub involuntary_switches: u64,
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

impl AddAssign for ResourceUsage {
    /// Adds what another process used; of the two peaks the larger one counts.
    fn add_assign(&mut self, other: ResourceUsage) {
        self.user += other.user;
        self.system += other.system;
        self.max_rss_kib = self.max_rss_kib.max(other.max_rss_kib);
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.input_blocks += other.input_blocks;
        self.output_blocks += other.output_blocks;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
    }
}

impl fmt::Display for ResourceUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "system time: {}s, user time: {}s, memory: {}k, minor/major page faults: {} / {}, \
             swaps: 0, signals: 0, I/O: {} / {}, in/voluntary context switches: {} / {}",
            Seconds(self.system),
            Seconds(self.user),
            self.max_rss_kib,
            self.minor_faults,
            self.major_faults,
            self.input_blocks,
            self.output_blocks,
            self.involuntary_switches,
            self.voluntary_switches,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_and_peaks_do_not() {
        let one = ResourceUsage {
            user: Duration::from_millis(1_500),
            max_rss_kib: 900,
            minor_faults: 3,
            ..ResourceUsage::default()
        };
        let mut sum = one;
        sum += ResourceUsage { max_rss_kib: 700, ..one };
        assert_eq!(
            sum.to_string(),
            "system time: 0.000000s, user time: 3.000000s, memory: 900k, minor/major page \
             faults: 6 / 0, swaps: 0, signals: 0, I/O: 0 / 0, in/voluntary context switches: 0 / 0"
        );
    }
}
