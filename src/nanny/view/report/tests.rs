use std::collections::HashSet;

use super::*;
use crate::nanny::statistics::summary::{EndedRun, Way};

const BEGIN: u64 = 1_700_000_000;

fn summary_of(runs: u64) -> Summary {
    let mut summary = Summary::default();
    let hosts = ["a<b>", "node-2", "node-3", "node-4"];
    for number in 0..runs {
        let is_failed = number % 3 == 0;
        let is_canary = number % 50 == 1;
        let run = EndedRun {
            // All in one window first, then spread over 40 days.
            time: BEGIN + if number < 60 { number } else { number * 40 * 86_400 / runs },
            is_failed,
            verdict: if is_failed { b"oom_killed" } else { b"success" },
            host: hosts[number as usize % 4].as_bytes(),
            user: if number % 2 == 0 { b"ann" } else { b"bo\\x1b" },
            name: if is_canary { b"math-int" } else { b"align \"\"x\"\"" },
            way: Way { signal: b"9", sender: b"<killer>", ..Way::default() },
            wall_seconds: Some(number as f64),
            peak_bytes: Some(1e8 + number as f64),
            memory_limit: Some(4e9),
            calls: is_canary.then_some(500.0),
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        summary.started(id);
        summary.ended(id, &run);
    }
    summary.finish(&HashSet::new());
    summary
}

fn page_of(summary: &Summary) -> String {
    let now = WallTime(std::time::Duration::from_secs(BEGIN));
    page(summary, &Subject { source: "/r/record.csv", now, unfinished: 7 })
}

/// Each element is closed in its order, so that no text of a cell is an element.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let empty = ["!doctype", "meta"];
    let body = page.replace(STYLE, "");
    for piece in body.split('<').skip(1) {
        let tag = piece.split(['>', ' ', '/']).next().unwrap_or_default();
        match piece.strip_prefix('/') {
            Some(end) => assert_eq!(open.pop(), end.split('>').next(), "{piece}"),
            None if empty.contains(&tag)
                || piece.split('>').next().is_some_and(|tag| tag.ends_with('/')) => {}
            None => open.push(tag),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_has_every_part_and_no_text_is_an_element() {
    let page = page_of(&summary_of(3000));
    assert_well_formed(&page);
    for part in
        ["time", "ways", "commands", "hosts", "users", "bursts", "sizes", "asked", "canaries"]
    {
        assert!(page.contains(&format!("<section id=\"{part}\">")), "{part}");
        assert!(page.contains(&format!("<a href=\"#{part}\">")), "{part}");
    }
    for text in [
        "a&lt;b&gt;",
        "&lt;killer&gt;",
        "align &quot;x&quot;",
        "SIGKILL",
        "oom_killed",
        "3\u{202f}000",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("1\u{202f}000 (33 %)"), "failed runs and their share");
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn what_there_is_nothing_of_is_left_out() {
    let mut summary = Summary::default();
    let run = EndedRun { time: BEGIN, verdict: b"success", name: b"ls", ..EndedRun::default() };
    summary.ended([1; 16], &run);
    summary.finish(&HashSet::new());
    let page = page_of(&summary);
    assert_well_formed(&page);
    for part in ["time", "ways", "bursts", "asked", "canaries"] {
        assert!(!page.contains(&format!("id=\"{part}\"")), "{part}");
    }
}

#[test]
fn bars_over_time_are_few_and_lose_no_failure() {
    for days in [0, 1, 9, 400, 9000] {
        let mut summary = Summary::default();
        for number in 0..100_u64 {
            let time = BEGIN + number * days * 86_400 / 99;
            let run =
                EndedRun { time, is_failed: true, verdict: b"crashed", ..EndedRun::default() };
            summary.ended([number as u8; 16], &run);
        }
        let html = failures_over_time(&summary).expect("failures");
        let (plot, table) = html.split_once("<table>").expect("a table");
        assert!(plot.matches("<rect").count() <= STEPS_MAX as usize + 2, "{days}");
        let counts =
            table.split("<td class=\"n\">").skip(1).filter_map(|cell| cell.split('<').next());
        let sum: u64 = counts.map(|count| count.parse::<u64>().expect("a count")).sum();
        assert_eq!(sum, 100, "{days}");
    }
}

#[test]
fn the_style_is_the_one_that_the_policy_lets_pass() {
    let page = page_of(&summary_of(10));
    let style = page
        .split("<style>")
        .nth(1)
        .and_then(|rest| rest.split("</style>").next())
        .expect("a style");
    let digest = ring::digest::digest(&ring::digest::SHA256, style.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(digest);
    assert!(page.contains(&format!("style-src 'sha256-{hash}'")));
    assert!(!page.contains(" style=\""), "the policy refuses them");
}
