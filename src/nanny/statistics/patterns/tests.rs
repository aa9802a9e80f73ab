use super::*;
use crate::nanny::statistics::run_table::{BadFacts, RunFacts};

/// A generator whose numbers are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn is(&mut self, chance: f64) -> bool {
        (self.next() as f64) < chance * (1_u64 << 53) as f64
    }
}

const BEGIN: u64 = 1_790_000_000 / 86_400 * 86_400;
const DAYS: u64 = 60;
const HOSTS: u64 = 30;

/// A run before it is known whether it fails.
struct Planned {
    time: u64,
    user: u64,
    command: String,
    host: u64,
    boot: u64,
}

/// How a run fails, if it does: words and the sender.
type Fate = Option<(&'static str, &'static str)>;

/// A fleet of users who submit batches of one command on many hosts, each user's commands with rates of their own;
/// `fate` may make more of them fail.
fn fleet(seed: u64, batches: u64, mut fate: impl FnMut(&Planned, &mut Random) -> Fate) -> RunTable {
    let mut random = Random::new(seed);
    let mut table = RunTable::default();
    for _ in 0..batches {
        let user = random.below(12);
        let command = format!("task{}-{user}", random.below(4));
        let begin = BEGIN + random.below(DAYS * 86_400);
        // One batch in twelve is broken altogether: the failures of the field are the users' own.
        let rate = if random.is(1.0 / 12.0) { 0.8 } else { 0.01 * (1 + user % 4) as f64 };
        // A batch is on a part of the hosts.
        let (first, width) = (random.below(HOSTS), 2 + random.below(8));
        for _ in 0..5 + random.below(30) {
            let host = (first + random.below(width)) % HOSTS;
            let time = begin + random.below(3000);
            let planned = Planned {
                time,
                user,
                command: command.clone(),
                host,
                boot: (time - BEGIN) / (86_400 * 20),
            };
            let own = random.is(rate).then_some(("exit_nonzero status 1", ""));
            let end = fate(&planned, &mut random).or(own);
            add(&mut table, &planned, end);
        }
    }
    table
}

fn add(table: &mut RunTable, planned: &Planned, end: Fate) {
    let (user, host) = (format!("user{}", planned.user), format!("node{:02}", planned.host));
    let boot = format!("node{:02} boot {}", planned.host, planned.boot);
    let bad = end.map(|(words, sender)| BadFacts {
        words: words.as_bytes(),
        sender: sender.as_bytes(),
        wall_seconds: 60.0,
    });
    table.add(&RunFacts {
        time: planned.time,
        user: user.as_bytes(),
        command: planned.command.as_bytes(),
        host: host.as_bytes(),
        boot: boot.as_bytes(),
        bad,
        ..RunFacts::default()
    });
}

fn named(table: &RunTable, factor: &Factor) -> String {
    let text = |number: u64| String::from_utf8_lossy(table.names.text(number as u32)).into_owned();
    match factor.attribute {
        Attribute::HostAndCommand => {
            format!("{} {}", text(factor.value >> 32), text(factor.value & 0xffff_ffff))
        }
        attribute if attribute.is_named() => text(factor.value),
        _ => factor.value.to_string(),
    }
}

/// Attribute and name of each factor.
fn names(table: &RunTable, found: &PatternFindings) -> Vec<(Attribute, String)> {
    found.factors.iter().map(|factor| (factor.attribute, named(table, factor))).collect()
}

#[test]
fn a_sick_host_is_named_first_and_no_other() {
    let fate = |run: &Planned, random: &mut Random| {
        (run.host == 7 && random.is(0.2)).then_some(("crashed SIGSEGV", ""))
    };
    let table = fleet(1, 800, fate);
    let found = patterns(&table);
    let names = names(&table, &found);
    assert_eq!(names[0], (Attribute::Host, "node07".into()), "{names:?}");
    assert_eq!(
        names.iter().filter(|(attribute, _)| *attribute == Attribute::Host).count(),
        1,
        "{names:?}"
    );
    let factor = &found.factors[0];
    assert!(factor.comparison.ratio > 2.0 && factor.adjusted < 0.01, "{factor:?}");
    assert!(factor.lost_seconds.is_some_and(|seconds| seconds >= 60.0 * 20.0));
}

#[test]
fn a_bad_boot_is_named_and_its_host_is_not() {
    let fate = |run: &Planned, random: &mut Random| {
        (run.host == 3 && run.boot == 1 && random.is(0.6)).then_some(("crashed SIGBUS", ""))
    };
    let table = fleet(2, 900, fate);
    let names = names(&table, &patterns(&table));
    assert_eq!(names[0], (Attribute::Boot, "node03 boot 1".into()), "{names:?}");
    assert!(names.iter().all(|(attribute, _)| *attribute != Attribute::Host), "{names:?}");
}

#[test]
fn a_command_that_runs_out_of_memory_is_named_first() {
    let fate = |run: &Planned, random: &mut Random| {
        (run.command == "task2-5" && random.is(0.5)).then_some(("oom_killed SIGKILL", ""))
    };
    let table = fleet(3, 900, fate);
    let names = names(&table, &patterns(&table));
    assert_eq!(names[0], (Attribute::Command, "task2-5".into()), "{names:?}");
}

