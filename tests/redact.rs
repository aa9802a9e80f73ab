//! How well secrets are distinguished from ordinary words, measured on command lines that were written for it.

#![expect(clippy::disallowed_macros, reason = "the figures are for whoever runs it")]

use std::ffi::OsString;

use childminder::internals::shell;
use childminder::internals::{HIDDEN, Redactor};

const ORDINARY: &str = include_str!("fixtures/redact/ordinary.txt");
const SECRET: &str = include_str!("fixtures/redact/secret.txt");

/// Of a thousand ordinary lines, in less than five something may be hidden.
const FALSE_PER_MILLE_MAX: usize = 5;

/// Of a hundred lines with secrets, in 99 all must be hidden.
const HITS_PERCENT_MIN: usize = 99;

fn lines(corpus: &str) -> impl Iterator<Item = &str> {
    corpus.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// What a line leaves in a record as a command line, and in a message as a text.
fn shown(line: &str) -> Vec<String> {
    let script = || ["sh", "-c", line].iter().map(OsString::from).collect();
    let words = shell::split(line).unwrap_or_else(script);
    let redactor = Redactor::default();
    let command = redactor.command(&words).words;
    let command: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let joined: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    vec![command.join(" "), redactor.text(line), redactor.blurred(&joined.join(" "))]
}

fn secrets(line: &str) -> Vec<&str> {
    let pieces = line.split('«').skip(1);
    pieces.map(|piece| piece.split('»').next().expect("a piece")).collect()
}

/// "has secrets in the command line redacted by default": and nothing else, or a rerun is refused.
#[test]
fn ordinary_command_lines_stay() {
    let all = lines(ORDINARY).count();
    // What lost the bounds of its words is hidden more freely: nothing is run again from it.
    let is_blurred = |line: &&str| shown(line)[2].contains(HIDDEN);
    let blurred = lines(ORDINARY).filter(is_blurred).count();
    let is_false = |line: &&str| shown(line)[..2].iter().any(|text| text.contains(HIDDEN));
    let wrong: Vec<&str> = lines(ORDINARY).filter(is_false).collect();
    for line in &wrong {
        eprintln!("hidden without need: {line}\n    {:?}", shown(line));
    }
    eprintln!("{} of {all} ordinary lines were hidden in part ({blurred} blurred)", wrong.len());
    assert!(all >= 1000, "{all}");
    assert!(wrong.len() * 1000 < FALSE_PER_MILLE_MAX * all);
    assert!(blurred * 1000 < 3 * FALSE_PER_MILLE_MAX * all);
}

#[test]
fn secrets_are_hidden() {
    let all = lines(SECRET).count();
    let is_missed = |line: &&str| {
        let shown = shown(&line.replace(['«', '»'], ""));
        let secrets = secrets(line);
        assert!(!secrets.is_empty(), "{line}");
        shown.iter().any(|text| secrets.iter().any(|secret| text.contains(secret)))
    };
    let wrong: Vec<&str> = lines(SECRET).filter(is_missed).collect();
    for line in &wrong {
        eprintln!("left to be seen: {line}\n    {:?}", shown(&line.replace(['«', '»'], "")));
    }
    eprintln!("secrets were left in {} of {all} lines", wrong.len());
    assert!(all >= 200, "{all}");
    assert!((all - wrong.len()) * 100 >= HITS_PERCENT_MIN * all);
}
