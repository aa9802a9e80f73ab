//! CONTRIBUTING: "Plain technical English, as in the man pages": words that make a reader stop are written nowhere.

use std::fs;
use std::path::{Path, PathBuf};

/// What is not written, and what is written in its place.
const PHRASES: [(&str, &str); 47] = [
    ("tell", "report, log, print, record, show"),
    ("telling", "reporting, ..."),
    ("untold", "unreported, unknown"),
    ("hears of", "gets, is informed of"),
    ("hear of", "get, be informed of"),
    ("heard of", "got, was informed of"),
    ("for so long", "for this time, at most DURATION"),
    ("after so long", "after this time"),
    ("so long before", "this time before"),
    ("tells", "reports, logs, prints, records, exports"),
    ("told", "reported, logged, printed, recorded"),
    ("heed", "respect"),
    ("heeds", "respects"),
    ("heeded", "respected"),
    ("lest", "so that ... not"),
    ("anew", "again"),
    ("thereof", "of it"),
    ("whom", "(rephrase)"),
    ("aught", "anything"),
    ("dear", "expensive"),
    ("testimony", "evidence"),
    ("witness", "observer, evidence"),
    ("witnesses", "observers, evidence"),
    ("onlooker", "sample callback"),
    ("the scene", "termination evidence"),
    ("trouble", "failure, error, problem: say which"),
    ("troubles", "failures, errors, problems: say which"),
    ("for want of", "out of, without"),
    ("for lack of", "out of, without"),
    ("not to be had", "unavailable"),
    ("could not be had", "unavailable"),
    ("cannot be had", "unavailable"),
    ("by way of", "through"),
    ("it is none", "it is not a ..."),
    ("that is none", "that is not a ..."),
    ("are none of", "are not ..."),
    ("is none of", "is not ..."),
    ("is no record", "is not a record"),
    ("is no duration", "is not a duration"),
    ("begins at nothing", "starts at zero"),
    ("rises by", "increases by"),
    ("rise by", "increase by"),
    ("a moment after", "say how long after"),
    ("in good order", "cleanly"),
    ("so many", "at most N, this number of"),
    ("so often", "how often, every DURATION"),
    ("goes to its end", "finishes"),
];

fn texts(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            texts(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|ending| {
        ["rs", "md", "1", "5", "html", "js"].iter().any(|kind| ending == *kind)
    }) {
        found.push(path.to_owned());
    }
}

/// `there is no`, and `is no longer` with the like, are plain; `it is no file` is not.
fn is_no(words: &str) -> bool {
    const AFTER: [&str; 4] = ["longer", "more", "shorter", "larger"];
    let words: Vec<&str> = words.split_whitespace().collect();
    words.windows(4).any(|four| {
        let is_no = ["is", "are"].contains(&four[1]) && four[2] == "no";
        is_no && four[0] != "there" && !AFTER.contains(&four[3])
    })
}

/// Letters, and what joins words in names: `told_at` and `Told` are found too.
fn words(line: &str) -> String {
    let mut text = String::from(" ");
    let mut was_lower = false;
    for c in line.chars() {
        if c.is_ascii_uppercase() && was_lower {
            text.push(' ');
        }
        was_lower = c.is_ascii_lowercase();
        match c.is_alphanumeric() {
            true => text.extend(c.to_lowercase()),
            false if text.ends_with(' ') => {}
            false => text.push(' '),
        }
    }
    text.push(' ');
    text
}

/// A piece of a file in which a sentence may go on from line to line, with the number of its first line.
struct Passage {
    first_line: usize,
    text: String,
}

/// What introduces a comment, longest first, in any of the kinds of file.
const COMMENT_MARKS: [&str; 5] = ["///", "//!", "//", ".\\\"", "*"];

/// Splits a text into passages: lines of comments that follow each other are one, and so are the lines of a
/// paragraph or of a text that goes on behind a backslash. Any other line stands alone.
fn passages(name: &str, text: &str) -> Vec<Passage> {
    let is_source = [".rs", ".js"].iter().any(|ending| name.ends_with(ending));
    let mut passages: Vec<Passage> = Vec::new();
    let (mut goes_on, mut is_continued) = (false, false);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let mark = COMMENT_MARKS.iter().find(|mark| is_source && line.starts_with(**mark));
        let content = mark.map_or(line, |mark| line[mark.len()..].trim());
        // Code ends a sentence; in documents an empty line, a heading, an item and a row of a table do.
        let is_part = match is_source {
            true => mark.is_some() && !content.is_empty(),
            false => !line.is_empty() && !line.starts_with(['|', '#', '*', '-', '.', '<']),
        };
        match passages.last_mut() {
            Some(last) if is_continued || (goes_on && is_part) => {
                last.text.push(' ');
                last.text.push_str(content);
            }
            _ => passages.push(Passage { first_line: index + 1, text: content.to_owned() }),
        }
        goes_on = is_part;
        is_continued = is_source && line.ends_with('\\');
    }
    passages
}

/// Returns what is wrong in a text, with the line at which the passage begins.
fn findings(name: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for passage in passages(name, text) {
        let words = words(&passage.text);
        let place = format!("{name}:{}", passage.first_line);
        if is_no(&words) {
            wrong.push(format!("{place}: 'is no X': write 'is not a X'"));
        }
        let found = PHRASES.iter().filter(|(phrase, _)| words.contains(&format!(" {phrase} ")));
        wrong.extend(found.map(|(phrase, better)| format!("{place}: '{phrase}': write {better}")));
    }
    wrong
}

#[test]
fn a_phrase_is_found_across_the_end_of_a_line() {
    let broken = "/// It starts in good\n/// order.\nfn f() {}\n";
    assert_eq!(findings("a.rs", broken).len(), 1);
    assert_eq!(findings("a.md", "It ends for want\nof memory.\n").len(), 1);
    assert_eq!(findings("a.rs", "    \"it goes to its \\\n     end\"").len(), 1);
    // Neither of two items nor of two paragraphs is one sentence.
    assert_eq!(findings("a.rs", "/// In good\nfn order() {}\n"), Vec::<String>::new());
    assert_eq!(findings("a.md", "for want\n\nof it\n"), Vec::<String>::new());
}

#[test]
fn the_language_is_plain() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let places =
        ["src", "docs", "deploy", "README.md", "SECURITY.md", "CONTRIBUTING.md", "RELEASING.md"];
    places.iter().for_each(|place| texts(&root.join(place), &mut files));
    assert!(
        files.len() > 100,
        "only {} files: does this test still read the sources?",
        files.len()
    );
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a text");
        let name = file.strip_prefix(root).expect("below the root").display().to_string();
        wrong.extend(findings(&name, &text));
    }
    assert!(wrong.is_empty(), "{} places:\n{}", wrong.len(), wrong.join("\n"));
}
