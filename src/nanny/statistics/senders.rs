//! Who ended runs, and many failures at once.

use std::collections::{HashMap, HashSet};

use crate::nanny::statistics::run_table::{Ending, RunTable};

/// The slots of a day in which deaths are counted, in seconds.
pub const SLOT: u32 = 600;

const DAY: u32 = 86_400;

/// A sender of signals that ended runs.
#[derive(Clone, Debug, PartialEq)]
pub struct KillingSender {
    pub sender: u32,
    pub bad: u64,
    pub hosts: u64,
    pub users: u64,
    pub days: u64,
    pub first: u32,
    pub last: u32,
    /// The slot of the day with the most, in seconds since midnight, and how many fell into it.
    pub slot: u32,
    pub in_slot: u64,
}

/// Many failures within one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureBurst {
    /// Seconds since 1970.
    pub begin: u32,
    pub bad: u64,
    pub hosts: u64,
    pub users: u64,
    /// How most of them ended, and how many did.
    pub ending: Ending,
    pub alike: u64,
}

/// A burst has at least this number of bad runs, hosts, and this number of times the usual.
const BURST_BAD: u64 = 5;
const BURST_HOSTS: u64 = 3;
const BURST_FACTOR: f64 = 10.0;

/// More of a burst than this is one user's command: a campaign.
const ONE_SHARE: f64 = 0.8;

#[derive(Default)]
struct SenderCount {
    bad: u64,
    hosts: HashSet<u32>,
    users: HashSet<u32>,
    days: HashSet<u32>,
    slots: HashMap<u32, u64>,
    span: Option<(u32, u32)>,
}

/// Returns the senders that are known, those that ended the most runs first.
#[must_use]
pub fn senders(table: &RunTable) -> Vec<KillingSender> {
    let mut counts: HashMap<u32, SenderCount> = HashMap::new();
    for run in 0..table.len() {
        let Some(Ending { sender, .. }) = table.ending(run) else { continue };
        if table.names.text(sender).is_empty() {
            continue;
        }
        let count = counts.entry(sender).or_default();
        let time = table.time(run);
        count.bad += 1;
        count.hosts.insert(table.spot(run).host);
        count.users.insert(table.kind(run).user);
        count.days.insert(time / DAY);
        *count.slots.entry(time % DAY / SLOT).or_default() += 1;
        let (first, last) = count.span.unwrap_or((time, time));
        count.span = Some((first.min(time), last.max(time)));
    }
    let sender = |(sender, count): (u32, SenderCount)| {
        let best =
            count.slots.iter().max_by_key(|(slot, count)| (**count, std::cmp::Reverse(**slot)));
        let (slot, in_slot) = best.map_or((0, 0), |(slot, count)| (*slot * SLOT, *count));
        let (first, last) = count.span.unwrap_or_default();
        KillingSender {
            sender,
            bad: count.bad,
            hosts: count.hosts.len() as u64,
            users: count.users.len() as u64,
            days: count.days.len() as u64,
            first,
            last,
            slot,
            in_slot,
        }
    };
    let mut senders: Vec<KillingSender> = counts.into_iter().map(sender).collect();
    senders.sort_by_key(|sender| (std::cmp::Reverse(sender.bad), sender.first));
    senders
}

#[derive(Default)]
struct SlotCount {
    bad: u64,
    hosts: HashSet<u32>,
    users: HashSet<u32>,
    endings: HashMap<Ending, u64>,
    commands: HashMap<(u32, u32), u64>,
}

/// Returns the bursts on several hosts that are not one user's command, the largest first.
#[must_use]
pub fn bursts(table: &RunTable) -> Vec<FailureBurst> {
    let mut slots: HashMap<u32, SlotCount> = HashMap::new();
    let (mut first, mut last) = (u32::MAX, 0);
    for run in 0..table.len() {
        let time = table.time(run);
        (first, last) = (first.min(time), last.max(time));
        let Some(ending) = table.ending(run) else { continue };
        let (kind, slot) = (table.kind(run), slots.entry(time / SLOT).or_default());
        slot.bad += 1;
        slot.hosts.insert(table.spot(run).host);
        slot.users.insert(kind.user);
        *slot.endings.entry(ending).or_default() += 1;
        *slot.commands.entry((kind.user, kind.command)).or_default() += 1;
    }
    let count = f64::from(last.saturating_sub(first) / SLOT + 1);
    let usual = table.bad() as f64 / count;
    let burst = |(slot, count): (u32, SlotCount)| {
        let hosts = count.hosts.len() as u64;
        let most = count.commands.values().copied().max().unwrap_or(0);
        let is_burst = count.bad >= BURST_BAD
            && hosts >= BURST_HOSTS
            && count.bad as f64 >= usual * BURST_FACTOR
            && (most as f64) < count.bad as f64 * ONE_SHARE;
        let common = count.endings.into_iter().max_by_key(|(ending, count)| (*count, ending.words));
        let (ending, alike) = common?;
        let users = count.users.len() as u64;
        is_burst.then_some(FailureBurst {
            begin: slot * SLOT,
            bad: count.bad,
            hosts,
            users,
            ending,
            alike,
        })
    };
    let mut bursts: Vec<FailureBurst> = slots.into_iter().filter_map(burst).collect();
    bursts.sort_by_key(|burst| (std::cmp::Reverse(burst.bad), burst.begin));
    bursts
}
