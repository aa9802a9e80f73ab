//! ARCHITECTURE, "Which part may import which": arrows go down only, and siblings do not know each other.

#![allow(clippy::allow_attributes, reason = "tests read the sources")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each part may name after `crate::`, besides itself.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("files", &[]),
    ("plan", &["model"]),
    ("question", &["model"]),
    ("supervisor", &["model"]),
    ("diagnose", &["model"]),
    ("trace", &["model"]),
    ("cli", &["model", "plan", "question"]),
    ("sys", &["model"]),
    ("observe", &["model", "trace"]),
    ("canary", &["model", "plan"]),
    ("record", &["model", "plan", "files"]),
    ("sink", &["model", "plan", "files", "record", "sys"]),
    ("telemetry", &["model", "plan", "files", "sys", "observe", "canary", "sink"]),
    ("nanny", &["model", "question", "files", "sys", "observe", "record"]),
    (
        "fuzzing",
        &[
            "model",
            "plan",
            "trace",
            "cli",
            "sys",
            "observe",
            "record",
            "sink",
            "telemetry",
            "nanny",
        ],
    ),
    ("programs", &["model", "question", "cli", "nanny", "run", "sink", "sys"]),
    (
        "run",
        &[
            "model",
            "plan",
            "files",
            "supervisor",
            "diagnose",
            "trace",
            "sys",
            "observe",
            "canary",
            "record",
            "sink",
            "telemetry",
        ],
    ),
];

/// What only some files may say, and why is written in .clippy.toml or ARCHITECTURE.md.
const WORDS: [(&str, &[&str]); 3] = [
    ("unsafe {", &["sys", "bin", "programs"]),
    ("unsafe extern", &["sys"]),
    ("io::stdout()", &["programs", "sink", "run"]),
];

/// How std opens, makes and renames files by a path: it follows links and blocks on a FIFO.
const BY_PATH: [&str; 9] = [
    "File::open(",
    "File::create",
    "File::options",
    "OpenOptions",
    "DirBuilder",
    "fs::read(",
    "fs::read_to_string(",
    "fs::write(",
    "fs::rename(",
];

/// Who may use them, and why; all others use `files`. A ban in .clippy.toml would need an exception
/// in each of these and in each test that plants a file, and such an exception lifts all other bans
/// of methods, too.
const MAY_OPEN_BY_PATH: [(&str, &str); 18] = [
    ("files", "it is what the others use"),
    ("observe/", "files of the kernel in /proc and /sys"),
    ("sys/", "files of the kernel in /proc and /sys"),
    ("run/prepare.rs", "-i, -o and -e of the job: FIFOs and devices are welcome, as in a shell"),
    ("run/recording.rs", "files of the kernel in /proc"),
    ("run/senders.rs", "/etc/passwd"),
    ("telemetry/identity.rs", "/etc/machine-id"),
    ("telemetry/prometheus/file_sd.rs", "files of the kernel in /proc"),
    ("record/", "the shared record: its own rules, O_NOFOLLOW and is_trusted in record/table.rs"),
    ("nanny/commands/rerun/lock.rs", "the lock of the record, by the same rules"),
    ("nanny/source/presence.rs", "files of the kernel in /proc"),
    ("nanny/commands/rerun/workers.rs", "/dev/null"),
    ("run/termination_log.rs", "a mount of Kubernetes, or a file that the user named"),
    ("run/hooks.rs", "/dev/null, and a file of ours without a name"),
    ("nanny/source/proof.rs", "the record's rules"),
    ("nanny/commands/dist.rs", "logs that the user named: a pipe is welcome"),
    ("nanny/commands/import.rs", "logs that the user named: a pipe is welcome"),
    ("nanny/view/output.rs", "a pipe or a device that the user named"),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// A file without its module of tests, wherever that stands, or its declaration.
fn without_tests(text: &str) -> String {
    const MARK: &str = "\n#[cfg(test)]\n";
    let Some((before, tests)) = text.split_once(MARK) else { return text.to_owned() };
    let (head, rest) = tests.split_once('\n').unwrap_or((tests, ""));
    let is_module = head.contains("mod ");
    let end =
        if head.ends_with(';') { Some(rest) } else { rest.split_once("\n}\n").map(|(_, end)| end) };
    match end.filter(|_| is_module) {
        Some("") => before.to_owned(),
        Some(end) => format!("{before}\n{}", without_tests(end)),
        // One item, which counts.
        None => format!("{before}{MARK}{}", without_tests(tests)),
    }
}

/// Each source file as (part, path, text without the tests below it).
fn parts() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let part = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source");
        let text = without_tests(&text);
        let inside = path.strip_prefix(&root).expect("below src").to_owned();
        let first = inside.iter().next().expect("a name").to_string_lossy();
        (first.trim_end_matches(".rs").to_owned(), inside.display().to_string(), text)
    };
    files
        .into_iter()
        .map(part)
        .filter(|(_, path, _)| !path.ends_with("tests.rs") && !path.contains("/tests/"))
        .collect()
}

