//! Two ordinary users in one directory: the victim, and another one who was there first.

#![allow(dead_code, reason = "each test file uses its part of it")]
#![allow(missing_docs, reason = "the names say it")]
#![allow(
    clippy::allow_attributes,
    reason = "an expectation would fail in the files that use it all"
)]
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Place, is_root, nanny, program, skip};

pub const VICTIM: u32 = 64_001;
pub const ATTACKER: u32 = 64_002;

/// A place with a directory that both may write to. It has no sticky bit, so that nothing in it is
/// guarded by fs.protected_symlinks, _fifos or _regular, whatever they are set to.
pub struct Users {
    pub place: Place,
}

impl Users {
    /// `None` where nobody may become another user.
    pub fn new(what: &str) -> Option<Users> {
        if !is_root() {
            skip(what, "only root can become two users");
            return None;
        }
        let users = Users { place: Place::new() };
        users.open_to("", 0o755, 0);
        users.directory("bin", 0o755, 0);
        users.directory("shared", 0o777, 0);
        users.directory("victim", 0o700, VICTIM);
        for program in [program(), nanny()] {
            let copied = users.place.command("cp").arg(&program).arg("bin/").status();
            assert!(copied.expect("cp starts").success());
        }
        let reached = users.victim("true", &[]).status();
        if !reached.is_ok_and(|status| status.success()) {
            skip(what, "setpriv cannot become another user");
            return None;
        }
        Some(users)
    }

    fn open_to(&self, name: &str, mode: u32, owner: u32) {
        let path = self.place.file(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).expect("root may");
    }

    pub fn directory(&self, name: &str, mode: u32, owner: u32) -> PathBuf {
        fs::create_dir(self.place.file(name)).expect("a directory");
        self.open_to(name, mode, owner);
        self.place.file(name)
    }

    /// A file of the victim that nobody else may read or write.
    pub fn private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.place.write(&format!("victim/{name}"), text);
        self.open_to(&format!("victim/{name}"), 0o600, VICTIM);
        path
    }

    pub fn shared(&self, name: &str) -> PathBuf {
        self.place.file("shared").join(name)
    }

    /// A command of the victim, in the shared directory and with a home of his own.
    pub fn victim(&self, program: &str, words: &[&str]) -> Command {
        let mut command = self.command(VICTIM, program, words);
        command.env("HOME", self.place.file("victim"));
        command
    }

    /// Runs a script of the attacker in the shared directory.
    #[track_caller]
    pub fn attack(&self, script: &str) {
        let output = self.command(ATTACKER, "sh", &["-euc", script]).output().expect("it starts");
        assert!(output.status.success(), "the attack itself failed: {output:?}");
    }

    /// A process of the attacker that stays.
    pub fn attacker(&self, script: &str) -> Command {
        self.command(ATTACKER, "sh", &["-euc", script])
    }

    fn command(&self, uid: u32, program: &str, words: &[&str]) -> Command {
        let mut command = self.place.command("setpriv");
        let program = match program {
            "childminder" | "nanny" => self.place.file("bin").join(program),
            other => PathBuf::from(other),
        };
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={uid}"))
            .arg("--clear-groups")
            .arg(program)
            .args(words)
            .env("HOME", "/nonexistent")
            .env_remove("XDG_STATE_HOME")
            .current_dir(self.place.file("shared"));
        command
    }

    /// What a path is, without following it.
    pub fn is_file(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
    }
}
