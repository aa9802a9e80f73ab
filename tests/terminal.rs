//! DESIGN, sections 4 and 5: job control. Real programs under a real interactive shell.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

#[path = "support/pty.rs"]
mod pty;
mod support;

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pty::{Answer, CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, Shell};
use support::{Place, kill, messages, state, status_field, wait_until};

/// Says that it runs, reads a line and ends with a status of its own.
const READER: &str = "echo up; read line; echo \"got $line\"; exit 5";

/// Tells each SIGINT, and at SIGUSR1 how many there were.
const COUNTER: &str = r#"
    use POSIX;
    $| = 1;
    sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGINT, SIGUSR1));
    $SIG{INT} = sub { $count++; print "int $count\n" };
    $SIG{USR1} = sub { print "in all $count\n"; exit 0 };
    print "up\n";
    sigsuspend(POSIX::SigSet->new) while 1;
"#;

/// An editor that does this when it is asked to stop, and ends with its first line of input. (A
/// signal that comes just before a read does not interrupt it in perl.)
fn editor(clean_up: &str) -> String {
    let read = r#"print "got ", scalar <STDIN>; exit 5;"#;
    format!(
        "$| = 1; $SIG{{TSTP}} = sub {{ $asked = 1 }}; print \"up\\n\"; vec($input, 0, 1) = 1;
         until (select($ready = $input, undef, undef, 0.01) > 0) {{
             if ($asked) {{ $asked = 0; {clean_up} }}
         }}
         {read}"
    )
}

/// What such an editor does.
const CLEAN_AND_STOP: &str = r#"print "clean\n"; kill STOP => $$; print "drawn\n";"#;

/// The prompt of a nested shell, which is not in the text of the command that sets it.
const NESTED: &str = "nested 42: ";
const SET_NESTED: &str = "PS1='nested $((6 * 7)): '";
const NESTED_BASH: &str = "bash --norc --noprofile --noediting -i";

/// A childminder that runs, and its job.
#[derive(Clone, Copy, Debug)]
struct Minded {
    childminder: i32,
    job: i32,
}

impl Minded {
    /// Those of the only log in a place.
    fn of(place: &Place) -> Minded {
        let line = place.await_log(" started in process ");
        let job = line.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a pid");
        let status = fs::read_to_string(format!("/proc/{job}/status")).expect("the job lives");
        let childminder = status_field(&status, "PPid").parse().expect("a pid");
        Minded { childminder, job }
    }

    fn await_stop(self) {
        self.await_states("both are stopped", |state| state == Some('T'));
    }

    fn await_run(self) {
        self.await_states("both run", |state| state != Some('T'));
    }

    fn await_end(self) {
        self.await_states("both have ended", |state| matches!(state, None | Some('Z')));
    }

    fn await_states(self, what: &str, mut holds: impl FnMut(Option<char>) -> bool) {
        let Minded { childminder, job } = self;
        wait_until(&format!("{what}: {self:?}"), || holds(state(childminder)) && holds(state(job)));
    }
}

/// A shell on a terminal, a place with the only log, and the steps of a test.
struct Case {
    place: Place,
    shell: Shell,
}

impl Case {
    fn new() -> Case {
        Case::with(Place::new(), Shell::bash)
    }

    /// One with a file for its job.
    fn with_file(name: &str, text: &str) -> Case {
        let place = Place::new();
        place.write(name, text);
        Case::with(place, Shell::bash)
    }

    fn with(place: Place, shell: impl FnOnce(&Place) -> Shell) -> Case {
        let shell = shell(&place);
        Case { place, shell }
    }

    /// Types a line that starts childminder in the foreground, and waits until its job says "up".
    #[track_caller]
    fn start(&mut self, line: &str) -> Minded {
        self.shell.type_line(line);
        self.shell.expect("up");
        Minded::of(&self.place)
    }

    /// Runs a line that starts childminder in the background; returns it once it is suspended.
    #[track_caller]
    fn start_suspended(&mut self, line: &str) -> Minded {
        self.shell.run(line);
        self.await_log("suspended together with the child");
        let minded = Minded::of(&self.place);
        minded.await_stop();
        minded
    }

    /// Presses Ctrl-Z and waits until the shell has its terminal again.
    #[track_caller]
    fn press_ctrl_z(&mut self) {
        self.shell.press(CTRL_Z);
        self.shell.expect("Stopped");
        self.shell.prompt();
    }

    /// Presses Ctrl-Z and waits until both are stopped.
    #[track_caller]
    fn suspend(&mut self, minded: Minded) {
        self.press_ctrl_z();
        minded.await_stop();
    }