#[test]
fn arrows_go_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut seen = 0;
    for (part, path, text) in parts() {
        if part == "lib" || part == "bin" {
            continue;
        }
        let may = allowed.get(part.as_str()).unwrap_or_else(|| panic!("{path}: {part} has no row"));
        for line in text.lines() {
            let Some((_, rest)) = line.split_once("crate::") else { continue };
            let named = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            assert!(
                named == part || may.contains(&named),
                "{path}: {part} must not import {named}: {line}"
            );
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} imports were found: does this test still read the sources?");
}

/// The module of a file: `nanny/source/index.rs` and `telemetry/mod.rs` are `nanny::source::index` and `telemetry`.
fn module(path: &str) -> String {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace('/', "::")
}

/// What a module uses of the crate, as paths of which a prefix is a module: `crate::` paths, and those that begin
/// with a module declared here.
fn imports(of: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // A visibility is not an import.
    let text = text.replace("(in crate::", "(in ");
    for path in text.split("crate::").skip(1) {
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        let (path, rest) = path.split_at(end.unwrap_or(path.len()));
        // A group is taken apart: one path for each of its names.
        match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((group, _)) => {
                let names = group.split(',').filter_map(|name| name.trim().split(' ').next());
                found.extend(names.map(|name| format!("{path}{name}")));
            }
            None => found.push(path.to_owned()),
        }
    }
    let lines = text.lines().filter_map(|line| line.strip_suffix(';'));
    let declared = lines
        .filter_map(|line| line.rsplit_once("mod "))
        .filter(|(before, _)| before.is_empty() || before.starts_with("pub"));
    for (_, child) in declared {
        let path = format!("{child}::");
        let uses = text.match_indices(path.as_str());
        let mut before = uses.map(|(at, _)| text[..at].chars().next_back());
        let is_used =
            before.any(|c| c.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':'));
        found.extend(is_used.then(|| format!("{of}::{child}")));
    }
    found
}

/// Inside of a part, too, arrows go one way: no module imports, through others, one that imports it. What
/// several need is in a module of its own, not in that which declares them.
#[test]
fn modules_import_each_other_in_one_direction() {
    let files = parts();
    let modules: BTreeSet<String> = files.iter().map(|(_, path, _)| module(path)).collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (_, path, text) in &files {
        let from = module(path);
        let to = imports(&from, text).into_iter().filter_map(|path| {
            let names: Vec<&str> = path.trim_end_matches("::").split("::").collect();
            let prefixes = (1..=names.len()).rev().map(|count| names[..count].join("::"));
            prefixes.into_iter().find(|prefix| modules.contains(prefix))
        });
        let to: BTreeSet<String> = to.filter(|to| *to != from).collect();
        arrows.insert(from, to);
    }
    assert!(arrows.values().map(BTreeSet::len).sum::<usize>() > 300, "imports are not found");
    let reached = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&String> = arrows[from].iter().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(&arrows[module]);
            }
        }
        seen
    };
    let on_circles: Vec<&String> =
        arrows.keys().filter(|from| reached(from).contains(from)).collect();
    assert!(
        on_circles.is_empty(),
        "these modules import themselves through others: {on_circles:#?}"
    );
}

