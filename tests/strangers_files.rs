//! SECURITY.md, "Another user of the host": files that somebody else planted under a name that we use
//! are not followed, not waited for and not read without end; each attack as two ordinary users.

mod support;
#[path = "support/users.rs"]
mod users;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use support::{Done, troubles, wait_until};
use users::{ATTACKER, Users, VICTIM};

/// More than childminder needs by far, and less than a device without end gives.
const MEMORY: &str = "--as=1500000000";

/// Runs childminder as the victim, who may not take much memory.
fn run(users: &Users, words: &[&str]) -> Done {
    run_with(users, words, |_| {})
}

fn run_with(users: &Users, words: &[&str], change: impl FnOnce(&mut Command)) -> Done {
    let program = users.place.file("bin/childminder").display().to_string();
    let mut command = users.victim("prlimit", &[&[MEMORY, program.as_str()], words].concat());
    change(&mut command);
    users.place.run_command(command)
}

/// The job is as it was: its status and its output.
#[track_caller]
fn job_is_well(done: &Done) {
    assert_eq!((done.code(), done.stdout.as_str()), (3, "out\n"), "{done:?}");
}

const JOB: [&str; 3] = ["sh", "-c", "echo out; exit 3"];

/// Each way to make a name dangerous to whoever reads it.
const TRAPS: [(&str, &str); 4] = [
    ("a FIFO", "mkfifo NAME; chmod 666 NAME"),
    ("a link to a device without end", "ln -s /dev/zero NAME"),
    ("a link to a private file", "ln -s ../victim/precious NAME"),
    ("a huge file", "truncate -s 1T NAME; chmod 666 NAME"),
];

fn plant(users: &Users, trap: &str, name: &str) {
    users.attack(&trap.replace("NAME", name));
}

#[test]
fn the_file_for_node_exporter_is_a_trap() {
    for (what, trap) in TRAPS {
        let Some(users) = Users::new("the file for node_exporter") else { return };
        let precious = users.private("precious", "precious");
        let name = "childminder-nightly.prom";
        plant(&users, trap, name);
        let words = ["-l", "stderr", "--name", "nightly", "--textfile-directory", "."];
        let done = run(&users, &[&words[..], &JOB].concat());
        job_is_well(&done);
        assert!(users.is_file(&users.shared(name)), "{what} is replaced by a file: {done:?}");
        let text = fs::read_to_string(users.shared(name)).expect("the file");
        assert!(text.contains("childminder_runs_total"), "{what}: {text}");
        assert_eq!(fs::read_to_string(precious).expect("still there"), "precious", "{what}");
    }
}

/// Who feeds the FIFO would otherwise fill our memory.
#[test]
fn a_fifo_that_is_fed_is_not_read() {
    let Some(users) = Users::new("a FIFO that is fed") else { return };
    users.attack("mkfifo childminder-nightly.prom jobs.json");
    let feed = "exec yes 1<> $0";
    let mut feeders = Vec::new();
    for name in ["childminder-nightly.prom", "jobs.json"] {
        let mut command = users.attacker(feed);
        command.arg(name);
        feeders.push(users.place.start_command(command));
    }
    let words = ["-l", "stderr", "--name", "nightly", "--textfile-directory", "."];
    let more = ["--web.listen-address", "127.0.0.1:0", "--web.file-sd", "jobs.json"];
    let done = run(&users, &[&words[..], &more, &JOB].concat());
    job_is_well(&done);
    let line = "jobs.json: it is not a regular file";
    assert!(troubles(&done).iter().any(|said| said.contains(line)), "{done:?}");
    assert!(users.is_file(&users.shared("childminder-nightly.prom")));
}

/// Runs childminder as the victim under a pid that the attacker learns before it starts.
fn run_after(users: &Users, words: &str, attack: impl FnOnce(u32)) -> Done {
    let script = format!(
        "echo $$ > pid.tmp; mv pid.tmp pid; until [ -e go ]; do sleep 0.02; done; exec {} {words}",
        users.place.file("bin/childminder").display()
    );
    let running = users.place.start_command(users.victim("sh", &["-c", &script]));
    wait_until("the pid is known", || users.shared("pid").exists());
    let pid = fs::read_to_string(users.shared("pid")).expect("read");
    attack(pid.trim().parse().expect("a pid"));
    users.attack(": > go");
    running.end_without_log()
}

/// The name of the temporary file could be guessed once: FILE.PID.
#[test]
fn names_that_can_be_guessed_are_not_used() {
    let Some(users) = Users::new("temporary names") else { return };
    let precious = users.private("precious", "precious");
    let words = "-l stderr --name nightly --textfile-directory . sh -c 'echo out; exit 3'";
    let done = run_after(&users, words, |pid| {
        users.attack(&format!("ln -s ../victim/precious childminder-nightly.prom.{pid}"));
    });
    job_is_well(&done);
    assert_eq!(fs::read_to_string(precious).expect("still there"), "precious");
    assert!(users.is_file(&users.shared("childminder-nightly.prom")));
}

