//! DESIGN, section 7: a corpus of deaths whose cause is known. Each case states the cause and the verdicts
//! that are right before it runs, as root where we are, and as an ordinary user. The test ends with a score.
//!
//! `CORPUS=WORD` runs the cases whose names contain the word. The lines of all verdicts are written to
//! `corpus.txt` in Cargo's directory for temporary files, to be read as the person would who is woken by one.

#![expect(clippy::disallowed_methods, reason = "tests read the environment")]
#![expect(clippy::too_many_lines, reason = "the cases are tables")]

mod case;
#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod descendants;
mod exec;
mod exits;
mod limits;
mod memory;
mod requests;
mod signals;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use case::{Case, Outcome, Who};
use support::{Place, is_root, kill, program, skip};

/// So many cases run at once: most of them wait.
const AT_ONCE: usize = 8;

/// An ordinary user.
const USER: u32 = 65534;

/// What each script begins with. `$CM` is childminder, `$DEATHS` the compiled helper.
const PRELUDE: &str = r#"
ulimit -Sc 0
# Waits until a file is there.
await() { i=0; until [ -e "$1" ]; do i=$((i+1)); [ $i -lt 900 ] || exit 99; sleep 0.03; done; }
# Starts childminder in the background, with SIGINT and SIGQUIT as they are in the foreground.
begin() { "$DEATHS" defaults "$CM" "$@" & minder=$!; }
# Waits until the log has the pid of the job, and sets it.
await_job() { i=0; until job=$(sed -n 's/.* started in process //p' log/* 2>/dev/null | head -n 1) && [ -n "$job" ]
              do i=$((i+1)); [ $i -lt 900 ] || exit 99; sleep 0.03; done; }
# Waits until childminder has ended, and ends as it did.
end() { wait $minder; exit $?; }
# Waits until the watch has begun, 10 ms after the job: what came before is a case of its own.
watched() { i=0; until grep -q 'evidence in force' log/* 2>/dev/null; do i=$((i+1)); [ $i -lt 900 ] || exit 99; sleep 0.03; done; }
"#;

fn all() -> Vec<Case> {
    [
        exits::cases(),
        signals::cases(),
        requests::cases(),
        descendants::cases(),
        limits::cases(),
        memory::cases(),
        crashes::cases(),
        exec::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What all cases need, in a place that an ordinary user can read.
struct Tools {
    directory: tempfile::TempDir,
}

impl Tools {
    fn new() -> Tools {
        let directory = tempfile::Builder::new().prefix("corpus-").tempdir().expect("a directory");
        let permit = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), permit).expect("ours");
        let tools = Tools { directory };
        fs::copy(program(), tools.path("childminder")).expect("a copy");
        fs::write(tools.path("prelude"), PRELUDE).expect("written");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/deaths.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-g", "-w", "-o"]).arg(tools.path("deaths")).arg(source);
        let compiled = compiler.args(["-pthread", "-lutil", "-lrt"]).status();
        assert!(compiled.expect("cc, which the tests need").success(), "deaths.c compiles");
        tools
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// One run of one case.
struct Run {
    verdict: String,
    outcome: Outcome,
}

fn run(case: &Case, as_user: bool, tools: &Tools) -> Run {
    let place = Place::new();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut command = match as_user {
            true => place.command("setpriv"),
            false => place.command("sh"),
        };
        if as_user {
            let id = USER.to_string();
            command.args([&format!("--reuid={id}"), &format!("--regid={id}")]);
            command.args(["--clear-groups", "sh"]);
            std::os::unix::fs::chown(place.path(), Some(USER), Some(USER)).expect("we are root");
        }
        let prelude = tools.path("prelude");
        command.args(["-c", &format!(". {}\n{}", prelude.display(), case.script)]);
        command.env("CM", tools.path("childminder")).env("DEATHS", tools.path("deaths"));
        place.run_command(command)
    }));
    // What the death left behind, some of it on purpose.
    place.processes().into_iter().for_each(|pid| kill(pid, "KILL"));
    let Ok(done) = ran else {
        let outcome = Outcome::Wrong("the case did not come to its end".to_owned());
        return Run { verdict: String::new(), outcome };
    };
    let verdict = done.log.last().and_then(|line| line.strip_prefix("verdict: "));
    let Some(verdict) = verdict else {
        let outcome = Outcome::Wrong(format!("no log that ends with a verdict: {done:?}"));
        return Run { verdict: String::new(), outcome };
    };
    let outcome = case.judge(verdict, done.status.code());
    Run { verdict: verdict.to_owned(), outcome }
}

/// A run of a case with what came out.
struct Result<'a> {
    case: &'a Case,
    as_user: bool,
    run: Run,
}

/// Runs them a few at a time.
fn run_all<'a>(jobs: &[(&'a Case, bool)], at_once: usize, tools: &Tools) -> Vec<Result<'a>> {
    let queue = Mutex::new(jobs.iter());
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no panic").next();
                    let Some((case, as_user)) = next else { return };
                    let (case, as_user) = (*case, *as_user);
                    let run = run(case, as_user, tools);
                    results.lock().expect("no panic").push(Result { case, as_user, run });
                }
            });
        }
    });
    results.into_inner().expect("no panic")
}

/// Runs those that came out wrong once more, one after the other, for the machine may have been busy with other
/// things: time is part of what some of them are about, and deaths of other cases make them less certain.
/// Wrong and certain is wrong at once.
fn run_again<'a>(results: Vec<Result<'a>>, tools: &Tools) -> Vec<Result<'a>> {
    let is_wrong = |result: &Result<'_>| matches!(result.run.outcome, Outcome::Wrong(_));
    let (wrong, mut kept): (Vec<Result<'_>>, Vec<Result<'_>>) =
        results.into_iter().partition(is_wrong);
    for Result { case, run, .. } in &wrong {
        let told = format!("again: {}: {}\n", case.name, run.verdict);
        io::stderr().write_all(told.as_bytes()).expect("stderr");
    }
    let again: Vec<(&Case, bool)> =
        wrong.iter().map(|result| (result.case, result.as_user)).collect();
    kept.extend(run_all(&again, 1, tools));
    kept
}

/// Whether a command is there.
fn has(tool: &str) -> bool {
    let mut look = Command::new("sh");
    look.args(["-c", "command -v \"$0\"", tool]).stdout(Stdio::null());
    look.status().expect("sh starts").success()
}

/// The runs that can be made here: each case as root and as a user, as far as it goes.
fn jobs(cases: &[Case], is_alone: bool) -> Vec<(&Case, bool)> {
    let mut jobs = Vec::new();
    let wanted = std::env::var("CORPUS").unwrap_or_default();
    let chosen = |case: &&Case| case.is_alone == is_alone && case.name.contains(&wanted);
    for case in cases.iter().filter(chosen) {
        if let Some(tool) = case.tool.filter(|tool| !has(tool)) {
            skip(&case.name, &format!("no {tool} here"));
            continue;
        }
        match (is_root(), case.who) {
            (true, Who::Both) => jobs.extend([(case, false), (case, true)]),
            (true, Who::Root) => jobs.push((case, false)),
            (true, Who::User) => jobs.push((case, true)),
            (false, Who::Both | Who::User) => jobs.push((case, false)),
            (false, Who::Root) => skip(&case.name, "needs root"),
        }
    }
    jobs
}

#[test]
fn the_verdicts_on_deaths_of_known_cause_are_right() {
    let tools = Tools::new();
    let cases = all();
    let names: std::collections::BTreeSet<&str> =
        cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    assert!(cases.len() >= 120, "{} deaths", cases.len());
    let mut results = run_all(&jobs(&cases, false), AT_ONCE, &tools);
    results.extend(run_all(&jobs(&cases, true), 1, &tools));
    let mut results = run_again(results, &tools);
    results.sort_by(|a, b| (&a.case.name, a.as_user).cmp(&(&b.case.name, b.as_user)));

    let mut list = String::new();
    let (mut wrong, mut certain) = (0, 0);
    for Result { case, as_user, run } in &results {
        let who = if *as_user || !is_root() { "user" } else { "root" };
        let verdict = &run.verdict;
        writeln!(list, "{} ({who}): {}\n    {verdict}", case.name, case.cause).expect("a string");
        let why = match &run.outcome {
            Outcome::Right => continue,
            Outcome::Wrong(why) => why,
            Outcome::WrongAndCertain(why) => {
                certain += 1;
                why
            }
        };
        wrong += 1;
        let told = format!(
            "WRONG: {} ({who}): {}\n    {verdict}\n    wrong is {why}\n",
            case.name, case.cause
        );
        io::stderr().write_all(told.as_bytes()).expect("stderr");
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus.txt");
    // Another user than the one who built the tests cannot write there.
    let file = match fs::write(&file, &list) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("no file ({error})"),
    };
    let score = format!(
        "corpus: {} deaths, {} runs, {} right ({:.1} %), {wrong} wrong, of these {certain} certain; \
         all lines are in {}\n",
        cases.len(),
        results.len(),
        results.len() - wrong,
        (results.len() - wrong) as f64 * 100.0 / results.len().max(1) as f64,
        file
    );
    io::stderr().write_all(score.as_bytes()).expect("stderr");
    assert!(!results.is_empty(), "no case ran");
    assert_eq!((wrong, certain), (0, 0), "{score}");
}
