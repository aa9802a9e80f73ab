use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;
use crate::model::shell;
use crate::model::text::is_direction_mark;
use crate::record::row::csv::FORMULA;

/// Any bytes, the odd ones more often than in nature.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(&b" =+-@'\"\\\n\r\t,x3d\xff\xe2\x80\xae"[..])
    ];
    prop::collection::vec(byte, 0..16)
}

fn row() -> impl Strategy<Value = Row> {
    let texts = prop::collection::vec(bytes(), Column::ALL.len());
    let argv = prop::collection::vec(prop::collection::vec(1..=255u8, 0..8), 1..4);
    (texts, argv, any::<u64>()).prop_map(|(texts, argv, number)| {
        let argv: Vec<OsString> = argv.into_iter().map(OsString::from_vec).collect();
        let mut row = Row::default();
        for (column, text) in Column::ALL.iter().zip(texts) {
            match column.form() {
                CellForm::Plain => row.show(*column, number),
                CellForm::Text => row.set(*column, text),
                CellForm::Words => row.set(*column, shell::command(&argv)),
            }
        }
        row
    })
}

/// The cells as they stand in the line.
fn raw_cells(line: &[u8]) -> Vec<Vec<u8>> {
    cells(line).expect("a line of ours")
}

proptest! {
    #[test]
    fn any_row_is_read_back(row in row()) {
        let line = row.to_csv_line();
        prop_assert_eq!(Row::parse(&Header::ours(), &line), Ok(row));
    }

    #[test]
    fn a_row_is_one_line_of_harmless_text(row in row()) {
        let line = String::from_utf8(row.to_csv_line()).expect("it is UTF-8");
        let body = line.strip_suffix("\r\n").expect("it ends as RFC 4180 says");
        prop_assert!(!body.contains(|c: char| c.is_control() || is_direction_mark(c)));
        for cell in raw_cells(line.as_bytes()) {
            let cell = String::from_utf8(cell).expect("so is each cell");
            prop_assert!(!cell.trim_start().starts_with(FORMULA), "{}", cell);
        }
    }

    #[test]
    fn columns_are_found_by_name(row in row(), seed in any::<usize>()) {
        let mut names: Vec<String> = Header::ours().names;
        let middle = seed % names.len();
        names.rotate_left(middle);
        names.insert(middle, "of_the_future".to_owned());
        let line = names.join(",").into_bytes();
        let header = Header::parse(&line).expect("a header");
        prop_assert!(header.is_complete());
        let mut row = row;
        row.unknown.push(("of_the_future".to_owned(), b"kept".to_vec()));
        let read = Row::parse(&header, &row.to_csv_line_under(&header));
        prop_assert_eq!(read, Ok(row));
    }

    #[test]
    fn nothing_makes_the_parser_panic(line in bytes()) {
        let row = Row::parse(&Header::ours(), &line);
        prop_assert!(row.is_err());
        prop_assert_eq!(Header::parse(&line), None);
        unescaped(&line);
    }

    #[test]
    fn a_line_that_was_cut_is_not_a_row(row in row(), seed in any::<usize>()) {
        let mut row = row;
        row.set(Column::LogFile, "log");
        let line = row.to_csv_line();
        // Beyond the last comma only the trace is missing.
        let commas = line.iter().rposition(|byte| *byte == b',').expect("commas");
        let cut = &line[..seed % commas];
        prop_assert!(Row::parse(&Header::ours(), cut).is_err());
    }
}

#[test]
fn a_file_of_another_version_has_fewer_columns() {
    let header = Header::parse(b"time,event,run_id,host\r\n").expect("a header");
    assert!(!header.is_complete());
    let row = Row::parse(&header, b"T,end,R,\\x3dnode\n").expect("a row");
    assert_eq!(row.event(), Some(RowEvent::End));
    assert_eq!(row.text(Column::Host), "=node");
    assert_eq!(row.get(Column::Verdict), b"");
    assert_eq!(row.number::<i32>(Column::ExitCode), None);
}

#[test]
fn what_is_not_a_record_has_no_header() {
    for line in ["", "root:x:0:0:root:/root:/bin/bash", "run_id,event", "\"run_id,event,time"] {
        assert_eq!(Header::parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn formulas_are_shown_and_not_reckoned() {
    let shown =
        |text: &str| String::from_utf8(escaped(text.as_bytes()).into_owned()).expect("text");
    assert_eq!(shown("=cmd|' /C calc'!A0"), "\\x3dcmd|' /C calc'!A0");
    assert_eq!(shown("\t=1"), "\\t=1");
    assert_eq!(shown(" =1"), "\\x20=1");
    assert_eq!(shown("\u{2000}=1"), "\\xe2\\x80\\x80=1", "a blank of any kind");
    assert_eq!(shown("a=1"), "a=1");
    assert_eq!(shown("back\\slash"), "back\\\\slash");
}

#[test]
fn every_name_is_of_one_column() {
    for column in Column::ALL {
        assert_eq!(Column::named(column.name()), Some(*column));
    }
    assert_eq!(Header::parse(&Header::ours().to_csv_line()), Some(Header::ours()));
}

#[test]
fn a_header_of_very_many_columns_is_not_one_of_a_record() {
    let header = |more: usize| {
        let more = (0..more).map(|number| format!(",x{number}")).collect::<String>();
        format!("run_id,event,time{more}")
    };
    assert!(Header::parse(header(1021).as_bytes()).is_some());
    assert_eq!(Header::parse(header(1022).as_bytes()), None);
}

#[test]
fn unknown_cells_keep_their_columns_in_any_order_of_the_header() {
    let header = Header::parse(b"zz,run_id,aa,event,time,mm").expect("a header");
    let line = b"1,r,2,end,t,3\r\n";
    let row = Row::parse(&header, line).expect("a row");
    assert_eq!(row.to_csv_line_under(&header), line);
    let other = Header::parse(b"run_id,event,time,mm,aa,zz").expect("a header");
    assert_eq!(row.to_csv_line_under(&other), b"r,end,t,3,2,1\r\n");
}
