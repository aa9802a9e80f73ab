//! Many runs in columns, as few bytes each as the questions of `patterns` need.

use std::collections::HashMap;

/// Texts that occur again and again, as numbers.
#[derive(Clone, Debug, Default)]
pub struct Names {
    numbers: HashMap<Vec<u8>, u32>,
    texts: Vec<Vec<u8>>,
}

impl Names {
    pub fn number(&mut self, text: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_vec(), number);
        self.texts.push(text.to_vec());
        number
    }

    #[must_use]
    pub fn text(&self, number: u32) -> &[u8] {
        self.texts.get(number as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns for each number of the other the number here.
    fn take(&mut self, other: &Names) -> Vec<u32> {
        other.texts.iter().map(|text| self.number(text)).collect()
    }
}

/// What is known of a run before it starts, but for time and place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind {
    pub user: u32,
    pub command: u32,
    pub batch: u32,
    pub directory: u32,
    pub queue: u32,
    pub memory: u32,
}

/// Where a run was: the host and which boot of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spot {
    pub host: u32,
    pub boot: u32,
}

/// How a bad run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ending {
    /// The verdict with the exit status or signal, in words.
    pub words: u32,
    /// The command of the sender; the empty text if none is known.
    pub sender: u32,
}

/// One of few values, as a number.
#[derive(Clone, Debug)]
struct Distinct<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Distinct<T> {
        Distinct { numbers: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Copy + Eq + std::hash::Hash> Distinct<T> {
    fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.values.push(value);
            self.values.len() as u32 - 1
        })
    }
}

/// A run as it is added.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunFacts<'a> {
    /// Seconds since 1970.
    pub time: u64,
    pub user: &'a [u8],
    pub command: &'a [u8],
    pub batch: &'a [u8],
    pub directory: &'a [u8],
    pub queue: &'a [u8],
    pub memory: &'a [u8],
    pub host: &'a [u8],
    pub boot: &'a [u8],
    /// `None` if it is not one of the bad runs.
    pub bad: Option<BadFacts<'a>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct BadFacts<'a> {
    pub words: &'a [u8],
    pub sender: &'a [u8],
    pub wall_seconds: f64,
}

/// The ending of a run that is not bad.
const GOOD: u32 = u32::MAX;

/// Runs in the order in which they were added, which means nothing.
#[derive(Clone, Debug, Default)]
pub struct RunTable {
    times: Vec<u32>,
    kinds: Vec<u32>,
    spots: Vec<u32>,
    endings: Vec<u32>,
    distinct_kinds: Distinct<Kind>,
    distinct_spots: Distinct<Spot>,
    distinct_endings: Distinct<Ending>,
    pub names: Names,
    /// Time in bad runs by host.
    pub lost_seconds: HashMap<u32, f64>,
}

impl RunTable {
    pub fn add(&mut self, run: &RunFacts<'_>) {
        let names = &mut self.names;
        let kind = Kind {
            user: names.number(run.user),
            command: names.number(run.command),
            batch: names.number(run.batch),
            directory: names.number(run.directory),
            queue: names.number(run.queue),
            memory: names.number(run.memory),
        };
        let spot = Spot { host: names.number(run.host), boot: names.number(run.boot) };
        let ending = run.bad.map(|bad| {
            *self.lost_seconds.entry(spot.host).or_default() += bad.wall_seconds;
            Ending { words: names.number(bad.words), sender: names.number(bad.sender) }
        });
        self.push(run.time as u32, kind, spot, ending);
    }

    fn push(&mut self, time: u32, kind: Kind, spot: Spot, ending: Option<Ending>) {
        self.times.push(time);
        self.kinds.push(self.distinct_kinds.number(kind));
        self.spots.push(self.distinct_spots.number(spot));
        self.endings.push(ending.map_or(GOOD, |ending| self.distinct_endings.number(ending)));
    }