    /// Runs `fg` and waits until both run.
    #[track_caller]
    fn fg(&mut self, minded: Minded) {
        self.shell.type_line("fg");
        minded.await_run();
    }

    /// Types what the job in the foreground waits for, and waits for its end.
    #[track_caller]
    fn answer(&mut self, line: &str, status: i32) {
        self.shell.type_line(line);
        self.ends(status);
    }

    /// What runs in the foreground ends with this status.
    #[track_caller]
    fn ends(&mut self, status: i32) -> Answer {
        let answer = self.shell.prompt();
        assert_eq!(answer.status, status, "{answer:?}");
        answer
    }

    #[track_caller]
    fn await_log(&self, words: &str) -> String {
        self.place.await_log(words)
    }

    /// How often a text is in the messages of the log.
    fn count(&self, words: &str) -> usize {
        count(&self.place, words)
    }

    #[track_caller]
    fn assert_count(&self, words: &str, times: usize) {
        let log = messages(&self.place.log());
        assert_eq!(self.count(words), times, "'{words}' in {log:#?}");
    }

    /// The log has messages with these words, in this order.
    #[track_caller]
    fn assert_in_order(&self, words: &[&str]) {
        let log = messages(&self.place.log());
        let mut rest = log.iter();
        for word in words {
            assert!(
                rest.any(|message| message.contains(word)),
                "'{word}' of {words:?} in {log:#?}"
            );
        }
    }

    /// Waits until childminder has told so many times that the job was continued.
    fn await_continued(&self, times: usize) {
        wait_until("it is continued", || self.count(" continued after ") == times);
    }

    /// Waits until the shell says so of its jobs.
    fn await_in_jobs(&mut self, word: &str) {
        wait_until("the shell knows", || self.shell.run("jobs").text.contains(word));
    }

    /// Waits until the shell has given its terminal to another process group.
    fn await_foreground(&self) {
        let shell = &self.shell;
        wait_until("childminder is in the foreground", || shell.foreground() != shell.pid());
    }

    /// Starts a canary on a terminal of the usual size, and waits until its bar shows a text.
    #[track_caller]
    fn of_canary(line: &str, shown: &str) -> Case {
        let mut case = Case::new();
        case.shell.run("stty rows 24 cols 80");
        case.shell.type_line(line);
        case.shell.expect(shown);
        case
    }

    /// The canary ends well, its bar is gone, and the shell is left.
    #[track_caller]
    fn canary_ends(mut self) -> Place {
        let answer = self.ends(0);
        assert_eq!(shown_line(&answer.text), "", "{answer:?}");
        self.leave()
    }

    /// Closes the terminal, as a lost connection does, and waits until both have ended.
    #[track_caller]
    fn hang_up(&mut self, minded: Minded) {
        self.shell.hang_up();
        minded.await_end();
    }

    /// Leaves the shell; see [`Shell::leave`].
    #[track_caller]
    fn leave(self) -> Place {
        self.shell.leave();
        self.place
    }
}

/// How often a text is in the messages of the only log of a place.
fn count(place: &Place, words: &str) -> usize {
    // The last line may be half written.
    place.log().split_inclusive('\n').filter(|line| line.contains(words)).count()
}

/// "those the kernel sends to the whole foreground group (Ctrl-C) are not, because the job has
/// them already"
#[test]
fn ctrl_c_ends_the_job_once_and_the_shell_goes_on() {
    let mut case = Case::new();
    case.start("childminder sh -c 'echo up; exec sleep 600'");
    case.shell.press(CTRL_C);
    let answer = case.ends(130);
    assert!(answer.text.contains("killed_by_terminal"), "{answer:?}");
    case.assert_in_order(&[
        "signal 2 (SIGINT) from the kernel",
        " terminated by signal 2 (SIGINT)",
        "verdict: killed_by_terminal (certain)",
    ]);
    case.assert_count("forwarded", 0);
    assert!(case.shell.run("echo still $((6 * 7))").text.contains("still 42"));
    case.leave();
}

/// The same, for a job that lives on: it must not get the signal twice.
#[test]
fn a_job_that_counts_them_gets_each_ctrl_c_once() {
    let mut case = Case::with_file("counter.pl", COUNTER);
    let minded = case.start("childminder perl counter.pl");
    for number in 1..=3 {
        case.shell.press(CTRL_C);
        case.shell.expect(&format!("int {number}\r\n"));
        wait_until("it is logged", || case.count("SIGINT) from the kernel") == number);
    }
    // By the same way as a forwarded SIGINT, and after it.
    kill(minded.childminder, "USR1");
    case.shell.expect("in all 3\r\n");
    case.ends(0);
    case.leave();
}

