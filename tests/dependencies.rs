//! deny.toml without cargo-deny: what is linked into the program has a licence that is listed there, and
//! comes from the registry.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The words in quotes of a list in deny.toml.
fn listed(text: &str, begin: &str) -> Vec<String> {
    let list = text.split(begin).nth(1).expect("the list").split(']').next().expect("its end");
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an expression of SPDX is satisfied: OR of ANDs, as crates have them, with brackets.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    // A bracket holds alternatives; what stands beside it is needed as well.
    if let Some((before, rest)) = expression.split_once('(') {
        let (inside, after) = rest.split_once(')').expect("a closing bracket");
        let word = if is_allowed(inside, allowed) { &allowed[0] } else { "refused" };
        return is_allowed(&format!("{before}{word}{after}"), allowed);
    }
    let is_one = |word: &str| allowed.iter().any(|one| one == word.trim());
    expression.split(" OR ").any(|all| all.split(" AND ").all(is_one))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "cargo is asked")]
fn licences_and_sources_are_those_of_deny_toml() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("deny.toml")).expect("deny.toml");
    let allowed = listed(&text, "allow = [");
    assert!(allowed.len() > 5 && allowed.contains(&"MIT".to_owned()), "{allowed:?}");
    let words = ["metadata", "--locked", "--offline", "--format-version", "1"];
    let target = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = Command::new(env!("CARGO")).args(words).args(target).current_dir(root).output();
    let output = output.expect("cargo starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let linked: Vec<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let mut seen = 0;
    for package in packages {
        let id = package["id"].as_str().expect("an id");
        if !linked.contains(&id) {
            continue;
        }
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_allowed(licence, &allowed), "{id}: {licence}");
        let source = package["source"].as_str();
        let is_ours = package["name"] == "childminder";
        assert!(is_ours || source.is_some_and(|one| one.starts_with("registry+")), "{id}");
        seen += 1;
    }
    assert!(seen > 100, "only {seen} crates were looked at");
}

#[test]
fn expressions_of_licences_are_understood() {
    let allowed = ["MIT".to_owned(), "Unicode-3.0".to_owned()];
    for (expression, is_right) in [
        ("MIT", true),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(GPL-3.0 OR Apache-2.0) AND Unicode-3.0", false),
        ("none", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), is_right, "{expression}");
    }
}

/// `cargo fuzz` builds without `--locked`: a lock that lacks a dependency would be changed by each build.
#[test]
fn the_lock_of_the_fuzz_targets_has_our_dependencies() {
    let text = |name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let (manifest, lock) = (text("Cargo.toml"), text("fuzz/Cargo.lock"));
    let ours = lock.split("[[package]]").find(|one| one.contains("name = \"childminder\"\n"));
    let locked = listed(ours.expect("childminder"), "dependencies = [");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("the section");
    let section = section.split("\n[").next().expect("its end");
    let lines = section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let names: Vec<&str> = lines.filter_map(|line| line.split([' ', '.', '=']).next()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        // A version stands behind the name where there are several.
        let is_it = |one: &String| one.split(' ').next() == Some(name);
        assert!(locked.iter().any(is_it), "fuzz/Cargo.lock lacks {name}: cargo update -w there");
    }
}
