//! A row of the record: its columns, and its form as a line of CSV (RFC 4180).
//!
//! Reads and writes no file. A row is one physical line whatever is in it, because line ends are
//! escaped; so a torn row damages no other. childminder-record(5) documents all columns.

use std::borrow::Cow;
use std::fmt;

use crate::model::text::is_direction_mark;

/// The version of the columns below: it grows when a column is added or changes its meaning.
pub const SCHEMA: u32 = 1;

/// How a cell is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A number or a word of ours, as it is.
    Plain,
    /// Anybody's bytes, escaped with backslashes where they could do harm.
    Text,
    /// Words quoted for a shell (`model::shell`), which are harmless already.
    Words,
}

/// Names, words and forms are in one place, lest three tables drift apart.
macro_rules! columns {
    ($($(#[$doc:meta])* $column:ident $name:literal $form:ident,)*) => {
        /// The columns, in the order in which they are written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Column { $($(#[$doc])* $column,)* }

        impl Column {
            /// All of them.
            pub const ALL: &[Column] = &[$(Column::$column,)*];

            /// Returns its name in the header.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Column::$column => $name,)* }
            }

            /// Returns how its cells are written.
            #[must_use]
            pub fn form(self) -> Form {
                match self { $(Column::$column => Form::$form,)* }
            }
        }
    };
}

columns! {
    /// [`SCHEMA`].
    Schema "schema" Plain,
    /// The run, a UUIDv7.
    RunId "run_id" Plain,
    /// [`RowEvent`].
    Event "event" Plain,
    /// When it happened, RFC 3339 in UTC with microseconds.
    Time "time" Plain,
    /// The host's name.
    Host "host" Text,
    /// Which boot of the host: /proc/sys/kernel/random/boot_id.
    BootId "boot_id" Plain,
    /// The effective user's name, if /etc/passwd has it.
    User "user" Text,
    /// The effective user.
    Uid "uid" Plain,
    /// childminder's own pid.
    Pid "pid" Plain,
    /// `--name`, by default the base name of the program or the built-in function.
    Name "name" Text,
    /// `--batch`.
    Batch "batch" Text,
    /// `--tag`: a word `KEY=VALUE` for each.
    Tags "tags" Words,
    /// Where childminder was started; `--working-directory` is relative to it.
    WorkingDirectory "working_directory" Text,
    /// The command line, secrets hidden; ends in ` ...(cut)` if it was too long, which is no command.
    Command "command" Words,
    /// `true` if something in `command` or `options` was hidden, so that it cannot be run again.
    Redacted "redacted" Plain,
    /// `-i`, as it was typed.
    Input "input" Text,
    /// `-o`.
    Output "output" Text,
    /// `-e`.
    Error "error" Text,
    /// `true` with `--append`.
    Append "append" Plain,
    /// All options that matter for a rerun, redirections among them; childminder reads them back.
    Options "options" Words,
    /// The attempt, from 1; in the `end` row the last one.
    Attempt "attempt" Plain,
    /// The job's pid; empty if it was not started.
    ChildPid "child_pid" Plain,
    /// Its exit status, if it exited.
    ExitCode "exit_code" Plain,
    /// The number of the signal that ended it, if one did.
    Signal "signal" Plain,
    /// `true` or `false`, if a signal ended it.
    CoreDumped "core_dumped" Plain,
    /// `VerdictKind::word`.
    Verdict "verdict" Plain,
    /// `certain`, `likely` or `possible`.
    Confidence "confidence" Plain,
    /// What the verdict rests on, strongest first, with `; ` between.
    Evidence "evidence" Text,
    /// The process that sent the last request to stop or the signal that ended the job.
    SenderPid "sender_pid" Plain,
    /// Its user.
    SenderUid "sender_uid" Plain,
    /// Its command line, secrets hidden.
    SenderCommand "sender_command" Text,
    /// Since the attempt (in the `end` row: the run) began.
    WallSeconds "wall_seconds" Plain,
    /// CPU time in user mode, of the job and the children that it waited for.
    UserSeconds "user_seconds" Plain,
    /// CPU time in the kernel.
    SystemSeconds "system_seconds" Plain,
    /// The largest resident set of one process, in KiB.
    MaxRssKib "max_rss_kib" Plain,
    /// Page faults served without reading a disk.
    MinorFaults "minor_faults" Plain,
    /// Page faults that read a disk.
    MajorFaults "major_faults" Plain,
    /// Blocks of 512 bytes read.
    InputBlocks "input_blocks" Plain,
    /// Blocks of 512 bytes written.
    OutputBlocks "output_blocks" Plain,
    /// Times it waited of its own will.
    VoluntarySwitches "voluntary_switches" Plain,
    /// Times the scheduler took the processor from it.
    InvoluntarySwitches "involuntary_switches" Plain,
    /// The largest resident set of the whole tree that was seen, in bytes.
    TreePeakRssBytes "tree_peak_rss_bytes" Plain,
    /// The most processes that were seen at once.
    TreePeakProcesses "tree_peak_processes" Plain,
    /// Orphans of the job that childminder reaped.
    Orphans "orphans" Plain,
    /// Their CPU time, user and system.
    OrphanCpuSeconds "orphan_cpu_seconds" Plain,
    /// Restarts until then.
    Restarts "restarts" Plain,
    /// Calls of the built-in function (`-f`).
    Calls "calls" Plain,
    /// Soft limits of getrlimit(2) that are not unlimited, a word `NAME=VALUE` each.
    Limits "limits" Words,
    /// The cgroup that childminder was started in.
    Cgroup "cgroup" Text,
    /// The memory limit of the cgroup, in bytes.
    CgroupMemoryBytes "cgroup_memory_bytes" Plain,
    /// `slurm`, `pbs`, `lsf` or `sge`.
    Scheduler "scheduler" Plain,
    /// The batch system's name of the job.
    SchedulerJob "scheduler_job" Text,
    /// What was asked of the batch system, as its variables say it: a word `NAME=VALUE` each.
    SchedulerRequest "scheduler_request" Words,
    /// The log of the run, an absolute path.
    LogFile "log_file" Text,
    /// The trace that the run belongs to (W3C, 32 digits).
    TraceId "trace_id" Plain,
}

impl Column {
    /// Returns the column of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Column> {
        Column::ALL.iter().copied().find(|column| column.name() == name)
    }
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowEvent {
    /// The run began.
    Start,
    /// An attempt ended.
    Attempt,
    /// The run ended.
    End,
}

impl RowEvent {
    /// Returns the word in the column `event`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RowEvent::Start => "start",
            RowEvent::Attempt => "attempt",
            RowEvent::End => "end",
        }
    }

    /// Returns what that word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<RowEvent> {
        [RowEvent::Start, RowEvent::Attempt, RowEvent::End]
            .into_iter()
            .find(|one| one.word() == word)
    }
}