#[test]
fn a_killer_at_a_fixed_time_is_named_with_its_time() {
    let fate = |run: &Planned, random: &mut Random| {
        let slot = run.time % DAY as u64 / u64::from(SLOT_OF_DAY);
        (slot == 7 * 6 + 3 && random.is(0.9))
            .then_some(("killed_by_process SIGKILL", "/usr/sbin/cleanup --all"))
    };
    let table = fleet(4, 2000, fate);
    let found = patterns(&table);
    let sender = &found.senders[0];
    assert_eq!(table.names.text(sender.sender), b"/usr/sbin/cleanup --all");
    assert_eq!((sender.slot, sender.in_slot), (7 * 3600 + 1800, sender.bad));
    assert!(sender.days > 10 && sender.hosts > 10, "{sender:?}");
    assert!(
        found.bursts.iter().any(|burst| burst.ending.sender == sender.sender),
        "{:?}",
        found.bursts
    );
}

const SLOT_OF_DAY: u32 = crate::nanny::statistics::senders::SLOT;

/// The situation of a real accounting log: a user's script fails in three bursts, and most of it ran on one host.
#[test]
fn no_innocent_host_is_named_where_one_users_script_failed_in_bursts() {
    for seed in 0..10 {
        let mut table = fleet(100 + seed, 500, |_, _| None);
        let mut random = Random::new(seed);
        for day in [9, 10, 30] {
            for _ in 0..450 {
                let host = if random.is(0.7) { 8 } else { random.below(HOSTS) };
                let time = BEGIN + day * 86_400 + 50_000 + random.below(7000);
                let run = Planned { time, user: 3, command: "script".into(), host, boot: 0 };
                let end = random.is(0.95).then_some(("exit_nonzero status 7", ""));
                add(&mut table, &run, end);
            }
        }
        let found = patterns(&table);
        let names = names(&table, &found);
        let is_accusing = |(attribute, _): &&(Attribute, String)| {
            matches!(attribute, Attribute::Host | Attribute::Boot | Attribute::HostAndCommand)
        };
        assert_eq!(names.iter().filter(is_accusing).count(), 0, "{seed}: {names:?}");
        let campaign = &found.campaigns[0];
        assert_eq!(table.names.text(campaign.command), b"script");
        assert_eq!(
            (campaign.days, table.names.text(campaign.ending)),
            (3, &b"exit_nonzero status 7"[..])
        );
        let cleared =
            found.cleared.iter().find(|one| table.names.text(one.value as u32) == b"node08");
        let cleared = cleared.expect("a host that looks bad");
        assert_eq!(table.names.text(cleared.command), b"script");
        assert!(cleared.crude > 2.0 && cleared.crude_without < 1.3, "{cleared:?}");
        assert!(cleared.of_command as f64 > 0.8 * cleared.comparison.bad as f64, "{cleared:?}");
    }
}

/// Labels are exchanged inside each user, command and day, and whole days of a command among themselves: what is
/// left is chance. At most one table in twenty may have a finding about hosts, boots and hours.
#[test]
fn chance_is_rarely_a_finding() {
    const SEEDS: u64 = 60;
    let mut false_findings = 0;
    for seed in 0..SEEDS {
        let mut table = fleet(1000 + seed, 250, |_, _| None);
        let mut random = Random::new(seed);
        let mut groups: HashMap<(u32, u32, u32), Vec<usize>> = HashMap::new();
        for run in 0..table.len() {
            let kind = table.kind(run);
            groups.entry((kind.user, kind.command, table.time(run) / DAY)).or_default().push(run);
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort();
        for (_, runs) in groups {
            for at in (1..runs.len()).rev() {
                let other = random.below(at as u64 + 1) as usize;
                table.swap_endings(runs[at], runs[other]);
            }
        }
        let names = names(&table, &patterns(&table));
        let by_chance = |(attribute, _): &(Attribute, String)| {
            !matches!(attribute, Attribute::User | Attribute::Command)
        };
        false_findings += u64::from(names.iter().any(by_chance));
    }
    assert!(false_findings * 20 <= SEEDS, "{false_findings} of {SEEDS}");
}

#[test]
fn values_of_the_same_runs_are_one_finding() {
    let mut table = RunTable::default();
    let mut random = Random::new(5);
    for run in 0..6000 {
        let host = random.below(10);
        let is_bad = random.is(if host == 4 { 0.3 } else { 0.05 });
        let (host_name, queue) = (format!("node{host}"), if host == 4 { "lowmem" } else { "all" });
        table.add(&RunFacts {
            time: BEGIN + run * 400,
            user: b"u",
            command: b"c",
            host: host_name.as_bytes(),
            boot: host_name.as_bytes(),
            queue: queue.as_bytes(),
            bad: is_bad.then_some(BadFacts { words: b"crashed", ..BadFacts::default() }),
            ..RunFacts::default()
        });
    }
    let found = patterns(&table);
    assert_eq!(names(&table, &found), [(Attribute::Host, "node4".into())]);
    let mut aliases: Vec<Attribute> =
        found.factors[0].aliases.iter().map(|(attribute, _)| *attribute).collect();
    aliases.sort_by_key(|attribute| *attribute as usize);
    assert_eq!(aliases, [Attribute::Boot, Attribute::Queue]);
}
