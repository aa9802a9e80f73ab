//! Histograms of call times, for a terminal and as SVG.
//!
//! All machines of a function share one axis, so that they compare by eye. The axis is logarithmic
//! where the slowest call took many times the fastest.

use std::fmt::Write as _;
use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::nanny::statistics::quantile::quantile;
use crate::nanny::view::screen::Screen;

/// The calls of one function on one machine.
pub struct Group {
    pub function: String,
    pub machine: String,
    /// Sorted.
    pub micros: Vec<f64>,
}

/// From here on the axis is logarithmic.
const MANY_TIMES: f64 = 20.0;

/// The bars of one histogram: on a terminal, and in a picture.
const ROWS: usize = 16;
const BARS: usize = 80;

/// The width of a plot that does not go to a terminal.
const DEFAULT_WIDTH: usize = 80;

/// Equal steps from the fastest to the slowest call.
struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    steps: usize,
}

impl Axis {
    /// The axis that fits all calls of a function.
    fn of(groups: &[Group], function: &str, steps: usize) -> Axis {
        let calls = || groups.iter().filter(|group| group.function == function);
        let least = calls().filter_map(|group| group.micros.first());
        let most = calls().filter_map(|group| group.micros.last());
        let from = least.copied().fold(f64::INFINITY, f64::min);
        let to = most.copied().fold(f64::NEG_INFINITY, f64::max);
        Axis { from, to, is_log: from > 0.0 && to / from >= MANY_TIMES, steps }
    }

    fn scaled(&self, micros: f64) -> f64 {
        if self.is_log { micros.ln() } else { micros }
    }

    /// Returns which step a call falls into.
    fn step(&self, micros: f64) -> usize {
        let (from, to) = (self.scaled(self.from), self.scaled(self.to));
        let share = if to > from { (self.scaled(micros) - from) / (to - from) } else { 0.0 };
        // The slowest call of all belongs to the last step.
        ((share * self.steps as f64) as usize).min(self.steps - 1)
    }

    /// Returns where a step begins.
    fn begin(&self, step: usize) -> f64 {
        let share = step as f64 / self.steps as f64;
        let (from, to) = (self.scaled(self.from), self.scaled(self.to));
        let at = from + share * (to - from);
        if self.is_log { at.exp() } else { at }
    }

    fn counts(&self, micros: &[f64]) -> Vec<usize> {
        let mut counts = vec![0; self.steps];
        micros.iter().for_each(|call| counts[self.step(*call)] += 1);
        counts
    }
}

/// Writes a histogram for each group, a line for each step.
pub fn on_terminal(groups: &[Group], out: &mut dyn Write, screen: &Screen) -> io::Result<()> {
    let width = screen.width.unwrap_or(DEFAULT_WIDTH);
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", title(group))?;
        let axis = Axis::of(groups, &group.function, ROWS);
        let counts = axis.counts(&group.micros);
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        let digits = most.to_string().len();
        for (step, count) in counts.iter().enumerate() {
            let label = format!("{:>12} ", millis(axis.begin(step)));
            let room = width.saturating_sub(label.width() + digits + 2).max(1);
            let line = format!("{label}{} {count}", bar(*count, most, room));
            writeln!(out, "{}", if *count == 0 { label.trim_end() } else { &line })?;
        }
    }
    Ok(())
}

fn title(group: &Group) -> String {
    let at = |share| millis(quantile(&group.micros, share));
    let (function, machine) = (&group.function, &group.machine);
    let calls = group.micros.len();
    let s = if calls == 1 { "" } else { "s" };
    format!("{function} on {machine}: {calls} call{s}, median {}, p99 {}", at(0.5), at(0.99))
}

fn millis(micros: f64) -> String {
    format!("{:.3} ms", micros / 1e3)
}

/// Draws a bar to an eighth of a column; what happened at all is seen.
fn bar(count: usize, most: usize, room: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count * room * 8).div_ceil(most);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// The size of a picture's parts, in its units.
const WIDTH: usize = 720;
const PANEL: usize = 150;
const LEFT: usize = 20;
const BAR_WIDTH: usize = (WIDTH - 2 * LEFT) / BARS;
const BAR_HEIGHT: usize = 80;

/// Returns a picture with a histogram for each group, one below the other.
pub fn svg(groups: &[Group]) -> String {
    let height = groups.len() * PANEL + LEFT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (index, group) in groups.iter().enumerate() {
        panel(&mut svg, groups, group, index * PANEL + LEFT);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, groups: &[Group], group: &Group, top: usize) {
    let axis = Axis::of(groups, &group.function, BARS);
    let counts = axis.counts(&group.micros);
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let base = top + 24 + BAR_HEIGHT;
    let mut line = |text: std::fmt::Arguments<'_>| {
        // A String takes all that is written to it.
        writeln!(svg, "{text}").ok();
    };
    let name = escaped(&title(group));
    line(format_args!("<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{name}</text>", top + 12));
    for (step, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        // What happened at all is seen.
        let height = (count * BAR_HEIGHT).div_ceil(most);
        let (x, y, width) = (LEFT + step * BAR_WIDTH, base - height, BAR_WIDTH - 1);
        let tip = format!("{count} from {}", millis(axis.begin(step)));
        line(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#4878a8\">\
             <title>{tip}</title></rect>"
        ));
    }
    let end = LEFT + BARS * BAR_WIDTH;
    line(format_args!("<path d=\"M{LEFT} {base}H{end}\" stroke=\"#444\"/>"));
    for (tick, anchor) in [(0, "start"), (1, "middle"), (2, "middle"), (3, "middle"), (4, "end")] {
        let (x, at) = (LEFT + tick * BARS * BAR_WIDTH / 4, millis(axis.begin(tick * BARS / 4)));
        let y = base + 16;
        line(format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{at}</text>"));
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(micros: &[f64]) -> Group {
        Group { function: "file".into(), machine: "<a>".into(), micros: micros.to_vec() }
    }

    #[test]
    fn every_call_is_in_the_picture_once() {
        let cases: [&[f64]; 4] = [&[5.0], &[1.0, 2.0, 3.0, 4.0], &[1.0, 10.0, 1e6], &[0.0, 9.0]];
        for micros in cases {
            let groups = [group(micros)];
            let axis = Axis::of(&groups, "file", ROWS);
            assert_eq!(axis.counts(micros).iter().sum::<usize>(), micros.len(), "{micros:?}");
        }
    }

    #[test]
    fn plots_fit_the_terminal_and_show_the_rare() {
        let micros: Vec<f64> =
            (0..2000).map(|i| if i == 1999 { 9e6 } else { 1e6 + f64::from(i) }).collect();
        for width in [40, 80, 132] {
            let mut out = Vec::new();
            let screen = Screen { width: Some(width), is_terminal: true, is_coloured: false };
            on_terminal(&[group(&micros)], &mut out, &screen).expect("a vector");
            let text = String::from_utf8(out).expect("text");
            let bars: Vec<&str> = text.lines().skip(1).collect();
            assert_eq!(bars.len(), ROWS);
            assert!(bars.iter().all(|line| line.width() <= width), "{text}");
            assert!(bars[ROWS - 1].ends_with("▏ 1"), "{text}");
        }
    }

    #[test]
    fn pictures_are_well_formed() {
        let picture = svg(&[group(&[1.0, 2.0]), group(&[5.0])]);
        assert!(picture.contains("file on &lt;a&gt;: 2 calls"), "{picture}");
        assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
        assert_eq!(picture.matches("<title>").count(), 3);
    }
}
