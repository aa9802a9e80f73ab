//! Counts, shares and moments as they stand in the page.

use std::time::Duration;

use crate::model::text::plural;
use crate::model::time::WallTime;
use crate::nanny::view::report::html::Cell;
use crate::nanny::view::words;

/// Rows of a table.
pub const TABLE_ROWS: usize = 50;

/// Says how many there are, and how many of them are shown: `1 host`, `50 of 812 hosts, the slowest first`.
pub fn shown_of(what: &str, count: usize) -> String {
    let (noun, rest) = what.split_once(',').unwrap_or((what, ""));
    let s = plural(count as u64);
    let noun = noun.replacen(" to", &format!("{s} to"), 1);
    let noun = if noun.contains(" to") { noun } else { format!("{noun}{s}") };
    let rest = if rest.is_empty() { String::new() } else { format!(",{rest}") };
    let shown = count.min(TABLE_ROWS);
    if shown < count {
        format!("{shown} of {count} {noun}{rest}")
    } else {
        format!("{count} {noun}{rest}")
    }
}

pub fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

pub fn number(value: u64) -> Cell {
    Cell::Number(thousands(value))
}

/// Shows seconds since 1970, to the minute: `2026-11-22 14:05`.
pub fn moment(seconds: u64) -> String {
    let moment = words::moment(&WallTime(Duration::from_secs(seconds)).rfc3339());
    moment.get(..16).unwrap_or(&moment).to_owned()
}

pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0 %".into(),
        part if part < 0.1 => "< 0.1 %".into(),
        part if part < 10.0 => format!("{part:.1} %"),
        part => format!("{part:.0} %"),
    }
}

/// Shows a number with a thin space between each three digits.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap_or_default())
        .collect();
    groups.join("\u{202f}")
}
