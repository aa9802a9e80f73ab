//! DESIGN, sections 1, 3, 5 and 11: how the job is found and executed, what its number says when
//! it is not, and what its environment tells it.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Done, Place, is_root, skip};

/// A place with directories on PATH: in `a` a directory and in `b` a file without permission
/// have the name `tool`, and in `c` and `d` there are two programs of that name.
fn place_with_path() -> (Place, String) {
    let place = Place::new();
    for directory in ["a/tool", "b", "c", "d"] {
        fs::create_dir_all(place.file(directory)).expect("a directory");
    }
    place.write("b/tool", "#!/bin/sh\necho wrong\n");
    permit(&place.file("b/tool"), 0o644);
    symlink("/bin/sh", place.file("c/tool")).expect("a link");
    place.executable("d/tool", "#!/bin/sh\necho second\n");
    let path = ["missing", "a", "b", "c", "d"].map(|dir| place.file(dir).display().to_string());
    (place, path.join(":"))
}

fn with_path(place: &Place, path: &str, words: &[&str]) -> Done {
    let mut command = place.childminder(words);
    command.env("PATH", path);
    place.run_command(command)
}

/// "works exactly as its README says (found on PATH, which the original failed to do)"
#[test]
fn a_job_is_the_first_executable_of_its_name_on_path() {
    let (place, path) = place_with_path();
    let done = with_path(&place, &path, &["tool", "-c", "echo \"$0\" \"$@\"", "tool", "a b"]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "tool a b\n"), "{done:?}");
    // The name that the program is told is the one that was typed.
    let place = Place::new();
    let done = place.run(["sed", "-n", "s/\\x00.*//p", "/proc/self/cmdline"]);
    assert_eq!(done.stdout.trim_end(), "sed");
}

/// "found on PATH"
#[test]
fn the_working_directory_is_searched_only_if_path_says_so() {
    let place = Place::new();
    place.executable("tool", "#!/bin/sh\necho here\n");
    let at = |path: &str, word: &str| {
        let done = with_path(&place, path, &["-l", "stderr", word]);
        (done.code(), done.stdout)
    };
    assert_eq!(at("/bin", "tool"), (127, String::new()));
    assert_eq!(at("/bin:", "tool"), (0, "here\n".into()));
    assert_eq!(at("/bin", "./tool"), (0, "here\n".into()));
    // A name with a slash is not looked for.
    assert_eq!(at(&place.path().display().to_string(), "x/tool"), (127, String::new()));
}

/// "found on PATH"
#[test]
fn without_path_the_systems_own_directories_are_searched() {
    let place = Place::new();
    let mut command = place.childminder(["-l", "stderr", "echo", "found"]);
    command.env_remove("PATH");
    let done = place.run_command(command);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "found\n"), "{done:?}");
}

fn permit(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("ours");
}

