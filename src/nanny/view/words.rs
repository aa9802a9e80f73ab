//! Cells of the record in the words that people read.

use std::time::Duration;

use crate::model::signal::Signal;
use crate::model::time::WallTime;
use crate::record::row::{Column, Row};

/// Shows a span in two units at most: `0.4s`, `12s`, `3m05s`, `2h10m`, `3d04h`.
#[must_use]
pub fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{:.1}s", seconds.max(0.0)),
        0..60 => format!("{whole}s"),
        60..3_600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h{:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// Shows how an attempt ended: its exit status, or the signal that ended it.
#[must_use]
pub fn end(row: &Row) -> String {
    match row.number(Column::Signal).and_then(Signal::new) {
        Some(signal) => signal.to_string(),
        None => row.text(Column::ExitCode).into_owned(),
    }
}

/// Shows the wall-clock time of a row; empty if it has none.
#[must_use]
pub fn wall(row: &Row) -> String {
    row.number(Column::WallSeconds).map(span).unwrap_or_default()
}

/// Shows how long ago a row was written: of a start, how long its run goes on by now.
#[must_use]
pub fn age(row: &Row, now: WallTime) -> String {
    let began = WallTime::from_rfc3339(&row.text(Column::Time));
    began.map(|began| span(now.0.saturating_sub(began.0).as_secs_f64())).unwrap_or_default()
}

/// Returns the largest memory that is known of, in bytes: of the tree if it was sampled, else of the
/// largest process.
#[must_use]
pub fn peak_bytes(row: &Row) -> Option<u64> {
    let process: Option<u64> =
        row.number::<u64>(Column::MaxRssKib).map(|kib| kib.saturating_mul(1024));
    process.max(row.number(Column::TreePeakRssBytes)).filter(|peak| *peak > 0)
}

/// Returns when a run began, by its id, a UUIDv7: `2026-11-22 14:05:09`. Empty for any other id.
#[must_use]
pub fn began(row: &Row) -> String {
    let id = uuid::Uuid::try_parse_ascii(row.get(Column::RunId)).ok();
    id.map(|id| began_by_id(id.into_bytes())).unwrap_or_default()
}

/// As [`began`], of an id.
#[must_use]
pub fn began_by_id(id: [u8; 16]) -> String {
    if uuid::Uuid::from_bytes(id).get_version_num() != 7 {
        return String::new();
    }
    let millis = id[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
    moment(&WallTime(Duration::from_millis(millis)).rfc3339())
}

/// Shortens RFC 3339 to what people read: `2026-11-22 14:05:09`.
#[must_use]
pub fn moment(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}

/// Shortens a moment for a narrow table: month, day, hour and minute.
#[must_use]
pub fn short_moment(moment: &str) -> String {
    moment.get(5..16).unwrap_or(moment).to_owned()
}

/// Shortens a moment to its day.
#[must_use]
pub fn day(moment: &str) -> String {
    moment.get(..10).unwrap_or(moment).to_owned()
}

/// Returns the end of a run's id, which is random: short enough to type, and never two alike.
#[must_use]
pub fn short_id(row: &Row) -> String {
    last_group(&row.text(Column::RunId)).to_owned()
}

/// Returns the part of an id behind its last hyphen.
#[must_use]
pub fn last_group(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

/// Returns whether an id begins like that, or its last group, which is what `runs` shows.
#[must_use]
pub fn is_id_like(id: &[u8], wanted: &[u8]) -> bool {
    let last = id.iter().rposition(|byte| *byte == b'-').map_or(0, |hyphen| hyphen + 1);
    id.starts_with(wanted) || id[last..].starts_with(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short_and_round_to_the_nearest() {
        for (seconds, shown) in [
            (0.0, "0.0s"),
            (0.04, "0.0s"),
            (9.94, "9.9s"),
            (9.96, "10s"),
            (59.4, "59s"),
            (185.0, "3m05s"),
            (7_800.0, "2h10m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(span(seconds), shown);
        }
    }

    #[test]
    fn the_id_of_a_run_says_when_it_began() {
        let mut row = Row::default();
        row.set(Column::RunId, "019aabcd-ef01-7222-8333-0123456789ab");
        assert_eq!(
            (began(&row), short_id(&row)),
            ("2025-11-22 13:43:11".into(), "0123456789ab".into())
        );
        row.set(Column::RunId, "not-an-id");
        assert_eq!(began(&row), "");
    }

    #[test]
    fn a_run_is_named_by_the_beginning_of_its_id_or_of_its_last_group() {
        let id = b"01a204e0-2768-7f0c-8f43-9fa94d990baf";
        for wanted in ["01a2", "01a204e0-2768", "9fa9", "9fa94d990baf"] {
            assert!(is_id_like(id, wanted.as_bytes()), "{wanted}");
        }
        for wanted in ["0baf", "2768", "9fa94d990baf0", "ffff"] {
            assert!(!is_id_like(id, wanted.as_bytes()), "{wanted}");
        }
        assert!(is_id_like(b"odd", b"od"));
    }
}