/// A path that begins at the crate can be searched for, and is seen by the tests here.
#[test]
fn paths_begin_at_the_crate() {
    for (_, path, text) in parts() {
        let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let detour = lines.find(|line| line.contains("super::") && line.trim() != "use super::*;");
        assert_eq!(detour, None, "{path}");
    }
}

/// One concept, one word, one type: who searches for a name finds one definition.
#[test]
fn no_type_name_is_defined_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, path, text) in parts() {
        for line in text.lines() {
            // What is indented is inside of a macro, or an associated type.
            let mut words = line
                .split([' ', '<', '(', ')', ';', '{', ':', '='])
                .filter(|word| !word.is_empty());
            let kind = words.find(|word| !["pub", "crate", "super", "in"].contains(word));
            if matches!(kind, Some("struct" | "enum" | "trait" | "type" | "union"))
                && !line.starts_with(' ')
            {
                let name = words.next().unwrap_or_default().to_owned();
                places.entry(name).or_default().push(path.clone());
            }
        }
    }
    assert!(places.len() > 200, "only {} types were found", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "defined more than once: {places:#?}");
}

/// The row of the record is vocabulary: below all that reads or writes files.
#[test]
fn the_row_of_the_record_knows_the_model_only() {
    let rows = parts().into_iter().filter(|(_, path, _)| path.starts_with("record/row"));
    for (_, path, text) in rows {
        for line in text.lines().filter(|line| line.contains("crate::")) {
            let is_below = ["crate::model::", "crate::record::row::"];
            assert!(is_below.iter().any(|part| line.contains(part)), "{path}: {line}");
        }
    }
}

#[test]
fn what_is_for_some_is_said_by_those_only() {
    for (part, path, text) in parts() {
        for (word, may) in WORDS {
            assert!(!text.contains(word) || may.contains(&part.as_str()), "{path} says '{word}'");
        }
    }
}

#[test]
fn files_are_opened_by_those_who_know_whose_they_are() {
    for (_, path, text) in parts() {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        let may = MAY_OPEN_BY_PATH.iter().any(|(part, _)| path.starts_with(part));
        for word in BY_PATH {
            // Not `LogFile::open(`.
            let mut before = text.match_indices(word).map(|(at, _)| text[..at].chars().next_back());
            let is_said = before.any(|c| !c.is_some_and(char::is_alphanumeric));
            assert!(may || !is_said, "{path} says '{word}': use crate::files");
        }
    }
}

/// STYLE, section 8: "400 non-test lines the wall".
#[test]
fn no_file_has_outgrown_its_purpose() {
    for (_, path, text) in parts() {
        let lines = text.lines().count();
        assert!(lines <= 400, "{path} has {lines} lines without its tests");
    }
}

/// What ARCHITECTURE.md names exists: files and directories below src in backquotes, and links.
#[test]
fn the_map_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let src = root.join("src");
    let map = fs::read_to_string(src.join("ARCHITECTURE.md")).expect("the map");
    let is_part = |name: &str| {
        let path = src.join(name);
        path.exists() || path.with_extension("rs").exists() || root.join(name).exists()
    };
    let mut seen = 0;
    // Drawings have backquotes of their own.
    let prose: String = map.split("```").step_by(2).collect();
    for name in prose.split('`').skip(1).step_by(2) {
        // A path: `sys/spawn`, `sys::spawn`, and not an option, a type or a call.
        let path = name.replace("::", "/");
        let is_path = path.contains('/')
            && path.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '/' | '_' | '.'));
        if !is_path || path.starts_with('/') || path.starts_with('.') {
            continue;
        }
        // `run/mod` is a file, `sys::poll` a module, `model::outcome` as well; of `run::run` the
        // first part.
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(
            is_part(&path) || (name.contains("::") && is_part(parent)),
            "no such part: `{name}`"
        );
        seen += 1;
    }
    assert!(seen > 40, "only {seen} parts were found");
    for link in map.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(src.join(link).exists(), "no such page: {link}");
    }
}
