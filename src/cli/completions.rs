//! Completions for shells: what clap makes of the tables of options, and what it cannot know: that
//! behind childminder's options stands a command with a completion of its own, which words a list may
//! hold, and which runs the record has.

use clap::builder::PossibleValuesParser;
use clap::{Command, ValueEnum};
use clap_complete::Shell;

use crate::cli::values;
use crate::model::verdict::VerdictKind;
use crate::plan::Function;

/// Options of childminder whose values are words with commas between them.
const LISTS: [&str; 4] = ["restart_on", "never_on", "forward", "stop_on"];

/// Returns the completions of nanny; `table` is its table of options.
pub(super) fn of_nanny(shell: Shell, table: Command) -> String {
    let states = values::verdicts_and_states();
    let runs = |runs: Command| with_words(runs, "verdict", &states);
    let mut table = table.mut_subcommand("runs", runs);
    let text = generated(shell, &mut table, "nanny");
    match shell {
        Shell::Bash => text + include_str!("completions/nanny.bash"),
        Shell::Fish => {
            let shells: Vec<String> =
                Shell::value_variants().iter().map(Shell::to_string).collect();
            text + &include_str!("completions/nanny.fish").replace("@SHELLS@", &shells.join(" "))
        }
        Shell::Zsh => {
            let change = |line: &str| match line.strip_prefix("'::run -- ") {
                Some(rest) => {
                    format!("'::run -- {}", rest.replace(":_default'", ":_nanny_run_ids'"))
                }
                None => line.to_owned(),
            };
            changed(&text, change, include_str!("completions/nanny.zsh"))
        }
        _ => text,
    }
}

/// Returns the completions of childminder.
pub(super) fn of_childminder(shell: Shell, mut table: Command) -> String {
    // A script for fish completes lists itself: words that clap is given exclude a comma.
    for list in LISTS.iter().filter(|_| shell != Shell::Fish) {
        table = with_words(table, list, &words_of(list));
    }
    let text = generated(shell, &mut table, "childminder");
    match shell {
        Shell::Bash => text + &filled(include_str!("completions/childminder.bash"), &table),
        Shell::Fish => {
            let ours = filled(include_str!("completions/childminder.fish"), &table);
            let text = text.replace(
                "complete -c childminder ",
                "complete -c childminder -n __childminder_has_no_job ",
            );
            text + &ours
        }
        Shell::Zsh => {
            let ours = filled(include_str!("completions/childminder.zsh"), &table);
            changed(&text, zsh_line, &ours)
        }
        _ => text,
    }
}

/// Changes a line of the function that clap makes for zsh.
fn zsh_line(line: &str) -> String {
    let list = |name: &str| line.contains(&format!("--{}=", name.replace('_', "-")));
    if LISTS.iter().any(|name| list(name)) {
        // Words with commas between them.
        return line.replacen(":(", ":_sequence compadd - ", 1).replacen(")' \\", "' \\", 1);
    }
    if line.starts_with("'*::command ") {
        return "'*::job:_childminder_job' \\".to_owned();
    }
    // What stands behind the job is not ours.
    line.replace("_arguments_options=(-s -S -C)", "_arguments_options=(-s -S -C -A '-*')")
        .replace("_arguments_options=(-s -C)", "_arguments_options=(-s -C -A '-*')")
}

fn generated(shell: Shell, table: &mut Command, name: &str) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, table, name, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Changes each line of a script for zsh, and puts functions in front of the code that calls the first.
fn changed(script: &str, change: impl Fn(&str) -> String, functions: &str) -> String {
    let mut text = String::with_capacity(script.len() + functions.len());
    for line in script.lines() {
        if line.starts_with("if [ \"$funcstack[1]\" = ") {
            text.push_str(functions);
        }
        text.push_str(&change(line));
        text.push('\n');
    }
    text
}

/// Makes an option take one of these words, as far as completions are concerned.
fn with_words(table: Command, option: &'static str, words: &[&'static str]) -> Command {
    let words = PossibleValuesParser::new(words.to_vec());
    table.mut_arg(option, |one| one.value_parser(words))
}

/// Returns what the list of an option may hold, without what has a number or a name in it.
fn words_of(list: &str) -> Vec<&'static str> {
    match list {
        "forward" => ["all", "none"].into_iter().chain(SIGNALS).collect(),
        "stop_on" => SIGNALS.to_vec(),
        _ => {
            let kinds = VerdictKind::ALL.map(VerdictKind::word);
            ["failure", "signal", "timeout", "crash"].into_iter().chain(kinds).collect()
        }
    }
}

/// The signals that are sent on purpose.
const SIGNALS: [&str; 12] = [
    "HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "CONT", "TSTP", "WINCH", "XCPU", "RTMIN",
];

/// Fills in what a script has to know of the table.
fn filled(script: &str, table: &Command) -> String {
    let with_value = table.get_arguments().filter(|one| one.get_action().takes_values());
    let (mut letters, mut names) = (String::new(), Vec::new());
    for option in with_value.filter(|one| !one.is_positional()) {
        letters.extend(option.get_short());
        names.extend(option.get_long_and_visible_aliases().into_iter().flatten());
    }
    let is_fish = script.contains("commandline");
    let between = if is_fish { " --" } else { "|--" };
    script
        .replace("@LETTERS@", &letters)
        .replace("@NAMES@", &names.join(between))
        .replace("@FUNCTIONS@", &Function::ALL.map(Function::word).join(" "))
        .replace("@CAUSES@", &words_of("restart_on").join(" "))
        .replace("@SIGNALS@", &SIGNALS.join(" "))
}
