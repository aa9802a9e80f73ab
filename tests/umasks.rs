//! What is made under any umask is of use to whoever made it, and to nobody whom the umask or the
//! directory keeps out. As an ordinary user: root may open everything.

#![allow(missing_docs, reason = "the names say it")]

mod support;
#[path = "support/users.rs"]
mod users;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use support::{Done, Place, is_root};
use users::{Users, VICTIM};

/// An ordinary user: ourselves, or the victim if we are root.
struct User {
    place: Place,
    users: Option<Users>,
}

impl User {
    fn new(what: &str) -> Option<User> {
        match is_root() {
            false => Some(User { place: Place::new(), users: None }),
            true => {
                let users = Users::new(what)?;
                users.directory("own", 0o755, VICTIM);
                Some(User { place: Place::new(), users: Some(users) })
            }
        }
    }

    fn shell(&self, script: &str) -> Command {
        let Some(users) = &self.users else { return self.place.shell(script) };
        let bin = users.place.file("bin");
        let mut command = users.victim("sh", &["-c", script]);
        command.env("CM", bin.join("childminder")).env("NANNY", bin.join("nanny"));
        command.current_dir(self.directory());
        command
    }

    fn directory(&self) -> std::path::PathBuf {
        self.users.as_ref().map_or(self.place.path().into(), |users| users.place.file("own"))
    }

    fn run(&self, script: &str) -> Done {
        Done::without_log(self.shell(script).output().expect("sh starts"))
    }
}

/// The permissions of all that is below a directory, by its path in it.
fn modes(directory: &Path) -> BTreeMap<String, u32> {
    let mut modes = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("there");
            let name = path.strip_prefix(directory).expect("below").display().to_string();
            modes.insert(name, meta.mode() & 0o7777);
            if meta.is_dir() {
                open.push(path);
            }
        }
    }
    modes
}

/// A job that fails once and leaves a file behind, which is moved aside.
const FLAKY: &str = "sleep 0.1; exec 4> made; echo partial >&4; sleep 0.5; \
    [ $CHILDMINDER_ATTEMPT = 2 ] && exit 0; exit 9";

#[test]
fn all_that_is_made_serves_its_owner_under_any_umask() {
    for umask in [0o000, 0o137, 0o777] {
        let Some(user) = User::new("odd umasks") else { return };
        // Two rows that find the record as the first run left it; a record that lacks columns, so that
        // the rows go beside it; and a rerun with its locks.
        let script = format!(
            "printf 'run_id,event,time\\r\\n' > narrow.csv; umask {umask:04o}
            for i in 1 2; do
                \"$CM\" -l a/b --central-log all.csv sh -c 'exit 3'
                \"$CM\" -l stderr --central-log narrow.csv sh -c 'exit 3'
            done
            \"$CM\" -l . --clean-written --restart-on failure --backoff 0..0 --sample 50ms sh -c '{FLAKY}'
            \"$CM\" -l stderr --name n --textfile-directory . --web.listen-address 127.0.0.1:0 \
                --web.file-sd jobs.json true
            for record in all.csv narrow.csv; do
                \"$NANNY\" --central-log $record runs
                \"$NANNY\" --central-log $record rerun
            done"
        );
        let done = user.run(&script);
        for word in ["ermission denied", "not recorded", "skipped", "cannot"] {
            assert!(!done.stderr.contains(word), "{umask:o}: {word}: {done:?}");
        }
        assert_eq!(done.stdout.matches("1 job run again").count(), 2, "{umask:o}: {done:?}");
        assert_eq!(done.stdout.matches("exit_nonzero").count(), 4, "{umask:o}: {done:?}");
        let made = modes(&user.directory());
        let mode = |name: &str| *made.get(name).unwrap_or_else(|| panic!("no {name}: {made:?}"));
        // As the umask says, and always of use to the owner.
        for (name, asked, owner) in [
            ("a", 0o777, 0o700),
            ("a/b", 0o777, 0o700),
            ("all.csv", 0o666, 0o600),
            ("narrow.csv.d/schema-3.csv", 0o666, 0o600),
        ] {
            assert_eq!(mode(name), asked & !umask | owner, "{umask:o}: {name}");
        }
        let moved: Vec<_> = made.keys().filter(|name| name.contains("quarantine/")).collect();
        assert_eq!(moved.len(), 2, "attempt-1 and the file: {umask:o}: {done:?}, {made:?}");
        // For the same people as the directory, or for Prometheus, whatever the umask.
        assert_eq!(mode("narrow.csv.d"), 0o755, "{umask:o}");
        for name in ["jobs.json", "jobs.json.lock", "childminder-n.prom"] {
            assert_eq!(mode(name), 0o644, "{umask:o}: {name}");
        }
        // The test directory is removed by whoever runs the tests.
        user.run("chmod -R u+rwx .");
    }
}

/// `FILE.d` is for the same people as the directory of the record, and for nobody else.
#[test]
fn the_folder_beside_a_record_is_for_the_people_of_its_directory() {
    for (mode, umask) in [(0o755, "000"), (0o777, "077"), (0o1777, "022"), (0o700, "000")] {
        let Some(user) = User::new("the folder beside a record") else { return };
        let directory = user.directory();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("ours");
        let done = user.run(&format!(
            "printf 'run_id,event,time\\r\\n' > narrow.csv; umask {umask}
            \"$CM\" -l stderr --central-log narrow.csv true"
        ));
        assert_eq!(done.code(), 0, "{done:?}");
        assert_eq!(modes(&directory)["narrow.csv.d"], mode, "{umask}: {done:?}");
    }
}

/// The group of a directory is another one than the victim's own, which others may be in, too.
#[test]
fn another_group_gets_no_part_in_the_folder() {
    if !is_root() {
        return support::skip("another group", "only root can give a directory to a group");
    }
    let Some(user) = User::new("another group") else { return };
    let directory = user.directory();
    std::os::unix::fs::chown(&directory, None, Some(64_007)).expect("root may");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o775)).expect("ours");
    let done = user.run(
        "printf 'run_id,event,time\\r\\n' > narrow.csv
        \"$CM\" -l stderr --central-log narrow.csv true",
    );
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(modes(&directory)["narrow.csv.d"], 0o705, "{done:?}");
}
