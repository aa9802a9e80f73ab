//! The bytes of /proc/PID/stat (proc(5)) as fields, without copying or allocating.
//!
//! It reads no file: `sys::reaper` and `observe::sampler` do, each for its own purpose.

use crate::model::process::Pid;

/// What is of interest in one line of /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcStat<'a> {
    /// Field 2, `comm`: any bytes, also `)` and newlines.
    pub name: &'a [u8],
    /// Field 3, the state letter, such as `S` or `Z`.
    pub state: u8,
    /// Field 4; 0 if the parent has no pid here.
    pub parent: Pid,
    /// Field 9: the flags of the kernel (`PF_*` of linux/sched.h).
    pub flags: u64,
    /// Fields 14 and 15, `utime` and `stime`, in clock ticks.
    pub own_ticks: u64,
    /// Fields 16 and 17, `cutime` and `cstime`: of children that were waited for, in clock ticks.
    pub children_ticks: u64,
    /// Field 20.
    pub threads: u64,
    /// Field 22, in clock ticks since boot.
    pub start_ticks: u64,
    /// Field 24, in pages.
    pub rss_pages: u64,
    /// What follows field 24.
    rest: Fields<'a>,
}

/// Splits a line of /proc/PID/stat; `None` if it is cut before field 24 or none at all.
///
/// The name may itself hold `)` and blanks, so fields are counted from the last one (proc(5)).
#[must_use]
pub fn parse(line: &[u8]) -> Option<ProcStat<'_>> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let name = line.get(open + 1..close)?;
    let mut fields = Fields(line.get(close + 1..)?);
    let state = *fields.word()?.first()?;
    let parent = Pid(i32::try_from(fields.number()?).ok()?);
    fields.skip(4)?;
    let flags = fields.number()?;
    fields.skip(4)?;
    let own_ticks = fields.number()?.saturating_add(fields.number()?);
    let children_ticks = fields.number()?.saturating_add(fields.number()?);
    fields.skip(2)?;
    let threads = fields.number()?;
    fields.skip(1)?;
    let start_ticks = fields.number()?;
    fields.skip(1)?;
    let rss_pages = fields.number()?;
    Some(ProcStat {
        name,
        state,
        parent,
        flags,
        own_ticks,
        children_ticks,
        threads,
        start_ticks,
        rss_pages,
        rest: fields,
    })
}

impl ProcStat<'_> {
    /// Returns whether this is a thread that does not lead its process: /proc/TID exists for it
    /// too, though no listing of /proc shows it.
    ///
    /// The kernel itself distinguishes them by field 38, `exit_signal`, which is -1 for them
    /// (`thread_group_leader` in linux/sched/signal.h). A line without that field is a process.
    #[must_use]
    pub fn is_thread(&self) -> bool {
        let mut rest = self.rest;
        rest.skip(13).is_some() && rest.word().is_some_and(|word| word.starts_with(b"-"))
    }

    /// Returns whether it is scheduled as SCHED_FIFO or SCHED_RR (field 41, sched(7)): RLIMIT_RTTIME
    /// is about such threads only. `None` for a line without that field.
    #[must_use]
    pub fn is_real_time(&self) -> Option<bool> {
        let mut rest = self.rest;
        rest.skip(16)?;
        rest.number().map(|policy| matches!(policy, 1 | 2))
    }

    /// Returns whether any thread of it runs or may run again.
    ///
    /// A process whose first thread has ended is shown as a zombie while others run; a process
    /// that has ended has one thread left, or none.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self.state {
            b'X' | b'x' => false,
            b'Z' => self.threads > 1,
            _ => true,
        }
    }
}