/// "Before any restart" somebody who wants the job to stop is heard.
#[test]
fn a_job_that_ctrl_c_ended_is_not_restarted() {
    let mut case = Case::new();
    case.start("childminder -s --restart-on failure sh -c 'echo up; exec sleep 600'");
    case.shell.press(CTRL_C);
    case.ends(130);
    case.assert_count("): restart", 0);
    case.leave();
}

/// "128+n | signal n killed it"
#[test]
fn ctrl_backslash_ends_the_job() {
    let mut case = Case::new();
    case.shell.run("ulimit -c 0");
    case.start("childminder sh -c 'echo up; exec sleep 600'");
    case.shell.press(CTRL_BACKSLASH);
    case.ends(131);
    case.await_log("signal 3 (SIGQUIT) from the kernel");
    case.await_log("verdict: killed_by_terminal (certain)");
    case.assert_count("forwarded", 0);
    case.leave();
}

/// "Nothing of the job's behaviour changes by being minded: same descriptors, terminal, signal
/// state"
#[test]
fn a_reader_that_leaves_ends_the_job_of_a_pipeline() {
    let mut case = Case::new();
    let line = "childminder yes | head -n 1; echo \"statuses ${PIPESTATUS[@]}\"";
    let answer = case.shell.run(line);
    assert!(answer.text.starts_with("y\r\n"), "{answer:?}");
    assert!(answer.text.ends_with("statuses 141 0\r\n"), "{answer:?}");
    case.await_log(" terminated by signal 13 (SIGPIPE)");
    case.leave();
}

/// "SIGTSTP, SIGTTIN and SIGTTOU suspend childminder after the job (it must have stopped first),
/// and SIGCONT wakes both, so that Ctrl-Z, bg and fg work from a shell."
#[test]
fn ctrl_z_stops_both_and_fg_wakes_both() {
    for shell in [Shell::bash, Shell::dash] {
        let mut case = Case::with(Place::new(), shell);
        let minded = case.start(&format!("childminder sh -c '{READER}'"));
        case.suspend(minded);
        let seen = Instant::now();
        assert_eq!(case.shell.foreground(), case.shell.pid());
        let length = seen.elapsed();
        case.fg(minded);
        case.await_continued(1);
        case.shell.type_line("hello");
        case.shell.expect("got hello");
        case.ends(5);
        case.assert_in_order(&[
            " stopped by signal 20 (SIGTSTP)",
            "suspended together with the child",
            "resumed",
            " continued after ",
            " exited with status 5",
        ]);
        case.assert_count("signal 20 (SIGTSTP) from the kernel", 1);
        case.assert_count("forwarded signal 20", 0);
        let continued = case.await_log(" continued after ");
        let seconds = continued.split(' ').nth_back(1).and_then(|word| word.parse().ok());
        let seconds: f64 = seconds.expect("a number");
        assert!(seconds + 0.001 >= length.as_secs_f64(), "{continued}, not {length:?}");
        case.leave();
    }
}

/// "never when childminder was stopped too (the user pressed Ctrl-Z)"
#[test]
fn continue_leaves_a_job_stopped_that_the_user_suspended() {
    let mut case = Case::new();
    let minded = case.start(&format!("childminder -c sh -c '{READER}'"));
    for round in 1..=3 {
        // A stopped childminder continues nothing.
        case.suspend(minded);
        case.fg(minded);
        case.await_continued(round);
    }
    case.answer("hello", 5);
    case.assert_count("suspended together with the child", 3);
    case.assert_count("successfully sent", 0);
    case.leave();
}

/// "so that Ctrl-Z, bg and fg work from a shell"
#[test]
fn bg_lets_both_go_on_in_the_background() {
    let mut case = Case::new();
    case.shell.run("mkfifo gate");
    let minded = case.start("childminder sh -c 'echo up; read line < gate; exit 6'");
    case.suspend(minded);
    case.shell.run("bg");
    minded.await_run();
    assert_eq!(case.shell.foreground(), case.shell.pid());
    case.await_in_jobs("Running");
    case.answer("echo hello > gate; wait %1", 6);
    case.await_log(" exited with status 6");
    case.leave();
}

/// The same: `kill %1` asks a suspended job to end and wakes it. (By another process, for bash
/// 5.2 sometimes holds a job for stopped that its own `kill` ended, whatever the job is.)
#[test]
fn a_suspended_job_can_be_killed_from_the_shell() {
    let mut case = Case::new();
    let minded = case.start("childminder sh -c 'echo up; exec sleep 600'");
    case.suspend(minded);
    let group = minded.childminder;
    case.shell.run(&format!("sh -c 'kill -TERM -{group}; kill -CONT -{group}'"));
    minded.await_end();
    case.await_log("verdict: stop_requested (certain)");
    wait_until("the shell knows", || !case.shell.run("jobs").text.contains("Stopped"));
    case.leave();
}