    /// Adds the runs of another table.
    pub fn merge(&mut self, other: &RunTable) {
        let here = self.names.take(&other.names);
        let at = |number: u32| here[number as usize];
        let kinds: Vec<u32> = other
            .distinct_kinds
            .values
            .iter()
            .map(|kind| {
                let Kind { user, command, batch, directory, queue, memory } = *kind;
                self.distinct_kinds.number(Kind {
                    user: at(user),
                    command: at(command),
                    batch: at(batch),
                    directory: at(directory),
                    queue: at(queue),
                    memory: at(memory),
                })
            })
            .collect();
        let spot = |spot: &Spot| Spot { host: at(spot.host), boot: at(spot.boot) };
        let spots: Vec<u32> = other
            .distinct_spots
            .values
            .iter()
            .map(|one| self.distinct_spots.number(spot(one)))
            .collect();
        let ending = |one: &Ending| Ending { words: at(one.words), sender: at(one.sender) };
        let endings: Vec<u32> = other
            .distinct_endings
            .values
            .iter()
            .map(|one| self.distinct_endings.number(ending(one)))
            .collect();
        self.times.extend_from_slice(&other.times);
        self.kinds.extend(other.kinds.iter().map(|kind| kinds[*kind as usize]));
        self.spots.extend(other.spots.iter().map(|spot| spots[*spot as usize]));
        self.endings.extend(other.endings.iter().map(|ending| match *ending {
            GOOD => GOOD,
            ending => endings[ending as usize],
        }));
        for (host, seconds) in &other.lost_seconds {
            *self.lost_seconds.entry(at(*host)).or_default() += seconds;
        }
    }

    /// Takes runs out.
    pub fn remove(&mut self, mut runs: Vec<usize>) {
        runs.sort_unstable();
        // From the end, so that the places of those before do not change.
        for run in runs.into_iter().rev() {
            for column in [&mut self.times, &mut self.kinds, &mut self.spots, &mut self.endings] {
                column.swap_remove(run);
            }
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    #[must_use]
    pub fn bad(&self) -> usize {
        self.endings.iter().filter(|ending| **ending != GOOD).count()
    }

    #[must_use]
    pub fn time(&self, run: usize) -> u32 {
        self.times[run]
    }

    #[must_use]
    pub fn kind(&self, run: usize) -> Kind {
        self.distinct_kinds.values[self.kinds[run] as usize]
    }

    #[must_use]
    pub fn spot(&self, run: usize) -> Spot {
        self.distinct_spots.values[self.spots[run] as usize]
    }

    /// Returns how a bad run ended; `None` of any other.
    #[must_use]
    pub fn ending(&self, run: usize) -> Option<Ending> {
        self.distinct_endings.values.get(self.endings[run] as usize).copied()
    }

    #[must_use]
    pub fn is_bad(&self, run: usize) -> bool {
        self.endings[run] != GOOD
    }

    /// Exchanges the endings of two runs: for tests of what chance finds.
    #[cfg(test)]
    pub fn swap_endings(&mut self, one: usize, other: usize) {
        self.endings.swap(one, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_table_has_the_runs_of_both() {
        let run = |user, host, bad: Option<&'static [u8]>| RunFacts {
            time: 7,
            user,
            host,
            bad: bad.map(|words| BadFacts { words, sender: b"x", wall_seconds: 2.0 }),
            ..RunFacts::default()
        };
        let (mut one, mut other) = (RunTable::default(), RunTable::default());
        one.add(&run(b"ann", b"h1", None));
        other.add(&run(b"bob", b"h2", Some(b"crashed")));
        other.add(&run(b"ann", b"h1", Some(b"lost")));
        one.merge(&other);
        let text = |number| String::from_utf8_lossy(one.names.text(number)).into_owned();
        let shown = |run| {
            let ending = one.ending(run).map_or(String::new(), |ending| text(ending.words));
            [text(one.kind(run).user), text(one.spot(run).host), ending].join(" ")
        };
        let all: Vec<String> = (0..one.len()).map(shown).collect();
        assert_eq!(all, ["ann h1 ", "bob h2 crashed", "ann h1 lost"]);
        assert_eq!((one.bad(), one.is_bad(0)), (2, false));
        let host = one.spot(1).host;
        assert_eq!(one.lost_seconds[&host], 2.0);
        one.remove(vec![0, 2]);
        assert_eq!((one.len(), one.bad(), one.names.text(one.kind(0).user)), (1, 1, &b"bob"[..]));
    }
}
