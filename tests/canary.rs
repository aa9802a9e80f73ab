//! DESIGN, section 9: the built-in functions (`-f SECONDS FUNC`).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{Done, Place, is_alive, kill, wait_until};

/// The function, and what each of its calls answers.
const ANSWERS: [(&str, &str); 5] = [
    ("math-int", "-2511207747183378432"),
    ("math-fp", "278870312088662048.000000"),
    ("string", "8191998"),
    ("file", "240009"),
    ("memory", "0"),
];

/// The number of calls that the log tells.
#[track_caller]
fn calls(done: &Done) -> usize {
    let line = done.message("number of function calls: ");
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// "Fixed work per call ..., so results compare across machines and with the original's logs";
/// section 8: "`number of function calls: N`" and the rusage line "without `child PID` for `-f`";
/// section 3: "0 | `-f` ran to its end".
#[test]
fn every_function_answers_as_the_original_did() {
    let places: Vec<Place> = ANSWERS.iter().map(|_| Place::new()).collect();
    let start = |((function, _), place): (&(&str, &str), &Place)| {
        let mut command = place.childminder(["-f", "1", function]);
        command.env("TMPDIR", place.path()).spawn().expect("it starts")
    };
    let children: Vec<_> = ANSWERS.iter().zip(&places).map(start).collect();
    for (((function, answer), place), mut child) in ANSWERS.iter().zip(&places).zip(children) {
        let status = child.wait().expect("our child");
        let log = support::messages(&place.log());
        assert_eq!(status.code(), Some(0), "{log:#?}");
        let line = format!("({function}) answer is {answer}");
        let answers = log.iter().filter(|message| **message == line).count();
        assert!(answers >= 1, "{log:#?}");
        assert!(log[0].starts_with("trapped SIGHUP "), "{log:#?}");
        assert_eq!(log[answers + 1], format!("number of function calls: {answers}"));
        assert!(log[answers + 2].starts_with("rusage info -- system time: "), "{log:#?}");
        assert_eq!(log.len(), answers + 3);
        let name = place.logs()[0].file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with(&format!("{function}-")), "{name}");
        assert!(name.ends_with(&format!("-{:06}.txt", child.id())), "{name}");
    }
}

/// Section 8, the rusage line (PEERS, T9): the peak of a process begins with that of the program
/// that it was before execve(2); a function is not said to have used that memory.
#[test]
fn the_memory_of_a_function_is_its_own_whoever_starts_it() {
    let place = Place::new();
    let mut large = place.command("perl");
    large.args(["-e", "$x = 'x' x 100_000_000; exec @ARGV"]).arg(support::program());
    large.args(["-f", "0.000001", "sleep"]);
    let done = place.run_command(large);
    let line = done.message("rusage info -- ");
    let memory = line.split("memory: ").nth(1).and_then(|rest| rest.split('k').next());
    let memory: u64 = memory.and_then(|memory| memory.parse().ok()).expect("KiB");
    assert!((1..50_000).contains(&memory), "{memory} KiB");
}

/// "`-q --quiet-func` (no answer lines from built-in functions)"
#[test]
fn quiet_hides_the_answers_and_counts_the_calls() {
    for option in ["-q", "--quiet-func"] {
        let place = Place::new();
        let done = place.run([option, "-f", "50ms", "string"]);
        assert_eq!((done.code(), done.count("answer")), (0, 0), "{done:?}");
        assert!(calls(&done) >= 1);
    }
}

/// "one of those five, uniformly, anew each call"
#[test]
fn random_calls_the_five_that_work() {
    let place = Place::new();
    let done = place.run(["-f", "200ms", "random"]);
    assert_eq!(done.code(), 0);
    let of_the_five = ANSWERS
        .iter()
        .map(|(function, answer)| done.count(&format!("({function}) answer is {answer}")));
    assert_eq!(of_the_five.sum::<usize>(), calls(&done), "{done:?}");
    assert!(calls(&done) >= 1, "{done:?}");
}

/// "the last call may end after the time is up, none starts then"
#[test]
fn no_call_starts_when_the_time_is_up() {
    let place = Place::new();
    let done = place.run(["-f", "0.000001", "math-int"]);
    assert_eq!((done.code(), calls(&done)), (0, 0), "{done:?}");
    let place = Place::new();
    // One call takes much longer than that.
    let done = place.run(["-f", "50ms", "math-fp"]);
    assert!(done.code() == 0 && calls(&done) <= 1, "{done:?}");
}