/// "SIGTTIN/SIGTTOU would stop it again at once: this is said once, with the cure
/// (`-i /dev/null`), never repeated in a loop"
#[test]
fn a_reader_in_the_background_waits_for_fg() {
    for option in ["", "-c", "-p"] {
        let mut case = Case::new();
        let advice = "wants the terminal (SIGTTIN)";
        let minded = case.start_suspended(&format!("childminder {option} cat &"));
        case.await_in_jobs("Stopped");
        assert_eq!(case.shell.shown().matches(advice).count(), 1, "{option}");
        // It reads again, and is stopped again.
        case.shell.run("bg");
        wait_until("it stopped again", || case.count("suspended together with") == 2);
        minded.await_stop();
        case.assert_count(advice, 1);
        case.assert_count("successfully sent", 0);
        case.fg(minded);
        case.shell.type_line("hello");
        case.shell.expect("hello\r\n");
        case.shell.press(CTRL_D);
        case.ends(0);
        case.await_log("verdict: success");
        let lines = messages(&case.place.log()).len();
        assert!(lines < 30, "{lines} lines with {option}");
        case.leave();
    }
}

/// The same: each stop is told before childminder stops with it, and with its true length.
#[test]
fn a_second_stop_in_the_background_is_told_like_the_first() {
    let mut case = Case::new();
    case.start_suspended("childminder cat &");
    for round in 1..=2 {
        wait_until("it is suspended", || case.count("suspended together with the child") == round);
        Minded::of(&case.place).await_stop();
        case.await_in_jobs("Stopped");
        case.assert_count(" stopped by signal 21 (SIGTTIN)", round);
        if round == 1 {
            case.shell.run("bg");
        }
    }
    case.shell.type_line("fg");
    case.await_foreground();
    case.shell.press(CTRL_C);
    case.ends(130);
    case.leave();
}

/// "the cure (`-i /dev/null`)"
#[test]
fn a_job_with_another_input_does_not_want_the_terminal() {
    let mut case = Case::new();
    case.answer("childminder -i /dev/null cat & wait $!", 0);
    case.assert_count(" stopped by ", 0);
    case.leave();
}

/// The same for one that writes while `stty tostop` is set.
#[test]
fn a_writer_in_the_background_waits_for_fg_if_the_user_wants_it_so() {
    let mut case = Case::new();
    case.shell.run("stty tostop");
    case.start_suspended("childminder sh -c 'echo hello; exit 4' &");
    case.await_in_jobs("Stopped");
    case.shell.type_line("fg");
    case.shell.expect("hello\r\n");
    case.ends(4);
    case.assert_count("wants the terminal (SIGTTOU)", 1);
    case.assert_count("wants the terminal", 1);
    case.shell.run("stty -tostop");
    case.leave();
}

/// "same descriptors, terminal": a job may take the terminal for itself.
#[test]
fn a_nested_shell_has_job_control_of_its_own() {
    for nested in [NESTED_BASH, "sh -i"] {
        let mut case = Case::new();
        case.shell.type_line(&format!("{SET_NESTED} childminder {nested}"));
        case.shell.expect(NESTED);
        let minded = Minded::of(&case.place);
        assert_eq!(case.shell.foreground(), minded.job);
        case.shell.press(CTRL_C);
        case.shell.expect(NESTED);
        case.shell.type_line("sh -c 'echo up; exec sleep 600'");
        case.shell.expect("up");
        case.shell.press(CTRL_Z);
        case.shell.expect("Stopped");
        case.shell.expect(NESTED);
        case.shell.type_line("fg");
        let shell = &case.shell;
        wait_until("sleep is in the foreground", || shell.foreground() != minded.job);
        case.shell.press(CTRL_C);
        case.shell.expect(NESTED);
        case.shell.type_line("echo \"status $?\"");
        case.shell.expect("status 130");
        case.answer("exit 7", 7);
        // None of this was childminder's.
        for words in ["SIGINT) from", "SIGTSTP) from", "suspended"] {
            case.assert_count(words, 0);
        }
        case.leave();
    }
}

/// The same: one that dies without giving the terminal back.
#[test]
fn a_nested_shell_that_is_killed_leaves_the_terminal_to_the_outer_one() {
    let mut case = Case::new();
    case.shell.type_line(&format!("{SET_NESTED} childminder {NESTED_BASH}"));
    case.shell.expect(NESTED);
    kill(Minded::of(&case.place).job, "KILL");
    case.ends(137);
    case.leave();
}

