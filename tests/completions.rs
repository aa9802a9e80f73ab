//! Completions of both programs, in the shells that they are for: commands behind childminder's options,
//! then what the command itself completes; the words that lists hold; the runs of a record.

#![allow(missing_docs, reason = "the names say it")]

mod support;

use std::process::{Command, Stdio};

use support::{Place, nanny, skip};

const RECORD: &str = "all.csv";

/// What is typed, and what it is completed to. `ID` is the id of a run, and the file `a-file` is there.
/// All are the only ones possible, so that a shell inserts them.
const LINES: [(&str, &str); 20] = [
    // The job behind the options.
    ("childminder unam", "uname"),
    ("childminder -t 2 unam", "uname"),
    ("childminder -cst2 unam", "uname"),
    ("childminder -cst 2 unam", "uname"),
    ("childminder --timeout 5 -d unam", "uname"),
    ("childminder --timeout=5 unam", "uname"),
    ("childminder -- unam", "uname"),
    // The job's own words are not our options.
    ("childminder cat a-fi", "a-file"),
    ("childminder cat --timeo", "--timeo"),
    // Our options and their values.
    ("childminder --restart-sto", "--restart-stopped"),
    ("childminder --stragglers ki", "kill"),
    ("childminder --restart-on oom", "oom_killed"),
    ("childminder --restart-on failure,oom", "failure,oom_killed"),
    ("childminder --forward WIN", "WINCH"),
    ("childminder -f 5 math-i", "math-int"),
    ("childminder --function 5 math-i", "math-int"),
    ("nanny runs --verdict oom", "oom_killed"),
    ("nanny completions fi", "fish"),
    // The runs of the record.
    ("nanny why ID", "ID"),
    ("nanny --central-log other.csv why ID", ""),
];

/// Where nothing may stand behind the word.
const AT_THE_END: (&str, &str) = ("childminder ls --auth", "--author");

/// A place with a record and completions; returns the id of its run. What childminder says goes aside: a
/// process of anybody that is killed meanwhile may make the success a likely one.
fn prepare(place: &Place, shell: &str) -> String {
    let script = format!(
        "\"$CM\" --central-log {RECORD} true 2> told && cp {RECORD} other.csv &&
         head -n 1 {RECORD} > other.csv && touch a-file && mkdir completions &&
         \"$NANNY\" completions {shell} > completions/_nanny &&
         \"$NANNY\" completions {shell} childminder > completions/_childminder &&
         \"$NANNY\" --central-log {RECORD} ids"
    );
    let output = place.shell(&script).output().expect("sh starts");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let ids = String::from_utf8(output.stdout).expect("text");
    let (id, run) = ids.split_once(' ').expect("an id and what it was");
    assert!(run.starts_with("true success, 20"), "{ids}");
    id.to_owned()
}

/// A shell in that place, which finds our programs and the record.
fn shell(place: &Place, shell: &str) -> Command {
    let programs = nanny().parent().expect("a directory").to_owned();
    let mut command = place.command(shell);
    command
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()))
        .env("CHILDMINDER_CENTRAL_LOG", RECORD)
        .env("HOME", place.path())
        .env("TERM", "xterm")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

fn is_there(place: &Place, program: &str) -> bool {
    let output = place.command(program).arg("--version").output();
    output.is_ok_and(|output| output.status.success())
}

