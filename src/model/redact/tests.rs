//! See the module's documentation.

use proptest::prelude::*;

use super::*;
use crate::model::redact::word::matches;

fn shown(words: &[&str]) -> String {
    let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
    let patterns = ["key-*".to_owned(), "s?cret*x".to_owned()];
    let redacted = Redactor::new(&patterns).command(&argv);
    assert_eq!(redacted.has_hidden, redacted.words != argv);
    let words: Vec<&str> = redacted.words.iter().map(|word| word.to_str().expect("text")).collect();
    words.join("|")
}

#[test]
fn secrets_are_hidden() {
    for (words, expected) in [
        (&["job", "--password=X"][..], "job|--password=[hidden]"),
        (&["job", "--token", "X", "y"], "job|--token|[hidden]|y"),
        (&["env", "AWS_SECRET_ACCESS_KEY=X"], "env|AWS_SECRET_ACCESS_KEY=[hidden]"),
        (&["TOKEN=X"], "TOKEN=[hidden]"),
        (&["run", "--env=TOKEN=X", "--tag=a=b"], "run|--env=TOKEN=[hidden]|--tag=a=b"),
        (&["psql", "PGPASSWORD=X"], "psql|PGPASSWORD=[hidden]"),
        (&["job", "-apiKey", "X"], "job|-apiKey|[hidden]"),
        (&["curl", "-H", "Authorization: Bearer X"], "curl|-H|Authorization: [hidden]"),
        (&["curl", "-HX-Auth-Token: X"], "curl|-HX-Auth-Token: [hidden]"),
        (&["curl", "--header=Cookie: X"], "curl|--header=Cookie: [hidden]"),
        (&["curl", "-u", "me:X"], "curl|-u|[hidden]"),
        (&["git", "https://me:X@host/p"], "git|https://[hidden]@host/p"),
        (&["get", "--db=postgres://me:X@h/d"], "get|--db=postgres://[hidden]@h/d"),
        (&["get", "https://h/p?a=1&token=X&b=2"], "get|https://h/p?a=1&token=[hidden]&b=2"),
        (
            &["sh", "-c", "TOKEN='X X' run  --password X"],
            "sh|-c|TOKEN=[hidden] run  --password [hidden]",
        ),
        (
            &["sh", "-c", "curl -H 'Authorization: Bearer X' h"],
            "sh|-c|curl -H 'Authorization: [hidden]' h",
        ),
        (&["sh", "-c", "x --auth=\"X X\""], "sh|-c|x --auth=[hidden]"),
        (&["x", "ghp_0123456789abcdefghij"], "x|[hidden]"),
        (&["x", "--id=key-X", "key-X", "secretXx"], "x|--id=[hidden]|[hidden]|[hidden]"),
    ] {
        assert_eq!(shown(words), expected);
        assert!(!shown(words).contains('X') || expected.contains('X'), "{words:?}");
    }
}