/// The same: a shell that begins in the background stops its whole group until it gets the
/// terminal.
#[test]
fn a_nested_shell_that_begins_in_the_background_works_after_fg() {
    let mut case = Case::new();
    let minded = case.start_suspended(&format!("{SET_NESTED} childminder {NESTED_BASH} &"));
    case.shell.type_line("fg");
    case.shell.expect(NESTED);
    assert_eq!(case.shell.foreground(), minded.job);
    case.answer("exit 7", 7);
    case.leave();
}

/// "suspend childminder after the job (it must have stopped first)": an editor restores the
/// screen before it stops itself.
#[test]
fn a_job_that_cleans_up_before_it_stops_is_waited_for() {
    let mut case = Case::with_file("editor.pl", &editor(CLEAN_AND_STOP));
    let minded = case.start("childminder -c perl editor.pl");
    for round in 1..=2 {
        case.shell.press(CTRL_Z);
        case.shell.expect("clean\r\n");
        case.shell.expect("Stopped");
        case.shell.prompt();
        minded.await_stop();
        case.shell.type_line("fg");
        case.shell.expect("drawn\r\n");
        minded.await_run();
        case.await_continued(round);
    }
    case.shell.type_line("hello");
    case.shell.expect("got hello");
    case.ends(5);
    case.assert_in_order(&[" stopped by signal 19 (SIGSTOP)", "suspended together"]);
    case.assert_count("successfully sent", 0);
    case.leave();
}

/// The same, however fast the next Ctrl-Z follows on the job's return to the foreground.
#[test]
fn a_job_that_stops_again_at_once_is_waited_for_again() {
    let mut case = Case::with_file("editor.pl", &editor(CLEAN_AND_STOP));
    let minded = case.start("childminder -c perl editor.pl");
    let mut is_key_lost = false;
    for round in 1..=50 {
        case.shell.press(CTRL_Z);
        // Without childminder, too, a key as hasty as this is lost once in tens of thousands.
        if !is_key_lost && !case.shell.shows("clean", Duration::from_secs(5)) {
            is_key_lost = true;
            case.shell.press(CTRL_Z);
        }
        let before = case.shell.expect("Stopped");
        assert!(before.contains("clean"), "round {round}: it was not waited for: {before:?}");
        case.shell.prompt();
        minded.await_stop();
        case.shell.type_line("fg");
        case.shell.expect("drawn\r\n");
    }
    case.answer("hello", 5);
    case.leave();
}

/// The same for one that takes its time: however long that is, the shell must get its terminal
/// back.
#[test]
fn a_job_that_cleans_up_slowly_is_waited_for() {
    let slow = editor("select undef, undef, undef, 2.5; kill STOP => $$;");
    let mut case = Case::with_file("editor.pl", &slow);
    let minded = case.start("childminder perl editor.pl");
    case.suspend(minded);
    case.fg(minded);
    case.answer("hello", 5);
    case.leave();
}

/// The same: vi reads Ctrl-Z as a character, and stops all of its process group, of which
/// childminder is.
#[test]
fn a_job_that_stops_its_own_group_is_waited_for() {
    let vi = r#"
        $| = 1;
        system "stty -isig -icanon";
        print "up\n";
        sysread STDIN, $key, 1;
        system "stty isig icanon";
        kill TSTP => 0;
        print "back\n";
        print "got ", scalar <STDIN>;
        exit 5;
    "#;
    let mut case = Case::with_file("editor.pl", vi);
    let minded = case.start("childminder perl editor.pl");
    case.suspend(minded);
    case.shell.type_line("fg");
    case.shell.expect("back");
    minded.await_run();
    case.shell.type_line("hello");
    case.shell.expect("got hello");
    case.ends(5);
    case.assert_count(" stopped by signal", 1);
    case.leave();
}

/// The same: a job that will not stop goes on, and childminder with it.
#[test]
fn a_job_that_ignores_ctrl_z_goes_on() {
    let mut case = Case::new();
    case.start(&format!("childminder sh -c 'trap \"\" TSTP; {READER}'"));
    case.shell.press(CTRL_Z);
    case.await_log("signal 20 (SIGTSTP) from the kernel");
    case.shell.type_line("hello");
    case.shell.expect("got hello");
    case.ends(5);
    case.assert_count("suspended", 0);
    case.leave();
}

