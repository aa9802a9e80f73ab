//! The forms of the values that options take.

use std::time::Duration;

use crate::cli::value_error::ValueError;
use crate::model::policy::{Backoff, Forward, RestartCause};
use crate::model::signal::Signal;
use crate::model::time::WallTime;
use crate::model::verdict::VerdictKind;
use crate::plan::WebPlan;
use crate::question::{Condition, Since};

/// No span that a user means is longer: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// The units of a span, in seconds, longest name first.
const UNITS: [(&str, f64); 6] =
    [("ms", 1e-3), ("us", 1e-6), ("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];

/// Reads `90`, `1.5s`, `250ms`, `2m`, `1h30m`: a number without a unit is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    let wrong = || ValueError::Duration(text.to_owned());
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = UNITS.iter().find(|(name, _)| tail.starts_with(name));
        let (name, factor) = match unit {
            Some(unit) => *unit,
            None if tail.is_empty() && rest.len() == text.len() => ("", 1.0),
            None => return Err(wrong()),
        };
        seconds += number * factor;
        rest = &tail[name.len()..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(span) if span <= LONGEST => Ok(span),
        _ => Err(ValueError::TooLong(text.to_owned())),
    }
}

/// Reads `4096`, `64K`, `1M`, `2G`: bytes, with units of 1024.
pub(super) fn size(text: &str) -> Result<u64, ValueError> {
    let wrong = || ValueError::Size(text.to_owned());
    let upper = text.to_ascii_uppercase();
    let digits = upper.trim_end_matches('B').trim_end_matches('I');
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(letter, _)| digits.ends_with(*letter));
    let (digits, shift) =
        unit.map_or((digits, 0), |(_, shift)| (&digits[..digits.len() - 1], *shift));
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A span that has to be longer than nothing.
pub(super) fn positive_duration(text: &str) -> Result<Duration, ValueError> {
    match duration(text)? {
        Duration::ZERO => Err(ValueError::EndsAtOnce),
        span => Ok(span),
    }
}

/// Reads `MIN..MAX`.
pub(super) fn backoff(text: &str) -> Result<Backoff, ValueError> {
    let (min, max) = text.split_once("..").ok_or(ValueError::BackoffForm)?;
    let (min, max) = (duration(min)?, duration(max)?);
    if min > max {
        return Err(ValueError::BackoffOrder);
    }
    Ok(Backoff { min, max })
}

/// Reads `all`, `none` or signals with commas between them.
pub(super) fn forward(text: &str) -> Result<Forward, ValueError> {
    match text {
        "all" => Ok(Forward::All),
        "none" => Ok(Forward::None),
        list => Ok(Forward::Only(trappable_list(list)?)),
    }
}

fn trappable_list(list: &str) -> Result<Vec<Signal>, ValueError> {
    list.split(',').map(trappable).collect()
}

/// A signal that childminder can receive.
pub(super) fn trappable(text: &str) -> Result<Signal, ValueError> {
    let signal: Signal = text.parse().map_err(ValueError::Signal)?;
    if signal.is_trappable() { Ok(signal) } else { Err(ValueError::Untrappable(signal)) }
}

/// One item of `--restart-on` and `--never-on`.
pub(super) fn cause(text: &str) -> Result<RestartCause, ValueError> {
    text.parse().map_err(ValueError::Cause)
}

/// A word that names something: not empty, no control characters.
pub(super) fn name(text: &str) -> Result<String, ValueError> {
    match text {
        "" => Err(ValueError::EmptyName),
        _ if text.chars().any(char::is_control) => Err(ValueError::ControlCharacters),
        _ => Ok(text.to_owned()),
    }
}

/// Reads `KEY=VALUE`.
pub(super) fn tag(text: &str) -> Result<(String, String), ValueError> {
    let (key, value) = text.split_once('=').ok_or(ValueError::PairForm)?;
    Ok((name(key)?, value.to_owned()))
}

/// Reads `KEY=VALUE`, where the key is a label name of Prometheus that we do not use ourselves.
pub(super) fn metric_label(text: &str) -> Result<(String, String), ValueError> {
    let (key, value) = tag(text)?;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = key.bytes().all(is_word) && !key.starts_with(|c: char| c.is_ascii_digit());
    if !is_name || key.starts_with("__") {
        return Err(ValueError::LabelName(key));
    }
    if TAKEN_LABELS.contains(&key.as_str()) {
        return Err(ValueError::TakenLabel(key));
    }
    Ok((key, value))
}

/// Labels of our own metrics, and those that Prometheus adds.
const TAKEN_LABELS: [&str; 18] = [
    "job",
    "instance",
    "job_name",
    "le",
    "quantile",
    "outcome",
    "exit_code",
    "signal",
    "origin",
    "mode",
    "fault",
    "switch",
    "workload",
    "pipeline",
    "verdict",
    "executable",
    "user",
    "version",
];

/// Reads where to listen: `9100`, `:9100` (both on loopback), `127.0.0.1:0`, `[::]:9100`.
pub(super) fn listen_address(text: &str) -> Result<String, ValueError> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let wrong = || ValueError::ListenAddress(text.to_owned());
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if is_bare_ipv6 || host.contains(['/', '@', ' ']) {
        return Err(wrong());
    }
    Ok(format!("{}:{port}", if host.is_empty() { "127.0.0.1" } else { host }))
}