/// The lines that a script makes of these.
fn completed(mut command: Command, lines: &[String]) -> Vec<String> {
    let output = command.args(lines).output().expect("the shell starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Replaces the word `ID` by the first characters of an id, or by all of them.
fn typed(id: &str) -> Vec<String> {
    let lines = LINES.iter().chain([&AT_THE_END]);
    lines.map(|(line, _)| line.replace("ID", &id[..6])).collect()
}

fn expected(id: &str) -> impl Iterator<Item = String> {
    let words = LINES.iter().chain([&AT_THE_END]);
    words.map(move |(_, word)| word.replace("ID", id))
}

/// zsh on a terminal: each line is typed, then Tab, then a key that shows what stands there now.
const ZSH: &str = r#"
zmodload zsh/zpty || exit 3
zpty z 'exec zsh -f -i'
zpty -w z 'stty rows 50 cols 200; PS1= RPS1=; setopt no_beep; fpath=($PWD/completions $fpath)'
zpty -w z 'autoload -Uz compinit; compinit -D -u'
zpty -w z 'show() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N show; bindkey "^X" show'
zpty -w z 'print rea''dy'
zpty -r z text '*ready*'
for line in "$@"; do
    zpty -w -n z "$line"$'\t\C-x'
    zpty -r z text '*<*>*'
    print -r -- ${${text##*<}%%>*}
done
zpty -d z
"#;

#[test]
fn zsh_completes_both_programs() {
    let place = Place::new();
    if !is_there(&place, "zsh") {
        return skip("completions for zsh", "no zsh (package zsh)");
    }
    let id = prepare(&place, "zsh");
    let mut command = shell(&place, "zsh");
    command.args(["-f", "-c", ZSH, "zsh"]);
    let lines = typed(&id);
    let shown = completed(command, &lines);
    for ((line, word), shown) in lines.iter().zip(expected(&id)).zip(&shown) {
        let (before, last) = line.rsplit_once(' ').expect("several words");
        // Where nothing fits, what was typed stays. A comma waits for more, and goes if none comes.
        let word = if word.is_empty() { last } else { &word };
        assert_eq!(shown.trim_end_matches(','), format!("{before} {word}"), "{shown}");
    }
    assert_eq!(shown.len(), lines.len(), "{shown:?}");
}

/// fish: what it offers for a line, without the descriptions.
const FISH: &str = "
source completions/_nanny
source completions/_childminder
for line in $argv
    echo (string join , -- (complete -C $line | string replace -r '\\t.*' ''))
end
";

#[test]
fn fish_completes_both_programs() {
    let place = Place::new();
    if !is_there(&place, "fish") {
        return skip("completions for fish", "no fish (package fish)");
    }
    let id = prepare(&place, "fish");
    place.write("complete.fish", FISH);
    let mut command = shell(&place, "fish");
    command.arg("complete.fish");
    let lines = typed(&id);
    let shown = completed(command, &lines);
    for ((line, word), shown) in lines.iter().zip(expected(&id)).zip(&shown) {
        // An option of the job that is not one is not completed.
        let word = if line.ends_with(&word) { "" } else { &word };
        assert_eq!(shown, word, "{line}");
    }
    assert_eq!(shown.len(), lines.len(), "{shown:?}");
}

/// bash: its functions are called as readline calls them, with or without the package bash-completion.
const BASH: &str = r#"
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
source completions/_nanny
source completions/_childminder
for COMP_LINE in "$@"; do
    COMP_POINT=${#COMP_LINE} COMPREPLY=()
    COMP_WORDS=(${COMP_LINE//=/ = }) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    complete=($(complete -p ${COMP_WORDS[0]}))
    "${complete[-2]}" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    reply=$(printf '%s\n' "${COMPREPLY[@]}" | sort -u)
    echo ${reply//$'\n'/,}
done
"#;

/// Where bash-completion is.
const PACKAGE: &str = "/usr/share/bash-completion/bash_completion";

#[test]
fn bash_completes_both_programs() {
    let place = Place::new();
    let id = prepare(&place, "bash");
    let complete = |begin: &str, lines: &[String]| {
        let mut command = shell(&place, "bash");
        let script = format!("{begin}{BASH}");
        command.args(["--norc", "-c", &script, "bash"]);
        completed(command, lines)
    };
    let mut lines = typed(&id);
    let own = lines.pop().expect("a line");
    let shown = complete("", &lines);
    for ((line, word), shown) in lines.iter().zip(expected(&id)).zip(&shown) {
        let word = if line.ends_with(&word) { "" } else { &word };
        assert_eq!(shown, word, "{line}");
    }
    assert_eq!(shown.len(), lines.len(), "{shown:?}");
    // readline splits words at '='.
    let split = [
        ("childminder --restart-on=oom", "oom_killed"),
        ("childminder --stragglers=ki", "kill"),
        ("childminder --timeout=5 -d unam", "uname"),
    ];
    let typed = split.map(|(line, _)| line.to_owned());
    assert_eq!(complete("", &typed), split.map(|(_, word)| word));
    if !std::path::Path::new(PACKAGE).exists() {
        return skip("the job's own completion in bash", "no bash-completion");
    }
    assert_eq!(complete(&format!("source {PACKAGE}\n"), &[own]), [AT_THE_END.1]);
}

/// Nobody waits for a long record, nor for many files beside it.
#[test]
fn of_a_large_record_only_the_end_is_read() {
    let place = Place::new();
    prepare(&place, "bash");
    let mut script = place.shell(
        "mkdir -p all.csv.d && { head -n 1 all.csv; i=0
         while [ $i -lt 9 ]; do i=$((i + 1)); cat copied 2>/dev/null || sed 1d all.csv
             cat all.csv >> copied; cat copied copied > more; mv more copied; done; } > large.csv
         i=0; while [ $i -lt 300 ]; do i=$((i + 1)); sed 's/,end,/,bad,/' all.csv > all.csv.d/$i.csv; done
         \"$NANNY\" --central-log large.csv ids; echo status $?
         strace -f -e trace=openat \"$NANNY\" --central-log all.csv ids 2>&1 | grep -c 'all.csv.d/.*csv'",
    );
    let output = script.output().expect("sh starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(" true success, 20"), "{output:?}");
    assert_eq!(lines[1], "status 0", "{output:?}");
    match lines.get(2) {
        Some(&"0") | None => skip("files opened for completions", "strace cannot be used here"),
        Some(count) => assert_eq!(*count, "200", "{output:?}"),
    }
}
