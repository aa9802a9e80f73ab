//! `--textfile-directory`: the file that node_exporter reads, and the memory of a job that runs again
//! and again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::peers::{Daemon, get, promtool, tool, value};
use crate::support::{Place, is_root, program, troubles};

fn writing(place: &Place, options: &[&str], job: &str) -> Command {
    let mut command = place.childminder(["--textfile-directory", "prom", "--name", "nightly"]);
    command.args(options).args(["sh", "-c", job]);
    command
}

fn directory(place: &Place) {
    fs::create_dir(place.file("prom")).expect("a directory");
}

const FILE: &str = "prom/childminder-nightly.prom";

/// "Each run adds its counts to those that are there." "A failure does not erase the last success."
#[test]
fn runs_add_up_in_the_file() {
    let place = Place::new();
    directory(&place);
    for (job, status) in [("exit 0", 0), ("exit 3", 3)] {
        let done = place.run_command(writing(&place, &["-o", "out", "--append"], job));
        assert_eq!(done.status.code(), Some(status), "{done:?}");
        assert!(troubles(&done).is_empty(), "{done:?}");
    }
    let text = place.text(FILE);
    let runs = |outcome| value(&text, "childminder_runs_total", &[outcome, "job_name=\"nightly\""]);
    assert_eq!((runs("\"success\""), runs("\"failure\"")), (Some(1.0), Some(1.0)), "{text}");
    assert_eq!(value(&text, "childminder_attempt_duration_seconds_count", &[]), Some(2.0));
    assert_eq!(value(&text, "childminder_run_last_exit_code", &[]), Some(3.0));
    let succeeded = value(&text, "childminder_run_last_success_timestamp_seconds", &[]);
    let completed = value(&text, "childminder_run_last_completion_timestamp_seconds", &[]);
    assert!(succeeded.zip(completed).is_some_and(|(one, other)| one < other), "{text}");
    let mode = fs::metadata(place.file(FILE)).expect("a file").permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "node_exporter is another user");
    let names: Vec<_> = fs::read_dir(place.file("prom")).expect("ours").collect();
    assert_eq!(names.len(), 1, "nothing else is left: {names:?}");
}

/// node_exporter is another user: the umask of the job's owner does not matter, chmod(1) does.
#[test]
fn others_may_read_the_file_whatever_the_umask() {
    let place = Place::new();
    directory(&place);
    let run = |log: &str| {
        let mut command = place.command("sh");
        command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(program());
        command.args(["--textfile-directory", "prom", "--name", "nightly", "-l", log, "true"]);
        let done = place.run_command(command);
        assert!(done.status.success() && troubles(&done).is_empty(), "{done:?}");
        fs::metadata(place.file(FILE)).expect("a file").permissions().mode() & 0o7777
    };
    assert_eq!(run("log1"), 0o644);
    fs::set_permissions(place.file(FILE), fs::Permissions::from_mode(0o640)).expect("ours");
    assert_eq!(run("log2"), 0o640);
}

#[test]
fn a_label_that_is_given_twice_is_refused() {
    let place = Place::new();
    directory(&place);
    let labels = ["--metric-label", "a=1", "--metric-label", "a=2"];
    let done = place.run_command(writing(&place, &labels, ": > ran"));
    assert_eq!(done.status.code(), Some(125), "{done:?}");
    assert!(done.stderr.contains("--metric-label: the label 'a' is given twice"), "{done:?}");
    assert!(!place.file("ran").exists() && !place.file(FILE).exists());
    let mut command = writing(&place, &[], ": > ran");
    command.env("CHILDMINDER_METRIC_LABEL", "a=1,a=2");
    assert_eq!(place.run_command(command).status.code(), Some(125));
}

