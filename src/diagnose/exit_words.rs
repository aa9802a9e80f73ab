//! What an exit status may mean by convention. It is a hint, never a proof: the program chose it.

use crate::model::signal::Signal;
use crate::model::verdict::{Evidence, Quality};

/// Returns what a status of 124 and more usually means; nothing for the others, which mean
/// whatever their program says.
pub(super) fn hint(status: u8) -> Option<Evidence> {
    let fact = match status {
        124 => "the job itself returned it, as timeout(1) does at its limit".to_owned(),
        125 => "the job itself returned it, as wrappers do for a failure of their own".to_owned(),
        126 => {
            "the job itself returned it, as shells do for a command they cannot execute".to_owned()
        }
        127 => "the job itself returned it, as shells do for a command they cannot find".to_owned(),
        129..=192 => {
            let signal = Signal::new(i32::from(status) - 128)?;
            format!(
                "the job itself returned it; shells do so when a command of theirs dies of \
                 {signal}; no signal ended the job itself"
            )
        }
        _ => return None,
    };
    Some(Evidence { fact, source: "sh(1)", quality: Quality::Inferred })
}
