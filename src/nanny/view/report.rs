//! The page of `nanny report`: all that a summary has, as one file of HTML without scripts and without anything
//! from elsewhere.

use std::collections::HashMap;

use base64::Engine as _;

use crate::model::signal::Signal;
use crate::model::time::WallTime;
use crate::nanny::statistics::summary::{HOUR, Summary, Tally, WINDOW, WaySummary, WindowSummary};
use crate::nanny::view::report::chart::{COLOURS, HeatMap, PLOT_ROWS, StackedBars, Timeline};
use crate::nanny::view::report::html::{Cell, HtmlTable, escaped, figure};
use crate::nanny::view::report::numbers::{
    TABLE_ROWS, moment, number, percent, shown_of, text, thousands,
};
use crate::nanny::view::report::sizes::{canaries, memory_used, sizes};
use crate::nanny::view::words;
use crate::record::row::csv;

mod chart;
mod html;
mod numbers;
mod sizes;

const STYLE: &str = include_str!("report/style.css");

/// Bars over time.
const STEPS_MAX: u64 = 60;

/// Hours that a bar may stand for.
const STEPS: [u64; 9] = [1, 3, 6, 12, 24, 168, 720, 2184, 8760];

/// A burst has at least this number of failures on at least this number of hosts, and this number of times the average.
const BURST_FAILURES: u64 = 5;
const BURST_HOSTS: usize = 3;
const BURST_FACTOR: f64 = 10.0;

/// What the page is about, besides the numbers.
pub struct Subject<'a> {
    /// The files and the filter, in words.
    pub source: &'a str,
    pub now: WallTime,
    /// Runs that began and have not ended.
    pub unfinished: usize,
}