/// The failure is reported alike by the log, whose last line it is, and by one line on stderr. The reason is
/// the cause and the error's own words, if the cause says more than these.
#[track_caller]
fn assert_not_executed(done: &Done, status: i32, word: &str, reason: &str) {
    let told = format!("execute '{word}': {reason}");
    assert_eq!(done.code(), status, "{done:?}");
    assert_eq!(done.message("child not started"), format!("child not started: {told}"));
    assert_eq!(done.verdict(), format!("exec_failed (certain): {told}"));
    let line = format!(": exec_failed (certain): {told} (log: ");
    assert!(done.stderr.starts_with("childminder: ") && done.stderr.contains(&line), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert_eq!((done.stdout.as_str(), done.count(" started in process ")), ("", 0));
}

/// "126 / 127 | the job could not be executed / was not found"
#[test]
fn a_job_that_is_not_there_gives_127_and_the_reason() {
    let not_there = "(No such file or directory)";
    for (word, reason) in [
        (
            "no-such-program-anywhere",
            format!("no directory of PATH has it (/usr/bin:/bin) {not_there}"),
        ),
        ("./missing", "No such file or directory".to_owned()),
        ("/no/such/directory/tool", format!("the directory '/no' does not exist {not_there}")),
        ("file/tool", "'file' is not a directory (Not a directory)".to_owned()),
    ] {
        let place = Place::new();
        place.write("file", "");
        assert_not_executed(&with_path(&place, "/usr/bin:/bin", &[word]), 127, word, &reason);
    }
}

/// "126 / 127 | the job could not be executed / was not found"
#[test]
fn a_job_that_is_not_a_program_gives_126_and_the_reason() {
    let (place, path) = place_with_path();
    let (only_bad, _) = path.split_at(path.find("/c:").expect("an item"));
    // On PATH, what may not be executed says more than what is missing.
    let done = with_path(&place, only_bad, &["tool"]);
    let not_executable = "it is not executable (mode 0644; chmod +x) (Permission denied)";
    assert_not_executed(&done, 126, "tool", not_executable);

    for (word, reason) in
        [("./directory", "it is a directory (Permission denied)"), ("./plain", not_executable)]
    {
        let place = Place::new();
        fs::create_dir(place.file("directory")).expect("a directory");
        place.write("plain", "#!/bin/sh\necho ran\n");
        permit(&place.file("plain"), 0o644);
        assert_not_executed(&place.run([word]), 126, word, reason);
    }
}

/// "126 / 127 | the job could not be executed / was not found"
#[test]
fn a_job_in_a_closed_directory_gives_126() {
    if is_root() {
        return skip("a job in a directory without search permission", "root may search any");
    }
    let place = Place::new();
    fs::create_dir(place.file("closed")).expect("a directory");
    place.executable("closed/tool", "#!/bin/sh\n");
    permit(&place.file("closed"), 0o600);
    let done = place.run(["closed/tool"]);
    permit(&place.file("closed"), 0o700);
    let reason = "the directory 'closed' may not be searched (Permission denied)";
    assert_not_executed(&done, 126, "closed/tool", reason);
}

/// "126 / 127 | the job could not be executed / was not found"
#[test]
fn a_program_that_is_being_written_gives_126() {
    let place = Place::new();
    place.executable("busy", "#!/bin/sh\n");
    let writer = fs::OpenOptions::new().append(true).open(place.file("busy")).expect("ours");
    let done = place.run(["./busy"]);
    drop(writer);
    assert_not_executed(&done, 126, "./busy", "it is still open for writing (Text file busy)");
}

/// "works exactly as its README says": as execvp(3) and every shell do it.
#[test]
fn a_script_without_an_interpreter_line_is_run_by_sh() {
    let place = Place::new();
    fs::create_dir(place.file("bin")).expect("a directory");
    place.executable("bin/no-shebang", "echo \"$0|$1|$2|$#\"\nexit 7\n");
    let path = format!("/bin:{}", place.file("bin").display());
    for (word, name) in [
        ("./bin/no-shebang", "./bin/no-shebang".into()),
        ("no-shebang", place.file("bin/no-shebang")),
    ] {
        let done = with_path(&place, &path, &["-l", "stderr", word, "a b", ""]);
        assert_eq!(done.stdout, format!("{}|a b||2\n", name.display()));
        assert_eq!(done.code(), 7, "{done:?}");
    }
}

/// "126 / 127 | the job could not be executed / was not found": what is there and lacks its interpreter
/// was found, and a binary file is nothing for sh.
#[test]
fn a_job_that_lacks_its_interpreter_or_is_for_another_machine_gives_126() {
    let not_there = "(No such file or directory)";
    let format = "(Exec format error)";
    for (text, reason) in [
        (
            "#!/no/such/perl -w\n",
            format!("the interpreter '/no/such/perl' in its first line does not exist {not_there}"),
        ),
        (
            "#!/bin/sh\r\necho ran\r\n",
            format!(
                "the interpreter '/bin/sh\\r' in its first line does not exist: the line ends with CR LF, '/bin/sh' is meant {not_there}"
            ),
        ),
        (
            "GIF\0echo ran\n",
            format!("a binary file in no format that this kernel executes {format}"),
        ),
        ("\x7fELF", format!("the ELF file is truncated: it has 4 bytes {format}")),
    ] {
        let place = Place::new();
        place.executable("job", text);
        assert_not_executed(&place.run(["./job"]), 126, "./job", &reason);
    }
}

/// "found on PATH": what cannot be looked into does not end the search.
#[test]
fn a_directory_of_path_that_is_too_long_or_a_loop_is_passed_over() {
    let place = Place::new();
    symlink("loop", place.file("loop")).expect("a link");
    for odd in ["/".to_owned() + &"x".repeat(5000), place.file("loop").display().to_string()] {
        let path = format!("{odd}:/usr/bin:/bin");
        let done = with_path(&place, &path, &["-l", "stderr", "echo", "found"]);
        assert_eq!((done.code(), done.stdout.as_str()), (0, "found\n"), "{done:?}");
    }
}

/// "126 / 127 | the job could not be executed / was not found" and "the job's own | it exited":
/// the number cannot tell them apart, so the verdict must.
#[test]
fn a_job_that_returns_126_or_127_is_told_from_one_that_did_not_start() {
    for status in [126, 127] {
        let place = Place::new();
        let done = place.run(["sh", "-c", &format!("exit {status}")]);
        assert_eq!(done.code(), status);
        done.message(&format!(" exited with status {status}"));
        assert!(done.verdict().starts_with("exit_nonzero (certain): "), "{}", done.verdict());
        assert_eq!(done.count("child not started"), 0);
    }
}

const TELL: &str = "echo \"$CHILDMINDER_RUN_ID $CHILDMINDER_ATTEMPT ${CHILDMINDER_PREVIOUS_VERDICT-unset}\" >> told";

#[expect(clippy::disallowed_methods, reason = "the time in an id is compared with the clock")]
fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()
}

