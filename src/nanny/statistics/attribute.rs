//! What runs may have in common, and which runs are compared for it.

use crate::nanny::statistics::run_table::RunTable;

pub const HOUR: u32 = 3600;
pub const DAY: u32 = 86_400;

/// What runs may have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    Host,
    /// A boot of a host.
    Boot,
    /// A command on a host.
    HostAndCommand,
    Queue,
    Batch,
    Directory,
    /// What was asked for or allowed.
    Memory,
    Hour,
    Weekday,
    User,
    Command,
}

impl Attribute {
    pub const ALL: [Attribute; 11] = [
        Attribute::Host,
        Attribute::Boot,
        Attribute::HostAndCommand,
        Attribute::Queue,
        Attribute::Batch,
        Attribute::Directory,
        Attribute::Memory,
        Attribute::Hour,
        Attribute::Weekday,
        Attribute::User,
        Attribute::Command,
    ];

    /// Returns the word of its JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Attribute::Host => "host",
            Attribute::Boot => "boot",
            Attribute::HostAndCommand => "host_and_command",
            Attribute::Queue => "queue",
            Attribute::Batch => "batch",
            Attribute::Directory => "directory",
            Attribute::Memory => "memory",
            Attribute::Hour => "hour",
            Attribute::Weekday => "weekday",
            Attribute::User => "user",
            Attribute::Command => "command",
        }
    }

    /// Returns what runs must share to be compared.
    #[must_use]
    pub fn stratum(self) -> StratumKind {
        match self {
            Attribute::Hour | Attribute::Weekday => StratumKind::UserAndCommand,
            Attribute::User => StratumKind::CommandAndDay,
            Attribute::Command => StratumKind::Day,
            _ => StratumKind::UserCommandAndHour,
        }
    }

    /// Returns the value of a run.
    #[must_use]
    pub fn value(self, table: &RunTable, run: usize) -> u64 {
        let (kind, spot) = (table.kind(run), table.spot(run));
        u64::from(match self {
            Attribute::Host => spot.host,
            Attribute::Boot => spot.boot,
            Attribute::HostAndCommand => {
                return u64::from(spot.host) << 32 | u64::from(kind.command);
            }
            Attribute::Queue => kind.queue,
            Attribute::Batch => kind.batch,
            Attribute::Directory => kind.directory,
            Attribute::Memory => kind.memory,
            Attribute::Hour => table.time(run) % DAY / HOUR,
            // 1970 began on a Thursday; Monday is 0.
            Attribute::Weekday => (table.time(run) / DAY + 3) % 7,
            Attribute::User => kind.user,
            Attribute::Command => kind.command,
        })
    }

    /// Returns whether a value is a number of `RunTable::names`; of `HostAndCommand` both halves are.
    #[must_use]
    pub fn is_named(self) -> bool {
        !matches!(self, Attribute::Hour | Attribute::Weekday)
    }
}

/// Runs that are compared share this, and runs of a cluster count as one observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StratumKind {
    /// Clusters are user, command and day.
    UserCommandAndHour,
    /// Clusters are days.
    UserAndCommand,
    /// It is its own cluster.
    CommandAndDay,
    /// It is its own cluster.
    Day,
}