#[test]
fn each_form_of_a_secret_is_hidden() {
    for (words, expected) in [
        (&["curl", "-uu:X", "h"][..], "curl|-u[hidden]|h"),
        (&["curl", "-su", "u:X", "h"], "curl|-su|[hidden]|h"),
        (&["curl", "-fsSLuu:X", "h"], "curl|-fsSLu[hidden]|h"),
        (&["curl", "--user=u:X", "h"], "curl|--user=[hidden]|h"),
        (&["sh", "-c", "curl -u u:X h"], "sh|-c|curl -u [hidden] h"),
        (
            &["sh", "-c", "ssh h \"sh -c 'curl -u u:X h'\""],
            "sh|-c|ssh h \"sh -c 'curl -u [hidden] h'\"",
        ),
        (&["sudo", "-u", "me", "nice", "curl", "-u", "u:X"], "sudo|-u|me|nice|curl|-u|[hidden]"),
        (
            &["get", "https://h/p?X-Amz-Signature=1X&a=1"],
            "get|https://h/p?X-Amz-Signature=[hidden]&a=1",
        ),
        (&["get", "https://h/p?a=1&sig=aX%3D1234567890123"], "get|https://h/p?a=1&sig=[hidden]"),
        (&["post", r#"{"password":"X","a":1}"#], r#"post|{"password":"[hidden]","a":1}"#),
        (&["post", "a=b&password=X"], "post|a=b&password=[hidden]"),
        (&["x", "--set", "a=1,rootPassword=X,b=2"], "x|--set|a=1,rootPassword=[hidden],b=2"),
        (&["x", "Server=h;Password=X;"], "x|Server=h;Password=[hidden];"),
        (&["x", "Server=h;Password=X;X;Encrypt=1"], "x|Server=h;Password=[hidden];Encrypt=1"),
        (&["npm", "//r/:_authToken=X"], "npm|//r/:_authToken=[hidden]"),
        (&["x", "--password=X horse X"], "x|--password=[hidden]"),
        (&["x", "--password= X"], "x|--password= [hidden]"),
        (&["x", "--password=secret/word"], "x|--password=[hidden]"),
        (&["x", "--password=password", "-pX"], "x|--password=[hidden]|-pX"),
        (&["x", "PASSWORD = X"], "x|PASSWORD = [hidden]"),
        (&["x", "PASSWORD", "=", "X"], "x|PASSWORD|=|[hidden]"),
        (&["x", "http://u:X/w@h/p"], "x|http://[hidden]@h/p"),
        (&["x", "u:X@127.0.0.1:1"], "x|[hidden]@127.0.0.1:1"),
        (&["mysql", "-u", "root", "-pX!", "db"], "mysql|-u|root|-p[hidden]|db"),
        (&["-----BEGIN PRIVATE KEY-----\nX\n-----END PRIVATE KEY-----", "a"], "[hidden]|a"),
    ] {
        assert_eq!(shown(words), expected);
    }
}

/// Whoever sent a signal is known by a line that has lost the bounds of its words.
#[test]
fn a_password_of_several_words_is_hidden_where_the_bounds_are_lost() {
    let blurred = |line: &str| Redactor::default().blurred(line);
    assert_eq!(
        blurred("SIGTERM from pid 3 'x --password=correct horse -v b' uid 0"),
        "SIGTERM from pid 3 'x --password=[hidden] [hidden] -v b' uid 0"
    );
    assert_eq!(blurred("x --token abc1 def /a"), "x --token [hidden] [hidden] /a");
    let line = "OTLP traces could not be sent: connect to u:PW@127.0.0.1:1: refused";
    assert!(!Redactor::default().text(line).contains("PW"));
    let line = "ENDPOINT: invalid endpoint 'u:PW@127.0.0.1:1': invalid format; the job goes on";
    assert!(!Redactor::default().text(line).contains("PW"));
}

#[test]
fn the_work_grows_with_the_length_and_no_faster() {
    for piece in [
        "'a b'",
        "\"",
        "://",
        "a:b@",
        "password=/",
        "sk-",
        "=",
        " ",
        "--token ",
        "-----BEGIN ",
        "(",
        "\\\"",
        "eyJ",
        "x='y ",
        ",'password',",
    ] {
        let line = piece.repeat(200_000 / piece.len());
        let begun = cpu_seconds();
        let shown = Redactor::default().text(&line);
        assert!(shown.len() <= line.len() * 10);
        let spent = cpu_seconds() - begun;
        assert!(spent < 20.0, "{piece:?}: {spent} s");
    }
}

/// Of this thread, so that a busy machine does not count.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("there is one");
    stat.split(' ').next().expect("a number").parse::<f64>().expect("a number") / 1e9
}

#[test]
fn what_is_not_a_secret_stays() {
    for words in [
        &["train", "--tokenizer", "bert", "--max-tokens=512", "--tokens", "9"][..],
        &["x", "--password-file=/run/p", "--token-file", "/run/t", "--password-stdin"],
        &["env", "PWD=/home/me", "PATH=/bin"],
        &["sort", "--key=2", "-k", "2"],
        &["git", "clone", "ssh://git@host/p", "git@host:p"],
        &["sh", "-c", "echo it's over; exit 3"],
        &["echo", "12:30", "a=b", "Error: none", "author=me", "--author", "me"],
        &["x", "--password="],
        &["mysql", "-p", "db"],
        &["ffmpeg", "-pass", "1", "--pad-token-id", "0", "--eos_token_id=2"],
        &["x", "--cookie-jar", "f", "--auth", "none", "--token=$TOKEN", "--password", "${PW}"],
        &["x", "--token=@f.txt", "--password", "/run/secrets/db", "--password=off"],
    ] {
        assert_eq!(shown(words), words.join("|"));
    }
}

#[test]
fn an_option_is_not_taken_for_the_value_of_the_one_before() {
    assert_eq!(shown(&["x", "--password", "--verbose"]), "x|--password|--verbose");
    assert_eq!(shown(&["x", "--password"]), "x|--password");
}

proptest! {
    #[test]
    fn any_bytes_are_taken(words in prop::collection::vec(
        prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b" ='\":-/@?"[..])], 0..12), 0..5
    )) {
        let argv: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
        let redacted = Redactor::default().command(&argv);
        prop_assert_eq!(redacted.words.len(), argv.len());
        prop_assert!(redacted.has_hidden || redacted.words == argv);
    }

    #[test]
    fn what_was_shown_is_shown_the_same_again(words in prop::collection::vec(any_word(), 0..6)) {
        let redactor = Redactor::new(&["key-*".to_owned()]);
        let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
        let once = redactor.command(&argv).words;
        prop_assert_eq!(&redactor.command(&once).words, &once);
        let line = words.join(" ");
        for show in [Redactor::text, Redactor::blurred] {
            let once = show(&redactor, &line);
            prop_assert_eq!(show(&redactor, &once), once);
        }
    }

    #[test]
    fn a_secret_is_hidden_whatever_stands_around_it(
        before in prop::collection::vec("[a-z./-]{1,9}", 0..4),
        form in 0..FORMS.len(),
        secret in "[A-Za-z0-9!+_]{4,20}[0-9][A-Z]{3}",
        after in prop::collection::vec("[a-z./]{1,9}", 0..4),
    ) {
        let word = FORMS[form].replace("SECRET", &secret);
        let mut words: Vec<OsString> = vec!["job".into()];
        words.extend(before.iter().map(OsString::from));
        // An operand, for an option before may take the next word as its value.
        words.push("x".into());
        words.extend(word.split('|').map(OsString::from));
        words.extend(after.iter().map(OsString::from));
        let shown = Redactor::default().command(&words);
        prop_assert!(shown.has_hidden);
        let shown = format!("{:?}", shown.words);
        prop_assert!(!shown.contains(&secret), "{}", shown);
    }

    #[test]
    fn a_pattern_matches_as_its_parts_do(a in "[ab]{0,4}", b in "[ab]{0,4}", c in "[ab]{0,4}") {
        let pattern = format!("{a}*{b}");
        let word = format!("{a}{c}{b}");
        prop_assert!(matches(pattern.as_bytes(), word.as_bytes()));
        prop_assert_eq!(matches(a.as_bytes(), c.as_bytes()), a == c);
    }
}

