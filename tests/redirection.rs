//! DESIGN, sections 2 and 3: where the job reads and writes, and that a mistake there costs
//! nothing.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use nix::sys::stat::Mode;
use support::{Place, is_root, skip, wait_until};

/// "`-e --error FILE` ... `-i --input FILE` ... `-o --output FILE`"
#[test]
fn the_job_reads_and_writes_the_named_files_and_not_ours() {
    let place = Place::new();
    place.write("in", "line\n");
    place.write("out", "old and longer than what comes\n");
    let job = ["sh", "-c", "cat; echo trouble >&2; exit 4"];
    let done = place.run(["-i", "in", "-o", "out", "--error", "err"].iter().chain(&job));
    assert_eq!(done.code(), 4);
    assert_eq!((place.text("out").as_str(), place.text("err").as_str()), ("line\n", "trouble\n"));
    assert_eq!(done.stdout, "");
    assert!(!done.stderr.contains("trouble"), "{done:?}");
}

/// "Redirection": two names of one file are one file, in which nothing is written over.
#[test]
fn output_and_error_may_be_the_same_file() {
    let job = "for i in 1 2 3; do echo out $i; echo err $i >&2; done";
    let expected = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    for (out, err) in [("both", "both"), ("both", "./both"), ("link", "both"), ("hard", "both")] {
        for append in [false, true] {
            let place = Place::new();
            place.write("both", "old\n");
            symlink("both", place.file("link")).expect("a link");
            fs::hard_link(place.file("both"), place.file("hard")).expect("a link");
            let mut words = vec!["-o", out, "-e", err];
            words.extend(append.then_some("--append"));
            words.extend(["sh", "-c", job]);
            assert_eq!(place.run(words).code(), 0);
            let old = if append { "old\n" } else { "" };
            assert_eq!(place.text("both"), format!("{old}{expected}"), "{out} {err} {append}");
        }
    }
}

/// "the default truncates at the first attempt only: a restart appends, so that the failed
/// attempt's output survives" (PEERS, T29); the input is read anew by each attempt.
#[test]
fn a_restart_appends_to_the_output_and_reads_the_input_again() {
    let job = "cat; echo error $CHILDMINDER_ATTEMPT >&2; exit 75";
    for (options, old) in [(&[][..], ""), (&["--append"], "old\n")] {
        let place = Place::new();
        place.write("in", "one\ntwo\n");
        place.write("out", "old\n");
        place.write("err", "old\n");
        let mut words = vec!["-i", "in", "-o", "out", "-e", "err"];
        words.extend(["--restart-on", "exit:75", "-t", "2", "--backoff", "0..0"]);
        words.extend(options);
        words.extend(["sh", "-c", job]);
        assert_eq!(place.run(words).code(), 75);
        assert_eq!(place.text("out"), format!("{old}{}", "one\ntwo\n".repeat(3)));
        assert_eq!(place.text("err"), format!("{old}error 1\nerror 2\nerror 3\n"));
    }
}

/// "a restart appends": also where the failed attempt emptied the file itself, or left its end.
#[test]
fn a_restart_writes_at_the_end_of_the_file_wherever_that_is() {
    let place = Place::new();
    let job =
        "echo $CHILDMINDER_ATTEMPT; [ $CHILDMINDER_ATTEMPT = 2 ] || { echo more >> out; exit 75; }";
    let words = ["--restart-on", "exit:75", "--backoff", "0..0", "-o", "out", "sh", "-c", job];
    assert_eq!(place.run(words).code(), 0);
    assert_eq!(place.text("out"), "1\nmore\n2\n");
}

/// "`--append` (with -o/-e...)"
#[test]
fn append_keeps_what_the_files_hold() {
    let place = Place::new();
    place.write("out", "old\n");
    let job = ["sh", "-c", "echo new; echo trouble >&2"];
    assert_eq!(place.run(["--append", "-o", "out", "-e", "err"].iter().chain(&job)).code(), 0);
    assert_eq!(place.text("out"), "old\nnew\n");
    assert_eq!(place.text("err"), "trouble\n");
}

/// "`-w --working-directory DIR` (both log directory and job)"
#[test]
fn the_working_directory_is_that_of_log_files_and_job() {
    let place = Place::new();
    fs::create_dir(place.file("sub")).expect("a directory");
    place.write("in", "wrong\n");
    place.write("sub/in", "right\n");
    let words = ["-w", "sub", "-i", "in", "-o", "out", "sh", "-c", "pwd; cat"];
    assert_eq!(place.run(words).code(), 0);
    let sub = fs::canonicalize(place.file("sub")).expect("it is there");
    assert_eq!(place.text("sub/out"), format!("{}\nright\n", sub.display()));
    assert_eq!(fs::read_dir(place.file("sub/log")).expect("the log").count(), 1);
    assert!(!place.file("log").exists() && !place.file("out").exists());
}

