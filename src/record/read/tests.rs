use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::record::lines::CHUNK_BYTES;
use crate::record::row::{Header, RowEvent};

fn row(number: usize, command: &str) -> Row {
    let mut row = Row::default();
    row.show(Column::RunId, format!("01900000-0000-7000-8000-{number:012x}"));
    row.set(Column::Event, RowEvent::End.word());
    row.set(Column::Time, "2026-11-22T14:00:00.000000Z");
    row.set(Column::Command, command);
    row
}

fn file(directory: &Path, name: &str, lines: &[Vec<u8>]) -> PathBuf {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(&path, [vec![Header::ours().to_csv_line()], lines.to_vec()].concat().concat())
        .expect("written");
    path
}

fn commands(files: &[PathBuf]) -> (Vec<String>, u64) {
    let record = Record::open(files).expect("a record");
    let see = |seen: &mut Vec<String>, row: &RawRow<'_>| {
        if !row.is_whole() {
            return;
        }
        let whole = row.row().expect("a row");
        assert_eq!(record.row_at(row.place).expect("read"), Some(whole.clone()));
        seen.push(whole.text(Column::Command).into_owned());
    };
    let (seen, skipped) = record.scan(Vec::new, see).expect("read");
    (seen.concat(), skipped.lines)
}

#[test]
fn rows_of_the_record_and_of_what_waits_beside_it_are_seen_once_and_in_order() {
    let place = tempfile::tempdir().expect("a directory");
    let line = |number, command| row(number, command).to_csv_line();
    let main = file(place.path(), "all.csv", &[line(1, "a"), line(2, "'b, \"c\"'")]);
    file(place.path(), "all.csv.d/2.csv", &[line(4, "e")]);
    file(place.path(), "all.csv.d/1.csv.99.100.merging", &[line(3, "d")]);
    file(place.path(), "all.csv.d/.x.csv.tmp", &[line(5, "f")]);
    let (seen, skipped) = commands(std::slice::from_ref(&main));
    assert_eq!((seen, skipped), (vec!["a".into(), "'b, \"c\"'".into(), "d".into(), "e".into()], 0));
    fs::remove_file(&main).expect("ours");
    assert_eq!(commands(&[main]).0, ["d", "e"], "all there is waits");
}