/// Without an end it goes on until a signal comes, which need not be named; functions take turns.
#[test]
fn functions_go_on_in_turn_until_a_signal_ends_them() {
    for (options, signal) in [(&[][..], "INT"), (&["--stop-on", "USR1"], "USR1")] {
        let place = Place::new();
        let words = ["-f", "0", "--every", "10ms", "string", "memory"];
        let running = place.start(options.iter().chain(&words));
        place.await_log("(memory) answer is 0");
        running.signal(signal);
        let done = running.end();
        assert_eq!(done.code(), 0, "{done:?}");
        let answers = done.log.iter().filter(|message| message.contains(" answer is "));
        for (at, answer) in answers.enumerate() {
            let function = words[4 + at % 2];
            assert!(answer.contains(&format!("({function}) answer is ")), "{at}: {answer}");
        }
        let name = place.logs()[0].file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with("string+memory-"), "{name}");
    }
}

/// One call in a period: a small load.
#[test]
fn a_period_spreads_the_calls() {
    let place = Place::new();
    let done = place.run(["-f", "1", "--every", "1h", "string"]);
    assert_eq!((done.code(), calls(&done)), (0, 1), "{done:?}");
    let place = Place::new();
    let done = place.run(["-f", "1ms", "--cores", "each", "string"]);
    assert_eq!(done.code(), 0, "{done:?}");
}

#[test]
fn bad_lines_about_functions_get_one_line() {
    for (words, text) in [
        (&["-f", "1", "sleep", "file"][..], "'sleep' waits for the whole time"),
        (&["-f", "1", "file", "ls"], "no function is called 'ls'"),
        (&["--every", "1s", "ls"], "add -f SECONDS"),
        (&["-f", "1", "--every", "0", "file"], "above 0"),
        (&["-f", "1", "--cores", "all", "file"], "any or each"),
    ] {
        let place = Place::new();
        let done = place.run(words);
        assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{done:?}");
        assert!(done.stderr.contains(text), "{done:?}");
    }
}

/// "`sleep` | waits for the whole time; says when a signal interrupted it and how many seconds
/// remained, then goes on"
#[test]
fn sleep_says_what_interrupts_it_and_goes_on_to_the_end() {
    let place = Place::new();
    let running = place.start(["-f", "2.4", "sleep"]);
    place.await_log("trapped ");
    let signals = ["USR1", "TERM", "INT", "HUP"];
    for signal in signals {
        running.signal(signal);
        place.await_log(&format!("(SIG{signal}) from kill(2). Signal sent by user "));
    }
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    let remaining = |line: &String| {
        let rest = line.strip_prefix("sleep interrupted with ")?;
        rest.strip_suffix(" seconds remaining")?.parse::<u32>().ok()
    };
    let remaining: Vec<u32> = done.log.iter().filter_map(remaining).collect();
    assert_eq!(remaining.len(), signals.len(), "{done:?}");
    assert!(remaining.iter().all(|seconds| *seconds <= 2), "{remaining:?}");
    assert!(remaining.is_sorted_by(|early, late| early >= late), "{remaining:?}");
    // The span of the last line, in seconds.
    let log = place.log();
    let span = log.rsplit("[+").next().and_then(|rest| rest.split(']').next());
    let span: f64 = span.and_then(|span| span.parse().ok()).expect("a span");
    assert!(span >= 2.4, "{log}");
    assert_eq!(calls(&done), 1);
    assert_eq!(done.count("rusage info -- "), 1);
}

