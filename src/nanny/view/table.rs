//! A table for people: as narrow as its contents, and never wider than the terminal.

use std::io::{self, Write};
use std::ops::Range;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::model::text::Escaped;
use crate::nanny::view::screen::Screen;

/// What stands between two columns.
const GAP: usize = 2;

/// Columns of this rank or more are left out only when cutting others did not help.
const FIRM: u8 = 4;

/// The rank of a column that is never left out.
pub const ALWAYS: u8 = u8::MAX;

/// A column that may be cut stays so wide while others can be left out instead.
const COMFORTABLE: usize = 24;

/// On a terminal that is too narrow for what has to stay, every column is cut, but not below this.
const NARROWEST: usize = 6;

#[derive(Clone, Copy, Debug)]
pub struct TableColumn {
    title: &'static str,
    /// Aligned to the right.
    is_number: bool,
    /// The lower, the sooner it is left out on a narrow terminal.
    rank: u8,
    /// It may be cut to this many columns of the terminal; `None` is shown whole.
    least: Option<usize>,
    /// What is shown in place of a cell where there is little room.
    shorter: Option<fn(&str) -> String>,
}

impl TableColumn {
    /// A column of words. The lower its rank, the sooner it is left out; [`ALWAYS`] stays.
    #[must_use]
    pub const fn words(title: &'static str, rank: u8) -> TableColumn {
        TableColumn { title, is_number: false, rank, least: None, shorter: None }
    }

    /// A column of numbers.
    #[must_use]
    pub const fn numbers(title: &'static str, rank: u8) -> TableColumn {
        TableColumn { is_number: true, ..TableColumn::words(title, rank) }
    }

    /// May be cut to that many columns of the terminal.
    #[must_use]
    pub const fn cut_to(self, least: usize) -> TableColumn {
        TableColumn { least: Some(least), ..self }
    }

    /// Has a shorter form for where there is little room.
    #[must_use]
    pub const fn or_shorter(self, shorter: fn(&str) -> String) -> TableColumn {
        TableColumn { shorter: Some(shorter), ..self }
    }

    fn cell(&self, text: &str, is_short: bool) -> String {
        match self.shorter.filter(|_| is_short) {
            Some(shorter) => shorter(text),
            None => text.to_owned(),
        }
    }
}

/// How the columns fit the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of each column; 0 for one that is left out.
    widths: Vec<usize>,
    /// Whether cells are shown in their shorter form.
    is_short: bool,
}

/// Rows of text under columns.
pub struct TextTable {
    columns: Vec<TableColumn>,
    rows: Vec<Vec<String>>,
    screen: Screen,
}

impl TextTable {
    /// An empty one, for that screen.
    #[must_use]
    pub fn new(columns: &[TableColumn], screen: &Screen) -> TextTable {
        TextTable { columns: columns.to_vec(), rows: Vec::new(), screen: *screen }
    }