/// A path of a URL.
pub(super) fn web_path(text: &str) -> Result<String, ValueError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let taken = WebPlan::PAGE.into_iter().find(|(path, _)| *path == text);
    match taken {
        Some((path, what)) => Err(ValueError::TakenPath { path, what }),
        None if text.starts_with('/') && text.bytes().all(is_plain) => Ok(text.to_owned()),
        None => Err(ValueError::WebPath(text.to_owned())),
    }
}

/// Reads a count, which may be zero.
pub(super) fn count(text: &str) -> Result<u32, ValueError> {
    text.parse().map_err(|_| ValueError::Count(text.to_owned()))
}

/// Reads the address of a Pushgateway.
pub(super) fn pushgateway(text: &str) -> Result<String, ValueError> {
    let rest = ["http://", "https://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // Who may be in there with a password is not repeated.
    if host.is_empty() || host.starts_with(':') || text.contains(char::is_whitespace) {
        return Err(ValueError::Pushgateway);
    }
    Ok(text.to_owned())
}

/// Reads a count that is at least one.
pub(super) fn at_least_one(text: &str) -> Result<usize, ValueError> {
    match text.parse() {
        Ok(0) | Err(_) => Err(ValueError::AtLeastOne(text.to_owned())),
        Ok(count) => Ok(count),
    }
}

/// Reads a span (`2h`, `2 hours ago`), a day (`yesterday`), a date or a date and time in UTC.
pub(super) fn since(text: &str) -> Result<Since, ValueError> {
    let lower = text.to_ascii_lowercase();
    if let Some(since) = day(&lower) {
        return Ok(since);
    }
    if is_like_a_date(text) {
        let wrong = || ValueError::Date(text.to_owned());
        return instant(text).map(Since::At).ok_or_else(wrong);
    }
    let span = match lower.strip_suffix(" ago") {
        Some(span) => duration(&short(span.trim())),
        None => duration(text),
    };
    span.map(Since::Ago).map_err(|_| ValueError::Since(text.to_owned()))
}

/// Reads a day by its name.
fn day(text: &str) -> Option<Since> {
    const WEEK: [&str; 7] =
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    match text {
        "today" => Some(Since::DaysBack(0)),
        "yesterday" => Some(Since::DaysBack(1)),
        _ => (0..).zip(WEEK).find(|(_, name)| *name == text).map(|(day, _)| Since::Weekday(day)),
    }
}

/// Turns `2 hours` into `2h`, as a span is written; anything else stays as it is.
fn short(text: &str) -> String {
    const UNITS: [(&str, &str); 5] =
        [("second", "s"), ("minute", "m"), ("hour", "h"), ("day", "d"), ("week", "w")];
    let Some((number, unit)) = text.split_once(' ') else { return text.to_owned() };
    let unit = unit.trim().trim_end_matches('s');
    match UNITS.iter().find(|(long, _)| *long == unit) {
        Some((_, "w")) => {
            let days = number.parse::<u32>().map(|weeks| u64::from(weeks) * 7);
            days.map_or_else(|_| text.to_owned(), |days| format!("{days}d"))
        }
        Some((_, short)) => format!("{number}{short}"),
        None => text.to_owned(),
    }
}

/// Whether it begins as a date does: four digits and a hyphen, or eight digits and no more.
fn is_like_a_date(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let next = text.as_bytes().get(digits);
    (digits == 4 && next == Some(&b'-')) || (digits == 8 && matches!(next, None | Some(b'T')))
}

/// Completes a date, or a date and time, to RFC 3339 with microseconds.
fn instant(text: &str) -> Option<String> {
    const WHOLE: &str = "0000-00-00T00:00:00.000000";
    let text = spread(text.strip_suffix('Z').unwrap_or(text)).replace(' ', "T");
    let fits = |(given, form): (u8, u8)| match form {
        b'0' => given.is_ascii_digit(),
        form => given == form,
    };
    let is_whole = matches!(text.len(), 10 | 13 | 16 | 19 | 21..=26);
    if !is_whole || !text.bytes().zip(WHOLE.bytes()).all(fits) {
        return None;
    }
    let number = |at: std::ops::Range<usize>| text.get(at).and_then(|digits| digits.parse().ok());
    let at_most = |at, limit: u32| number(at).unwrap_or(0) <= limit;
    // A day that the month has not becomes one of the next month.
    let midnight = format!("{}T00:00:00.000000Z", text.get(..10)?);
    let is_date = WallTime::from_rfc3339(&midnight)?.rfc3339() == midnight;
    let is_time = at_most(11..13, 23) && at_most(14..16, 59) && at_most(17..19, 60);
    (is_date && is_time).then(|| format!("{text}{}Z", &WHOLE[text.len()..]))
}

/// Puts the marks into a date, or a date and time, as the log writes it: `20261122T140509.123456`.
fn spread(text: &str) -> String {
    let (date, time) = text.split_at(text.find('T').unwrap_or(text.len()));
    let mut digits = date.chars();
    if date.len() != 8 || !digits.all(|digit| digit.is_ascii_digit()) {
        return text.to_owned();
    }
    let time = match time.as_bytes() {
        [b'T', clock @ ..] if clock.len() > 2 && !time.contains(':') => {
            let (clock, rest) = time[1..].split_at(time[1..].find('.').unwrap_or(time.len() - 1));
            let pairs: Vec<&str> =
                (0..clock.len()).step_by(2).filter_map(|at| clock.get(at..at + 2)).collect();
            format!("T{}{rest}", pairs.join(":"))
        }
        _ => time.to_owned(),
    };
    format!("{}-{}-{}{time}", &date[..4], &date[4..6], &date[6..])
}

/// Conditions that a run must meet, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conditions(pub(super) Vec<Condition>);

/// Reads `failed,since=7d`.
pub(super) fn conditions(text: &str) -> Result<Conditions, ValueError> {
    let condition = |word: &str| {
        Ok(match word.split_once('=') {
            None if word == "failed" => Condition::Failed,
            None if word == "succeeded" => Condition::Succeeded,
            Some(("verdict", value)) => Condition::Verdict(verdict_or_state(value)?),
            Some(("slower", value)) => Condition::Slower(duration(value)?),
            Some(("since", value)) => Condition::Since(since(value)?),
            Some(("before", value)) => Condition::Before(since(value)?),
            _ => return Err(ValueError::Condition(word.to_owned())),
        })
    };
    text.split(',').map(condition).collect::<Result<_, _>>().map(Conditions)
}

/// The verdicts, and the states of runs without an end.
pub(super) fn verdicts_and_states() -> Vec<&'static str> {
    let words = VerdictKind::ALL.iter().map(|kind| kind.word());
    words.chain(["lost", "running", "unfinished"]).collect()
}

