//! Users as /etc/passwd and /etc/group have them (passwd(5), group(5)), and where our own one keeps
//! what he does not share.
//!
//! Users that only a directory service knows are not found: asking one could take for ever.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::sys::environment;

/// Where our state is below a home directory.
const OF_A_HOME: &str = ".local/state/childminder";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    /// The group that it logs in with.
    pub gid: u32,
    /// All groups, for setgroups(2).
    pub groups: Vec<u32>,
    pub home: PathBuf,
    pub shell: String,
}

/// Returns the user of that number.
#[must_use]
pub fn of(uid: u32) -> Option<Account> {
    let text = |path| fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned());
    account(&text("/etc/passwd").ok()?, &text("/etc/group").unwrap_or_default(), uid)
}

fn account(passwd: &str, group: &str, uid: u32) -> Option<Account> {
    let mut account = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, gid, _, home, shell] = fields[..] else { return None };
        let gid: u32 = gid.parse().ok()?;
        let is_it = number.parse() == Ok(uid) && !name.is_empty();
        let (name, shell) = (name.to_owned(), shell.to_owned());
        let (groups, home) = (vec![gid], PathBuf::from(home));
        is_it.then_some(Account { name, uid, gid, groups, home, shell })
    })?;
    let others = group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else { return None };
        let is_member = members.split(',').any(|member| member == account.name);
        let gid: u32 = gid.parse().ok()?;
        (is_member && gid != account.gid).then_some(gid)
    });
    account.groups.extend(others.collect::<Vec<_>>());
    Some(account)
}

impl Account {
    /// Returns where the user's own state is if its environment says nothing else.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.home.join(OF_A_HOME)
    }
}

/// What a child that borrows our memory needs to become a user: nothing to be allocated.
#[derive(Clone, Copy)]
pub(super) struct ChildCredentials {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: *const libc::gid_t,
    groups_length: usize,
}

impl ChildCredentials {
    pub(super) fn of(account: &Account) -> ChildCredentials {
        let Account { uid, gid, groups, .. } = account;
        let (groups, groups_length) = (groups.as_ptr(), groups.len());
        ChildCredentials { uid: *uid, gid: *gid, groups, groups_length }
    }

    /// Gives up our user permanently: groups first, while we may. The bare system calls change the calling
    /// process alone; the functions of the C library would change the threads whose memory it shares.
    pub(super) fn assume(self) -> bool {
        let ChildCredentials { uid, gid, groups, groups_length } = self;
        // SAFETY: the list is the account's, which outlives us, and as long as the length says.
        if unsafe { libc::syscall(libc::SYS_setgroups, groups_length, groups) } != 0 {
            return false;
        }
        // SAFETY: plain integers.
        if unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) } != 0 {
            return false;
        }
        // SAFETY: plain integers.
        if unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) } != 0 {
            return false;
        }
        // SAFETY: plain integers. Nobody comes back from there.
        uid == 0 || unsafe { libc::syscall(libc::SYS_setresuid, 0, 0, 0) } != 0
    }
}

/// Returns where the state of our own user may be, best first: below $XDG_STATE_HOME, below $HOME, and
/// below the home directory of /etc/passwd.
#[must_use]
pub fn state_directories() -> Vec<PathBuf> {
    let value = |name: &[u8]| {
        let mut values = environment::entries().filter_map(|entry| entry.strip_prefix(name));
        let value = values.next().filter(|value| value.first() == Some(&b'/'))?;
        Some(PathBuf::from(OsString::from_vec(value.to_vec())))
    };
    let uid = nix::unistd::geteuid().as_raw();
    let homes = [value(b"HOME="), of(uid).map(|account| account.home)];
    // A home that is not there is not made.
    let homes = homes.into_iter().flatten().filter(|home| home.is_dir());
    let state = value(b"XDG_STATE_HOME=").map(|state| state.join("childminder"));
    state.into_iter().chain(homes.map(|home| home.join(OF_A_HOME))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_all_the_groups_that_name_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\n+::::::\n\
                      mia:x:1001:100:Mia:/home/mia:/bin/zsh\n";
        let group = "users:x:100:mia\nvideo:x:44:max,mia\nmias:x:45:mia2\nbroken:x\n";
        let mia = account(passwd, group, 1001).expect("she is there");
        let home = PathBuf::from("/home/mia");
        let (name, shell) = ("mia".to_owned(), "/bin/zsh".to_owned());
        assert_eq!(mia, Account { name, uid: 1001, gid: 100, groups: vec![100, 44], home, shell });
        assert_eq!(account(passwd, "", 0).map(|root| root.groups), Some(vec![0]));
        assert_eq!(account(passwd, group, 7), None);
    }
}