    /// Adds a row; what is in it came from strangers.
    pub fn push<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| Escaped(cell.as_ref()).to_string()).collect());
    }

    /// Writes heading and rows; `colour` chooses how a row is shown, by its number. Returns the layout,
    /// for rows to come.
    ///
    /// # Errors
    ///
    /// `out` cannot be written to.
    pub fn write(
        &self,
        out: &mut dyn Write,
        colour: impl Fn(usize) -> Option<&'static str>,
    ) -> io::Result<Layout> {
        let layout = self.layout();
        let titles = self.columns.iter().map(|column| column.title.to_owned());
        self.write_row(out, titles, &layout.widths, Some("1"))?;
        for (index, row) in self.rows.iter().enumerate() {
            self.write_cells(out, row, &layout, colour(index))?;
        }
        Ok(layout)
    }

    /// Writes one more row, under columns that are as wide as they are by now.
    ///
    /// # Errors
    ///
    /// `out` cannot be written to.
    pub fn write_more(
        &self,
        out: &mut dyn Write,
        cells: &[String],
        layout: &Layout,
        colour: Option<&str>,
    ) -> io::Result<()> {
        let cells: Vec<String> = cells.iter().map(|cell| Escaped(cell).to_string()).collect();
        self.write_cells(out, &cells, layout, colour)
    }

    fn write_cells(
        &self,
        out: &mut dyn Write,
        cells: &[String],
        layout: &Layout,
        colour: Option<&str>,
    ) -> io::Result<()> {
        let cells = self.columns.iter().zip(cells);
        let shown = cells.map(|(column, cell)| column.cell(cell, layout.is_short));
        self.write_row(out, shown, &layout.widths, colour)
    }

    fn write_row(
        &self,
        out: &mut dyn Write,
        cells: impl Iterator<Item = String>,
        widths: &[usize],
        colour: Option<&str>,
    ) -> io::Result<()> {
        let mut line = String::new();
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            if *width == 0 {
                continue;
            }
            // Without a terminal a row that is wider than those that were measured stays whole.
            let cell = if self.screen.width.is_some() { cut(&cell, *width) } else { cell };
            let room = " ".repeat(width.saturating_sub(cell.width()));
            let gap = if line.is_empty() { "" } else { "  " };
            let parts = if column.is_number { [gap, &room, &cell] } else { [gap, &cell, &room] };
            parts.into_iter().for_each(|part| line.push_str(part));
        }
        let line = line.trim_end();
        match colour.filter(|_| self.screen.is_coloured) {
            // In one piece: only whole sequences pass the guard of standard output.
            Some(code) => out.write_all(format!("\x1b[{code}m{line}\x1b[0m\n").as_bytes()),
            None => writeln!(out, "{line}"),
        }
    }

    /// Returns whether the screen has room for every column, whole.
    #[must_use]
    pub fn is_fitting(&self) -> bool {
        self.screen.width.is_none_or(|room| total(&self.whole(false)) <= room)
    }

    /// Returns the width that each column needs; 0 for one that says nothing in any row.
    fn whole(&self, is_short: bool) -> Vec<usize> {
        let widest = |(index, column): (usize, &TableColumn)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            match cells.map(|cell| column.cell(cell, is_short).width()).max() {
                None | Some(0) => 0,
                Some(widest) => widest.max(column.title.width()),
            }
        };
        self.columns.iter().enumerate().map(widest).collect()
    }

    /// Fits the columns to the screen; what loses least comes first.
    fn layout(&self) -> Layout {
        let whole = self.whole(false);
        let Some(room) = self.screen.width else {
            return Layout { widths: whole, is_short: false };
        };
        let comfortable = |column: &TableColumn| column.least.map(|_| COMFORTABLE);
        let mut fitting = Fitting { widths: whole.clone(), whole, room, columns: &self.columns };
        fitting.cut(comfortable);
        let is_short = fitting.over() > 0;
        if is_short {
            fitting.whole = self.whole(true);
            fitting.widths.clone_from(&fitting.whole);
            fitting.cut(comfortable);
        }
        fitting.leave_out(0..FIRM);
        fitting.cut(|column| column.least);
        fitting.leave_out(FIRM..ALWAYS);
        fitting.cut(|_| Some(NARROWEST));
        fitting.give_back();
        Layout { widths: fitting.widths, is_short }
    }
}

/// Fits columns to the width of a screen.
struct Fitting<'a> {
    columns: &'a [TableColumn],
    /// The width of the longest cell of each column.
    whole: Vec<usize>,
    /// The width that each column gets.
    widths: Vec<usize>,
    room: usize,
}

impl Fitting<'_> {
    /// Returns by how much they are too wide together.
    fn over(&self) -> usize {
        total(&self.widths).saturating_sub(self.room)
    }

    /// Cuts columns as far as `least` allows and as is needed, the last one first.
    fn cut(&mut self, least: impl Fn(&TableColumn) -> Option<usize>) {
        for index in (0..self.columns.len()).rev() {
            if let Some(least) = least(&self.columns[index]) {
                let width = self.widths[index];
                self.widths[index] = width.saturating_sub(self.over()).max(least.min(width));
            }
        }
    }

    /// Leaves out columns of these ranks, as many as is needed.
    fn leave_out(&mut self, ranks: Range<u8>) {
        let mut indices: Vec<usize> = (0..self.columns.len()).collect();
        indices.retain(|index| ranks.contains(&self.columns[*index].rank));
        indices.sort_by_key(|index| self.columns[*index].rank);
        for index in indices {
            if self.over() > 0 {
                self.widths[index] = 0;
            }
        }
    }

    /// What a column that was left out did not need goes to those that were cut.
    fn give_back(&mut self) {
        for index in 0..self.columns.len() {
            let free = self.room.saturating_sub(total(&self.widths));
            let width = &mut self.widths[index];
            if *width > 0 {
                *width = (*width + free).min(self.whole[index]).max(*width);
            }
        }
    }
}

fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// Cuts a text to this number of columns of the terminal; a cut one ends in a dot more than that.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    let mut shown: String = text.chars().take_while(fits).collect();
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<usize>) -> Vec<String> {
        let columns = [
            TableColumn::words("RUN", 9),
            TableColumn::words("HOST", 1),
            TableColumn::numbers("WALL", 2),
            TableColumn::words("COMMAND", ALWAYS).cut_to(8),
        ];
        let mut table =
            TextTable::new(&columns, &Screen { width, is_terminal: true, is_coloured: false });
        table.push(["0191aa", "node7", "1.5", "python3 train.py --epochs 10\n"]);
        table.push(["0191ab", "a-host-with-a-long-name", "1200.0", "日本語"]);
        let mut out = Vec::new();
        table.write(&mut out, |_| None).expect("a vector");
        String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_whole_where_there_is_no_terminal() {
        let lines = shown(None);
        assert_eq!(lines[0], "RUN     HOST                       WALL  COMMAND");
        let second = "0191aa  node7                       1.5  python3 train.py --epochs 10\\n";
        assert_eq!(lines[1], second);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [20, 30, 40, 60, 80, 200] {
            for line in shown(Some(width)) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        assert_eq!(shown(Some(40))[0], "RUN       WALL  COMMAND");
        assert!(shown(Some(40))[1].ends_with("python3 train.py --epoc…"), "{:?}", shown(Some(40)));
    }

    /// Headings as those of `nanny runs`, with cells of a usual length.
    fn headings(width: usize) -> String {
        let columns = [
            TableColumn::words("BEGAN", 4).or_shorter(|cell| cell[5..16].to_owned()),
            TableColumn::words("RUN", 6),
            TableColumn::words("HOST", 3),
            TableColumn::words("NAME", ALWAYS).cut_to(8),
            TableColumn::words("VERDICT", ALWAYS).cut_to(12),
            TableColumn::words("END", ALWAYS),
            TableColumn::numbers("PEAK", 1),
            TableColumn::words("COMMAND", 5).cut_to(8),
        ];
        let mut table = TextTable::new(
            &columns,
            &Screen { width: Some(width), is_terminal: true, is_coloured: false },
        );
        let command = "./simulate --steps 1000 --seed 4711 --output /scratch/run.h5";
        let [began, run] = ["2026-11-22 20:08:48", "9fa94d990baf"];
        table.push([began, run, "node7", "sim", "killed_by_process", "SIGTERM", "2 MiB", command]);
        let mut out = Vec::new();
        table.write(&mut out, |_| None).expect("a vector");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_least_useful_columns_go_first() {
        let shown = |width| {
            let text = headings(width);
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
            let first = text.lines().next().expect("headings");
            first.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        let all = "BEGAN RUN HOST NAME VERDICT END PEAK COMMAND";
        assert_eq!(shown(200), all);
        assert_eq!(shown(110), all);
        assert_eq!(shown(100), all);
        assert_eq!(shown(95), "BEGAN RUN HOST NAME VERDICT END COMMAND");
        assert_eq!(shown(80), "BEGAN RUN NAME VERDICT END COMMAND");
        assert_eq!(shown(60), "RUN NAME VERDICT END COMMAND");
        assert_eq!(shown(40), "NAME VERDICT END");
        // Shorter times come before columns are left out.
        assert!(headings(200).contains("\n2026-11-22 20:08:48  "));
        assert!(headings(100).contains("\n11-22 20:08  "));
    }

    #[test]
    fn colours_surround_a_row_only_where_they_are_welcome() {
        for (is_coloured, expected) in
            [(true, "\x1b[1mA\x1b[0m\n\x1b[31mx\x1b[0m\n"), (false, "A\nx\n")]
        {
            let screen = Screen { width: Some(80), is_terminal: true, is_coloured };
            let mut table = TextTable::new(&[TableColumn::words("A", ALWAYS)], &screen);
            table.push(["x"]);
            let mut out = Vec::new();
            table.write(&mut out, |_| Some("31")).expect("a vector");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
