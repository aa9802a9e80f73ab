//! DESIGN, section 10: "`dist`: distributions of call times of built-in functions from logs (the original's tdist.pl:
//! its CSV output `function,machine,pid,usec`, plus percentiles and a plot)".

#![allow(missing_docs, reason = "the names say it")]

mod support;

use support::{Done, Place};

/// The logs, copied into a place where whoever runs the tests may read them.
fn with_logs() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.file("log")).expect("a directory");
    for (name, text) in LOGS {
        place.write(&format!("log/{name}"), text);
    }
    place
}

const LOGS: [(&str, &str); 3] = [
    ("math-int-node7-004121.txt", include_str!("golden/dist/log/math-int-node7-004121.txt")),
    ("random-node8-000077.txt", include_str!("golden/dist/log/random-node8-000077.txt")),
    ("ls-node7-004120.txt", include_str!("golden/dist/log/ls-node7-004120.txt")),
];

fn nanny(place: &Place, words: &[&str]) -> Done {
    place.run_command(place.nanny(words))
}

/// What the original program printed for these logs, by Perl's arithmetic.
#[test]
fn logs_of_the_original_give_the_originals_output() {
    let place = with_logs();
    let expected = include_str!("golden/dist/expected.csv");
    for words in
        [&["dist"][..], &["dist", "-l", "log"], &["dist", "log"], &["dist", "--log-dir", "log"]]
    {
        let done = nanny(&place, words);
        assert_eq!((done.code(), done.stdout.as_str()), (0, expected), "{words:?}: {done:?}");
    }
    let one = nanny(&place, &["dist", "log/math-int-node7-004121.txt"]);
    assert_eq!(one.stdout.lines().count(), 4, "{one:?}");
}

#[test]
fn both_forms_of_our_own_log_are_read() {
    let place = Place::new();
    for format in ["text", "json"] {
        let done = place.run(["--log-format", format, "-f", "0.2", "memory"]);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
    let done = nanny(&place, &["dist"]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], "function,machine,pid,usec");
    let pids: std::collections::BTreeSet<_> =
        lines[1..].iter().map(|line| line.split(',').nth(2)).collect();
    // On a machine so slow that there was one call, there is no time to tell.
    assert!(pids.len() <= 2, "{done:?}");
    assert!(lines[1..].iter().all(|line| line.starts_with("memory,")), "{done:?}");
}

#[test]
fn percentiles_plot_and_picture() {
    let place = with_logs();
    let done = nanny(&place, &["dist", "--percentiles", "--plot", "--svg", "calls.svg"]);
    assert_eq!(done.code(), 0, "{done:?}");
    let row = done.stdout.lines().find(|line| line.starts_with("math-int")).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..4], ["math-int", "node7", "3", "1000.001"], "{row}");
    assert!(done.stdout.contains("string on node8: 4 calls, median"), "{done:?}");
    assert!(place.text("calls.svg").starts_with("<svg "));
    assert!(place.text("calls.svg").ends_with("</svg>\n"));
}

#[test]
fn no_log_is_told_and_is_status_1() {
    let place = Place::new();
    std::fs::create_dir(place.file("log")).expect("a directory");
    let done = nanny(&place, &["dist"]);
    assert_eq!((done.code(), done.stdout.as_str()), (1, ""), "{done:?}");
    assert_eq!(done.stderr, "nanny: no log of a built-in function in log\n");
    let missing = nanny(&place, &["dist", "elsewhere"]);
    assert_eq!(missing.code(), 125, "{missing:?}");
    assert_eq!(missing.stderr, "nanny: read elsewhere: No such file or directory\n");
}
