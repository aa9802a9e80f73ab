//! Whose a row is. A record may be shared with others, who can write into it what they like: what is
//! run again must be proven to come from the user that it is run as.
//!
//! The proof is the seal of the row (`record::seal`). A user who can have no key has rows without a
//! seal; then a row counts as his if nobody else, besides root, can write to the file that it is in.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::model::shared::lock;
use crate::record::key::{self, NoKey};
use crate::record::read::RawRow;
use crate::record::row::{Column, Row};
use crate::record::seal::Key;
use crate::sys::account;

/// Knows for which rows there is a proof.
pub struct Proof {
    uid: u32,
    /// Whether rows of all users are wanted.
    is_for_all: bool,
    keys: Mutex<HashMap<u32, Result<Key, NoKey>>>,
}

/// Why a row is not proven to be its user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It has no seal.
    Unsealed,
    /// The seal does not fit.
    Broken,
    /// There is no key to look at the seal with, and others can write to the file.
    NoKey(String),
}

impl Doubt {
    /// Returns it in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Doubt::Unsealed => {
                "nothing proves who recorded it: it has no seal (see nanny(1))".to_owned()
            }
            Doubt::Broken => {
                "its seal is not of this user's key, or the row was changed".to_owned()
            }
            Doubt::NoKey(why) => format!(
                "nothing proves who recorded it: others can write to the file, and there is no key \
                 ({why})"
            ),
        }
    }
}

impl Proof {
    /// For rows of our own user or, on behalf of root, of all.
    #[must_use]
    pub fn new(is_for_all: bool) -> Proof {
        let uid = nix::unistd::geteuid().as_raw();
        Proof { uid, is_for_all, keys: Mutex::default() }
    }

    /// Returns whether it is for rows of all users.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.is_for_all
    }

    /// Returns the user whose row it claims to be; `None` if it is not one of those that are asked about.
    #[must_use]
    pub fn claimed(&self, row: &RawRow<'_>) -> Option<u32> {
        let uid: u32 = std::str::from_utf8(row.raw(Column::Uid)).ok()?.parse().ok()?;
        (self.is_for_all || uid == self.uid).then_some(uid)
    }

    /// Looks whether a row is that user's.
    ///
    /// # Errors
    ///
    /// Why nothing proves it.
    pub fn check(&self, row: &RawRow<'_>, uid: u32) -> Result<(), Doubt> {
        match self.key(uid) {
            Ok(key) => {
                let row: Row = row.row().ok_or(Doubt::Broken)?;
                match (row.get(Column::Seal).is_empty(), key.proves(&row)) {
                    (true, _) => Err(Doubt::Unsealed),
                    (_, true) => Ok(()),
                    (_, false) => Err(Doubt::Broken),
                }
            }
            Err(NoKey::NoPlace(_)) if !self.is_for_all && row.only_writer() == Some(uid) => Ok(()),
            Err(why) => Err(Doubt::NoKey(why.to_string())),
        }
    }

    /// Returns whether a row is proven to be of the user that it names, one of those asked about.
    #[must_use]
    pub fn proves(&self, row: &RawRow<'_>) -> bool {
        self.claimed(row).is_some_and(|uid| self.check(row, uid).is_ok())
    }

    fn key(&self, uid: u32) -> Result<Key, NoKey> {
        lock(&self.keys).entry(uid).or_insert_with(|| self.read(uid)).clone()
    }

    fn read(&self, uid: u32) -> Result<Key, NoKey> {
        if uid == self.uid {
            let directory = key::directory(&account::state_directories(), uid)?;
            // Where a key can be made, rows without a seal are not ours.
            return key::read_or_make(&directory, uid);
        }
        let account = account::of(uid);
        let account =
            account.ok_or_else(|| NoKey::Unfit(format!("/etc/passwd has no uid {uid}")))?;
        key::read(&account.state_directory(), uid)
    }
}
