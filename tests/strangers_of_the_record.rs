//! DESIGN, section 10: "`rerun` executes only rows that are proven to be the invoker's own". A victim
//! and an attacker, two ordinary users, and the real programs.

#![allow(missing_docs, reason = "the names say it")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and read the clock")]

mod support;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use childminder::internals::{Column, Header, Row};
use support::{Done, Place, is_root, lock, nanny, program, skip, wait_until};

const VICTIM: u32 = 64_001;
const ATTACKER: u32 = 64_002;

/// Two users beside each other: `place` with a directory `shared` that both can write to.
struct Street {
    place: Place,
}

impl Street {
    /// `None`, and loudly, where there can be no other users.
    fn new(what: &str) -> Option<Street> {
        if !is_root() {
            skip(what, "only root can be two other users");
            return None;
        }
        let place = Place::new();
        for (name, mode, owner) in [
            ("", 0o755, 0),
            ("bin", 0o755, 0),
            // Not sticky: there fs.protected_symlinks and its kin protect nobody.
            ("shared", 0o777, 0),
            ("home-64001", 0o700, VICTIM),
            ("home-64002", 0o700, ATTACKER),
        ] {
            let path = place.file(name);
            fs::create_dir_all(&path).expect("made");
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            chown(&path, Some(owner), Some(owner)).expect("root may");
        }
        for file in [program(), nanny()] {
            let copied = Command::new("cp").arg(file).arg(place.file("bin")).status();
            assert!(copied.expect("cp starts").success());
        }
        let street = Street { place };
        let reached = street.run(VICTIM, "\"$CM\" --version >/dev/null && touch made && rm made");
        if reached.code() != 0 {
            skip(what, "another user cannot reach the programs");
            return None;
        }
        Some(street)
    }