/// "`--child-directory DIR` (job only; parent stays)"
#[test]
fn the_child_directory_is_the_jobs_alone() {
    let place = Place::new();
    fs::create_dir(place.file("sub")).expect("a directory");
    place.write("in", "right\n");
    let words = ["--child-directory", "sub", "-i", "in", "-o", "out", "sh", "-c", "pwd; cat"];
    let done = place.run(words);
    assert_eq!(done.code(), 0);
    let sub = fs::canonicalize(place.file("sub")).expect("it is there");
    assert_eq!(place.text("out"), format!("{}\nright\n", sub.display()));
    done.message(" started in process ");
    assert_eq!(fs::read_dir(place.file("sub")).expect("the directory").count(), 0);

    // Within -w, as everything that is named.
    let place = Place::new();
    fs::create_dir_all(place.file("a/b")).expect("directories");
    let done = place.run(["-w", "a", "--child-directory", "b", "pwd"]);
    let inner = fs::canonicalize(place.file("a/b")).expect("it is there");
    assert_eq!(done.stdout, format!("{}\n", inner.display()));
}

/// "Redirection": files that cannot be emptied or read again are files, too.
#[test]
fn devices_and_pipes_serve_as_files() {
    let place = Place::new();
    nix::unistd::mkfifo(&place.file("fifo"), Mode::S_IRWXU).expect("a FIFO");
    let mut writer = place.shell("printf 'through the pipe\\n' > fifo").spawn().expect("sh starts");
    let words = ["-i", "fifo", "-o", "out", "-e", "/dev/null", "sh", "-c", "cat; echo lost >&2"];
    let done = place.run(words);
    assert!(writer.wait().expect("its end").success());
    assert_eq!((done.code(), place.text("out").as_str()), (0, "through the pipe\n"), "{done:?}");

    let done = place.run(["-l", "stderr", "-i", "/dev/null", "-o", "/dev/full", "echo", "much"]);
    assert_eq!(done.code(), 1, "echo cannot write to a full device: {done:?}");
}

/// "A supervisor is asked to stop by a signal": also while it waits for the other end of a FIFO.
#[test]
fn a_fifo_without_another_end_does_not_make_it_deaf() {
    for option in ["-i", "-o"] {
        let place = Place::new();
        nix::unistd::mkfifo(&place.file("fifo"), Mode::S_IRWXU).expect("a FIFO");
        let mut child =
            place.childminder([option, "fifo", "touch", "ran"]).spawn().expect("starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        let blocked = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.starts_with("Name:\tchildminder\n") && status.contains("State:\tS")
        };
        wait_until("it sleeps", blocked);
        support::kill(pid, "TERM");
        let mut ended = None;
        wait_until(&format!("{option} fifo ends at SIGTERM"), || {
            ended = child.try_wait().expect("our child");
            ended.is_some()
        });
        assert!(!place.file("ran").exists(), "{option}: {ended:?}");
    }
}

/// A place with things to stumble over.
fn place_with_obstacles() -> Place {
    let place = Place::new();
    fs::create_dir(place.file("directory")).expect("a directory");
    place.write("file", "precious\n");
    place.write("other", "precious, too\n");
    symlink("nowhere/at/all", place.file("dangling")).expect("a link");
    symlink("fresh", place.file("to-fresh")).expect("a link");
    place
}

/// Whether a message names a file as it was given or, as for the log directory, by its whole path.
fn is_named(line: &str, name: &str) -> bool {
    line.contains(&format!("'{name}'")) || line.contains(&format!("/{name}'"))
}