/// The words of a line that were not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Option<&'a [u8]> {
        let begin = self.0.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let rest = self.0.get(begin..)?;
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (word, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(word)
    }

    fn skip(&mut self, words: usize) -> Option<()> {
        for _ in 0..words {
            self.word()?;
        }
        Some(())
    }

    /// Takes a number; one below zero counts as zero, one beyond 64 bits as the highest.
    fn number(&mut self) -> Option<u64> {
        let word = self.word()?;
        let (is_negative, digits) = match word.split_first()? {
            (b'-', digits) => (true, digits),
            _ => (false, word),
        };
        let mut value = 0_u64;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value.saturating_mul(10).saturating_add(u64::from(digit));
        }
        (!digits.is_empty()).then_some(if is_negative { 0 } else { value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPTURED: &[u8] = include_bytes!("../../tests/fixtures/proc/stat-captured");
    const THREAD: &[u8] = include_bytes!("../../tests/fixtures/proc/stat-of-a-thread");
    const ODD: &[u8] = include_bytes!("../../tests/fixtures/proc/stat-odd-name");

    /// A line in which each field says its own number.
    fn line(name: &[u8]) -> Vec<u8> {
        let numbers: Vec<String> = (5..=52).map(|field| field.to_string()).collect();
        [b"77 (", name, b") S 42 ", numbers.join(" ").as_bytes(), b"\n"].concat()
    }

    #[test]
    fn names_with_brackets_and_blanks_do_not_shift_the_fields() {
        for name in ["cat", "a) R (", "(sd-pam)", "", "x y", "a\n77 (b) Z 1 2 3"] {
            let text = line(name.as_bytes());
            let stat = parse(&text).expect(name);
            assert_eq!(stat.name, name.as_bytes());
            assert_eq!((stat.state, stat.parent), (b'S', Pid(42)));
            assert_eq!((stat.own_ticks, stat.children_ticks), (14 + 15, 16 + 17));
            assert_eq!((stat.threads, stat.start_ticks, stat.rss_pages), (20, 22, 24));
            assert!(!stat.is_thread());
        }
    }

    #[test]
    fn the_scheduling_policy_is_field_41() {
        let text = String::from_utf8(line(b"x")).expect("ASCII");
        for (policy, is_real_time) in [("0", false), ("1", true), ("2", true), ("3", false)] {
            let text = text.replace(" 41 ", &format!(" {policy} "));
            let stat = parse(text.as_bytes()).expect("a line");
            assert_eq!(stat.is_real_time(), Some(is_real_time), "policy {policy}");
        }
        let short = &text.as_bytes()[..text.find(" 40 ").expect("field 40")];
        assert_eq!(parse(short).expect("a line").is_real_time(), None);
    }

    #[test]
    fn captured_lines_are_read_as_the_kernel_meant_them() {
        let stat = parse(CAPTURED).expect("a line");
        assert_eq!((stat.name, stat.threads), (&b"python3"[..], 3));
        assert!(stat.is_alive() && !stat.is_thread());
        assert!(parse(THREAD).expect("a line").is_thread());
        assert_eq!(parse(ODD).expect("a line").name, b"a) R (\nb");
    }

    #[test]
    fn a_zombie_with_other_threads_is_alive() {
        for (state, threads, is_alive) in
            [("S", 1, true), ("Z", 1, false), ("Z", 0, false), ("Z", 2, true), ("X", 2, false)]
        {
            let text = format!("7 (x) {state} 1{} {threads} 0 5 0 9 \n", " 0".repeat(15));
            let stat = parse(text.as_bytes()).expect(&text);
            assert_eq!(stat.threads, threads, "{text}");
            assert_eq!(stat.is_alive(), is_alive, "{text}");
        }
    }

    #[test]
    fn half_a_line_is_not_a_process_and_a_long_one_still_is() {
        for text in ["", "77", "77 (cat", ") 77 (", "77 (cat) S", "77 (cat) S 42 5 6"] {
            assert!(parse(text.as_bytes()).is_none(), "{text}");
        }
        let text = line(b"cat");
        for length in 0..text.len() {
            if let Some(stat) = parse(&text[..length]) {
                assert_eq!(stat.start_ticks, 22);
            }
        }
    }

    #[test]
    fn numbers_are_never_out_of_range() {
        let mut fields = Fields(b"-5 99999999999999999999999 - 1x");
        assert_eq!(fields.number(), Some(0));
        assert_eq!(fields.number(), Some(u64::MAX));
        assert_eq!(fields.number(), None);
        assert_eq!(fields.number(), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Some(stat) = parse(&bytes) {
                std::hint::black_box(stat.is_thread());
            }
        }

        #[test]
        fn any_name_is_given_back(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = line(&name);
            let stat = parse(&text).expect("a whole line");
            prop_assert_eq!(stat.name, &name[..]);
            prop_assert_eq!(stat.start_ticks, 22);
        }
    }
}
