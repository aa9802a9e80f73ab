//! The flight recorder: the last minute of samples, the highest values, and who was there.
//!
//! It lies between the observing thread, which writes, and `run`, which asks. It reads nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::sample::{Peaks, Seen, TreeSample};
use crate::observe::members::ProcessLine;

/// How far back the samples go.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// At most this number of samples is kept: a minute at ten in a second, or 100 kB.
pub const SAMPLES_MAX: usize = 600;

/// What was seen so far.
#[derive(Default)]
pub struct FlightRecorder {
    samples: u64,
    errors: u64,
    peaks: Peaks,
    recent: VecDeque<TreeSample>,
    rows: Vec<ProcessLine>,
    page_bytes: u64,
    interval: Duration,
}

/// What one round of the observing thread brought.
pub struct Round {
    pub sample: TreeSample,
    /// Failed readings since the beginning.
    pub errors: u64,
    /// The pause until the next one.
    pub interval: Duration,
    /// The size of a page, in bytes, to which the rows refer.
    pub page_bytes: u64,
}

impl FlightRecorder {
    /// Takes a round in, and `rows` with it, for which it gives back those of the round before:
    /// so the lock is held for a moment only, and no memory is asked for.
    pub fn note(&mut self, round: &Round, rows: &mut Vec<ProcessLine>) {
        let sample = &round.sample;
        self.samples += 1;
        self.errors = round.errors;
        self.interval = round.interval;
        self.page_bytes = round.page_bytes;
        self.peaks = Peaks {
            processes: self.peaks.processes.max(sample.processes),
            threads: self.peaks.threads.max(sample.threads),
            rss_bytes: self.peaks.rss_bytes.max(sample.rss_bytes),
            open_fds: self.peaks.open_fds.max(sample.open_fds),
        };
        let is_old = |old: &TreeSample| sample.at - old.at > REMEMBERED;
        while self.recent.len() >= SAMPLES_MAX || self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
        self.recent.push_back(*sample);
        std::mem::swap(&mut self.rows, rows);
    }

    /// Returns the last sample; `None` before the first.
    #[cfg(test)]
    pub fn latest(&self) -> Option<TreeSample> {
        self.recent.back().copied()
    }

    /// Returns the highest values; `None` before the first sample.
    #[must_use]
    pub fn peaks(&self) -> Option<Peaks> {
        (self.samples > 0).then_some(self.peaks)
    }

    /// Returns all that is known.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            samples: self.samples,
            errors: self.errors,
            peaks: self.peaks,
            recent: self.recent.iter().copied().collect(),
            processes: self.rows.iter().map(|row| row.seen(self.page_bytes)).collect(),
            interval: self.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::sample::HostLoad;
    use crate::model::time::Moment;

    use super::*;

    fn round(at: Duration, rss_bytes: u64) -> Round {
        let sample = TreeSample {
            at: Moment(at),
            processes: 1,
            threads: 2,
            cpu: at,
            rss_bytes,
            open_fds: 3,
            io: None,
            host: HostLoad::default(),
        };
        Round { sample, errors: 0, interval: Duration::from_secs(1), page_bytes: 4096 }
    }

    #[test]
    fn the_last_minute_is_remembered_and_the_peaks_for_ever() {
        let mut recorder = FlightRecorder::default();
        for second in 0..100 {
            recorder.note(&round(Duration::from_secs(second), 1000 - second), &mut Vec::new());
        }
        let seen = recorder.seen();
        assert_eq!((seen.samples, seen.peaks.rss_bytes), (100, 1000));
        assert_eq!(seen.recent.len(), 61);
        assert_eq!(seen.recent.first().map(|sample| sample.rss_bytes), Some(1000 - 39));
        assert_eq!(recorder.latest().map(|sample| sample.rss_bytes), Some(901));
    }

    #[test]
    fn many_samples_in_a_minute_are_bounded() {
        let mut recorder = FlightRecorder::default();
        for millisecond in 0..5000 {
            recorder.note(&round(Duration::from_millis(millisecond), 0), &mut Vec::new());
        }
        assert_eq!(recorder.seen().recent.len(), SAMPLES_MAX);
    }

    #[test]
    fn one_sample_stays_however_long_the_pause() {
        let mut recorder = FlightRecorder::default();
        recorder.note(&round(Duration::ZERO, 7), &mut Vec::new());
        recorder.note(&round(Duration::from_secs(1000), 8), &mut Vec::new());
        assert_eq!(recorder.seen().recent.len(), 1);
    }
}