#[test]
fn the_file_of_targets_is_a_trap() {
    for (what, trap) in TRAPS {
        let Some(users) = Users::new("--web.file-sd") else { return };
        // An empty file would be taken for one of targets.
        let precious = users.private("precious", "");
        for name in ["jobs.json", "other.json.lock"] {
            plant(&users, trap, name);
        }
        for name in ["jobs.json", "other.json"] {
            let words = ["-l", "stderr", "--web.listen-address", "127.0.0.1:0", "--web.file-sd"];
            let done = run(&users, &[&words[..], &[name], &JOB].concat());
            job_is_well(&done);
            let line = format!("{name}: it is ");
            let is_told = troubles(&done).iter().any(|said| said.contains(&line));
            // A lock that is a huge file is a file.
            let is_harmless = what == "a huge file" && name == "other.json";
            assert!(is_told != is_harmless, "{what}: {name}: {done:?}");
        }
        assert_eq!(fs::read_to_string(precious).expect("still there"), "", "{what}");
    }
}

#[test]
fn certificates_and_the_web_configuration_are_traps() {
    for (what, trap) in TRAPS.iter().chain(&[("a device", "ln -s /dev/full NAME")]) {
        let Some(users) = Users::new("certificates") else { return };
        users.private("precious", "tls_server_config:\n");
        plant(&users, trap, "planted");
        let listen = ["-l", "stderr", "--web.listen-address", "127.0.0.1:0"];
        let done = run(&users, &[&listen[..], &["--web.config.file", "planted"], &JOB].concat());
        job_is_well(&done);
        let line = "metrics are not served: --web.config.file planted: planted: it is ";
        assert!(troubles(&done).iter().any(|said| said.contains(line)), "{what}: {done:?}");
        for (protocol, path) in [
            ("http/protobuf", "planted"),
            ("grpc", "planted"),
            ("grpc", "/dev/full"),
            ("http/protobuf", "/dev/zero"),
        ] {
            let words = ["-l", "stderr", "--otel-flush-timeout", "2"];
            let done = run_with(&users, &[&words[..], &JOB].concat(), |command| {
                command
                    .env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:9")
                    .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
                    .env("OTEL_EXPORTER_OTLP_CERTIFICATE", path);
            });
            job_is_well(&done);
            let line = format!("'{path}': it is ");
            assert!(troubles(&done).iter().any(|said| said.contains(&line)), "{what}: {done:?}");
        }
    }
}

/// A certificate that is not a PEM and has no end is said to be so, also in the web configuration.
#[test]
fn a_certificate_of_the_web_configuration_is_a_device() {
    let Some(users) = Users::new("a certificate of the web configuration") else { return };
    users.private("web.yml", "tls_server_config:\n  cert_file: /dev/zero\n  key_file: /dev/full\n");
    let listen = ["-l", "stderr", "--web.listen-address", "127.0.0.1:0"];
    let config = ["--web.config.file", "../victim/web.yml"];
    let done = run(&users, &[&listen[..], &config, &JOB].concat());
    job_is_well(&done);
    let line = "/dev/zero: it is not a regular file";
    assert!(troubles(&done).iter().any(|said| said.contains(line)), "{done:?}");
}

/// The quarantine is named after the log, and that after the pid.
#[test]
fn the_quarantine_is_a_link_or_a_directory_of_somebody_else() {
    for trap in ["mkdir -m 777 mine; ln -s mine NAME", "mkdir -m 777 mine NAME"] {
        let Some(users) = Users::new("the quarantine") else { return };
        let work = users.directory("work", 0o755, VICTIM);
        let job = "sleep 0.1; exec 4> made; echo partial >&4; sleep 1; \
            [ $CHILDMINDER_ATTEMPT = 2 ] && exit 0; exit 9";
        let options = "-l . --clean-written --restart-on failure --backoff 0..0 --sample 50ms \
            --child-directory ../work";
        let host = nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned();
        let mut stem = String::new();
        let done = run_after(&users, &format!("{options} sh -c '{job}'"), |pid| {
            stem = format!("sh-{host}-{pid:06}");
            users.attack(&trap.replace("NAME", &format!("{stem}.quarantine")));
        });
        assert_eq!(done.code(), 0, "{done:?}");
        assert_eq!(fs::read_dir(users.shared("mine")).expect("his").count(), 0);
        assert!(work.join("made").exists());
        let log = fs::read_to_string(users.shared(&format!("{stem}.txt"))).expect("a log");
        assert!(log.contains("made' stays where it is: it "), "{log}");
    }
}