/// The same for a job that somebody stopped before: the shell must get its terminal back.
#[test]
fn ctrl_z_suspends_childminder_where_the_job_is_stopped_already() {
    let mut case = Case::new();
    let minded = case.start(&format!("childminder sh -c '{READER}'"));
    kill(minded.job, "STOP");
    let stopped = Instant::now();
    case.await_log(" stopped by signal 19 (SIGSTOP)");
    // Not one event with the key.
    wait_until("some time has passed", || stopped.elapsed().as_secs() >= 3);
    case.suspend(minded);
    case.fg(minded);
    case.answer("hello", 5);
    case.leave();
}

/// The same where a script is between the shell and childminder: all three are one process group,
/// and the shell continues it.
#[test]
fn ctrl_z_suspends_childminder_in_a_script() {
    for option in ["", "-c"] {
        let mut case = Case::with_file("job.sh", READER);
        let script = format!("childminder {option} sh job.sh\nexit $?\n");
        case.place.write("script.sh", &script);
        let minded = case.start("sh script.sh");
        case.suspend(minded);
        case.fg(minded);
        case.shell.type_line("hello");
        case.shell.expect("got hello");
        case.ends(5);
        case.assert_count("successfully sent", 0);
        case.leave();
    }
}

/// The same between two attempts, when there is no job to wait for.
#[test]
fn ctrl_z_suspends_childminder_before_a_restart() {
    let mut case = Case::new();
    let options = "--restart-on exit:3 --backoff 60s..60s";
    case.shell.type_line(&format!("childminder {options} sh -c 'exit 3'"));
    case.await_log("restarting: ");
    case.press_ctrl_z();
    case.shell.type_line("fg");
    case.await_foreground();
    case.shell.press(CTRL_C);
    case.ends(3);
    case.leave();
}

/// The same after the job, while what it left is waited for.
#[test]
fn ctrl_z_suspends_childminder_while_it_waits_for_stragglers() {
    let mut case = Case::with_file("job.sh", "sh -c 'read line < gate' &\nexit 3\n");
    case.shell.run("mkfifo gate");
    case.shell.type_line("childminder --stragglers wait sh job.sh");
    case.await_log(" outlive it (wait)");
    case.press_ctrl_z();
    case.shell.run("bg");
    case.answer("echo hello > gate; wait %1", 3);
    case.leave();
}

/// "a signal that a process sent to childminder on purpose is passed to the job", and "SIGCONT
/// wakes both"
#[test]
fn a_process_can_suspend_both_by_way_of_childminder() {
    let mut case = Case::new();
    case.shell.run("mkfifo gate");
    let minded = case.start("childminder -c sh -c 'echo up; read line < gate; exit 6'");
    kill(minded.childminder, "TSTP");
    case.shell.expect("Stopped");
    case.shell.prompt();
    minded.await_stop();
    case.await_log("forwarded signal 20 (SIGTSTP) to child");
    kill(minded.childminder, "CONT");
    minded.await_run();
    case.await_log(" continued after ");
    case.await_in_jobs("Running");
    case.answer("echo hello > gate; wait %1", 6);
    case.assert_count("successfully sent", 0);
    case.leave();
}

/// The same, however fast the wake-up follows: childminder may not stop while its job goes on.
#[test]
fn a_wake_up_right_after_the_request_to_stop_is_heard() {
    let mut case = Case::new();
    let minded = case.start("childminder sh -c 'trap \"\" USR1; echo up; exec sleep 600'");
    let send = |signal| signal::kill(Pid::from_raw(minded.childminder), signal).expect("sent");
    for round in 1..=500 {
        // Now before the job has stopped, now after, and now in between.
        let pause = Duration::from_micros(5) * u32::try_from(round % 50).expect("small");
        let begin = Instant::now();
        send(Signal::SIGTSTP);
        while begin.elapsed() < pause {
            std::hint::spin_loop();
        }
        send(Signal::SIGCONT);
        // What came before the first of these may be taken in together with it, but not later.
        for done in [2 * round - 1, 2 * round] {
            send(Signal::SIGUSR1);
            wait_until(&format!("it is awake in round {round}: {minded:?}"), || {
                // The kernel drops a SIGCONT that is still pending when its receiver stops: then
                // neither was woken, and it takes another one.
                if [minded.childminder, minded.job].map(state) == [Some('T'); 2] {
                    send(Signal::SIGCONT);
                }
                case.count("forwarded signal 10 (SIGUSR1)") == done
            });
        }
        minded.await_run();
    }
    kill(minded.childminder, "TERM");
    minded.await_end();
    // The one that followed the first stop or, if the shell saw none, the end.
    case.shell.prompt();
    case.shell.run("");
    case.leave();
}

