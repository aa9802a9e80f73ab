//! A row of the record: its columns, and its form as a line of CSV (RFC 4180).
//!
//! Reads and writes no file. A row is one physical line whatever is in it, because line ends are
//! escaped; so a torn row damages no other. childminder-record(5) documents all columns.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use crate::record::row::csv::{LINE_END, RowError, cells, escaped, push_cell, unescaped};

pub mod csv;
mod event;
mod positions;

pub use event::RowEvent;

/// The version of the columns below: it grows when a column is added or changes its meaning.
pub const SCHEMA: u32 = 3;

/// A header with more columns is not the header of a record of any version: each row of it would take as many
/// cells.
const COLUMNS_MAX: usize = 1024;

/// How a cell is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellForm {
    /// A number or a word of ours, as it is.
    Plain,
    /// Anybody's bytes, escaped with backslashes where they could do harm.
    Text,
    /// Words quoted for a shell (`model::shell`), which are harmless already.
    Words,
}

/// Names, words and forms are in one place, so that three tables cannot differ.
macro_rules! columns {
    ($($(#[$doc:meta])* $column:ident $name:literal $form:ident,)*) => {
        /// The columns, in the order in which they are written.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Column { $($(#[$doc])* $column,)* }

        impl Column {
            pub const ALL: &[Column] = &[$(Column::$column,)*];

            /// Returns its name in the header.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Column::$column => $name,)* }
            }

            /// Returns how its cells are written.
            #[must_use]
            pub fn form(self) -> CellForm {
                match self { $(Column::$column => CellForm::$form,)* }
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
    /// The command line, secrets hidden; ends in ` ...(cut)` if it was too long, which is not a command.
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
    /// The same for the same crash of the job in another run (`trace::signature`); 16 hexadecimal digits.
    CrashSignature "crash_signature" Plain,
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
    /// The file mode creation mask that the job was given, octal as umask(1) shows it.
    Umask "umask" Plain,
    /// The inode of childminder's pid namespace: pids of another one mean nothing here.
    PidNamespace "pid_namespace" Plain,
    /// `true` if the row was first kept in a file of its own: its place among others says nothing.
    Apart "apart" Plain,
    /// HMAC-SHA-256 over all other cells with the user's own key, in hexadecimal (`record::seal`).
    Seal "seal" Plain,
}

impl Column {
    /// Returns the column of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Column> {
        Column::ALL.iter().copied().find(|column| column.name() == name)
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
        Header::ours_shared().clone()
    }

    /// Returns the same, made once.
    pub(super) fn ours_shared() -> &'static Header {
        static OURS: LazyLock<Header> = LazyLock::new(|| {
            let names = Column::ALL.iter().map(|column| column.name().to_owned()).collect();
            Header { names, columns: Column::ALL.iter().copied().map(Some).collect() }
        });
        &OURS
    }

    /// Returns its line, made once.
    pub(super) fn our_line() -> &'static [u8] {
        static LINE: LazyLock<Vec<u8>> = LazyLock::new(|| Header::ours_shared().to_csv_line());
        &LINE
    }

    /// Reads a header of this or another version; `None` if it is not the header of a record.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Header> {
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        let cells = cells(line)?.into_iter().map(|cell| String::from_utf8(cell).ok());
        let names: Vec<String> = cells.take(COLUMNS_MAX + 1).collect::<Option<_>>()?;
        if names.len() > COLUMNS_MAX {
            return None;
        }
        let columns: Vec<_> = names.iter().map(|name| Column::named(name)).collect();
        let is_record = [Column::RunId, Column::Event, Column::Time]
            .iter()
            .all(|needed| columns.contains(&Some(*needed)));
        // Of two columns of one name each reader would take another one.
        let is_unique = names.iter().collect::<HashSet<_>>().len() == names.len();
        (is_record && is_unique).then_some(Header { names, columns })
    }

    /// Returns whether every column of ours is there, so that no row loses anything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        Column::ALL.iter().all(|column| self.columns.contains(&Some(*column)))
    }

    /// Returns whether it has every column of the other, so that rows can move here without loss.
    #[must_use]
    pub fn covers(&self, other: &Header) -> bool {
        other.names.iter().all(|name| self.names.contains(name))
    }

    /// Returns it as a line, with its end.
    #[must_use]
    pub fn to_csv_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        for (index, name) in self.names.iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            push_cell(&mut line, name.as_bytes());
        }
        line.extend_from_slice(LINE_END);
        line
    }
}

