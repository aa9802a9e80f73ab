//! Parts of a page of HTML.

/// Escapes text for an element or a quoted attribute; what a browser would not show is replaced.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Also what would turn the order of the letters around it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A cell of a table.
pub enum Cell {
    Text(String),
    /// Stays on one line.
    Word(String),
    /// Set to the right.
    Number(String),
}

/// A table with a line of headings. Every first cell names its row.
pub struct HtmlTable {
    pub caption: String,
    pub headings: Vec<&'static str>,
    pub rows: Vec<Vec<Cell>>,
}

impl HtmlTable {
    #[must_use]
    pub fn html(&self) -> String {
        let caption = escaped(&self.caption);
        // Wide tables scroll by themselves, by the keyboard too.
        let mut html = format!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
        );
        for (index, heading) in self.headings.iter().enumerate() {
            let is_number =
                self.rows.iter().any(|row| matches!(row.get(index), Some(Cell::Number(_))));
            let class = if is_number { " class=\"n\"" } else { "" };
            html += &format!("<th scope=\"col\"{class}>{}</th>", escaped(heading));
        }
        html += "</tr></thead><tbody>";
        for row in &self.rows {
            html += "<tr>";
            for (index, cell) in row.iter().enumerate() {
                html += &match cell {
                    Cell::Text(text) | Cell::Word(text) if index == 0 => {
                        format!("<th scope=\"row\">{}</th>", escaped(text))
                    }
                    Cell::Text(text) => format!("<td class=\"t\">{}</td>", escaped(text)),
                    Cell::Word(text) => format!("<td class=\"w\">{}</td>", escaped(text)),
                    Cell::Number(text) => format!("<td class=\"n\">{}</td>", escaped(text)),
                };
            }
            html += "</tr>";
        }
        html + "</tbody></table></div>"
    }
}

/// Returns a plot with the table of its numbers behind it.
#[must_use]
pub fn figure(svg: &str, caption: &str, table: &HtmlTable) -> String {
    format!(
        "<figure>{svg}<figcaption>{}</figcaption></figure><details><summary>The numbers as a table</summary>{}</details>",
        escaped(caption),
        table.html()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_cell_is_obeyed() {
        let table = HtmlTable {
            caption: "<script>".into(),
            headings: vec!["a", "b"],
            rows: vec![vec![
                Cell::Text("<img src=x>\u{1b}[31m".into()),
                Cell::Number("\"1\"".into()),
            ]],
        };
        let html = table.html();
        assert!(
            !html.contains("<script") && !html.contains("<img") && !html.contains('\u{1b}'),
            "{html}"
        );
        assert!(html.contains("&lt;img src=x&gt;") && html.contains("&quot;1&quot;"), "{html}");
    }
}
