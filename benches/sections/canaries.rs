//! The built-in functions against the same work in C: neither optimised away nor slower.

use std::path::Path;
use std::time::Duration;

use crate::Fallible;
use crate::harness::process;
use crate::harness::report::{Line, met};
use crate::harness::statistics::{median, paired_ratio};
use crate::harness::workshop::Workshop;

pub const TITLE: &str =
    "CPU per call of the built-in functions, median of 5 rounds in turn with C at gcc -O2";

const FUNCTIONS: [&str; 5] = ["math-int", "math-fp", "string", "file", "memory"];
const ROUNDS: usize = 5;
/// A call that has begun is finished, so a run may take longer.
const SECONDS: &str = "1";
const WITHIN: Duration = Duration::from_secs(60);

/// In x the C reference.
const BUDGET: (f64, f64) = (0.8, 1.25);

/// What one run of a function came to.
struct Calls {
    answer: String,
    cpu_ms: f64,
}

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let place = workshop.place("canaries")?;
    FUNCTIONS.iter().map(|function| measure(workshop, &place, function)).collect()
}

fn measure(workshop: &Workshop, place: &Path, function: &str) -> Fallible<Line> {
    let (mut ours, mut references) = (Vec::new(), Vec::new());
    let mut has_other_answer = false;
    for _ in 0..ROUNDS {
        let (one, other) =
            (call_ours(workshop, place, function)?, call_c(workshop, place, function)?);
        has_other_answer |= one.answer != other.answer;
        ours.push(one.cpu_ms);
        references.push(other.cpu_ms);
    }
    let ratio = paired_ratio(&ours, &references);
    let measured = format!("{:.1} ms, C {:.1} ms", median(&ours), median(&references));
    let line = Line::new(function, measured).ratio(Some(ratio), "C reference");
    if has_other_answer {
        return Ok(line.verdict("the same answer", met(false)));
    }
    let (low, high) = BUDGET;
    Ok(line.verdict(format!("{low} to {high} x C"), met((low..=high).contains(&ratio))))
}

fn call_c(workshop: &Workshop, place: &Path, function: &str) -> Fallible<Calls> {
    let mut command = process::command(workshop.c_program("canaries")?, place);
    command.args([function, SECONDS]).arg(place);
    let (text, _) = process::output(&mut command, WITHIN)?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [answer, _, cpu_ms] = words[..] else {
        return Err(format!("the C reference said '{text}'").into());
    };
    Ok(Calls { answer: answer.to_owned(), cpu_ms: cpu_ms.parse()? })
}

fn call_ours(workshop: &Workshop, place: &Path, function: &str) -> Fallible<Calls> {
    let mut command = process::command(workshop.childminder(), place);
    command.args(["-f", SECONDS, "-l", "stdout", function]).env("TMPDIR", place);
    let (text, _) = process::output(&mut command, WITHIN)?;
    // The words behind these, up to a blank or a comma.
    let after = |words: &str| {
        let (_, rest) = text.split_once(words).ok_or_else(|| format!("no '{words}' in the log"))?;
        let end = rest.find([' ', ',', '\n']).unwrap_or(rest.len());
        Ok::<_, String>(rest[..end].trim_end_matches('s').to_owned())
    };
    let system: f64 = after("system time: ")?.parse()?;
    let user: f64 = after("user time: ")?.parse()?;
    let calls: f64 = after("number of function calls: ")?.parse()?;
    Ok(Calls { answer: after(") answer is ")?, cpu_ms: (system + user) * 1e3 / calls })
}
