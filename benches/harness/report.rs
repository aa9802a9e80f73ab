//! The table: a line for each program measured, and a verdict for each budget.

use std::fmt;

/// What became of a budget.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Kept.
    Met,
    /// Not kept.
    Missed,
    /// An aim beyond the budget that is not reached yet.
    NotYet,
    /// What it is compared with is not installed.
    Skipped,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::NotYet => "not yet",
            Verdict::Skipped => "SKIPPED",
        })
    }
}

/// One line of the table.
pub struct Line {
    program: String,
    measured: String,
    ratio: String,
    budget: String,
    verdict: Option<Verdict>,
}

impl Line {
    /// A program and what was measured of it.
    pub fn new(program: impl Into<String>, measured: impl Into<String>) -> Line {
        let (program, measured) = (program.into(), measured.into());
        Line { program, measured, ratio: String::new(), budget: String::new(), verdict: None }
    }

    /// Adds how it compares; nothing if there is nothing to compare with.
    pub fn ratio(mut self, ratio: Option<f64>, base: &str) -> Line {
        if let Some(ratio) = ratio {
            let comma = if self.ratio.is_empty() { "" } else { ", " };
            self.ratio += &format!("{comma}{ratio:.2} x {base}");
        }
        self
    }

    /// Judges it.
    pub fn verdict(mut self, budget: impl Into<String>, verdict: Verdict) -> Line {
        self.budget = budget.into();
        self.verdict = Some(verdict);
        self
    }

    /// Judges it by a number that must not be above the limit.
    pub fn at_most(self, limit: f64, number: Option<f64>, unit: &str) -> Line {
        let verdict = number.map_or(Verdict::Skipped, |number| met(number <= limit));
        self.verdict(format!("<= {limit} {unit}"), verdict)
    }

    /// Judges it by a number that must not be below the limit.
    pub fn at_least(self, limit: f64, number: Option<f64>, unit: &str) -> Line {
        let verdict = number.map_or(Verdict::Skipped, |number| met(number >= limit));
        self.verdict(format!(">= {limit} {unit}"), verdict)
    }

    /// The last budget is an aim: to miss it is no failure.
    pub fn aim(mut self) -> Line {
        self.budget = format!("aim {}", self.budget);
        if self.verdict == Some(Verdict::Missed) {
            self.verdict = Some(Verdict::NotYet);
        }
        self
    }

    fn cells(&self) -> [&str; 4] {
        [&self.program, &self.measured, &self.ratio, &self.budget]
    }
}

/// The verdict on a condition.
pub fn met(is_met: bool) -> Verdict {
    if is_met { Verdict::Met } else { Verdict::Missed }
}

/// All that was measured.
#[derive(Default)]
pub struct Report {
    sections: Vec<(String, Vec<Line>)>,
}

impl Report {
    /// Adds a section.
    pub fn add(&mut self, title: String, lines: Vec<Line>) {
        self.sections.push((title, lines));
    }

    /// Whether a budget was missed.
    pub fn has_missed(&self) -> bool {
        self.count(Verdict::Missed) > 0
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.sections.iter().flat_map(|(_, lines)| lines)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.lines().filter(|line| line.verdict == Some(verdict)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["program", "measured", "ratio", "budget"];
        let width = |column: usize| {
            let cells = self.lines().map(|line| line.cells()[column].chars().count());
            cells.max().unwrap_or(0).max(heads[column].len())
        };
        let widths = [0, 1, 2, 3].map(width);
        let row = |f: &mut fmt::Formatter<'_>, cells: [&str; 4], verdict: &str| {
            let text: Vec<String> =
                cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", format!("  {}  {verdict}", text.join("  ")).trim_end())
        };
        row(f, heads, "verdict")?;
        for (title, lines) in &self.sections {
            writeln!(f, "{title}")?;
            for line in lines {
                row(
                    f,
                    line.cells(),
                    &line.verdict.map(|verdict| verdict.to_string()).unwrap_or_default(),
                )?;
            }
        }
        writeln!(
            f,
            "{} budgets met, {} missed, {} aims not reached yet, {} skipped",
            self.count(Verdict::Met),
            self.count(Verdict::Missed),
            self.count(Verdict::NotYet),
            self.count(Verdict::Skipped)
        )
    }
}