/// "Concurrent runs of one job lose nothing."
#[test]
fn twenty_runs_at_once_lose_nothing() {
    let place = Place::new();
    directory(&place);
    let job = ": > ready$$; until [ -e go ]; do sleep 0.02; done; exit 3";
    let runs: Vec<_> = (0..20)
        .map(|number| {
            let log = format!("log{number}");
            place.start_command(writing(&place, &["-l", &log], job))
        })
        .collect();
    crate::support::wait_until("all run", || {
        let entries = fs::read_dir(place.path()).expect("ours");
        let is_ready = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().starts_with("ready")
        };
        entries.map(is_ready).filter(|is_ready| *is_ready).count() == 20
    });
    place.write("go", "");
    for run in runs {
        let done = run.end();
        assert_eq!(done.status.code(), Some(3), "{done:?}");
        assert!(troubles(&done).is_empty(), "{done:?}");
    }
    let text = place.text(FILE);
    assert_eq!(value(&text, "childminder_runs_total", &["failure"]), Some(20.0), "{text}");
    assert_eq!(value(&text, "childminder_exits_total", &["exit_code=\"3\""]), Some(20.0));
    assert_eq!(value(&text, "childminder_attempt_duration_seconds_count", &[]), Some(20.0));
}

#[test]
fn a_directory_that_cannot_be_written_is_warned_of_and_no_more() {
    let place = Place::new();
    directory(&place);
    fs::set_permissions(place.file("prom"), fs::Permissions::from_mode(0o555)).expect("ours");
    // The mode does not hold for root, the filesystem does.
    let read_only = if is_root() { "/proc/self" } else { "prom" };
    for directory in [read_only, "missing", "/dev/null"] {
        let run = Place::new();
        let directory = place.path().join(directory);
        let mut command = run.childminder(["--textfile-directory"]);
        command.arg(&directory).args(["sh", "-c", "exit 3"]);
        let done = run.run_command(command);
        assert_eq!(done.code(), 3, "{done:?}");
        let said = troubles(&done);
        assert_eq!(said.len(), 1, "{done:?}");
        let line = format!("childminder: no metrics written to '{}': ", directory.display());
        assert!(said[0].starts_with(&line) && said[0].ends_with("; the job goes on"), "{said:?}");
    }
}

/// What is not a number of ours goes; what is stays.
#[test]
fn what_is_in_the_way_of_the_file_is_replaced_as_a_whole() {
    let place = Place::new();
    directory(&place);
    place.write(
        FILE,
        "nonsense\n\u{fffd} {} 5\nchildminder_restarts_total{job_name=\"nightly\"} 4\n",
    );
    let done = place.run_command(writing(&place, &[], ":"));
    assert!(done.code() == 0 && troubles(&done).is_empty(), "{done:?}");
    let text = place.text(FILE);
    assert!(!text.contains("nonsense"), "{text}");
    assert_eq!(value(&text, "childminder_restarts_total", &[]), Some(4.0), "{text}");
}

/// promtool and Debian's node_exporter read the file, of one job and of two.
#[test]
fn node_exporter_and_promtool_accept_the_file() {
    let place = Place::new();
    directory(&place);
    let labels = ["--metric-label", "team=red \"and\" blue\\", "--metric-label", "zone=b"];
    place.run_command(writing(&place, &[&labels[..], &["-l", "log1"]].concat(), "exit 3"));
    let mut other = place.childminder(["--textfile-directory", "prom", "--name", "other job"]);
    other.args(["-l", "log2", "-f", "0.01", "string"]);
    assert_eq!(place.run_command(other).status.code(), Some(0));
    let text = place.text(FILE);
    assert!(text.contains(r#"team="red \"and\" blue\\""#), "{text}");
    if let Some((is_well, said)) = promtool(&place, &["check", "metrics"], &text) {
        assert!(is_well && said.is_empty(), "{said}\n{text}");
    }
    let Some(exporter) = tool("prometheus-node-exporter") else { return };
    let mut command = place.command(exporter);
    command.args(["--collector.disable-defaults", "--collector.textfile"]);
    command.arg(format!("--collector.textfile.directory={}", place.file("prom").display()));
    command.arg("--web.listen-address=127.0.0.1:0");
    let mut exporter = Daemon::start(&place, command);
    let address = exporter.address();
    let page = get(&address, "/metrics");
    assert_eq!(value(&page, "node_textfile_scrape_error", &[]), Some(0.0), "{}", exporter.says());
    let failed = value(&page, "childminder_runs_total", &["nightly", "failure", "zone=\"b\""]);
    assert_eq!(failed, Some(1.0), "{page}");
    assert_eq!(value(&page, "childminder_runs_total", &["other job", "success"]), Some(1.0));
    // Whatever is written in a file is there: each series of ours, with its value.
    let missing = text.lines().filter(|line| line.starts_with("childminder_")).filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        !page.contains(name)
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "{missing:?}");
}