/// The same where nobody would wake it: childminder must not stop for ever.
#[test]
fn without_a_shell_childminder_never_stops() {
    for words in
        [&["sleep", "600"][..], &["-c", "sleep", "600"], &["--new-session", "sleep", "600"]]
    {
        let place = Place::new();
        let mut command = place.command("setsid");
        command.arg(support::program()).args(words);
        let running = place.start_command(command);
        let job = running.job();
        // The kernel lets no other signal stop a job whose process group is orphaned.
        kill(job, "STOP");
        place.await_log(" stopped by signal 19 (SIGSTOP)");
        running.signal("TSTP");
        place.await_log("signal 20 (SIGTSTP) from kill(2)");
        running.signal("CONT");
        place.await_log(" continued after ");
        running.signal("TERM");
        place.await_log("verdict: stop_requested (certain)");
        let done = running.end();
        assert_eq!(done.code(), 143, "{words:?}");
        assert_eq!(done.count("suspended"), 0, "{words:?}");
    }
}

/// "--new-session": Ctrl-C reaches only childminder, which passes it on; Ctrl-Z stops all of the
/// job.
#[test]
fn a_job_in_a_session_of_its_own_has_the_keys_by_way_of_childminder() {
    let job = "sleep 600 &\ntrap 'kill $!; exit 130' INT\necho \"up $!.\"\nwait\n";
    let mut case = Case::with_file("job.sh", job);
    let minded = case.start("childminder --new-session -c sh job.sh");
    let sleeper: i32 = case.shell.expect(".").trim().parse().expect("a pid");
    assert_eq!(session(minded.job), minded.job);
    assert_eq!(session(minded.childminder), case.shell.pid());
    for round in 1..=2 {
        case.suspend(minded);
        wait_until("all of the job is stopped", || state(sleeper) == Some('T'));
        case.fg(minded);
        case.await_continued(round);
        wait_until("all of the job runs", || state(sleeper) != Some('T'));
    }
    case.shell.press(CTRL_C);
    case.ends(130);
    case.assert_in_order(&[
        "forwarded signal 19 (SIGSTOP) to child",
        "suspended together",
        "forwarded signal 18 (SIGCONT) to child",
        "signal 2 (SIGINT) from the kernel",
        "forwarded signal 2 (SIGINT) to child",
    ]);
    case.assert_count("successfully sent", 0);
    case.leave();
}

/// The session of a process (proc(5)).
fn session(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    fields.split(' ').nth(3).and_then(|word| word.parse().ok()).expect("a session")
}

/// Starts a job under nohup that ends with this status once a line is in `gate`, hangs the terminal
/// up, lets the job end, and returns its place.
fn hung_up_under_nohup(status: i32) -> Place {
    let mut case = Case::new();
    case.shell.run("mkfifo gate");
    case.shell.run(&format!("nohup childminder sh -c 'read line < gate; exit {status}' &"));
    let minded = Minded::of(&case.place);
    case.shell.hang_up();
    let place = case.place;
    // The shell passes it on to its jobs; it stays blocked and thus pending, though ignored.
    place.await_log("signal 1 (SIGHUP) from kill(2)");
    place.write("gate", "hello\n");
    minded.await_end();
    place
}

/// "The job starts with the mask and dispositions that childminder was given [...] (nohup must
/// still work)"
#[test]
fn nohup_lets_both_survive_the_terminal() {
    let place = hung_up_under_nohup(0);
    place.await_log(" exited with status 0");
    place.await_log("verdict: success (certain)");
}

/// "Told truthfully": a hang-up that the job was told to ignore is not what ended it.
#[test]
fn a_failure_after_a_hang_up_that_was_ignored_is_the_jobs_own() {
    let verdict = hung_up_under_nohup(3).await_log("verdict: ");
    assert!(verdict.starts_with("verdict: exit_nonzero (certain)"), "{verdict}");
}

/// "Childminder never dies of a signal it can trap; it ends when its job has ended."
#[test]
fn a_hang_up_ends_the_job_and_is_recorded() {
    for (suspend, option) in [(false, ""), (true, ""), (false, "--new-session")] {
        let mut case = Case::new();
        let line = format!("childminder {option} sh -c 'echo up; exec sleep 600'");
        let minded = case.start(&line);
        if suspend {
            case.suspend(minded);
        }
        case.hang_up(minded);
        // A shell that ends also sends SIGTERM to what is stopped.
        case.assert_in_order(&["signal 1 (SIGHUP) from", " terminated by signal 1"]);
        let log = messages(&case.place.log());
        let last = log.last().expect("a line");
        assert!(
            last.starts_with("verdict: killed_by_terminal (certain)")
                || last.starts_with("verdict: stop_requested (certain)"),
            "{last}"
        );
    }
}

