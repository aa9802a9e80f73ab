//! Plots as SVG inside a page: the page's style gives them their colours, so that they follow a dark screen and
//! a printer. Each mark has its value as `<title>`, which browsers show and screen readers read.

use std::fmt::Write as _;

use crate::nanny::view::report::html::escaped;
use crate::nanny::view::report::numbers::thousands;

/// The number of colours that the style has; the last one is for all others.
pub const COLOURS: usize = 8;

/// Rows of a plot with a row for each thing.
pub const PLOT_ROWS: usize = 30;

/// The sizes of parts, in the units of the picture.
const WIDTH: usize = 960;
const HEIGHT: usize = 200;
const MARGIN: usize = 72;
const BELOW: usize = 24;
const ROW: usize = 20;
const LABELS: usize = 220;

/// Adds to a text; a `String` takes all that is written to it.
macro_rules! put {
    ($to:expr, $($what:tt)*) => { write!($to, $($what)*).ok() };
}

fn begin(height: usize, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escaped(label))
}

/// Several series, one upon the other, in equal steps.
pub struct StackedBars<'a> {
    pub label: &'a str,
    /// What a step is called, for its tip.
    pub steps: Vec<String>,
    /// A name, a colour and the counts.
    pub series: Vec<(String, usize, Vec<u64>)>,
}

/// Returns a round number that is not less, whose half is a whole number unless it is 1.
fn round_up(most: u64) -> u64 {
    let mut power = 1;
    loop {
        for step in [1, 2, 4, 6, 8] {
            if power * step >= most {
                return power * step;
            }
        }
        power *= 10;
    }
}

impl StackedBars<'_> {
    pub fn svg(&self) -> String {
        let sums: Vec<u64> = (0..self.steps.len())
            .map(|step| self.series.iter().map(|(.., counts)| counts[step]).sum())
            .collect();
        let most = round_up(sums.iter().copied().max().unwrap_or(1).max(1));
        let mut svg = begin(HEIGHT + BELOW + ROW, self.label);
        let room = WIDTH - MARGIN;
        for part in [0, 1, 2_u64] {
            let y = 8 + (HEIGHT - 8) * part as usize / 2;
            put!(svg, "<path class=\"rule\" d=\"M{MARGIN} {y}H{WIDTH}\"/>");
            // Half a failure is not a count.
            let value =
                (most * (2 - part)).is_multiple_of(2).then(|| thousands(most * (2 - part) / 2));
            let (value, x) = (value.unwrap_or_default(), MARGIN - 6);
            put!(
                svg,
                "<text class=\"faint\" x=\"{x}\" y=\"{}\" text-anchor=\"end\">{value}</text>",
                y + 4
            );
        }
        let width = room as f64 / self.steps.len().max(1) as f64;
        for (step, name) in self.steps.iter().enumerate() {
            let mut base = HEIGHT as f64;
            for (series, colour, counts) in &self.series {
                let height = counts[step] as f64 / most as f64 * (HEIGHT - 8) as f64;
                if counts[step] == 0 {
                    continue;
                }
                base -= height;
                let (x, wide) = (MARGIN as f64 + step as f64 * width, (width - 1.0).max(0.5));
                put!(
                    svg,
                    "<rect class=\"c{colour}\" x=\"{x:.1}\" y=\"{base:.1}\" width=\"{wide:.1}\" height=\"{height:.1}\">\
                     <title>{}: {} {}</title></rect>",
                    escaped(name),
                    counts[step],
                    escaped(series)
                );
            }
        }
        self.axis(&mut svg, width);
        self.legend(&mut svg);
        svg.push_str("</svg>");
        svg
    }

    /// Names some steps: as many as there is room for.
    fn axis(&self, svg: &mut String, width: f64) {
        let longest = self.steps.iter().map(|step| step.chars().count()).max().unwrap_or(1);
        let every = ((longest as f64 * 7.5 + 12.0) / width).ceil().max(1.0) as usize;
        let mut end = f64::MIN;
        for (step, name) in self.steps.iter().enumerate().step_by(every) {
            let x = MARGIN as f64 + (step as f64 + 0.5) * width;
            // A name that would not fit at an end is set to that end.
            let half = name.chars().count() as f64 * 3.75;
            let anchor = match x {
                _ if x + half > WIDTH as f64 => "end",
                _ if x - half < MARGIN as f64 - 40.0 => "start",
                _ => "middle",
            };
            let left = if anchor == "end" { x - 2.0 * half } else { x - half };
            if left < end {
                continue;
            }
            end = x + half + 4.0;
            let y = HEIGHT + 16;
            put!(
                svg,
                "<text class=\"faint\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
                escaped(name)
            );
        }
    }

    fn legend(&self, svg: &mut String) {
        let (mut x, y) = (MARGIN, HEIGHT + BELOW + 6);
        for (name, colour, _) in &self.series {
            put!(svg, "<rect class=\"c{colour}\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\"/>");
            put!(svg, "<text x=\"{}\" y=\"{}\">{}</text>", x + 14, y + 9, escaped(name));
            x += 30 + name.chars().count() * 7;
        }
    }
}

/// A share from 0 to 1 with its tip; `None` where there is nothing.
pub type Share = Option<(f64, String)>;

/// A grid of shares.
pub struct HeatMap<'a> {
    pub label: &'a str,
    pub columns: Vec<String>,
    /// A name, and a share for each column.
    pub rows: Vec<(String, Vec<Share>)>,
}