/// "`--stop-on SIGNAL,...` (signals that end `-f` early and cleanly; default none, as the original:
/// it is there to watch them)"
#[test]
fn a_signal_of_stop_on_ends_a_function_early_and_cleanly() {
    for (options, function) in [
        (&["--stop-on", "INT"][..], "sleep"),
        (&["--stop-on", "TERM,INT"], "string"),
        (&[], "sleep"),
    ] {
        let place = Place::new();
        let mut command = place.childminder(options.iter().chain(&["-f", "1h", function]));
        if options.is_empty() {
            command.env("CHILDMINDER_STOP_ON", "INT");
        }
        let running = place.start_command(command);
        place.await_log("trapped ");
        running.signal("USR1");
        place.await_log("signal 10 (SIGUSR1)");
        running.signal("INT");
        let done = running.end();
        assert_eq!(done.code(), 0, "{done:?}");
        done.message("signal 2 (SIGINT) from kill(2)");
        done.message("number of function calls: ");
        assert!(done.log.last().expect("lines").starts_with("rusage info -- "), "{done:?}");
    }
}

/// "The work ... runs beside the signal loop, which stays awake"
#[test]
fn signals_are_told_while_a_call_runs() {
    let place = Place::new();
    let running = place.start(["-f", "1", "math-fp"]);
    place.await_log("trapped ");
    running.signal("USR1");
    let done = running.end();
    let at = |words: &str| done.log.iter().rposition(|line| line.contains(words)).expect(words);
    assert!(at("signal 10 (SIGUSR1)") < at("(math-fp) answer is"), "{done:?}");
    assert_eq!((done.code(), done.count("sleep interrupted")), (0, 0));
}

/// Waits until a process has a file in the directory open.
fn await_open_file(pid: i32, directory: &str) {
    wait_until(&format!("a file in {directory} is open"), || {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
        let targets = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        let inside = format!("{directory}/");
        targets.into_iter().any(|target| target.to_string_lossy().starts_with(&inside))
    });
}

/// "Temporary files are made in TMPDIR (default /var/tmp), safely, and removed however the run
/// ends."
#[test]
fn temporary_files_are_made_in_tmpdir_and_never_stay() {
    for end in ["INT", "KILL"] {
        let place = Place::new();
        fs::create_dir(place.file("tmp")).expect("a directory");
        let directory = fs::canonicalize(place.file("tmp")).expect("it is there");
        let mut command = place.childminder(["-f", "1h", "-q", "--stop-on", "INT", "file"]);
        command.env("TMPDIR", &directory);
        let mut running = place.start_command(command);
        let pid = running.pid();
        place.await_log("trapped ");
        await_open_file(pid, directory.to_str().expect("text"));
        kill(pid, end);
        wait_until("it has ended", || running.has_ended());
        assert!(!is_alive(pid));
        let left: Vec<_> = fs::read_dir(&directory).expect("it is there").collect();
        assert!(left.is_empty(), "after SIG{end}: {left:?}");
    }
}

/// "(default /var/tmp)"
#[test]
fn without_tmpdir_files_are_made_in_var_tmp() {
    for value in [None, Some("")] {
        let place = Place::new();
        let mut command = place.childminder(["-f", "1h", "-q", "--stop-on", "INT", "file"]);
        match value {
            None => command.env_remove("TMPDIR"),
            Some(value) => command.env("TMPDIR", value),
        };
        let running = place.start_command(command);
        place.await_log("trapped ");
        await_open_file(running.pid(), "/var/tmp");
        running.signal("INT");
        assert_eq!(running.end().code(), 0);
    }
}

/// Trouble with the files is told, and not in a storm.
#[test]
fn a_directory_without_room_for_files_is_told_and_not_asked_in_a_loop() {
    let place = Place::new();
    let mut command = place.childminder(["-f", "500ms", "file"]);
    command.env("TMPDIR", place.file("missing"));
    let done = place.run_command(command);
    assert_eq!((done.code(), calls(&done)), (1, 0), "{done:?}");
    let told = done.message("(file) failed on CPU ");
    assert!(told.contains("No such file or directory"), "{told}");
}

/// Section 3: "125 | childminder itself could not do what was asked". Section 2: "nothing is
/// created": also where there is no process, and so no thread, left.
#[test]
fn a_function_that_cannot_begin_leaves_nothing() {
    let place = Place::new();
    fs::create_dir(place.file("open")).expect("a directory");
    fs::set_permissions(place.file("open"), fs::Permissions::from_mode(0o777)).expect("ours");
    let words = ["-l", "open/log", "-f", "0.1", "string"];
    if let Some(command) = place.without_processes(&words) {
        let line = place.refused(command);
        assert!(line.contains("start a thread"), "{line}");
    }
}