/// Returns the page.
#[must_use]
pub fn page(summary: &Summary, subject: &Subject<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    let sections = [
        ("time", "Failures over time", failures_over_time(summary)),
        ("ways", "How runs failed", ways(summary)),
        ("commands", "Commands", commands(summary)),
        ("hosts", "Hosts and hours", hosts(summary)),
        ("users", "Users", users(summary)),
        ("bursts", "Bursts on several hosts", bursts(summary)),
        ("sizes", "Time and memory", sizes(summary)),
        ("asked", "Memory used of what was allowed", memory_used(summary)),
        ("canaries", "Built-in functions", canaries(summary)),
    ];
    let present =
        || sections.iter().filter_map(|(id, title, body)| Some((id, title, body.as_ref()?)));
    let links: String =
        present().map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a> ")).collect();
    let bodies: String = present()
        .map(|(id, title, body)| format!("<section id=\"{id}\"><h2>{title}</h2>{body}</section>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Report of runs</title><style>{STYLE}</style></head>\n<body>\n{}\
         <nav aria-label=\"Sections\">{links}</nav>\n<main>{bodies}</main>\n\
         <footer>Made by nanny {} at {} UTC. Times are UTC. Click on \"The numbers as a table\", or press Enter on it, \
         for the numbers of a plot.</footer>\n</body></html>\n",
        head(summary, subject),
        env!("CARGO_PKG_VERSION"),
        words::moment(&subject.now.rfc3339()),
    )
}

fn head(summary: &Summary, subject: &Subject<'_>) -> String {
    let Tally { runs, failed, lost_seconds, .. } = summary.tally;
    let span = summary.span.map(|(first, last)| format!("{} to {}", moment(first), moment(last)));
    let facts = [
        ("Runs", thousands(runs)),
        ("Failed", format!("{} ({})", thousands(failed), percent(summary.tally.failed_share()))),
        ("Time in failed runs", words::span(lost_seconds)),
        ("Hosts", thousands(summary.hosts.len() as u64)),
        ("Users", thousands(summary.users.len() as u64)),
        ("Without an end", thousands(subject.unfinished as u64)),
    ];
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"))
        .collect();
    format!(
        "<header><h1>Report of runs</h1><p>{}: what ended from {} UTC.</p><dl>{facts}</dl></header>\n",
        escaped(subject.source),
        span.unwrap_or_else(|| "no time: nothing".into()),
    )
}

fn failures_over_time(summary: &Summary) -> Option<String> {
    let (first, last) = summary.span.filter(|_| summary.tally.failed > 0)?;
    let hours = last / HOUR - first / HOUR + 1;
    let step = STEPS.into_iter().find(|step| hours.div_ceil(*step) < STEPS_MAX);
    let step = step.unwrap_or_else(|| hours.div_ceil(STEPS_MAX - 1));
    let begin = first / HOUR / step * step;
    let count = ((last / HOUR - begin) / step + 1) as usize;
    let mut by_verdict: HashMap<&[u8], Vec<u64>> = HashMap::new();
    for ((hour, verdict), failures) in &summary.failures {
        let counts = by_verdict.entry(verdict).or_insert_with(|| vec![0; count]);
        counts[((hour - begin) / step) as usize] += failures;
    }
    let mut series: Vec<(String, Vec<u64>)> =
        by_verdict.into_iter().map(|(verdict, counts)| (csv::text_of(verdict), counts)).collect();
    series.sort_by_key(|(name, counts)| {
        (std::cmp::Reverse(counts.iter().sum::<u64>()), name.clone())
    });
    let rest = series.split_off(series.len().min(COLOURS - 1));
    if !rest.is_empty() {
        let sum = |at: usize| rest.iter().map(|(_, counts)| counts[at]).sum();
        series.push(("others".into(), (0..count).map(sum).collect()));
    }
    let name = |at: usize| {
        let text = moment((begin + at as u64 * step) * HOUR);
        text[if step < 24 { 5..16 } else { 0..10 }].to_owned()
    };
    let steps: Vec<String> = (0..count).map(name).collect();
    let rows = steps.iter().enumerate().filter_map(|(at, step)| {
        let all: u64 = series.iter().map(|(_, counts)| counts[at]).sum();
        let each = series.iter().filter(|(_, counts)| counts[at] > 0);
        let each: Vec<String> =
            each.map(|(name, counts)| format!("{} {name}", counts[at])).collect();
        (all > 0).then(|| vec![text(step), number(all), text(&each.join(", "))])
    });
    let table = HtmlTable {
        caption: "Failures by the time when the run ended".into(),
        headings: vec!["From", "Failures", "Verdicts"],
        rows: rows.collect(),
    };
    let span = match step {
        1 => "an hour".to_owned(),
        24 => "a day".to_owned(),
        hours if hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    };
    let caption = format!("Failed runs by the time of their end; a bar stands for {span}.");
    let label = "Failures over time, stacked by verdict";
    let coloured =
        series.into_iter().enumerate().map(|(colour, (name, counts))| (name, colour, counts));
    Some(figure(&StackedBars { label, steps, series: coloured.collect() }.svg(), &caption, &table))
}

fn ways(summary: &Summary) -> Option<String> {
    let mut ways: Vec<&WaySummary> = summary.ways.values().filter(|way| way.count > 0).collect();
    ways.sort_by_key(|way| (std::cmp::Reverse(way.count), way.first, &way.verdict));
    let row = |way: &&WaySummary| {
        vec![
            text(&csv::text_of(&way.verdict)),
            text(&end_of(way)),
            text(&csv::text_of(&way.sender)),
            Cell::Word(csv::text_of(&way.crash)),
            number(way.count),
            number(way.hosts.len() as u64),
            Cell::Word(moment(way.first)),
            Cell::Word(moment(way.last)),
        ]
    };
    let table = HtmlTable {
        caption: shown_of("way to fail, the most frequent first", ways.len()),
        headings: vec!["Verdict", "End", "Sent by", "Crash", "Runs", "Hosts", "First", "Last"],
        rows: ways.iter().take(TABLE_ROWS).map(row).collect(),
    };
    let note = "<p>Runs with the same verdict, end, sender and crash. <code>nanny why</code> explains one run.</p>";
    (!ways.is_empty()).then(|| format!("{note}{}", table.html()))
}

/// Returns the exit status or the name of the signal.
fn end_of(way: &WaySummary) -> String {
    let signal = std::str::from_utf8(&way.signal).ok().and_then(|text| text.parse().ok());
    match signal.and_then(Signal::new) {
        Some(signal) => signal.to_string(),
        None if way.exit_code.is_empty() => String::new(),
        None => format!("status {}", csv::text_of(&way.exit_code)),
    }
}

/// Returns the tallies with a failure first by time lost, then by failures.
fn worst<'a>(
    tallies: impl Iterator<Item = (&'a Vec<u8>, &'a Tally)>,
) -> Vec<(&'a Vec<u8>, &'a Tally)> {
    let mut all: Vec<_> = tallies.collect();
    all.sort_by(|(one_name, one), (name, other)| {
        let by_time = other.lost_seconds.total_cmp(&one.lost_seconds);
        by_time
            .then(other.failed.cmp(&one.failed))
            .then(other.runs.cmp(&one.runs))
            .then(one_name.cmp(name))
    });
    all
}

fn tallies(what: &str, heading: &'static str, all: &[(&Vec<u8>, &Tally)]) -> String {
    let row = |(name, tally): &(&Vec<u8>, &Tally)| {
        vec![
            text(&csv::text_of(name)),
            number(tally.runs),
            number(tally.failed),
            Cell::Number(percent(tally.failed_share())),
            Cell::Number(words::span(tally.lost_seconds)),
            Cell::Number(words::span(tally.seconds)),
        ]
    };
    HtmlTable {
        caption: shown_of(&format!("{what}, by time in failed runs"), all.len()),
        headings: vec![heading, "Runs", "Failed", "Share", "Time in failed runs", "Time in all"],
        rows: all.iter().take(TABLE_ROWS).map(row).collect(),
    }
    .html()
}