/// The first line of a file: which columns it has, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    names: Vec<String>,
    columns: Vec<Option<Column>>,
}

impl Header {
    /// Returns the header that we write.
    #[must_use]
    pub fn ours() -> Header {
        let names = Column::ALL.iter().map(|column| column.name().to_owned()).collect();
        Header { names, columns: Column::ALL.iter().copied().map(Some).collect() }
    }

    /// Reads a header of this or another version; `None` if it is none of a record.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Header> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let cells = cells(line)?.into_iter().map(|cell| String::from_utf8(cell).ok());
        let names: Vec<String> = cells.collect::<Option<_>>()?;
        let columns: Vec<_> = names.iter().map(|name| Column::named(name)).collect();
        let is_record = [Column::RunId, Column::Event, Column::Time]
            .iter()
            .all(|needed| columns.contains(&Some(*needed)));
        is_record.then_some(Header { names, columns })
    }

    /// Returns whether every column of ours is there, so that no row loses anything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        Column::ALL.iter().all(|column| self.columns.contains(&Some(*column)))
    }

    /// Returns how many columns it has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Returns where that column stands, from 0.
    #[must_use]
    pub fn position(&self, column: Column) -> Option<usize> {
        self.columns.iter().position(|one| *one == Some(column))
    }

    /// Returns whether it has every column of the other, so that rows can move here without loss.
    #[must_use]
    pub fn covers(&self, other: &Header) -> bool {
        other.names.iter().all(|name| self.names.contains(name))
    }

    /// Returns it as a line, with its end.
    #[must_use]
    pub fn to_csv_line(&self) -> Vec<u8> {
        csv_line(self.names.iter().map(|name| Cow::Borrowed(name.as_bytes())))
    }
}