/// Whoever may rename the job's directory puts a link in its place: the path now leads to a file of the
/// victim that has nothing to do with the job.
#[test]
fn the_directory_of_the_job_becomes_a_link() {
    let Some(users) = Users::new("the directory of the job") else { return };
    users.directory("shared/work", 0o777, VICTIM);
    users.directory("victim/precious", 0o700, VICTIM);
    // The job stands for the attacker, who acts between its last write and its end; the precious file
    // is as new as that of the job.
    let job = "[ $CHILDMINDER_ATTEMPT = 2 ] && exit 0
        exec 4> $0/made; echo partial >&4; echo precious > ../victim/precious/made; sleep 1
        exec 4>&-; mv $0 away; ln -s ../victim/precious $0; exit 9";
    let options = ["-l", "../victim", "--clean-written", "--restart-on", "failure"];
    let more = ["--backoff", "0..0", "--sample", "50ms", "--child-directory", "."];
    let job = ["sh", "-c", job, "work"];
    let done = run(&users, &[&options[..], &more, &job].concat());
    assert_eq!(done.code(), 0, "{done:?}");
    let precious = users.place.file("victim/precious/made");
    assert!(precious.exists(), "{done:?}");
    assert!(users.shared("away/made").exists(), "{done:?}");
}

#[test]
fn the_log_directory_is_a_link_of_somebody_else() {
    let Some(users) = Users::new("the log directory") else { return };
    let precious = users.directory("victim/secrets", 0o700, VICTIM);
    users.attack("ln -s ../victim/secrets log");
    // The default directory: the job is not started, or has its log elsewhere.
    let done = run(&users, &JOB);
    assert!(matches!(done.code(), 3 | 125), "{done:?}");
    assert!(done.stderr.contains("it is a symbolic link that is not trusted"), "{done:?}");
    assert_eq!(fs::read_dir(&precious).expect("ours").count(), 0);
    // One that was asked for: nothing is started.
    let done = run(&users, &[&["-l", "log/"], &JOB[..]].concat());
    assert_eq!((done.code(), done.stdout.as_str()), (125, ""), "{done:?}");
    // A link of one's own is one's own affair.
    fs::remove_file(users.shared("log")).expect("root may");
    let mut own = users.victim("ln", &["-s", "../victim/secrets", "log"]);
    assert!(own.status().expect("ln starts").success());
    job_is_well(&run(&users, &JOB));
    assert_eq!(fs::read_dir(&precious).expect("ours").count(), 1);
}

/// Whoever can write the record or the directory of the log chooses what `why` opens.
#[test]
fn the_log_that_why_reads_is_a_trap() {
    for (what, trap) in TRAPS {
        let Some(users) = Users::new("the log of why") else { return };
        users.private("precious", "20261122T165222.650415 [+0.000436](node7): stderr: precious\n");
        let done = run(&users, &[&["-l", ".", "--central-log", "record.csv"], &JOB[..]].concat());
        job_is_well(&done);
        let logs = fs::read_dir(users.place.file("shared")).expect("ours").flatten();
        let is_log = |name: &String| name.starts_with("sh-") && name.ends_with(".txt");
        let mut names = logs.filter_map(|entry| entry.file_name().into_string().ok());
        let log = names.find(is_log).expect("a log");
        users.attack(&format!("rm -f {log}; {}", trap.replace("NAME", &log)));
        let mut why = users.victim("nanny", &["why"]);
        why.env("CHILDMINDER_CENTRAL_LOG", users.shared("record.csv"));
        let done = users.place.run_command(why);
        assert_eq!(done.code(), 0, "{what}: {done:?}");
        assert!(done.stdout.contains("exit_nonzero"), "{what}: {done:?}");
        assert!(!done.stdout.contains("stderr: precious"), "{what}: {done:?}");
    }
}

/// What we make belongs to us, and nobody else can write to it.
#[test]
fn what_is_made_is_ours() {
    let Some(users) = Users::new("what is made") else { return };
    // Another user's file with every permission there is.
    users.attack("echo '[]' > jobs.json; chmod 6777 jobs.json");
    let words = ["-l", "stderr", "--web.listen-address", "127.0.0.1:0", "--web.file-sd"];
    let done = run(
        &users,
        &[
            &words[..],
            &["jobs.json"],
            &["sh", "-c", "stat -c '%u %a' jobs.json; echo out >&2; exit 3"],
        ]
        .concat(),
    );
    assert_eq!(done.code(), 3, "{done:?}");
    let meta = fs::symlink_metadata(users.shared("jobs.json")).expect("it is there");
    assert_ne!(meta.uid(), ATTACKER, "{done:?}");
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (VICTIM, 0o644), "{done:?}");
    std::io::stderr().flush().expect("stderr");
}