fn commands(summary: &Summary) -> Option<String> {
    let all = worst(summary.names.iter().map(|(key, name)| (key, &name.tally)));
    let note = "<p>Names of jobs; numbers of jobs and tasks are shown as <code>#</code>.</p>";
    (!all.is_empty()).then(|| format!("{note}{}", tallies("name", "Name", &all)))
}

fn users(summary: &Summary) -> Option<String> {
    let all = worst(summary.users.iter());
    (all.len() > 1).then(|| tallies("user", "User", &all))
}

fn hosts(summary: &Summary) -> Option<String> {
    let mut hosts: Vec<_> = summary.hosts.iter().collect();
    hosts.sort_by(|(one_name, one), (name, other)| {
        other.tally.failed.cmp(&one.tally.failed).then(one_name.cmp(name))
    });
    let share_of = |(runs, failed): (u64, u64)| failed as f64 / runs.max(1) as f64;
    let shown = || hosts.iter().take(PLOT_ROWS);
    let shares = shown().flat_map(|(_, host)| host.hours.iter().map(|hour| share_of(*hour)));
    let most = shares.fold(0.0, f64::max);
    let rows = shown().map(|(name, host)| {
        let cell = |(hour, (runs, failed)): (usize, &(u64, u64))| {
            let share = if most > 0.0 { share_of((*runs, *failed)) / most } else { 0.0 };
            (*runs > 0).then(|| {
                let tip = format!("{} at {hour}h: {failed} of {runs} failed", csv::text_of(name));
                (share, tip)
            })
        };
        (csv::text_of(name), host.hours.iter().enumerate().map(cell).collect())
    });
    let map = HeatMap {
        label: "Share of failed runs for each host and hour of the day",
        columns: (0..24).map(|hour| hour.to_string()).collect(),
        rows: rows.collect(),
    };
    let note = "<p>A host that fails more often is not a sick host: it may have run what fails everywhere.</p>";
    let all = worst(summary.hosts.iter().map(|(key, host)| (key, &host.tally)));
    let caption = format!(
        "Share of the runs that failed, by the hour of the day (UTC) in which they ended; the full colour is {}. \
         {} of {} hosts, those with the most failures first.",
        percent(most),
        map.rows.len(),
        hosts.len()
    );
    let table = tallies("host", "Host", &all);
    let details = format!("<details><summary>The numbers as a table</summary>{table}</details>");
    let figure = format!("<figure>{}<figcaption>{caption}</figcaption></figure>", map.svg());
    (!hosts.is_empty()).then(|| format!("{note}{figure}{details}"))
}

fn bursts(summary: &Summary) -> Option<String> {
    let (first, last) = summary.span?;
    let windows = (last / WINDOW - first / WINDOW + 1) as f64;
    let usual = summary.tally.failed as f64 / windows;
    let is_burst = |failures: u64, hosts: usize| {
        failures >= BURST_FAILURES
            && hosts >= BURST_HOSTS
            && failures as f64 >= usual * BURST_FACTOR
    };
    let mut bursts: Vec<_> = summary
        .windows
        .iter()
        .filter(|(_, window)| is_burst(window.failures, window.hosts.len()))
        .collect();
    bursts.sort_by_key(|(at, window)| (std::cmp::Reverse(window.failures), **at));
    let most = bursts.first()?.1.failures as f64;
    let words = |at: u64, failures: u64, hosts: usize| {
        format!("{}: {failures} failures on {hosts} hosts", moment(at * WINDOW))
    };
    let whole = (last - first).max(1) as f64;
    let moments = bursts.iter().take(TABLE_ROWS).map(|(at, window)| {
        let place = (*at * WINDOW).saturating_sub(first) as f64 / whole;
        let size = window.failures as f64 / most;
        (place.min(1.0), size, words(**at, window.failures, window.hosts.len()))
    });
    let timeline = Timeline {
        label: "Bursts of failures",
        ends: (moment(first), moment(last)),
        moments: moments.collect(),
    };
    let row = |(at, window): &(&u64, &_)| {
        let window: &WindowSummary = window;
        vec![
            Cell::Word(moment(**at * WINDOW)),
            number(window.failures),
            number(window.hosts.len() as u64),
        ]
    };
    let table = HtmlTable {
        caption: shown_of("burst, the largest first", bursts.len()),
        headings: vec!["From", "Failures", "Hosts"],
        rows: bursts.iter().take(TABLE_ROWS).map(row).collect(),
    };
    let caption = format!(
        "Ten minutes with at least {BURST_FAILURES} failures on at least {BURST_HOSTS} hosts, and {BURST_FACTOR} times \
         as many as in any ten minutes on average ({usual:.2})."
    );
    Some(figure(&timeline.svg(), &caption, &table))
}

#[cfg(test)]
mod tests;
