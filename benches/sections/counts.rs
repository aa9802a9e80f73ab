//! What does not depend on the machine's mood: system calls and instructions.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::Fallible;
use crate::harness::process;
use crate::harness::report::Line;
use crate::harness::workshop::{Kind, Workshop, Wrapper, find};

pub const TITLE: &str = "of /bin/true: system calls over the bare job, instructions of the wrapper";

const WITHIN: Duration = Duration::from_secs(60);

const SYSCALLS_BUDGET: f64 = 60.0;
const INSTRUCTIONS_BUDGET: f64 = 60_000.0;

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let place = workshop.place("counts")?;
    // The first run alone would have to make it.
    fs::create_dir(place.join("log"))?;
    let (has_strace, has_valgrind) = (find("strace").is_some(), find("valgrind").is_some());
    if !has_strace && !has_valgrind {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    let bare = if has_strace { syscalls(&Wrapper::direct(), &place)? } else { 0.0 };
    let mut wrappers = workshop.references()?;
    wrappers.extend(workshop.peers());
    wrappers.extend(workshop.ours(&[]));
    wrappers.extend(workshop.ours(&["-d"]));
    for wrapper in &wrappers {
        let syscalls = if has_strace { Some(syscalls(wrapper, &place)? - bare) } else { None };
        let instructions = if has_valgrind { Some(instructions(wrapper, &place)?) } else { None };
        lines.extend(lines_of(wrapper, syscalls, instructions));
    }
    Ok(lines)
}

fn lines_of(wrapper: &Wrapper, syscalls: Option<f64>, instructions: Option<f64>) -> Vec<Line> {
    let counts = [
        (syscalls, "syscalls", SYSCALLS_BUDGET),
        (instructions, "instructions", INSTRUCTIONS_BUDGET),
    ];
    let counted =
        counts.into_iter().filter_map(|(count, unit, budget)| Some((count?, unit, budget)));
    let text = |count: f64, unit: &str| format!("{count} {unit}");
    let is_default = wrapper.kind != Kind::Other && wrapper.words.len() == 1;
    if is_default {
        let line = |(count, unit, budget)| {
            Line::new(&wrapper.name, text(count, unit)).at_most(budget, Some(count), "")
        };
        return counted.map(line).collect();
    }
    let texts: Vec<String> = counted.map(|(count, unit, _)| text(count, unit)).collect();
    vec![Line::new(&wrapper.name, texts.join(", "))]
}

/// Counts the system calls of the whole tree.
fn syscalls(wrapper: &Wrapper, place: &Path) -> Fallible<f64> {
    let traces = place.join("traces");
    fs::remove_dir_all(&traces).ok();
    fs::create_dir(&traces)?;
    let mut strace = bare_command("strace", place);
    // One file for each process, so that no line is split in two.
    strace.args(["-ff", "-qq", "-o", "traces/of"]).args(wrapper.around(&job()));
    process::output(&mut strace, WITHIN)?;
    let mut count = 0;
    for trace in fs::read_dir(traces)? {
        let text = String::from_utf8_lossy(&fs::read(trace?.path())?).into_owned();
        let is_call =
            |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains('(');
        count += text.lines().filter(is_call).count();
    }
    Ok(count as f64)
}

/// Counts the instructions of the wrapper alone, without its job.
fn instructions(wrapper: &Wrapper, place: &Path) -> Fallible<f64> {
    let mut valgrind = bare_command("valgrind", place);
    valgrind.args([
        "--tool=callgrind",
        "--trace-children=no",
        "--child-silent-after-fork=yes",
        "--callgrind-out-file=/dev/null",
    ]);
    let (_, text) = process::output(valgrind.args(wrapper.around(&job())), WITHIN)?;
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count);
    Ok(collected.ok_or("callgrind said no count")?.trim().parse()?)
}

/// A command with hardly an environment: every C library walks through it, and that would count.
fn bare_command(program: &str, place: &Path) -> Command {
    let mut command = process::command(program, place);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

fn job() -> [OsString; 1] {
    ["/bin/true".into()]
}
