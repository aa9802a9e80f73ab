//! DESIGN, section 6: "Open files and files written, per process, with how (flags, position)", and
//! "`--clean-written`: before a restart, regular files that this attempt created ... are moved to
//! a quarantine folder beside the log; never deleted, never a file that existed before, each one
//! logged."

mod support;

use std::fs;
use std::path::PathBuf;

use support::{Done, Place};

/// Opens files in the ways that matter, waits until they were seen, and fails.
const JOB: &str = "\
    sleep 0.1; exec 3< in 4> new 5>> old 6> /dev/null 7> elsewhere/made; \
    echo partial >&4; echo more >&5; echo made >&7; \
    sleep 1; \
    [ $CHILDMINDER_ATTEMPT = 2 ] && exit 0; exit 9";

fn place() -> Place {
    let place = Place::new();
    place.write("in", "input\n");
    place.write("old", "precious\n");
    fs::create_dir(place.file("elsewhere")).expect("a directory");
    place
}

/// The quarantine folder of the only log.
fn quarantine(place: &Place) -> PathBuf {
    let logs = place.logs();
    let log = logs.iter().find(|path| path.extension().is_some_and(|one| one == "txt"));
    log.expect("a log").with_extension("quarantine")
}

fn run(place: &Place, options: &str) -> Done {
    let options = options.split(' ').filter(|word| !word.is_empty());
    place.run(options.chain(["--sample", "50ms", "sh", "-c", JOB]))
}

#[test]
fn files_are_told_with_how_they_were_used_and_by_whom() {
    let place = place();
    let done = run(&place, "--files");
    assert_eq!(done.code(), 9);
    let line = |name: &str| {
        let path = place.path().canonicalize().expect("a path").join(name);
        done.message(&format!("file {}: ", path.display())).to_owned()
    };
    assert!(line("in").contains(": read by process "));
    assert!(line("new").contains(": written by process "));
    assert!(line("new").ends_with("up to byte 8"), "{}", line("new"));
    assert!(line("old").contains(": written by process "));
    assert_eq!(done.count("file /dev/null"), 0);
    // Nobody asked for them.
    assert_eq!(run(&Place::new(), "").count("file /"), 0);
}

#[test]
fn what_the_failed_attempt_created_is_moved_aside_and_nothing_else() {
    let place = place();
    let options = "--clean-written --restart-on failure --backoff 0..0 -o out -e err";
    let done = run(&place, options);
    assert_eq!(done.code(), 0, "{done:?}");
    let aside = quarantine(&place).join("attempt-1");
    assert_eq!(fs::read_to_string(aside.join("new")).expect("moved"), "partial\n");
    assert_eq!(fs::read_to_string(aside.join("elsewhere/made")).expect("moved"), "made\n");
    let names: Vec<_> =
        fs::read_dir(&aside).expect("the folder").flatten().map(|one| one.file_name()).collect();
    assert_eq!(names.len(), 2, "only what was created: {names:?}");
    assert_eq!(place.text("old"), "precious\nmore\nmore\n", "what existed before stays");
    // The second attempt made them anew.
    assert_eq!(place.text("new"), "partial\n");
    assert_eq!(messages_of(&place, "moved aside: "), 2);
}

fn messages_of(place: &Place, words: &str) -> usize {
    let logs = place.logs();
    let log = logs.iter().find(|path| path.extension().is_some_and(|one| one == "txt"));
    let text = fs::read_to_string(log.expect("a log")).expect("the log");
    support::messages(&text).iter().filter(|line| line.contains(words)).count()
}

#[test]
fn only_the_working_directory_and_the_named_ones_are_cleaned() {
    let place = place();
    fs::create_dir(place.file("job")).expect("a directory");
    for name in ["in", "old"] {
        fs::write(place.file("job").join(name), "").expect("written");
    }
    std::os::unix::fs::symlink("../elsewhere", place.file("job/elsewhere")).expect("a link");
    let restart = "--clean-written --child-directory job --restart-on failure --backoff 0..0";
    let done = run(&place, restart);
    assert_eq!(done.code(), 0, "{done:?}");
    let aside = quarantine(&place).join("attempt-1");
    assert!(aside.join("new").exists() && !aside.join("made").exists());
    let place = Place::new();
    fs::create_dir_all(place.file("job")).expect("a directory");
    fs::create_dir_all(place.file("elsewhere")).expect("a directory");
    for name in ["in", "old"] {
        fs::write(place.file("job").join(name), "").expect("written");
    }
    std::os::unix::fs::symlink("../elsewhere", place.file("job/elsewhere")).expect("a link");
    let done = run(&place, &format!("{restart} --clean-within elsewhere"));
    assert_eq!(done.code(), 0, "{done:?}");
    let aside = quarantine(&place).join("attempt-1");
    assert!(aside.join("new").exists() && aside.join("made").exists());
}

#[test]
fn without_the_option_nothing_is_moved() {
    let place = place();
    let done = run(&place, "--restart-on failure --backoff 0..0");
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(!quarantine(&place).exists());
}

/// "never a file that existed before": nor the one that takes its place. A checkpoint that is written
/// beside the old one and renamed is the job's state.
#[test]
fn a_checkpoint_that_was_replaced_stays() {
    let place = place();
    for name in ["ckpt", "elsewhere/ckpt"] {
        place.write(name, "41\n");
    }
    let job = "sleep 0.1; exec 4> new 5> tmp 6> elsewhere/tmp; echo partial >&4; echo 42 >&5; \
         echo 42 >&6; mv tmp ckpt; mv elsewhere/tmp elsewhere/ckpt; sleep 1; \
         [ $CHILDMINDER_ATTEMPT = 2 ] && exit 0; exit 9";
    let options = "--sample 50ms --clean-written --restart-on failure --backoff 0..0";
    let done = place.run(options.split(' ').chain(["sh", "-c", job]));
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(messages_of(&place, "moved aside: "), 1, "{done:?}");
    assert!(quarantine(&place).join("attempt-1/new").exists(), "{done:?}");
    for name in ["ckpt", "elsewhere/ckpt"] {
        assert_eq!(place.text(name), "42\n", "{done:?}");
    }
}
