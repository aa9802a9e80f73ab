//! Speed and size against the budgets, side by side with peers and with C references.
//!
//! `cargo bench` measures all sections and prints one table; `cargo bench -- start-up idle` measures
//! these only; `cargo bench -- --list` names them. The exit status is 1 if a budget was missed.
//!
//! Everything is a ratio of medians taken in turn on the same machine, because absolute times say
//! little elsewhere. The C programs in `reference/` are compiled when they are needed.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark starts programs, reads the clock and speaks on stdout"
)]

mod harness;
mod sections;

use std::error::Error;
use std::process::ExitCode;

use harness::noise::Noise;
use harness::report::{Line, Report, Verdict};
use harness::workshop::{self, Workshop};
use sections::{SECTIONS, Section};

/// What can go wrong while measuring: it is told and nothing more.
type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if let Some(told) = std::env::var_os(sections::record::WRITER) {
        return sections::record::write(&told);
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs us as well, without the word that `cargo bench` adds.
    if !words.iter().any(|word| word == "--bench") {
        println!("speed: nothing to do; it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    if words == ["--list"] {
        SECTIONS.iter().for_each(|section| println!("{}: {}", section.name, section.title));
        return ExitCode::SUCCESS;
    }
    match chosen(&words).and_then(|sections| measure(&sections)) {
        Ok(report) => {
            print!("{report}");
            if report.has_missed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::from(2)
        }
    }
}

fn chosen(words: &[&str]) -> Fallible<Vec<&'static Section>> {
    if words.is_empty() {
        return Ok(SECTIONS.iter().collect());
    }
    let find = |word: &&str| {
        let found = SECTIONS.iter().find(|section| section.name == *word);
        found.ok_or_else(|| format!("no section is called '{word}' (try --list)").into())
    };
    words.iter().map(find).collect()
}

/// A section that fails is a line of the table: the others still count.
fn measure(sections: &[&Section]) -> Fallible<Report> {
    let workshop = Workshop::open()?;
    let mut report = Report::default();
    for section in sections {
        eprintln!("measuring {}: {}", section.name, section.title);
        let noise = Noise::begin();
        let lines = (section.run)(&workshop).unwrap_or_else(|error| {
            vec![
                Line::new("(failed)", error.to_string()).verdict("to be measured", Verdict::Missed),
            ]
        });
        let title = format!("{}: {} [{}]", section.name, section.title, noise.end());
        report.add(title, lines);
    }
    let missing = workshop::not_installed();
    if !missing.is_empty() {
        report.add("NOT INSTALLED, so what is compared with these was skipped".into(), missing);
    }
    Ok(report)
}