/// The same where childminder leads the session: the kernel tells only the leader.
#[test]
fn a_hang_up_of_a_session_that_childminder_leads_ends_the_job() {
    let mut case = Case::new();
    let minded = case.start("exec childminder sh -c 'echo up; exec sleep 600'");
    assert_eq!(minded.childminder, case.shell.pid());
    case.hang_up(minded);
    case.await_log(" terminated by signal 1 (SIGHUP)");
    case.await_log("verdict: ");
}

/// "On a terminal a progress bar shows time left, calls and calls per second."
#[test]
fn a_progress_bar_is_drawn_and_cleared() {
    let mut case = Case::of_canary("childminder -q -f 2 math-int", "math-int");
    for words in [" s left, ", " calls, ", " calls/s"] {
        case.shell.expect(words);
    }
    case.canary_ends();
}

/// The line of the cursor, after a text with the few control sequences of a bar.
fn shown_line(text: &str) -> String {
    let line = text.rsplit('\n').next().unwrap_or_default();
    let cleared = line.rsplit("\x1b[2K").next().unwrap_or_default();
    cleared.replace('\r', "")
}

/// The same: a file gets no bar.
#[test]
fn a_progress_bar_is_not_drawn_where_nobody_sees_it() {
    let mut case = Case::new();
    for line in
        ["childminder -q -f 1 sleep 2> errors", "childminder -l stderr -f 1 sleep 2> errors"]
    {
        let answer = case.shell.run(line);
        assert_eq!((answer.text.as_str(), answer.status), ("", 0), "{line}");
        assert!(!case.place.text("errors").contains(['\x1b', '\r']), "{line}");
    }
    // Nor are there both, where the log itself goes to the terminal.
    let answer = case.shell.run("childminder -l stderr -f 1 sleep");
    assert!(!answer.text.contains("s left"), "{answer:?}");
    case.leave();
}

/// "Signals that end `-f` early and cleanly; default none": the user is told so.
#[test]
fn ctrl_c_does_not_end_a_probe_and_says_so() {
    let mut case = Case::of_canary("childminder -f 3 sleep", "s left");
    case.shell.press(CTRL_C);
    case.shell.expect("childminder: SIGINT is logged and does not end -f (see --stop-on)");
    let place = case.canary_ends();
    assert_eq!(count(&place, "signal 2 (SIGINT) from the kernel"), 1);
}

/// The same with `--stop-on`.
#[test]
fn ctrl_c_ends_a_probe_where_that_was_asked_for() {
    let mut case = Case::of_canary("childminder --stop-on INT,TERM -f 600 sleep", "s left");
    case.shell.press(CTRL_C);
    case.canary_ends();
}

/// "so that Ctrl-Z, bg and fg work from a shell", for a canary as well.
#[test]
fn a_probe_can_be_suspended() {
    let mut case = Case::of_canary("childminder -f 2 sleep", "s left");
    case.press_ctrl_z();
    case.answer("fg", 0);
    case.assert_in_order(&["signal 20 (SIGTSTP) from the kernel", "suspended", "resumed"]);
    case.leave();
}

/// Section 7, the line on standard error: "broken between words" on a terminal; a file gets one line.
#[test]
fn a_verdict_is_broken_between_words_on_a_terminal_only() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    let job = "childminder -l log sh -c 'kill -SEGV $$'";
    shell.run("ulimit -c 0");
    shell.run(&format!("{job} 2> told"));
    let told = place.text("told");
    assert_eq!(told.lines().count(), 1, "{told}");
    // Without the numbers of processes, which differ from run to run.
    let words = |text: &str| -> Vec<String> {
        let stays = |c: &char| !c.is_ascii_digit();
        text.split_whitespace().map(|word| word.chars().filter(stays).collect()).collect()
    };
    for columns in [80, 40] {
        shell.run(&format!("stty rows 24 cols {columns}"));
        let answer = shell.run(&format!("NO_COLOR=1 {job}"));
        assert_eq!(answer.status, 139, "{answer:?}");
        let lines: Vec<&str> = answer.text.lines().map(str::trim_end).collect();
        // The path of the log, the longest word, is not broken.
        let longest = told.split_whitespace().map(str::len).max().unwrap_or(0);
        assert!(lines.len() > (told.len() - longest) / columns, "{answer:?}");
        // Nothing is lost, and no word is broken: only the path may be wider.
        assert_eq!(words(&answer.text), words(&told), "{answer:?}");
        let fits = |line: &&str| line.chars().count() <= columns || line.contains("/log/");
        assert!(lines.iter().all(fits), "{answer:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("  ")), "{answer:?}");
    }
    shell.leave();
}
