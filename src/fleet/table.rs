//! A table for people: as narrow as its contents, and never wider than the terminal.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::fleet::Screen;
use crate::model::text::Escaped;

/// What stands between two columns.
const GAP: usize = 2;

/// A column that is cut stays at least so wide.
const NARROWEST: usize = 6;

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Numbers stand right.
    pub is_number: bool,
    /// The lower, the sooner it is left out on a narrow terminal; 0 stays and is cut instead.
    pub rank: u8,
}

impl Column {
    /// A column of words that may be left out; see `rank`.
    #[must_use]
    pub const fn words(title: &'static str, rank: u8) -> Column {
        Column { title, is_number: false, rank }
    }

    /// A column of numbers.
    #[must_use]
    pub const fn numbers(title: &'static str, rank: u8) -> Column {
        Column { title, is_number: true, rank }
    }
}

/// Rows of text under columns.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    screen: Screen,
}

impl Table {
    /// An empty one, for that screen.
    #[must_use]
    pub fn new(columns: &[Column], screen: &Screen) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), screen: *screen }
    }

    /// Adds a row; what is in it came from strangers.
    pub fn push<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| Escaped(cell.as_ref()).to_string()).collect());
    }

    /// Writes heading and rows; `colour` chooses how a row is shown, by its number. Returns the widths
    /// of the columns, for rows to come.
    ///
    /// # Errors
    ///
    /// Of `out`.
    pub fn write(
        &self,
        out: &mut dyn Write,
        colour: impl Fn(usize) -> Option<&'static str>,
    ) -> io::Result<Vec<usize>> {
        let widths = self.widths();
        let titles: Vec<&str> = self.columns.iter().map(|column| column.title).collect();
        self.write_row(out, &titles, &widths, Some("1"))?;
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            self.write_row(out, &cells, &widths, colour(index))?;
        }
        Ok(widths)
    }

    /// Writes one more row, under columns that are as wide as they are by now.
    ///
    /// # Errors
    ///
    /// Of `out`.
    pub fn write_more(
        &self,
        out: &mut dyn Write,
        cells: &[String],
        widths: &[usize],
        colour: Option<&str>,
    ) -> io::Result<()> {
        let cells: Vec<String> = cells.iter().map(|cell| Escaped(cell).to_string()).collect();
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        self.write_row(out, &cells, widths, colour)
    }

    fn write_row(
        &self,
        out: &mut dyn Write,
        cells: &[&str],
        widths: &[usize],
        colour: Option<&str>,
    ) -> io::Result<()> {
        let mut line = String::new();
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            if *width == 0 {
                continue;
            }
            // Without a terminal a row that is wider than those that were measured stays whole.
            let cell =
                if self.screen.width.is_some() { cut(cell, *width) } else { (*cell).to_owned() };
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

    /// Returns the width of each column, 0 for one that is left out.
    fn widths(&self) -> Vec<usize> {
        let widest = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        };
        let title = |index: usize| self.columns[index].title.width();
        // A column that says nothing in any row is left out.
        let whole = |index: usize| match widest(index) {
            0 => 0,
            widest => widest.max(title(index)),
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(whole).collect();
        let Some(room) = self.screen.width else { return widths };
        let mut by_rank: Vec<usize> = (0..widths.len()).collect();
        by_rank.sort_by_key(|index| self.columns[*index].rank);
        // First the long ones are cut to what still tells something, ...
        for index in by_rank.iter().filter(|index| self.columns[**index].rank == 0).rev() {
            let over = total(&widths).saturating_sub(room);
            let least = widths[*index].min(WIDE_ENOUGH);
            widths[*index] = widths[*index].saturating_sub(over).max(least);
        }
        // ... then columns go, ...
        for index in by_rank.iter().filter(|index| self.columns[**index].rank > 0) {
            if total(&widths) > room {
                widths[*index] = 0;
            }
        }
        // ... then what is left is cut further.
        for index in by_rank.iter().rev().filter(|index| self.columns[**index].rank == 0) {
            let over = total(&widths).saturating_sub(room);
            widths[*index] = widths[*index].saturating_sub(over).max(NARROWEST.min(widths[*index]));
        }
        give_back(&mut widths, room, whole, &self.columns);
        widths
    }
}

/// A column that is cut stays so wide while others can be left out instead.
const WIDE_ENOUGH: usize = 24;

fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// What a column that went left free goes to those that were cut.
fn give_back(
    widths: &mut [usize],
    room: usize,
    whole: impl Fn(usize) -> usize,
    columns: &[Column],
) {
    for index in 0..widths.len() {
        if columns[index].rank == 0 {
            let free = room.saturating_sub(total(widths));
            widths[index] = (widths[index] + free).min(whole(index)).max(widths[index]);
        }
    }
}

/// Cuts a text to so many columns of the terminal; a cut one ends in a dot more than that.
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
            Column::words("RUN", 9),
            Column::words("HOST", 1),
            Column::numbers("WALL", 2),
            Column::words("COMMAND", 0),
        ];
        let mut table = Table::new(&columns, &Screen { width, is_coloured: false });
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

    #[test]
    fn colours_surround_a_row_only_where_they_are_welcome() {
        for (is_coloured, expected) in
            [(true, "\x1b[1mA\x1b[0m\n\x1b[31mx\x1b[0m\n"), (false, "A\nx\n")]
        {
            let screen = Screen { width: Some(80), is_coloured };
            let mut table = Table::new(&[Column::words("A", 0)], &screen);
            table.push(["x"]);
            let mut out = Vec::new();
            table.write(&mut out, |_| Some("31")).expect("a vector");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