impl HeatMap<'_> {
    pub fn svg(&self) -> String {
        let mut svg = begin((self.rows.len() + 1) * ROW, self.label);
        let width = (WIDTH - LABELS) as f64 / self.columns.len().max(1) as f64;
        for (column, name) in self.columns.iter().enumerate() {
            let x = LABELS as f64 + (column as f64 + 0.5) * width;
            put!(
                svg,
                "<text class=\"faint\" x=\"{x:.1}\" y=\"14\" text-anchor=\"middle\">{}</text>",
                escaped(name)
            );
        }
        for (row, (name, cells)) in self.rows.iter().enumerate() {
            let y = (row + 1) * ROW;
            put!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                LABELS - 8,
                y + 14,
                shortened(name)
            );
            for (column, cell) in cells.iter().enumerate() {
                let Some((share, tip)) = cell else { continue };
                let (x, wide, high) = (LABELS as f64 + column as f64 * width, width - 1.0, ROW - 1);
                put!(
                    svg,
                    "<rect class=\"box\" x=\"{x:.1}\" y=\"{y}\" width=\"{wide:.1}\" height=\"{high}\" \
                     fill-opacity=\"{share:.2}\"><title>{}</title></rect>",
                    escaped(tip)
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }
}

/// A bar for each name, over an optional lighter one for what it is compared with.
pub struct NamedBars<'a> {
    pub label: &'a str,
    /// Name, value, what it is compared with, and both in words.
    pub rows: Vec<(String, f64, Option<f64>, String)>,
}

impl NamedBars<'_> {
    pub fn svg(&self) -> String {
        let mut svg = begin(self.rows.len() * ROW + 4, self.label);
        let values = self.rows.iter().flat_map(|row| [row.1, row.2.unwrap_or(0.0)]);
        let most = values.fold(0.0, f64::max);
        let room = WIDTH - LABELS - 200;
        for (row, (name, value, compared, words)) in self.rows.iter().enumerate() {
            let y = row * ROW;
            let length = |value: f64| if most > 0.0 { value / most * room as f64 } else { 0.0 };
            put!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                LABELS - 8,
                y + 14,
                shortened(name)
            );
            for (value, class, opacity) in [(compared.unwrap_or(0.0), 7, 0.35), (*value, 2, 1.0)] {
                let wide = length(value);
                let (y, high) = (y + 4, ROW - 7);
                put!(
                    svg,
                    "<rect class=\"c{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{wide:.1}\" height=\"{high}\" fill-opacity=\"{opacity}\"/>"
                );
            }
            let x = LABELS as f64 + length(value.max(compared.unwrap_or(0.0))) + 6.0;
            put!(
                svg,
                "<text class=\"faint\" x=\"{x:.1}\" y=\"{}\">{}</text>",
                y + 14,
                escaped(words)
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

/// Moments, each with a size.
pub struct Timeline<'a> {
    pub label: &'a str,
    /// What stands at both ends.
    pub ends: (String, String),
    /// Where from 0 to 1, a size from 0 to 1, and its tip.
    pub moments: Vec<(f64, f64, String)>,
}

impl Timeline<'_> {
    pub fn svg(&self) -> String {
        let mut svg = begin(90, self.label);
        let room = (WIDTH - 2 * MARGIN) as f64;
        put!(svg, "<path class=\"rule\" d=\"M{MARGIN} 40H{}\"/>", WIDTH - MARGIN);
        for (at, size, tip) in &self.moments {
            let (x, radius) = (MARGIN as f64 + at * room, 4.0 + size.sqrt() * 24.0);
            put!(
                svg,
                "<circle class=\"c0\" cx=\"{x:.1}\" cy=\"40\" r=\"{radius:.1}\" fill-opacity=\"0.5\"><title>{}</title></circle>",
                escaped(tip)
            );
        }
        put!(svg, "<text class=\"faint\" x=\"{MARGIN}\" y=\"84\">{}</text>", escaped(&self.ends.0));
        let end = WIDTH - MARGIN;
        put!(
            svg,
            "<text class=\"faint\" x=\"{end}\" y=\"84\" text-anchor=\"end\">{}</text>",
            escaped(&self.ends.1)
        );
        svg.push_str("</svg>");
        svg
    }
}

/// Cuts a name to what fits beside a row; the table behind the plot has it whole.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 30;
    if name.chars().count() <= LONGEST {
        return escaped(name);
    }
    let begin: String = name.chars().take(LONGEST - 1).collect();
    format!("{}…", escaped(&begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let ends = [0, 1, 3, 7, 10, 11, 4_999, 500_001].map(round_up);
        assert_eq!(ends, [1, 1, 4, 8, 10, 20, 6_000, 600_000]);
    }

    #[test]
    fn every_count_is_a_mark_and_texts_are_escaped() {
        let bars = StackedBars {
            label: "a \"b\"",
            steps: vec!["<1>".into(), "2".into()],
            series: vec![("x&y".into(), 0, vec![3, 0]), ("z".into(), 1, vec![1, 4])],
        };
        let svg = bars.svg();
        assert_eq!(svg.matches("<title>").count(), 3, "{svg}");
        assert!(svg.contains("&lt;1&gt;: 3 x&amp;y") && svg.contains("a &quot;b&quot;"), "{svg}");
    }
}
