//! The parts of the page that are about amounts: time, memory, calls per second.

use crate::model::text::byte_size;
use crate::nanny::statistics::log2_histogram::Log2Histogram;
use crate::nanny::statistics::summary::{NameSummary, Outcomes, Summary};
use crate::nanny::view::report::chart::{NamedBars, PLOT_ROWS, StackedBars};
use crate::nanny::view::report::html::{Cell, HtmlTable, figure};
use crate::nanny::view::report::numbers::{TABLE_ROWS, number, shown_of, text};
use crate::nanny::view::words;
use crate::record::row::csv;

pub fn sizes(summary: &Summary) -> Option<String> {
    let plots = [
        (
            "Wall time",
            &summary.wall_millis,
            (|value| words::span(value / 1000.0)) as fn(f64) -> String,
        ),
        ("Largest memory", &summary.peak_bytes, |value| byte_size(value as u64)),
    ];
    let plots = plots.into_iter().filter_map(|(what, outcomes, show)| size(what, outcomes, show));
    let text: String = plots.collect();
    (!text.is_empty()).then_some(text)
}

fn size(what: &str, outcomes: &Outcomes, show: fn(f64) -> String) -> Option<String> {
    let Outcomes { succeeded, failed } = outcomes;
    let both = [succeeded.doublings(), failed.doublings()];
    let from =
        both.iter().filter(|(_, counts)| !counts.is_empty()).map(|(first, _)| *first).min()?;
    let to = both.iter().map(|(first, counts)| first + counts.len()).max()?;
    let series = |index: usize| {
        let (first, counts) = &both[index];
        (from..to).map(|at| {
            at.checked_sub(*first).and_then(|at| counts.get(at)).map_or(0, |count| *count)
        })
    };
    let steps: Vec<String> = (from..to).map(|step| show((step as f64).exp2())).collect();
    let plot = StackedBars {
        label: what,
        steps,
        // Failures have the colour of a failure.
        series: vec![
            ("failed".into(), 0, series(1).collect()),
            ("succeeded".into(), 4, series(0).collect()),
        ],
    };
    let row = |(name, histogram): (&str, &Log2Histogram)| {
        let at = |share| histogram.quantile(share).map(show).unwrap_or_default();
        vec![
            text(name),
            number(histogram.count),
            Cell::Number(at(0.5)),
            Cell::Number(at(0.9)),
            Cell::Number(at(0.99)),
            Cell::Number(at(1.0)),
        ]
    };
    let table = HtmlTable {
        caption: format!("{what}: at most so much for that share of the runs, to 19 %"),
        headings: vec!["Runs that", "Known of", "50 %", "90 %", "99 %", "Largest"],
        rows: [("succeeded", succeeded), ("failed", failed)].into_iter().map(row).collect(),
    };
    let caption =
        format!("{what} of runs; each bar begins where the label says and ends at twice as much.");
    Some(figure(&plot.svg(), &caption, &table))
}

pub fn memory_used(summary: &Summary) -> Option<String> {
    let mut all: Vec<_> = summary
        .names
        .iter()
        .filter_map(|(key, name)| {
            Some((key, name, name.memory_limit?, name.peak_bytes.quantile(1.0)?))
        })
        .collect();
    all.sort_by_key(|(key, name, ..)| (std::cmp::Reverse(name.tally.runs), *key));
    let size = |bytes: f64| byte_size(bytes as u64);
    let rows = all.iter().take(PLOT_ROWS).map(|(key, _, limit, largest)| {
        let words = format!("{} of {}", size(*largest), size(*limit));
        (csv::text_of(key), *largest, Some(*limit), words)
    });
    let bars = NamedBars { label: "Memory used and allowed", rows: rows.collect() };
    let row = |(key, name, limit, largest): &(&Vec<u8>, &NameSummary, f64, f64)| {
        let median = name.peak_bytes.quantile(0.5).unwrap_or(0.0);
        vec![
            text(&csv::text_of(key)),
            number(name.peak_bytes.count),
            Cell::Number(size(median)),
            Cell::Number(size(*largest)),
            Cell::Number(size(*limit)),
        ]
    };
    let table = HtmlTable {
        caption: shown_of("name, those with the most runs first", all.len()),
        headings: vec!["Name", "Runs that succeeded", "Median", "Largest", "Allowed"],
        rows: all.iter().take(TABLE_ROWS).map(row).collect(),
    };
    let caption = "The most that a run that succeeded has used, of the largest memory limit of the cgroup or request to \
                   the batch system.";
    (!all.is_empty()).then(|| figure(&bars.svg(), caption, &table))
}

pub fn canaries(summary: &Summary) -> Option<String> {
    let mut all: Vec<_> = summary
        .canaries
        .iter()
        .filter(|(_, canary)| canary.seconds > 0.0)
        .map(|((function, host), canary)| {
            (function, host, canary.calls / canary.seconds, canary.calls)
        })
        .collect();
    // The slowest host of each function first.
    all.sort_by(|one, other| {
        one.0.cmp(other.0).then(one.2.total_cmp(&other.2)).then(one.1.cmp(other.1))
    });
    let name = |function: &[u8], host: &[u8]| {
        format!("{} on {}", csv::text_of(function), csv::text_of(host))
    };
    let mut html = String::new();
    for group in all.chunk_by(|one, other| one.0 == other.0) {
        let rows = group.iter().take(PLOT_ROWS).map(|(_, host, rate, _)| {
            (csv::text_of(host), *rate, None, format!("{rate:.3} calls/s"))
        });
        let label = format!("{}: calls per second by host", csv::text_of(group[0].0));
        let bars = NamedBars { label: &label, rows: rows.collect() };
        let row = |(function, host, rate, calls): &(&Vec<u8>, &Vec<u8>, f64, f64)| {
            vec![
                text(&name(function, host)),
                Cell::Number(format!("{rate:.3}")),
                number(*calls as u64),
            ]
        };
        let table = HtmlTable {
            caption: shown_of("host, the slowest first", group.len()),
            headings: vec!["Function", "Calls per second", "Calls"],
            rows: group.iter().take(TABLE_ROWS).map(row).collect(),
        };
        html += &figure(&bars.svg(), &format!("{label}, the slowest first."), &table);
    }
    (!html.is_empty()).then_some(html)
}
