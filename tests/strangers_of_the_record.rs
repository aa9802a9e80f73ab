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
use nix::fcntl::{FcntlArg, fcntl};
use support::{Done, Place, is_root, nanny, program, skip, wait_until};

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
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).expect("a read lock");
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$CM\" --central-log r.csv true & done; wait";
    let begun = Instant::now();
    let done = Done::without_log(place.shell(script).output().expect("sh starts"));
    assert!(done.stderr.is_empty(), "{done:?}");
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