/// Reads a verdict, or the state of a run without an end.
pub(super) fn verdict_or_state(text: &str) -> Result<String, ValueError> {
    let words = verdicts_and_states();
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(ValueError::VerdictOrState { text: text.to_owned(), words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_are_read_in_every_form_of_the_help() {
        let ms = |text| duration(text).expect(text).as_millis();
        assert_eq!(ms("90"), 90_000);
        assert_eq!(ms("1.5s"), 1_500);
        assert_eq!(ms("250ms"), 250);
        assert_eq!(ms("2m"), 120_000);
        assert_eq!(ms("1h30m"), 5_400_000);
        assert_eq!(ms("1d"), 86_400_000);
        assert_eq!(ms("0"), 0);
    }

    #[test]
    fn spans_that_are_none_are_refused() {
        for text in
            ["", "-1", "s", "1x", "1.2.3", "1e3", "nan", "inf", "1 s", "5s3", "99999d", "+1"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0").is_err());
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64K", 65_536), ("1MiB", 1 << 20), ("2gb", 2 << 30)]
        {
            assert_eq!(size(text).expect(text), bytes);
        }
        for text in ["", "K", "-1", "1.5M", "1X", "99999999999T"] {
            assert!(size(text).expect_err(text).to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn back_offs_and_signal_lists_are_checked() {
        let second = Duration::from_secs(1);
        assert_eq!(backoff("1s..5m"), Ok(Backoff { min: second, max: second * 300 }));
        for text in ["1s", "5s..1s", "..", "1..", "1...2..3"] {
            assert!(backoff(text).is_err(), "{text}");
        }
        assert_eq!(forward("TERM,hup"), Ok(Forward::Only(vec![Signal::TERM, Signal::HUP])));
        for text in ["", "KILL", "TERM,", "FOO", "all,TERM"] {
            assert!(forward(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_alone_is_on_loopback() {
        for (text, address) in [
            ("9100", "127.0.0.1:9100"),
            (":9100", "127.0.0.1:9100"),
            ("0.0.0.0:9100", "0.0.0.0:9100"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(listen_address(text).as_deref(), Ok(address));
        }
        for text in ["", ":", "host", "::1:80", "h:70000", "http://h:1", "h:-1"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_and_paths_are_checked() {
        assert_eq!(metric_label("team=a b"), Ok(("team".into(), "a b".into())));
        for text in ["team", "=x", "1a=x", "a-b=x", "__a=x", "job=x", "signal=x"] {
            assert!(metric_label(text).is_err(), "{text}");
        }
        assert!(web_path("/m").is_ok());
        for text in ["", "metrics", "/a b", "/a?b"] {
            assert!(web_path(text).is_err(), "{text}");
        }
        for (path, _) in WebPlan::PAGE {
            let said = web_path(path).expect_err(path).to_string();
            assert!(said.starts_with(path) && said.ends_with("choose another path"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,20}") {
            // Only that they return at all.
            let answers = (duration(&text).is_ok(), backoff(&text).is_ok(), forward(&text).is_ok(), cause(&text).is_ok(), since(&text).is_ok());
            prop_assert!(matches!(answers, (_, _, _, _, _)));
        }
    }

    #[test]
    fn dates_are_completed_so_that_they_compare_as_texts() {
        let at = |text: &str| since(text).map_err(|_| ());
        let whole = |text: &str| Ok(Since::At(text.to_owned()));
        assert_eq!(at("2026-11-22"), whole("2026-11-22T00:00:00.000000Z"));
        assert_eq!(at("2026-11-22 14:05"), whole("2026-11-22T14:05:00.000000Z"));
        assert_eq!(at("2026-11-22T14:05:09.25Z"), whole("2026-11-22T14:05:09.250000Z"));
        assert_eq!(at("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
        for wrong in ["2026-13-01", "2026-11-32", "2026-11-22T24:00", "22.11.2026", "", "now"] {
            assert_eq!(at(wrong), Err(()), "{wrong}");
        }
        // As the log writes it: eight digits are not a number of seconds.
        assert_eq!(at("20270101"), whole("2027-01-01T00:00:00.000000Z"));
        assert_eq!(at("20261122T1405"), whole("2026-11-22T14:05:00.000000Z"));
        assert_eq!(at("20261122T140509.25"), whole("2026-11-22T14:05:09.250000Z"));
        assert_eq!(at("2028-02-29"), whole("2028-02-29T00:00:00.000000Z"));
        for wrong in ["2026-02-30", "20260230", "2026-02-29", "20261301", "0000-00-00", "2026-"] {
            assert_eq!(at(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn spans_and_days_are_read_in_words() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("2 hours ago", ago(7200)),
            ("1 Day ago", ago(86_400)),
            ("2 weeks ago", ago(1_209_600)),
            ("90m ago", ago(5400)),
            ("90", ago(90)),
            ("today", Ok(Since::DaysBack(0))),
            ("Yesterday", Ok(Since::DaysBack(1))),
            ("monday", Ok(Since::Weekday(0))),
            ("sunday", Ok(Since::Weekday(6))),
        ] {
            assert_eq!(since(text), expected, "{text}");
        }
        for wrong in
            ["hours ago", "2 moons ago", "99999999999 weeks ago", "tomorrow", "mon", " ago"]
        {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_word_that_is_not_a_verdict_is_refused_with_those_that_are() {
        for word in ["success", "oom_killed", "unknown", "lost", "running", "unfinished"] {
            assert_eq!(verdict_or_state(word), Ok(word.to_owned()));
        }
        let error = verdict_or_state("oom_kiled").expect_err("a typing error").to_string();
        assert!(error.contains("'oom_kiled'") && error.contains("oom_killed"), "{error}");
    }
}
