//! What tables of runs have in common.

use crate::nanny::source::index::Rank;
use crate::nanny::view::table::TableColumn as Heading;
use crate::nanny::view::words;

/// When a run began; on a narrow terminal without the year and the seconds.
pub const BEGAN: Heading = Heading::words("BEGAN (UTC)", 4).or_shorter(words::short_moment);

/// The command, cut to what the terminal has room for.
pub const COMMAND: Heading = Heading::words("COMMAND", 5).cut_to(8);

/// Returns how a run of that rank is coloured.
pub fn colour(rank: Rank) -> Option<&'static str> {
    match rank {
        Rank::Failed => Some("31"),
        Rank::Lost => Some("33"),
        Rank::Started => Some("36"),
        Rank::Succeeded => None,
    }
}