/// Where a secret may stand; `|` is between words.
const FORMS: [&str; 14] = [
    "--password=SECRET",
    "--password|SECRET",
    "TOKEN=SECRET",
    "--env=API_KEY=SECRET",
    "Authorization: Bearer SECRET",
    "https://u:SECRET@h.example/p",
    "https://h/p?a=1&token=SECRET&b=2",
    "{\"password\":\"SECRET\"}",
    "a=b&password=SECRET",
    "Server=h;Password=SECRET;",
    "curl|-su|u:SECRET",
    "curl|-suu:SECRET",
    "mysql|-pSECRET",
    "sh|-c|curl -u u:SECRET h",
];

fn any_word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,16}",
        prop::collection::vec(
            prop::sample::select(vec![
                "--password",
                "token",
                "curl",
                "-u",
                "sh",
                "-c",
                "=",
                " ",
                "'",
                "\"",
                ":",
                "a",
                "X1",
                "//",
                "@",
                "h.x",
                "{",
                "}",
                "&",
                "?",
                ";",
                ",",
                "[hidden]",
                "$",
                "(",
                "\\",
                "Bearer",
                "ghp_0123456789abcdef0",
                "u:p",
                "é",
            ]),
            0..10
        )
        .prop_map(|parts| parts.concat()),
    ]
}