/// One row. A cell that nothing is known of is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Indexed by column.
    cells: Vec<Vec<u8>>,
    /// Cells of columns that this version does not know, as they were found, sorted by name.
    unknown: Vec<(String, Vec<u8>)>,
}

impl Row {
    /// Returns the bytes in a cell, as they were before they were written.
    #[must_use]
    pub fn get(&self, column: Column) -> &[u8] {
        self.cells.get(column as usize).map_or(&[], Vec::as_slice)
    }

    /// Returns the cell as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self, column: Column) -> Cow<'_, str> {
        String::from_utf8_lossy(self.get(column))
    }

    /// Returns the number in a cell; `None` if it is empty or something else.
    #[must_use]
    pub fn number<N: std::str::FromStr>(&self, column: Column) -> Option<N> {
        std::str::from_utf8(self.get(column)).ok()?.parse().ok()
    }

    /// Returns the words in a cell of the form [`CellForm::Words`]; `None` if it is not whole.
    #[must_use]
    pub fn words(&self, column: Column) -> Option<Vec<std::ffi::OsString>> {
        crate::model::shell::split(std::str::from_utf8(self.get(column)).ok()?)
    }

    /// Returns what the row is about.
    #[must_use]
    pub fn event(&self) -> Option<RowEvent> {
        RowEvent::from_word(&self.text(Column::Event))
    }

    /// Returns the cells of columns that this version does not know, sorted by name.
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
        self.to_csv_line_under(Header::ours_shared())
    }

    /// Returns the row as a line under that header, with its end. Columns that the header lacks are
    /// left out: see [`Header::is_complete`].
    #[must_use]
    pub fn to_csv_line_under(&self, header: &Header) -> Vec<u8> {
        let mut line = Vec::with_capacity(1024);
        self.push_csv_line(header, &mut line);
        line
    }

    /// Appends that line to others.
    pub fn push_csv_line(&self, header: &Header, line: &mut Vec<u8>) {
        for (index, (column, name)) in header.columns.iter().zip(&header.names).enumerate() {
            if index > 0 {
                line.push(b',');
            }
            match column {
                Some(column) if column.form() == CellForm::Text => {
                    push_cell(line, &escaped(self.get(*column)));
                }
                Some(column) => push_cell(line, self.get(*column)),
                None => {
                    let known = self.unknown.binary_search_by(|(unknown, _)| unknown.cmp(name));
                    push_cell(line, known.map_or(&[][..], |at| &self.unknown[at].1));
                }
            }
        }
        line.extend_from_slice(LINE_END);
    }

    /// Reads a line, with or without its end, of a file with that header.
    ///
    /// # Errors
    ///
    /// The line is torn, or is not CSV.
    pub fn parse(header: &Header, line: &[u8]) -> Result<Row, RowError> {
        let cells = cells(line).ok_or(RowError::Quotes)?;
        if cells.len() != header.names.len() {
            return Err(RowError::Width { expected: header.names.len(), found: cells.len() });
        }
        let mut row = Row::default();
        for ((cell, column), name) in cells.into_iter().zip(&header.columns).zip(&header.names) {
            match column {
                Some(column) if column.form() == CellForm::Text => {
                    row.set(*column, unescaped(&cell))
                }
                Some(column) => row.set(*column, cell),
                None => row.unknown.push((name.clone(), cell)),
            }
        }
        row.unknown.sort_unstable();
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