/// "125 | childminder itself could not do what was asked ...; the job was not started". "Bad
/// usage: one line on stderr saying what and why ...; the job is not started; nothing is created."
#[test]
fn a_file_that_cannot_be_opened_costs_nothing() {
    let missing = "no such file or directory";
    let not_a_directory = "not a directory";
    let is_a_directory = "is a directory";
    let cases: [(&[&str], &str, &str); 19] = [
        (&["-i", "missing"], "missing", missing),
        (&["-i", "file/in"], "file/in", not_a_directory),
        (&["-o", "new", "-i", "missing"], "missing", missing),
        (&["-o", "missing/out"], "missing/out", missing),
        (&["-o", "log/out"], "log/out", missing),
        (&["-o", "directory"], "directory", is_a_directory),
        (&["-o", "dangling"], "dangling", missing),
        (&["-o", "new/"], "new/", is_a_directory),
        (&["-o", "file/out"], "file/out", not_a_directory),
        (&["-o", "new", "-e", "missing/err"], "missing/err", missing),
        (&["-o", "file", "-e", "directory"], "directory", is_a_directory),
        (&["-o", "new", "-e", "new", "-i", "missing"], "missing", missing),
        (&["-o", "new", "-e", "new2", "--child-directory", "missing"], "missing", missing),
        (&["-o", "new", "--child-directory", "file"], "file", not_a_directory),
        (&["-w", "missing", "-o", "new"], "missing", missing),
        (&["-w", "file", "-o", "new"], "file", not_a_directory),
        (&["-o", "new", "-e", "file", "-l", "other"], "other", not_a_directory),
        (&["-o", "file", "-e", "new", "-l", "other/log"], "other/log", not_a_directory),
        (&["-o", "new", "-e", "other", "-l", "/proc/childminder"], "/proc/childminder", missing),
    ];
    for (options, name, reason) in cases {
        for append in [&[][..], &["--append"]] {
            let place = place_with_obstacles();
            let words = options.iter().chain(append).chain(&["touch", "ran"]);
            let line = place.refused(place.childminder(words));
            assert!(is_named(&line, name), "{options:?}: {line}");
            assert!(line.to_lowercase().contains(reason), "{options:?}: {line}");
        }
    }
}

/// "nothing is created": what was made through a link is taken back, and not the user's link.
#[test]
fn a_link_to_what_does_not_exist_survives_a_failure() {
    for words in [
        ["-o", "to-fresh", "-e", "missing/err"],
        ["-e", "to-fresh", "-l", "file"],
        ["-o", "new", "-l", "dangling"],
        ["-o", "new", "-l", "dangling/log"],
    ] {
        let place = place_with_obstacles();
        place.refused(place.childminder(words.iter().chain(&["touch", "ran"])));
    }
}

/// "one line on stderr saying what and why": whatever the file is called.
#[test]
fn a_file_with_an_awkward_name_is_told_on_one_line() {
    for option in ["-i", "-l", "-w", "--child-directory", "-o"] {
        let place = place_with_obstacles();
        let name = "file/new\nline \x1b[31m";
        let line = place.refused(place.childminder([option, name, "touch", "ran"]));
        assert!(line.contains("file/new\\nline"), "{option}: {line}");
    }
}

/// "nothing is created": files and directories without permission, which root has anyway.
#[test]
fn what_may_not_be_written_or_read_costs_nothing() {
    if is_root() {
        return skip("files and directories without permission", "root may write anywhere");
    }
    let cases: [(&[&str], &str); 5] = [
        (&["-o", "new", "-i", "closed"], "closed"),
        (&["-o", "closed"], "closed"),
        (&["-o", "new", "-e", "shut/err"], "shut/err"),
        (&["-o", "new", "-l", "shut"], "shut"),
        (&["-o", "new", "-e", "file", "-l", "shut/a/b"], "shut/a/b"),
    ];
    for (options, name) in cases {
        let place = place_with_obstacles();
        fs::create_dir(place.file("shut")).expect("a directory");
        place.write("closed", "secret");
        for (path, mode) in [("closed", 0), ("shut", 0o555)] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(place.file(path), permissions).expect("ours");
        }
        let line = place.refused(place.childminder(options.iter().chain(&["touch", "ran"])));
        assert!(is_named(&line, name), "{options:?}: {line}");
        assert!(line.contains("Permission denied"), "{options:?}: {line}");
    }
}

/// "126 / 127 | ... was not found": the files were in order, and so they are as for a job that ran.
#[test]
fn the_files_of_a_job_that_was_not_found_are_emptied_like_a_shell_does() {
    let place = Place::new();
    place.write("out", "old\n");
    let done = place.run(["-o", "out", "./missing"]);
    assert_eq!((done.code(), place.text("out").as_str()), (127, ""), "{done:?}");
}

/// "Every new option also reads CHILDMINDER_<OPTION> from the environment"
#[test]
fn append_and_child_directory_can_be_set_by_the_environment() {
    let appended = |value: &str| {
        let place = Place::new();
        place.write("out", "old\n");
        fs::create_dir(place.file("sub")).expect("a directory");
        let mut command: Command = place.childminder(["-o", "out", "pwd"]);
        command.env("CHILDMINDER_APPEND", value).env("CHILDMINDER_CHILD_DIRECTORY", "sub");
        let done = place.run_command(command);
        assert_eq!(done.code(), 0, "CHILDMINDER_APPEND={value}: {done:?}");
        assert!(place.text("out").ends_with("/sub\n"), "{}", place.text("out"));
        place.text("out").starts_with("old\n")
    };
    for value in ["1", "true", "yes", "on"] {
        assert!(appended(value), "{value}");
    }
    for value in ["0", "false", "no", "off"] {
        assert!(!appended(value), "{value}");
    }
}