/// "the job sees CHILDMINDER_RUN_ID, CHILDMINDER_ATTEMPT, CHILDMINDER_PREVIOUS_VERDICT": the id is
/// a UUIDv7 (RFC 9562), the same for all attempts; the verdict is the one that the log gave.
#[test]
fn each_attempt_is_told_the_run_its_number_and_the_verdict_before() {
    let place = Place::new();
    let before = unix_ms();
    let script =
        format!("{TELL}; case $CHILDMINDER_ATTEMPT in 1) exit 5;; 2) kill -KILL $$;; esac");
    let done = place.run(["--restart-on", "failure", "--backoff", "0..0", "sh", "-c", &script]);
    let after = unix_ms();
    assert_eq!(done.code(), 0, "{done:?}");
    let told = place.text("told");
    let told: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    let id = told[0][0];
    let verdicts: Vec<&str> = done
        .log
        .iter()
        .filter_map(|line| line.strip_prefix("verdict: ")?.split(' ').next())
        .collect();
    assert_eq!(verdicts.len(), 3, "{done:?}");
    assert_eq!(told[0], [id, "1", "unset"]);
    assert_eq!(told[1], [id, "2", "exit_nonzero"]);
    assert_eq!(told[2], [id, "3", verdicts[1]]);
    assert_eq!(told.len(), 3);

    let groups: Vec<&str> = id.split('-').collect();
    assert_eq!(groups.iter().map(|group| group.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(id.chars().all(|c| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c)), "{id}");
    assert!(groups[2].starts_with('7'), "{id}");
    assert!(groups[3].starts_with(['8', '9', 'a', 'b']), "{id}");
    let ms = u128::from_str_radix(&[groups[0], groups[1]].concat(), 16).expect("hexadecimal");
    assert!((before..=after).contains(&ms), "{before} {ms} {after}");
}

/// "the job sees CHILDMINDER_RUN_ID, CHILDMINDER_ATTEMPT, CHILDMINDER_PREVIOUS_VERDICT": its own,
/// not those of a childminder further out.
#[test]
fn a_run_within_an_attempt_is_told_nothing_of_the_outer_run() {
    let place = Place::new();
    let inner = format!(
        "{TELL}; [ $CHILDMINDER_ATTEMPT = 2 ] || exit 5; exec \"$CM\" -l inner sh -c '{TELL}'"
    );
    let mut outer = place.shell("exec \"$CM\" --restart-on failure --backoff 0..0 sh -c \"$0\"");
    outer.arg(&inner);
    let done = place.run_command(outer);
    assert_eq!(done.code(), 0, "{done:?}");
    let told = place.text("told");
    let told: Vec<Vec<&str>> = told.lines().map(|line| line.split(' ').collect()).collect();
    let (outer_id, inner_id) = (told[1][0], told[2][0]);
    assert_eq!(told[1], [outer_id, "2", "exit_nonzero"]);
    assert_ne!(inner_id, outer_id);
    assert_eq!(told[2], [inner_id, "1", "unset"]);
}

/// "Nothing of the job's behaviour changes by being minded: same ... environment plus the
/// CHILDMINDER_* and TRACE* variables"
#[test]
fn the_environment_is_otherwise_the_callers() {
    let place = Place::new();
    let env_of = |mut command: Command| {
        command.env("EMPTY", "").env("LINES_OF", "a\nb=c").env("CHILDMINDER_APPEND", "true");
        let text = command.output().expect("it starts").stdout;
        let entries = text.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        entries.filter(|entry| !entry.is_empty()).collect::<Vec<_>>()
    };
    let mut direct = place.command("env");
    direct.arg("-0");
    let expected = env_of(direct);
    let minded = env_of(place.childminder(["-l", "stderr", "env", "-0"]));
    let is_told = |entry: &[u8]| {
        ["CHILDMINDER_RUN_ID=", "CHILDMINDER_ATTEMPT=", "TRACE"]
            .iter()
            .any(|name| entry.starts_with(name.as_bytes()))
    };
    let (told, rest): (Vec<_>, Vec<_>) = minded.into_iter().partition(|entry| is_told(entry));
    assert_eq!(rest, expected);
    assert!(told.len() >= 2, "{told:?}");
}

/// "125 | childminder itself could not do what was asked ...; the job was not started": the
/// machine, not the command, is at fault when fork(2) fails.
#[test]
fn a_job_for_which_there_is_no_process_left_gives_125() {
    let place = Place::new();
    let words = ["-l", "stderr", "echo", "ran"];
    let Some(command) = place.without_processes(&words) else { return };
    let done = place.run_command(command);
    assert_eq!(done.code(), 125, "{done:?}");
    assert_eq!(done.stdout, "");
    let reason = "child not started: start a process: ";
    assert!(done.stderr.contains(reason), "{done:?}");
}

/// "Nothing of the job's behaviour changes by being minded": its arguments are bytes, not text.
#[test]
fn arguments_reach_the_job_byte_for_byte() {
    let place = Place::new();
    let odd = OsStr::from_bytes(b"\xff\xfe \x80 \xc3\xa9'\"\\$x`y`");
    let mut command = place.childminder(["-l", "log", "printf", "%s"]);
    let output = command.arg(odd).output().expect("it starts");
    assert_eq!(output.stdout, odd.as_bytes());
    assert!(std::str::from_utf8(&fs::read(&place.logs()[0]).expect("the log")).is_ok());
}