/// While a merger works, a row is beside the record, or in it, or both, and never nowhere.
#[test]
fn rows_that_are_merged_meanwhile_are_seen() {
    let place = tempfile::tempdir().expect("a directory");
    let main = file(place.path(), "all.csv", &[]);
    let (kept, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let merge_all = || {
        let mut shared = fs::File::options().append(true).open(&main).expect("the record");
        for number in 1..2000 {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            let line = row(number, &number.to_string()).to_csv_line();
            let new = file(place.path(), "all.csv.d/.new", std::slice::from_ref(&line));
            let waiting = new.with_file_name("1.csv");
            fs::rename(&new, &waiting).expect("renamed");
            kept.store(number, Ordering::SeqCst);
            let merging = new.with_file_name(format!("1.1.{number}.merging"));
            fs::rename(&waiting, &merging).expect("renamed");
            shared.write_all(&line).expect("written");
            fs::remove_file(merging).expect("removed");
        }
    };
    std::thread::scope(|scope| {
        let merger = scope.spawn(merge_all);
        while !merger.is_finished() {
            let number = kept.load(Ordering::SeqCst).to_string();
            let (seen, _) = commands(std::slice::from_ref(&main));
            if number != "0" && !seen.contains(&number) {
                is_over.store(true, Ordering::Relaxed);
                panic!("row {number} is nowhere");
            }
        }
    });
}

/// Of very many files not all are kept open: those that are merged before they are read are missed, and the
/// answer knows it.
#[test]
fn a_reader_that_was_overtaken_by_a_merge_knows_it() {
    let place = tempfile::tempdir().expect("a directory");
    let main = file(place.path(), "all.csv", &[]);
    let name = |number: usize| format!("all.csv.d/{number:03}.csv");
    let count = KEPT_MAX + 1;
    for number in 1..=count {
        file(place.path(), &name(number), &[row(number, "x").to_csv_line()]);
    }
    let record = Record::open(std::slice::from_ref(&main)).expect("a record");
    let see = |seen: &mut Vec<RowPlace>, row: &RawRow<'_>| seen.push(row.place);
    let seen = record.scan(Vec::new, see).expect("read").0.concat();
    assert_eq!((seen.len(), record.is_overtaken()), (count, false));
    fs::remove_file(place.path().join(name(count))).expect("merged");
    let last = seen.last().expect("a row");
    assert_eq!((record.row_at(*last).expect("read"), record.is_overtaken()), (None, true));
    let record = Record::open(&[main]).expect("a record");
    fs::remove_file(place.path().join(name(1))).expect("merged");
    let seen = record.scan(Vec::new, see).expect("read").0.concat();
    assert_eq!(
        (seen.len(), record.is_overtaken()),
        (count - 1, false),
        "the first one was kept open"
    );
}

#[test]
fn torn_and_foreign_lines_cost_themselves_only() {
    let place = tempfile::tempdir().expect("a directory");
    let torn = |keep| row(9, "torn").to_csv_line()[..keep].to_vec();
    let lines = [
        row(1, "a").to_csv_line(),
        b"hello\n".to_vec(),
        b"\n".to_vec(),
        [torn(60), b"\n".to_vec()].concat(),
        b"\0\0\0\n".to_vec(),
        b"1,\"open\n".to_vec(),
        row(2, "b").to_csv_line(),
        torn(80),
    ];
    let main = file(place.path(), "all.csv", &lines);
    let (seen, skipped) = commands(std::slice::from_ref(&main));
    assert_eq!((seen, skipped), (vec!["a".into(), "b".into()], 5));
    // The place of the first one: the header is line 1.
    let record = Record::open(std::slice::from_ref(&main)).expect("a record");
    let (_, skipped) = record.scan(|| (), |(), _| ()).expect("read");
    assert_eq!(skipped.first, Some((main.clone(), Some(3))));
    // What is just being written is not torn.
    let rest = row(9, "torn").to_csv_line()[80..].to_vec();
    fs::write(&main, [fs::read(&main).expect("ours"), rest].concat()).expect("written");
    let before = skipped.lines;
    let (_, skipped) = record.scan(|| (), |(), _| ()).expect("read");
    assert_eq!(skipped.lines, before - 1);
}

#[test]
fn the_tail_of_a_record_begins_with_a_whole_row() {
    let place = tempfile::tempdir().expect("a directory");
    let lines: Vec<_> = (0..100).map(|n| row(n, &"x".repeat(n)).to_csv_line()).collect();
    let main = file(place.path(), "all.csv", &lines);
    let length = |line: &Vec<u8>| line.len() as u64;
    let last: u64 = lines[97..].iter().map(length).sum();
    let all: u64 = lines.iter().map(length).sum();
    for (bytes, expected) in
        [(0, 0), (1, 0), (last - 1, 2), (last, 3), (last + 1, 3), (all, 100), (1 << 30, 100)]
    {
        let record = Record::open_tail(std::slice::from_ref(&main), bytes).expect("a record");
        let (seen, skipped) = record.scan(|| 0, |count, _| *count += 1).expect("read");
        assert_eq!((seen.iter().sum::<i32>(), skipped.lines), (expected, 0), "{bytes}");
    }
}

#[test]
fn lines_longer_than_the_buffer_are_rows_or_one_line_skipped() {
    let place = tempfile::tempdir().expect("a directory");
    let long = "x".repeat(3 * CHUNK_BYTES);
    let mut lines = vec![row(1, "a").to_csv_line(), row(2, &long).to_csv_line()];
    lines.push(row(3, "b").to_csv_line());
    let (seen, skipped) = commands(&[file(place.path(), "all.csv", &lines)]);
    assert_eq!((seen.len(), skipped, seen[1].len()), (3, 0, long.len()));
}

#[test]
fn segments_share_the_lines_of_a_large_file_exactly() {
    let place = tempfile::tempdir().expect("a directory");
    let count = usize::try_from(2 * SEGMENT_BYTES + 12_345).expect("small") / 400;
    let mut lines: Vec<_> =
        (0..count).map(|n| row(n, &"y".repeat(100 + n * 7919 % 500)).to_csv_line()).collect();
    lines.push(b"torn\n".to_vec());
    let main = file(place.path(), "all.csv", &lines);
    let record = Record::open(std::slice::from_ref(&main)).expect("a record");
    assert!(record.segments().len() >= 2);
    let number = |row: &RawRow<'_>| {
        let id = std::str::from_utf8(row.raw(Column::RunId)).expect("text").to_owned();
        usize::from_str_radix(&id[24..], 16).expect("a number")
    };
    let (seen, skipped) = record.scan(Vec::new, |seen, row| seen.push(number(row))).expect("read");
    assert_eq!(seen.concat(), (0..count).collect::<Vec<_>>());
    // Its line is counted over all segments, behind the header.
    assert_eq!((skipped.lines, skipped.first), (1, Some((main, Some(count as u64 + 2)))));
}

#[test]
fn what_was_written_since_is_seen_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let line = |number, command| row(number, command).to_csv_line();
    let main = file(place.path(), "all.csv", &[line(1, "a")]);
    let before = Record::open(std::slice::from_ref(&main)).expect("a record");
    file(place.path(), "all.csv.d/1.csv", &[line(2, "b")]);
    let text = fs::read(&main).expect("ours");
    fs::write(&main, [text, line(3, "c")].concat()).expect("written");
    let seen = |record: &Record| {
        let see = |seen: &mut Vec<Vec<u8>>, row: &RawRow<'_>| {
            seen.push(row.raw(Column::Command).to_vec());
        };
        record.scan(Vec::new, see).expect("read").0.concat()
    };
    let grown = before.grown().expect("a record");
    assert_eq!(seen(&grown), [b"c".to_vec(), b"b".to_vec()]);
    assert_eq!(seen(&grown.grown().expect("a record")), Vec::<Vec<u8>>::new());
}

#[test]
fn columns_are_found_by_their_names() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("other.csv");
    let text = "time,future,event,run_id,name\n2026,x,end,id,\"a,b\"\n2026,x,end,id\n";
    fs::write(&path, text).expect("written");
    let record = Record::open(&[path]).expect("a record");
    let see = |seen: &mut Vec<(bool, Vec<u8>)>, row: &RawRow<'_>| {
        if row.is_whole() {
            seen.push((row.is(Column::Name, "a,b"), row.raw(Column::Verdict).to_vec()));
        }
    };
    let (seen, skipped) = record.scan(Vec::new, see).expect("read");
    assert_eq!((seen.concat(), skipped.lines), (vec![(true, Vec::new())], 1));
}

#[test]
fn what_is_not_a_record_is_refused_by_its_name() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("notes.txt");
    fs::write(&path, "hello\n").expect("written");
    for path in [path, place.path().to_owned(), place.path().join("missing")] {
        let Err(error) = Record::open(std::slice::from_ref(&path)) else { panic!("{path:?}") };
        assert_eq!(error.path, path);
    }
}