/// A line that is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowError {
    /// Quotes are open or stand where none may.
    Quotes,
    /// It has not as many cells as the header: it is torn.
    Width {
        /// Those of the header.
        expected: usize,
        /// Those of the line.
        found: usize,
    },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Quotes => f.write_str("quotes are open or misplaced"),
            RowError::Width { expected, found } => {
                write!(f, "it has {found} cells in place of {expected}")
            }
        }
    }
}

impl std::error::Error for RowError {}

/// One row. A cell that nothing is known of is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// By column.
    cells: Vec<Vec<u8>>,
    /// Cells of columns that this version does not know, as they were found.
    unknown: Vec<(String, Vec<u8>)>,
}

impl Row {
    /// Returns the bytes in a cell, as they were before they were written.
    #[must_use]
    pub fn get(&self, column: Column) -> &[u8] {
        self.cells.get(column as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns the cell as text; bytes that are none are replaced.
    #[must_use]
    pub fn text(&self, column: Column) -> Cow<'_, str> {
        String::from_utf8_lossy(self.get(column))
    }

    /// Returns the number in a cell; `None` if it is empty or something else.
    #[must_use]
    pub fn number<N: std::str::FromStr>(&self, column: Column) -> Option<N> {
        std::str::from_utf8(self.get(column)).ok()?.parse().ok()
    }

    /// Returns the words in a cell of the form [`Form::Words`]; `None` if it is not whole.
    #[must_use]
    pub fn words(&self, column: Column) -> Option<Vec<std::ffi::OsString>> {
        crate::model::shell::split(std::str::from_utf8(self.get(column)).ok()?)
    }

    /// Returns what the row is about.
    #[must_use]
    pub fn event(&self) -> Option<RowEvent> {
        RowEvent::from_word(&self.text(Column::Event))
    }

    /// Returns the cells of columns that this version does not know.
    #[must_use]
    pub fn unknown(&self) -> &[(String, Vec<u8>)] {
        &self.unknown
    }

    /// Fills a cell with bytes.
    pub fn set(&mut self, column: Column, value: impl Into<Vec<u8>>) {
        if self.cells.len() < Column::ALL.len() {
            self.cells.resize(Column::ALL.len(), Vec::new());
        }
        self.cells[column as usize] = value.into();
    }

    /// Fills a cell with what is shown, such as a number.
    pub fn show(&mut self, column: Column, value: impl fmt::Display) {
        self.set(column, value.to_string());
    }

    /// Fills the cells that are empty with those of another row.
    pub fn fill(&mut self, base: &Row) {
        for column in Column::ALL {
            if self.get(*column).is_empty() && !base.get(*column).is_empty() {
                self.set(*column, base.get(*column));
            }
        }
    }

    /// Returns the row as a line under our own header, with its end.
    #[must_use]
    pub fn to_csv_line(&self) -> Vec<u8> {
        self.to_csv_line_under(&Header::ours())
    }

    /// Returns the row as a line under that header, with its end. Columns that the header lacks are
    /// left out: see [`Header::is_complete`].
    #[must_use]
    pub fn to_csv_line_under(&self, header: &Header) -> Vec<u8> {
        let columns = header.columns.iter().zip(&header.names);
        csv_line(columns.map(|(column, name)| match column {
            Some(column) if column.form() == Form::Text => escaped(self.get(*column)),
            Some(column) => Cow::Borrowed(self.get(*column)),
            None => {
                let known = self.unknown.iter().find(|(unknown, _)| unknown == name);
                Cow::Borrowed(known.map_or(&[][..], |(_, cell)| cell))
            }
        }))
    }

    /// Reads a line, with or without its end, of a file with that header.
    ///
    /// # Errors
    ///
    /// The line is torn, or is no CSV.
    pub fn parse(header: &Header, line: &[u8]) -> Result<Row, RowError> {
        let cells = cells(line).ok_or(RowError::Quotes)?;
        if cells.len() != header.names.len() {
            return Err(RowError::Width { expected: header.names.len(), found: cells.len() });
        }
        let mut row = Row::default();
        for ((cell, column), name) in cells.into_iter().zip(&header.columns).zip(&header.names) {
            match column {
                Some(column) if column.form() == Form::Text => row.set(*column, unescaped(&cell)),
                Some(column) => row.set(*column, cell),
                None => row.unknown.push((name.clone(), cell)),
            }
        }
        Ok(row)
    }
}

fn csv_line<'a>(cells: impl Iterator<Item = Cow<'a, [u8]>>) -> Vec<u8> {
    let mut line = Vec::with_capacity(1024);
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            line.push(b',');
        }
        let is_edged = [cell.first(), cell.last()].contains(&Some(&b' '));
        if is_edged || cell.iter().any(|byte| b",\"\r\n".contains(byte)) {
            line.push(b'"');
            for byte in cell.iter() {
                line.extend(std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'"')));
            }
            line.push(b'"');
        } else {
            line.extend_from_slice(&cell);
        }
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Takes a line apart; `None` if its quotes are open or misplaced.
fn cells(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    let mut cells = Vec::new();
    loop {
        let mut cell = Vec::new();
        if let Some(mut inside) = rest.strip_prefix(b"\"") {
            rest = loop {
                let end = inside.iter().position(|byte| *byte == b'"')?;
                cell.extend_from_slice(&inside[..end]);
                match &inside[end + 1..] {
                    [b'"', tail @ ..] => {
                        cell.push(b'"');
                        inside = tail;
                    }
                    tail => break tail,
                }
            };
        } else {
            let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            cell.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        cells.push(cell);
        match rest {
            [] => return Some(cells),
            [b',', tail @ ..] => rest = tail,
            _ => return None,
        }
    }
}

/// What a spreadsheet takes for the beginning of a formula, also in full width.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Makes bytes harmless: control characters, bytes that are no UTF-8, marks that turn the direction
/// of text, and the beginning of what a spreadsheet would take for a formula.
fn escaped(bytes: &[u8]) -> Cow<'_, [u8]> {
    let text = std::str::from_utf8(bytes);
    let begin = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let is_formula = begin.trim_start_matches(' ').starts_with(FORMULA);
    let is_odd = |c: char| c == '\\' || c.is_control() || is_direction_mark(c);
    if text.is_ok_and(|text| !text.contains(is_odd)) && !is_formula {
        return Cow::Borrowed(bytes);
    }
    let mut cell = Vec::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = c.encode_utf8(&mut buffer).as_bytes();
            let is_first_of_formula = cell.is_empty() && is_formula;
            match c {
                '\\' => cell.extend_from_slice(b"\\\\"),
                '\n' => cell.extend_from_slice(b"\\n"),
                '\r' => cell.extend_from_slice(b"\\r"),
                '\t' => cell.extend_from_slice(b"\\t"),
                c if is_odd(c) || is_first_of_formula => push_hex(&mut cell, encoded),
                _ => cell.extend_from_slice(encoded),
            }
        }
        push_hex(&mut cell, chunk.invalid());
    }
    Cow::Owned(cell)
}

fn push_hex(cell: &mut Vec<u8>, bytes: &[u8]) {
    bytes.iter().for_each(|byte| cell.extend_from_slice(format!("\\x{byte:02x}").as_bytes()));
}

fn unescaped(cell: &[u8]) -> Vec<u8> {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let mut bytes = Vec::with_capacity(cell.len());
    let mut rest = cell;
    while let [first, tail @ ..] = rest {
        let (byte, length) = match (first, tail) {
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'x', high, low, ..]) => {
                hex(&[*high, *low]).map_or((b'\\', 1), |byte| (byte, 4))
            }
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

#[cfg(test)]
mod tests;
