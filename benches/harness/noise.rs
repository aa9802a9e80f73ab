//! How much other programs used the machine while we measured.

use std::fs;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Ticks per second in /proc/stat: fixed for user space (proc(5), USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// From this share on the table says that its times are not to be trusted.
const NOISY_PERCENT: f64 = 15.0;

/// One look at the clocks.
pub struct Noise {
    begun: Instant,
    busy_seconds: f64,
    own_seconds: f64,
}

impl Noise {
    /// Begins to watch.
    pub fn begin() -> Noise {
        Noise { begun: Instant::now(), busy_seconds: busy_seconds(), own_seconds: own_seconds() }
    }

    /// Tells how long it was and the share of the processors that went to others.
    pub fn end(&self) -> String {
        let wall = self.begun.elapsed().as_secs_f64();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let others = busy_seconds() - self.busy_seconds - (own_seconds() - self.own_seconds);
        let percent = (100.0 * others / wall / processors as f64).clamp(0.0, 100.0);
        let warning = if percent < NOISY_PERCENT { "" } else { ": NOISY" };
        format!("{wall:.0} s, others used {percent:.0} % of the machine{warning}")
    }
}

/// The time that all processors worked, by proc(5): all but idle and iowait, guests counted once.
fn busy_seconds() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    let busy = |index: &usize| !matches!(index, 3 | 4);
    (0..ticks.len().min(8)).filter(busy).map(|index| ticks[index]).sum::<f64>() / TICKS_PER_SECOND
}

/// The processor time of ourselves and of all that we have waited for.
fn own_seconds() -> f64 {
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(|usage| usage.user_time() + usage.system_time())
        .map(|time| time.num_microseconds() as f64 / 1e6)
        .sum()
}