    /// A script of sh in the shared directory, as that user.
    fn script(&self, uid: u32, script: &str) -> Command {
        let id = uid.to_string();
        let mut command = self.place.command("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c"]);
        command.arg(format!("umask 0; {script}")).current_dir(self.place.file("shared"));
        command.env_remove("XDG_STATE_HOME").env("HOME", self.place.file(&format!("home-{uid}")));
        let bin = self.place.file("bin");
        command.env("CM", bin.join("childminder")).env("NANNY", bin.join("nanny"));
        command.env("CHILDMINDER_CENTRAL_LOG", "r.csv").env("CHILDMINDER_LOG_DIRECTORY", "stderr");
        command
    }

    fn run(&self, uid: u32, script: &str) -> Done {
        Done::without_log(self.script(uid, script).output().expect("setpriv starts"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.file("shared").join(name)
    }

    /// The rows of a file.
    fn rows(&self, name: &str) -> Vec<Row> {
        let text = fs::read(self.file(name)).expect("a record");
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let header = Header::parse(lines.next().expect("a header")).expect("a header");
        lines.map(|line| Row::parse(&header, line).expect("a row")).collect()
    }

    /// Writes rows as the attacker, into a file of his own or at the end of another one.
    fn plant(&self, name: &str, rows: &[Row]) {
        let path = self.file(name);
        let mut text = fs::read(&path).unwrap_or_else(|_| Header::ours().to_csv_line());
        rows.iter().for_each(|row| text.extend(row.to_csv_line()));
        fs::write(self.place.file("planted"), text).expect("written");
        fs::set_permissions(self.place.file("planted"), Permissions::from_mode(0o644))
            .expect("ours");
        let from = self.place.file("planted");
        let copy = format!("mkdir -p $(dirname {name}); cat {} > {name}", from.display());
        assert_eq!(self.run(ATTACKER, &copy).code(), 0, "the attacker can write it");
    }

    /// What the victim's rerun would run, and what it says.
    fn reruns(&self, options: &str) -> Done {
        self.run(VICTIM, &format!("\"$NANNY\" rerun {options}"))
    }
}

fn last(rows: &[Row], event: &str) -> Row {
    let is_it = |row: &&Row| row.text(Column::Event) == event;
    rows.iter().rev().find(is_it).expect("a row").clone()
}

/// The victim's end row with another command and run.
fn evil(rows: &[Row], run: &str) -> Row {
    let mut row = last(rows, "end");
    row.set(Column::RunId, run);
    row.set(Column::Command, "touch pwned");
    row
}

const ONE: &str = "01900000-0000-7000-8000-000000000001";
const TWO: &str = "01900000-0000-7000-8000-000000000002";

#[test]
fn what_another_user_wrote_is_never_run() {
    let Some(street) = Street::new("rows of another user") else { return };
    assert_eq!(street.run(VICTIM, "\"$CM\" sh -c 'echo x >> ran; exit 3'").code(), 3);
    let rows = street.rows("r.csv");
    assert!(rows.iter().all(|row| !row.get(Column::Seal).is_empty()), "each row is sealed");
    // In the shared file, with the victim's own seal and without any; and in a forced FILE.d.
    let mut unsealed = evil(&rows, TWO);
    unsealed.set(Column::Seal, "");
    unsealed.set(Column::Command, "touch pwned too");
    street.plant("r.csv", &[evil(&rows, ONE), unsealed.clone()]);
    street.plant("r.csv.d/evil.csv", &[evil(&rows, ONE)]);
    let dry = street.reruns("--dry-run");
    assert_eq!(dry.stdout.lines().count(), 1, "{dry:?}");
    assert!(dry.stdout.contains("umask 0000 && childminder "), "{dry:?}");
    assert!(dry.stderr.contains("its seal is not of this user's key"), "{dry:?}");
    assert_eq!(dry.code(), 1, "what is refused is told by the status: {dry:?}");
    let done = street.reruns("");
    assert!(done.stdout.starts_with("1 job run again: 0 succeeded, 1 failed"), "{done:?}");
    assert!(!street.file("pwned").exists());
    assert_eq!(fs::read_to_string(street.file("ran")).expect("it ran"), "x\nx\n");
    // Nor is it by whoever marks lost runs: a start of a process that is gone.
    let mut start = last(&rows, "start");
    start.set(Column::RunId, "01900000-0000-7000-8000-000000000003");
    start.set(Column::Command, "touch pwned");
    start.set(Column::Pid, "4000000");
    start.set(Column::ChildPid, "4000001");
    street.plant("r.csv", &[start]);
    let collected = street.run(VICTIM, "rm -rf r.csv.d; \"$NANNY\" collect");
    assert!(collected.stdout.contains("1 of them lost"), "{collected:?}");
    let dry = street.reruns("--dry-run");
    assert!(!dry.stdout.contains("pwned"), "{dry:?}");
}

#[test]
fn root_runs_roots_rows_and_others_as_who_they_are() {
    let Some(street) = Street::new("rerun --as-recorded-user") else { return };
    let id = "id -u; id -g; id -G; umask; pwd; echo $HOME $USER $LOGNAME; echo ${SECRET-none}";
    let job = format!("sh -c '{{ {id}; }} > told; exit 3'");
    assert_eq!(street.run(VICTIM, &format!(": > r.csv; umask 027; \"$CM\" {job}")).code(), 3);
    street.plant("r.csv", &[evil(&street.rows("r.csv"), ONE)]);
    let shared = street.place.file("shared");
    let rerun = |options: &[&str]| {
        let mut command = street.place.command(street.place.file("bin/nanny"));
        command.current_dir(&shared).env("SECRET", "root's");
        command.args(["rerun", "--central-log", "r.csv"]).args(options);
        Done::without_log(command.output().expect("nanny starts"))
    };
    let own = rerun(&[]);
    assert_eq!(own.stdout, "nothing to run again\n", "{own:?}");
    assert!(own.stderr.contains("of other users"), "{own:?}");
    // The victim's key is looked for in the home that /etc/passwd names.
    let theirs = rerun(&["--as-recorded-user"]);
    assert!(theirs.stderr.contains("/etc/passwd has no uid 64001"), "{theirs:?}");
    assert_eq!(theirs.stdout, "nothing that can be to run again\n", "{theirs:?}");
    let passwd = format!(
        "root:x:0:0::/root:/bin/sh\nvictim:x:{VICTIM}:{VICTIM}::{}:/bin/sh\n",
        street.place.file("home-64001").display()
    );
    street.place.write("passwd", &passwd);
    street.place.write("group", &format!("victims:x:{VICTIM}:\nextra:x:64009:x,victim\n"));
    fs::remove_file(street.file("told")).expect("it ran");
    let script =
        "mount --bind ../passwd /etc/passwd && mount --bind ../group /etc/group || exit 200
        exec ../bin/nanny rerun --central-log r.csv --as-recorded-user";
    let mut command = street.place.command("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(&shared).env("SECRET", "root's");
    let done = Done::without_log(command.output().expect("unshare starts"));
    if done.code() == 200 || done.stderr.contains("unshare: ") {
        return skip("rerun --as-recorded-user", "no mount namespace may be made here");
    }
    assert!(done.stdout.starts_with("1 job run again: 0 succeeded, 1 failed"), "{done:?}");
    let told = fs::read_to_string(street.file("told")).expect("it ran");
    let home = street.place.file("home-64001");
    let expected = format!(
        "{VICTIM}\n{VICTIM}\n{VICTIM} 64009\n0027\n{}\n{} victim victim\nnone\n",
        shared.display(),
        home.display()
    );
    assert_eq!(told, expected);
    assert!(!street.file("pwned").exists());
    let not_root = street.reruns("--as-recorded-user");
    assert_eq!(not_root.code(), 125, "{not_root:?}");
    assert!(not_root.stderr.contains("only root"), "{not_root:?}");
}

#[test]
fn a_planted_success_or_start_hides_no_failure() {
    let Some(street) = Street::new("planted successes") else { return };
    assert_eq!(street.run(VICTIM, "\"$CM\" sh -c 'exit 3'").code(), 3);
    let rows = street.rows("r.csv");
    let mut success = last(&rows, "end");
    success.set(Column::RunId, ONE);
    success.set(Column::Verdict, "success");
    success.set(Column::Time, "2099-01-01T00:00:00.000000Z");
    // The same run, with an end that says more than the real one.
    let mut same = success.clone();
    same.set(Column::RunId, rows[0].get(Column::RunId));
    let mut start = last(&rows, "start");
    start.set(Column::RunId, TWO);
    start.show(Column::Pid, std::process::id());
    let mut elsewhere = start.clone();
    elsewhere.set(Column::Host, "elsewhere");
    street.plant("r.csv", &[success, same, start, elsewhere]);
    let dry = street.reruns("--dry-run");
    assert_eq!(dry.stdout.lines().count(), 1, "{dry:?}");
    assert!(dry.stderr.contains("is said to have succeeded"), "{dry:?}");
}

#[test]
fn without_a_home_only_files_of_ones_own_are_believed() {
    let Some(street) = Street::new("a user without a home") else { return };
    let homeless = "export HOME=/nonexistent";
    assert_eq!(street.run(VICTIM, &format!("{homeless}; \"$CM\" sh -c 'exit 3'")).code(), 3);
    assert!(street.rows("r.csv").iter().all(|row| row.get(Column::Seal).is_empty()));
    let dry = || street.run(VICTIM, &format!("{homeless}; \"$NANNY\" rerun --dry-run"));
    let refused = dry();
    assert_eq!(refused.stdout, "", "others can write to it: {refused:?}");
    assert!(refused.stderr.contains("there is no key (uid 64001 has no home"), "{refused:?}");
    // Also where only its directory is open to others.
    assert_eq!(street.run(VICTIM, "chmod 600 r.csv").code(), 0);
    assert_eq!(dry().stdout, "");
    fs::set_permissions(street.place.file("shared"), Permissions::from_mode(0o755)).expect("ours");
    assert_eq!(dry().stdout.lines().count(), 1);
    // With a home, rows without a seal prove nothing.
    let sealed = street.reruns("--dry-run");
    assert_eq!(sealed.stdout, "", "{sealed:?}");
    assert!(sealed.stderr.contains("it has no seal"), "{sealed:?}");
}

#[test]
fn spooled_rows_are_merged_only_for_their_owner() {
    let Some(street) = Street::new("spooled rows of another user") else { return };
    assert_eq!(street.run(VICTIM, "\"$CM\" sh -c 'exit 3'").code(), 3);
    let rows = street.rows("r.csv");
    // The victim's own FILE.d, in which the attacker can make files.
    assert_eq!(street.run(VICTIM, "mkdir -m 777 r.csv.d").code(), 0);
    street.plant("r.csv.d/forged.csv", &[evil(&rows, ONE)]);
    let mut honest = evil(&rows, TWO);
    honest.show(Column::Uid, ATTACKER);
    street.plant("r.csv.d/honest.csv", &[honest]);
    assert_eq!(
        street.run(ATTACKER, "mkfifo r.csv.d/a.csv; ln -s /dev/zero r.csv.d/b.csv").code(),
        0
    );
    let collected = street.run(VICTIM, "\"$NANNY\" collect");
    assert_eq!(collected.code(), 1, "{collected:?}");
    assert!(
        collected
            .stderr
            .contains("forged.csv: it belongs to uid 64002 and has a row of uid '64001'"),
        "{collected:?}"
    );
    assert!(collected.stderr.contains("a.csv: it is not a regular file"), "{collected:?}");
    assert!(collected.stderr.contains("b.csv: it is a symbolic link"), "{collected:?}");
    let merged = street.rows("r.csv");
    assert_eq!(merged.len(), rows.len() + 1, "the honest one");
    assert!(!street.reruns("--dry-run").stdout.contains("pwned"));
    // A FILE.d that is a link leads nobody to other files.
    let private = street.place.file("home-64001/private.csv.d");
    fs::rename(street.file("r.csv.d"), &private).expect("moved");
    symlink(&private, street.file("r.csv.d")).expect("linked");
    fs::remove_file(private.join("forged.csv")).expect("there");
    fs::write(private.join("mine.csv"), Header::ours().to_csv_line()).expect("written");
    chown(private.join("mine.csv"), Some(VICTIM), Some(VICTIM)).expect("root may");
    assert_eq!(street.run(VICTIM, "\"$CM\" true").code(), 0);
    assert!(private.join("mine.csv").exists(), "what is elsewhere is left alone");
}

/// Whoever may only read the record can hold a read lock on it.
#[test]
fn a_reader_does_not_hold_up_writers() {
    let place = Place::new();
    assert_eq!(place.run(["--central-log", "r.csv", "true"]).code(), 0);
    let file = File::open(place.file("r.csv")).expect("a record");
    lock(&file, libc::F_RDLCK);
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$CM\" --central-log r.csv true & done; wait";
    let begun = Instant::now();
    let done = Done::without_log(place.shell(script).output().expect("sh starts"));
    // Of processes of others that were killed meanwhile a verdict may speak.
    assert!(!done.stderr.contains("central log"), "{done:?}");
    let lasted = begun.elapsed();
    assert_eq!(place.text("r.csv").lines().count(), 1 + 3 * 9, "{lasted:?}");
    assert!(!place.file("r.csv.d").exists(), "no row had to go elsewhere");
    let meta = fs::metadata(place.file("r.csv.lock")).expect("the second lock");
    assert_eq!(meta.mode() & 0o077, 0, "whoever can open it can hold it");
    drop(file);
    assert_eq!(place.run_command(place.childminder(["--central-log", "r.csv", "true"])).code(), 0);
    assert_eq!(place.text("r.csv").lines().count(), 1 + 3 * 10);
    // Nobody waited for a lock, which would have taken two seconds each.
    assert!(lasted < Duration::from_secs(30), "{lasted:?}");
}

/// "what cannot be seen is not taken for gone"
#[test]
fn a_running_job_that_proc_hides_is_unknown() {
    let Some(street) = Street::new("hidepid") else { return };
    let job = "echo > ready; until test -e go; do sleep 0.05; done";
    let mut command = street.script(VICTIM, &format!("exec \"$CM\" sh -c '{job}'"));
    let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("it starts");
    wait_until("it runs", || street.file("ready").exists());
    wait_until("its start is recorded", || {
        fs::read_to_string(street.file("r.csv")).is_ok_and(|text| text.contains(",start,"))
    });
    let script = format!(
        "mount -t proc -o hidepid=2 proc /proc || exit 200
         exec setpriv --reuid {ATTACKER} --regid {ATTACKER} --clear-groups ../bin/nanny \
         --central-log r.csv runs --json"
    );
    let mut look = street.place.command("unshare");
    look.args(["-m", "sh", "-c", &script]).current_dir(street.place.file("shared"));
    let seen = Done::without_log(look.output().expect("unshare starts"));
    fs::write(street.file("go"), "").expect("written");
    assert!(child.wait().expect("our child").success());
    if seen.code() == 200 || seen.stderr.contains("unshare: ") {
        return skip("hidepid", "no /proc of its own may be mounted here");
    }
    assert!(seen.stdout.contains("\"state\":\"unknown\""), "{seen:?}");
}

/// A job that runs until there is a file `go`, and fails.
const WAITS: &str = "echo x >> ran; until test -e go; do sleep 0.02; done; exit 3";

/// A place with a record in which that job failed, and which runs on now.
fn failed_once() -> Place {
    let place = Place::new();
    place.write("go", "");
    let done = place.run(["-l", "stderr", "--central-log", "r.csv", "sh", "-c", WAITS]);
    assert_eq!(done.code(), 3, "{done:?}");
    fs::remove_file(place.file("go")).expect("ours");
    place
}

fn runs_of(place: &Place) -> usize {
    place.text("ran").lines().count()
}

fn rerun(place: &Place, record: &str) -> Done {
    let mut command = place.nanny(["rerun", "--central-log", record]);
    Done::without_log(command.output().expect("nanny starts"))
}

#[test]
fn a_record_of_two_names_has_one_lock_and_one_rerun() {
    let place = failed_once();
    symlink("r.csv", place.file("symbolic.csv")).expect("linked");
    fs::hard_link(place.file("r.csv"), place.file("hard.csv")).expect("linked");
    let names = ["r.csv", "symbolic.csv", "hard.csv"];
    for (turn, first) in names.into_iter().enumerate() {
        let going_on = place.start_command(place.nanny(["rerun", "--central-log", first]));
        wait_until("the job runs", || runs_of(&place) == 2 + turn);
        for second in names {
            let done = rerun(&place, second);
            assert_eq!(done.code(), 125, "{first}, {second}: {done:?}");
            let why = "another rerun";
            assert!(done.stderr.contains(why), "{first}, {second}: {done:?}");
        }
        place.write("go", "");
        let done = going_on.end_without_log();
        assert!(done.stdout.starts_with("1 job run again"), "{first}: {done:?}");
        fs::remove_file(place.file("go")).expect("ours");
        assert_eq!(runs_of(&place), 2 + turn, "{first}");
    }
}

/// Takes the lock of a record as a writer does.
fn write_lock(place: &Place, name: &str) -> File {
    let file = File::options().read(true).write(true).open(place.file(name)).expect("a record");
    lock(&file, libc::F_WRLCK);
    file
}

#[test]
fn a_start_that_waits_beside_the_record_is_seen_by_rerun() {
    let place = failed_once();
    let lock = write_lock(&place, "r.csv");
    let running = place.start(["-l", "stderr", "--central-log", "r.csv", "sh", "-c", WAITS]);
    let waits = || fs::read_dir(place.file("r.csv.d")).into_iter().flatten().flatten().next();
    wait_until("its start waits beside the record", || {
        waits().is_some_and(|file| {
            fs::read_to_string(file.path()).is_ok_and(|text| text.contains(",start,"))
        })
    });
    drop(lock);
    let again = rerun(&place, "r.csv");
    assert_eq!(runs_of(&place), 2, "{again:?}");
    assert!(again.stderr.contains("it still runs"), "{again:?}");
    assert_eq!(again.stdout, "nothing that can be to run again\n", "{again:?}");
    place.write("go", "");
    assert_eq!(running.end_without_log().code(), 3);
    let again = rerun(&place, "r.csv");
    assert!(again.stdout.starts_with("1 job run again"), "{again:?}");
}

/// Whoever can make files beside the record can make very many.
#[test]
fn files_that_others_put_beside_the_record_hide_none_that_wait() {
    let Some(street) = Street::new("many planted files") else { return };
    assert_eq!(street.run(VICTIM, "\"$CM\" sh -c 'exit 3'").code(), 3);
    // The victim's rows wait in the last file by name.
    assert_eq!(
        street.run(VICTIM, "mkdir -m 777 r.csv.d; chmod 644 r.csv; mv r.csv r.csv.d/z.csv").code(),
        0
    );
    let header = "run_id,event,time,uid\\nx,end,,64002\\n";
    let plant = format!("for i in $(seq 400); do printf '{header}' > r.csv.d/$i.csv; done");
    assert_eq!(street.run(ATTACKER, &plant).code(), 0);
    let few = "ulimit -n 200; \"$NANNY\"";
    let listed = street.run(VICTIM, &format!("{few} runs"));
    assert!(listed.stdout.contains("exit_nonzero"), "{listed:?}");
    assert_eq!(listed.stderr, "", "{listed:?}");
    let dry = street.run(VICTIM, &format!("{few} rerun --dry-run"));
    assert_eq!((dry.code(), dry.stdout.lines().count()), (0, 1), "{dry:?}");
    // A file without end is not read for hours, under whichever name.
    let endless = "for name in 1x schema-9; do
        echo run_id,event,time > r.csv.d/$name.csv; truncate -s 1T r.csv.d/$name.csv; done";
    assert_eq!(street.run(ATTACKER, endless).code(), 0);
    let listed = street.run(VICTIM, &format!("{few} runs"));
    assert!(listed.stdout.contains("exit_nonzero"), "{listed:?}");
    assert_eq!(listed.stderr.matches(": it is longer than ").count(), 2, "{listed:?}");
    let dry = street.run(VICTIM, &format!("{few} rerun --dry-run"));
    assert_eq!((dry.code(), dry.stdout.lines().count()), (0, 1), "{dry:?}");
    // Files that are not records do not fill a terminal.
    let spoil = "for i in $(seq 400); do echo > r.csv.d/$i.csv; done";
    assert_eq!(street.run(ATTACKER, spoil).code(), 0);
    let listed = street.run(VICTIM, &format!("{few} runs"));
    assert!(listed.stdout.contains("exit_nonzero"), "{listed:?}");
    assert!(listed.stderr.lines().count() < 30, "{listed:?}");
    assert!(listed.stderr.contains("skipped 382 more"), "{listed:?}");
}

/// What is in a file of the victim's own that cannot be read is not known: a job of it may be running.
#[test]
fn nothing_is_run_again_while_own_rows_cannot_be_read() {
    let Some(street) = Street::new("a file that cannot be read") else { return };
    assert_eq!(street.run(VICTIM, "\"$CM\" sh -c 'echo x >> ran; exit 3'").code(), 3);
    let hide = "mkdir -m 777 r.csv.d; cp r.csv r.csv.d/a.csv; chmod 0 r.csv.d/a.csv";
    assert_eq!(street.run(VICTIM, hide).code(), 0);
    let refused = street.reruns("");
    assert_eq!(refused.code(), 125, "{refused:?}");
    assert!(
        refused.stderr.contains("a.csv cannot be read, which may say what runs"),
        "{refused:?}"
    );
    assert_eq!(fs::read_to_string(street.file("ran")).expect("it ran"), "x\n");
    // Another user's says nothing about the victim's jobs.
    chown(street.file("r.csv.d/a.csv"), Some(ATTACKER), Some(ATTACKER)).expect("root may");
    assert!(street.reruns("").stdout.starts_with("1 job run again"));
}

/// The supervisor merges what others put beside the record; it takes neither much memory nor time.
#[test]
fn a_planted_file_of_many_rows_is_not_loaded() {
    let Some(street) = Street::new("a planted file of many rows") else { return };
    assert_eq!(street.run(VICTIM, "\"$CM\" true; mkdir -m 777 r.csv.d").code(), 0);
    // Each row is a few bytes in the file, and as many cells as a record has columns in memory.
    let rows = "(echo run_id,event,time,uid; yes ,,,64002 | head -c $bytes)";
    let plant =
        format!("for bytes in 900000 1800000 4000000; do {rows} > r.csv.d/$bytes.csv; done");
    assert_eq!(street.run(ATTACKER, &plant).code(), 0);
    // About twice what it takes without them.
    let limited = "prlimit --as=150000000 \"$CM\" sh -c 'exit 3'";
    let done = street.run(VICTIM, limited);
    assert_eq!(done.code(), 3, "{done:?}");
    assert!(!done.stderr.contains("not recorded"), "{done:?}");
    assert_eq!(street.rows("r.csv").len(), 6, "{done:?}");
}

/// As root sees all processes, anybody could pretend to be a run that is about to be recorded.
#[test]
fn a_process_of_another_user_holds_up_no_rerun() {
    let Some(street) = Street::new("a process that pretends to be a run") else { return };
    let root = |script: &str| {
        let mut command = street.place.shell(script);
        let bin = street.place.file("bin");
        command.env("CM", bin.join("childminder")).env("NANNY", bin.join("nanny"));
        command.env("CHILDMINDER_CENTRAL_LOG", "r.csv").env("CHILDMINDER_LOG_DIRECTORY", "stderr");
        command.current_dir(street.place.file("shared"));
        Done::without_log(command.output().expect("sh starts"))
    };
    assert_eq!(root("\"$CM\" sh -c 'exit 3'").code(), 3);
    // Its name is childminder, it has the record open, and its run is not in there.
    let pretend = format!(
        "cp /bin/sleep childminder; CHILDMINDER_RUN_ID={ONE} exec ./childminder 1000 < r.csv"
    );
    let running = street.place.start_command(street.script(ATTACKER, &pretend));
    let comm = format!("/proc/{}/comm", running.pid());
    wait_until("it is called childminder", || {
        fs::read_to_string(&comm).is_ok_and(|name| name == "childminder\n")
    });
    let done = root("\"$NANNY\" rerun");
    assert!(done.stdout.starts_with("1 job run again"), "{done:?}");
    drop(running);
}

/// In a directory where everybody may make files, a name may mean another user's file by now.
#[test]
fn what_another_user_put_in_the_place_of_the_job_is_not_run() {
    for (job, swap) in [
        ("cd work && exec \"$CM\" --central-log ../r.csv ./job", "mkdir work; cp evil work/job"),
        ("cp work/job job; exec \"$CM\" ./job", "rm job; cp evil job"),
        ("exec \"$CM\" --child-directory work ./job", "mkdir work; cp evil work/job"),
        ("exec \"$CM\" $PWD/work/job", "mkdir real; cp evil real/job; ln -s real work"),
    ] {
        let Some(street) = Street::new("a job that was exchanged") else { return };
        let make = "mkdir work; printf '#!/bin/sh\\nexit 3\\n' > work/job; chmod 755 work/job";
        assert_eq!(street.run(VICTIM, &format!("umask 022; {make}")).code(), 0);
        assert_eq!(street.run(VICTIM, job).code(), 3, "{job}");
        let again = street.reruns("");
        assert!(again.stdout.starts_with("1 job run again"), "{job}: {again:?}");
        street.run(VICTIM, "rm -rf work");
        let evil = "printf '#!/bin/sh\\ntouch ../pwned pwned\\n' > evil; chmod 755 evil";
        assert_eq!(street.run(ATTACKER, &format!("{evil}; {swap}")).code(), 0, "{swap}");
        let refused = street.reruns("");
        assert!(!street.file("pwned").exists(), "{job}: {refused:?}");
        assert!(refused.stderr.contains("by now it is another user's"), "{job}: {refused:?}");
        assert_eq!(refused.stdout, "nothing that can be to run again\n", "{job}: {refused:?}");
    }
}
