//! DESIGN, sections 4 and 5: job control. Real programs under a real interactive shell.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

#[path = "support/pty.rs"]
mod pty;
mod support;

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use pty::{CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, Shell};
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

/// How often a text is in the messages of the only log.
fn count(place: &Place, words: &str) -> usize {
    // The last line may be half written.
    place.log().split_inclusive('\n').filter(|line| line.contains(words)).count()
}

/// The log has messages with these words, in this order.
#[track_caller]
fn assert_in_order(place: &Place, words: &[&str]) {
    let log = messages(&place.log());
    let mut rest = log.iter();
    for word in words {
        assert!(rest.any(|message| message.contains(word)), "'{word}' of {words:?} in {log:#?}");
    }
}

/// Waits until childminder has told so many times that the job was continued.
fn await_continued(place: &Place, times: usize) {
    wait_until("it is continued", || count(place, " continued after ") == times);
}

/// Waits until the shell says so of its jobs.
fn await_in_jobs(shell: &mut Shell, word: &str) {
    wait_until("the shell knows", || shell.run("jobs").text.contains(word));
}

/// "those the kernel sends to the whole foreground group (Ctrl-C) are not, because the job has
/// them already"
#[test]
fn ctrl_c_ends_the_job_once_and_the_shell_goes_on() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder sh -c 'echo up; exec sleep 600'");
    shell.expect("up");
    shell.press(CTRL_C);
    let answer = shell.prompt();
    assert_eq!(answer.status, 130);
    assert!(answer.text.contains("killed_by_terminal"), "{answer:?}");
    assert_in_order(
        &place,
        &[
            "signal 2 (SIGINT) from the kernel",
            " terminated by signal 2 (SIGINT)",
            "verdict: killed_by_terminal (certain)",
        ],
    );
    assert_eq!(count(&place, "forwarded"), 0);
    assert!(shell.run("echo still $((6 * 7))").text.contains("still 42"));
    shell.leave();
}

/// The same, for a job that lives on: it must not get the signal twice.
#[test]
fn a_job_that_counts_them_gets_each_ctrl_c_once() {
    let place = Place::new();
    place.write("counter.pl", COUNTER);
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder perl counter.pl");
    shell.expect("up");
    for number in 1..=3 {
        shell.press(CTRL_C);
        shell.expect(&format!("int {number}\r\n"));
        wait_until("it is logged", || count(&place, "SIGINT) from the kernel") == number);
    }
    // By the same way as a forwarded SIGINT, and after it.
    kill(Minded::of(&place).childminder, "USR1");
    shell.expect("in all 3\r\n");
    assert_eq!(shell.prompt().status, 0);
    shell.leave();
}

/// "Before any restart" somebody who wants the job to stop is heard.
#[test]
fn a_job_that_ctrl_c_ended_is_not_restarted() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder -s --restart-on failure sh -c 'echo up; exec sleep 600'");
    shell.expect("up");
    shell.press(CTRL_C);
    assert_eq!(shell.prompt().status, 130);
    assert_eq!(count(&place, "): restart"), 0);
    shell.leave();
}

/// "128+n | signal n killed it"
#[test]
fn ctrl_backslash_ends_the_job() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("ulimit -c 0");
    shell.type_line("childminder sh -c 'echo up; exec sleep 600'");
    shell.expect("up");
    shell.press(CTRL_BACKSLASH);
    assert_eq!(shell.prompt().status, 131);
    place.await_log("signal 3 (SIGQUIT) from the kernel");
    place.await_log("verdict: killed_by_terminal (certain)");
    assert_eq!(count(&place, "forwarded"), 0);
    shell.leave();
}

/// "Nothing of the job's behaviour changes by being minded: same descriptors, terminal, signal
/// state"
#[test]
fn a_reader_that_leaves_ends_the_job_of_a_pipeline() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    let answer = shell.run("childminder yes | head -n 1; echo \"statuses ${PIPESTATUS[@]}\"");
    assert!(answer.text.starts_with("y\r\n"), "{answer:?}");
    assert!(answer.text.ends_with("statuses 141 0\r\n"), "{answer:?}");
    place.await_log(" terminated by signal 13 (SIGPIPE)");
    shell.leave();
}

/// "SIGTSTP, SIGTTIN and SIGTTOU suspend childminder after the job (it must have stopped first),
/// and SIGCONT wakes both, so that Ctrl-Z, bg and fg work from a shell."
#[test]
fn ctrl_z_stops_both_and_fg_wakes_both() {
    for start in [Shell::bash, Shell::dash] {
        let place = Place::new();
        let mut shell = start(&place);
        shell.type_line(&format!("childminder sh -c '{READER}'"));
        shell.expect("up");
        let minded = Minded::of(&place);
        shell.press(CTRL_Z);
        shell.expect("Stopped");
        shell.prompt();
        minded.await_stop();
        let seen = Instant::now();
        assert_eq!(shell.foreground(), shell.pid());
        let length = seen.elapsed();
        shell.type_line("fg");
        minded.await_run();
        await_continued(&place, 1);
        shell.type_line("hello");
        shell.expect("got hello");
        assert_eq!(shell.prompt().status, 5);
        assert_in_order(
            &place,
            &[
                " stopped by signal 20 (SIGTSTP)",
                "suspended together with the child",
                "resumed",
                " continued after ",
                " exited with status 5",
            ],
        );
        assert_eq!(count(&place, "signal 20 (SIGTSTP) from the kernel"), 1);
        assert_eq!(count(&place, "forwarded signal 20"), 0);
        let continued = place.await_log(" continued after ");
        let seconds = continued.split(' ').nth_back(1).and_then(|word| word.parse().ok());
        let seconds: f64 = seconds.expect("a number");
        assert!(seconds + 0.001 >= length.as_secs_f64(), "{continued}, not {length:?}");
        shell.leave();
    }
}

/// "never when childminder was stopped too (the user pressed Ctrl-Z)"
#[test]
fn continue_leaves_a_job_stopped_that_the_user_suspended() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line(&format!("childminder -c sh -c '{READER}'"));
    shell.expect("up");
    let minded = Minded::of(&place);
    for round in 1..=3 {
        shell.press(CTRL_Z);
        shell.expect("Stopped");
        shell.prompt();
        // A stopped childminder continues nothing.
        minded.await_stop();
        shell.type_line("fg");
        minded.await_run();
        await_continued(&place, round);
    }
    shell.type_line("hello");
    assert_eq!(shell.prompt().status, 5);
    assert_eq!(count(&place, "suspended together with the child"), 3);
    assert_eq!(count(&place, "successfully sent"), 0);
    shell.leave();
}

/// "so that Ctrl-Z, bg and fg work from a shell"
#[test]
fn bg_lets_both_go_on_in_the_background() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("mkfifo gate");
    shell.type_line("childminder sh -c 'echo up; read line < gate; exit 6'");
    shell.expect("up");
    let minded = Minded::of(&place);
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    minded.await_stop();
    shell.run("bg");
    minded.await_run();
    assert_eq!(shell.foreground(), shell.pid());
    await_in_jobs(&mut shell, "Running");
    assert_eq!(shell.run("echo hello > gate; wait %1").status, 6);
    place.await_log(" exited with status 6");
    shell.leave();
}

/// The same: `kill %1` asks a suspended job to end and wakes it. (By another process, for bash
/// 5.2 sometimes holds a job for stopped that its own `kill` ended, whatever the job is.)
#[test]
fn a_suspended_job_can_be_killed_from_the_shell() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder sh -c 'echo up; exec sleep 600'");
    shell.expect("up");
    let minded = Minded::of(&place);
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    minded.await_stop();
    let group = minded.childminder;
    shell.run(&format!("sh -c 'kill -TERM -{group}; kill -CONT -{group}'"));
    minded.await_end();
    place.await_log("verdict: stop_requested (certain)");
    wait_until("the shell knows", || !shell.run("jobs").text.contains("Stopped"));
    shell.leave();
}

/// "SIGTTIN/SIGTTOU would stop it again at once: this is said once, with the cure
/// (`-i /dev/null`), never repeated in a loop"
#[test]
fn a_reader_in_the_background_waits_for_fg() {
    for option in ["", "-c", "-p"] {
        let place = Place::new();
        let mut shell = Shell::bash(&place);
        shell.run(&format!("childminder {option} cat &"));
        let advice = "wants the terminal (SIGTTIN)";
        place.await_log("suspended together with the child");
        let minded = Minded::of(&place);
        minded.await_stop();
        await_in_jobs(&mut shell, "Stopped");
        assert_eq!(shell.shown().matches(advice).count(), 1, "{option}");
        // It reads again, and is stopped again.
        shell.run("bg");
        wait_until("it stopped again", || count(&place, "suspended together with") == 2);
        minded.await_stop();
        assert_eq!(count(&place, advice), 1, "{option}");
        assert_eq!(count(&place, "successfully sent"), 0, "{option}");
        shell.type_line("fg");
        minded.await_run();
        shell.type_line("hello");
        shell.expect("hello\r\n");
        shell.press(CTRL_D);
        assert_eq!(shell.prompt().status, 0, "{option}");
        place.await_log("verdict: success");
        let lines = messages(&place.log()).len();
        assert!(lines < 30, "{lines} lines with {option}");
        shell.leave();
    }
}

/// The same: each stop is told before childminder stops with it, and with its true length.
#[test]
fn a_second_stop_in_the_background_is_told_like_the_first() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("childminder cat &");
    for round in 1..=2 {
        let suspended = || count(&place, "suspended together with the child");
        wait_until("it is suspended", || suspended() == round);
        let minded = Minded::of(&place);
        minded.await_stop();
        await_in_jobs(&mut shell, "Stopped");
        let stops = count(&place, " stopped by signal 21 (SIGTTIN)");
        assert_eq!(stops, round, "{:#?}", messages(&place.log()));
        if round == 1 {
            shell.run("bg");
        }
    }
    shell.type_line("fg");
    wait_until("childminder is in the foreground", || shell.foreground() != shell.pid());
    shell.press(CTRL_C);
    assert_eq!(shell.prompt().status, 130);
    shell.leave();
}

/// "the cure (`-i /dev/null`)"
#[test]
fn a_job_with_another_input_does_not_want_the_terminal() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    assert_eq!(shell.run("childminder -i /dev/null cat & wait $!").status, 0);
    assert_eq!(count(&place, " stopped by "), 0);
    shell.leave();
}

/// The same for one that writes while `stty tostop` is set.
#[test]
fn a_writer_in_the_background_waits_for_fg_if_the_user_wants_it_so() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("stty tostop");
    shell.run("childminder sh -c 'echo hello; exit 4' &");
    place.await_log("wants the terminal (SIGTTOU)");
    let minded = Minded::of(&place);
    minded.await_stop();
    await_in_jobs(&mut shell, "Stopped");
    shell.type_line("fg");
    shell.expect("hello\r\n");
    assert_eq!(shell.prompt().status, 4);
    assert_eq!(count(&place, "wants the terminal"), 1);
    shell.run("stty -tostop");
    shell.leave();
}

/// "same descriptors, terminal": a job may take the terminal for itself.
#[test]
fn a_nested_shell_has_job_control_of_its_own() {
    for nested in [NESTED_BASH, "sh -i"] {
        let place = Place::new();
        let mut shell = Shell::bash(&place);
        shell.type_line(&format!("{SET_NESTED} childminder {nested}"));
        shell.expect(NESTED);
        let minded = Minded::of(&place);
        assert_eq!(shell.foreground(), minded.job);
        shell.press(CTRL_C);
        shell.expect(NESTED);
        shell.type_line("sh -c 'echo up; exec sleep 600'");
        shell.expect("up");
        shell.press(CTRL_Z);
        shell.expect("Stopped");
        shell.expect(NESTED);
        shell.type_line("fg");
        wait_until("sleep is in the foreground", || shell.foreground() != minded.job);
        shell.press(CTRL_C);
        shell.expect(NESTED);
        shell.type_line("echo \"status $?\"");
        shell.expect("status 130");
        shell.type_line("exit 7");
        assert_eq!(shell.prompt().status, 7);
        // None of this was childminder's.
        assert_eq!(count(&place, "SIGINT) from"), 0);
        assert_eq!(count(&place, "SIGTSTP) from"), 0);
        assert_eq!(count(&place, "suspended"), 0);
        shell.leave();
    }
}

/// The same: one that dies without giving the terminal back.
#[test]
fn a_nested_shell_that_is_killed_leaves_the_terminal_to_the_outer_one() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line(&format!("{SET_NESTED} childminder {NESTED_BASH}"));
    shell.expect(NESTED);
    kill(Minded::of(&place).job, "KILL");
    assert_eq!(shell.prompt().status, 137);
    shell.leave();
}

/// The same: a shell that begins in the background stops its whole group until it gets the
/// terminal.
#[test]
fn a_nested_shell_that_begins_in_the_background_works_after_fg() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run(&format!("{SET_NESTED} childminder {NESTED_BASH} &"));
    place.await_log("suspended together with the child");
    let minded = Minded::of(&place);
    minded.await_stop();
    shell.type_line("fg");
    shell.expect(NESTED);
    assert_eq!(shell.foreground(), minded.job);
    shell.type_line("exit 7");
    assert_eq!(shell.prompt().status, 7);
    shell.leave();
}

/// "suspend childminder after the job (it must have stopped first)": an editor restores the
/// screen before it stops itself.
#[test]
fn a_job_that_cleans_up_before_it_stops_is_waited_for() {
    let place = Place::new();
    place.write("editor.pl", &editor(r#"print "clean\n"; kill STOP => $$; print "drawn\n";"#));
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder -c perl editor.pl");
    shell.expect("up");
    let minded = Minded::of(&place);
    for round in 1..=2 {
        shell.press(CTRL_Z);
        shell.expect("clean\r\n");
        shell.expect("Stopped");
        shell.prompt();
        minded.await_stop();
        shell.type_line("fg");
        shell.expect("drawn\r\n");
        minded.await_run();
        await_continued(&place, round);
    }
    shell.type_line("hello");
    shell.expect("got hello");
    assert_eq!(shell.prompt().status, 5);
    assert_in_order(&place, &[" stopped by signal 19 (SIGSTOP)", "suspended together"]);
    assert_eq!(count(&place, "successfully sent"), 0);
    shell.leave();
}

/// The same, however fast the next Ctrl-Z follows on the job's return to the foreground.
#[test]
fn a_job_that_stops_again_at_once_is_waited_for_again() {
    let place = Place::new();
    place.write("editor.pl", &editor(r#"print "clean\n"; kill STOP => $$; print "drawn\n";"#));
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder -c perl editor.pl");
    shell.expect("up");
    let minded = Minded::of(&place);
    let mut is_key_lost = false;
    for round in 1..=50 {
        shell.press(CTRL_Z);
        // Without childminder, too, a key as hasty as this is lost once in tens of thousands.
        if !is_key_lost && !shell.shows("clean", Duration::from_secs(5)) {
            is_key_lost = true;
            shell.press(CTRL_Z);
        }
        let before = shell.expect("Stopped");
        assert!(before.contains("clean"), "round {round}: it was not waited for: {before:?}");
        shell.prompt();
        minded.await_stop();
        shell.type_line("fg");
        shell.expect("drawn\r\n");
    }
    shell.type_line("hello");
    assert_eq!(shell.prompt().status, 5);
    shell.leave();
}

/// The same for one that takes its time: however long that is, the shell must get its terminal
/// back.
#[test]
fn a_job_that_cleans_up_slowly_is_waited_for() {
    let place = Place::new();
    place.write("editor.pl", &editor("select undef, undef, undef, 2.5; kill STOP => $$;"));
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder perl editor.pl");
    shell.expect("up");
    let minded = Minded::of(&place);
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    minded.await_stop();
    shell.type_line("fg");
    minded.await_run();
    shell.type_line("hello");
    assert_eq!(shell.prompt().status, 5);
    shell.leave();
}

/// The same: vi reads Ctrl-Z as a character, and stops all of its process group, of which
/// childminder is.
#[test]
fn a_job_that_stops_its_own_group_is_waited_for() {
    let place = Place::new();
    place.write(
        "editor.pl",
        r#"
        $| = 1;
        system "stty -isig -icanon";
        print "up\n";
        sysread STDIN, $key, 1;
        system "stty isig icanon";
        kill TSTP => 0;
        print "back\n";
        print "got ", scalar <STDIN>;
        exit 5;
    "#,
    );
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder perl editor.pl");
    shell.expect("up");
    let minded = Minded::of(&place);
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    minded.await_stop();
    shell.type_line("fg");
    shell.expect("back");
    minded.await_run();
    shell.type_line("hello");
    shell.expect("got hello");
    assert_eq!(shell.prompt().status, 5);
    assert_eq!(count(&place, " stopped by signal"), 1);
    shell.leave();
}

/// The same: a job that will not stop goes on, and childminder with it.
#[test]
fn a_job_that_ignores_ctrl_z_goes_on() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line(&format!("childminder sh -c 'trap \"\" TSTP; {READER}'"));
    shell.expect("up");
    shell.press(CTRL_Z);
    place.await_log("signal 20 (SIGTSTP) from the kernel");
    shell.type_line("hello");
    shell.expect("got hello");
    assert_eq!(shell.prompt().status, 5);
    assert_eq!(count(&place, "suspended"), 0);
    shell.leave();
}

/// The same for a job that somebody stopped before: the shell must get its terminal back.
#[test]
fn ctrl_z_suspends_childminder_where_the_job_is_stopped_already() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line(&format!("childminder sh -c '{READER}'"));
    shell.expect("up");
    let minded = Minded::of(&place);
    kill(minded.job, "STOP");
    let stopped = Instant::now();
    place.await_log(" stopped by signal 19 (SIGSTOP)");
    // Not one event with the key.
    wait_until("some time has passed", || stopped.elapsed().as_secs() >= 3);
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    minded.await_stop();
    shell.type_line("fg");
    minded.await_run();
    shell.type_line("hello");
    assert_eq!(shell.prompt().status, 5);
    shell.leave();
}

/// The same where a script is between the shell and childminder: all three are one process group,
/// and the shell continues it.
#[test]
fn ctrl_z_suspends_childminder_in_a_script() {
    for option in ["", "-c"] {
        let place = Place::new();
        place.write("job.sh", READER);
        place.write("script.sh", &format!("childminder {option} sh job.sh\nexit $?\n"));
        let mut shell = Shell::bash(&place);
        shell.type_line("sh script.sh");
        shell.expect("up");
        let minded = Minded::of(&place);
        shell.press(CTRL_Z);
        shell.expect("Stopped");
        shell.prompt();
        minded.await_stop();
        shell.type_line("fg");
        minded.await_run();
        shell.type_line("hello");
        shell.expect("got hello");
        assert_eq!(shell.prompt().status, 5, "{option}");
        assert_eq!(count(&place, "successfully sent"), 0, "{option}");
        shell.leave();
    }
}

/// The same between two attempts, when there is no job to wait for.
#[test]
fn ctrl_z_suspends_childminder_before_a_restart() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    let options = "--restart-on exit:3 --backoff 60s..60s";
    shell.type_line(&format!("childminder {options} sh -c 'exit 3'"));
    place.await_log("restarting: ");
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    shell.type_line("fg");
    wait_until("childminder is in the foreground", || shell.foreground() != shell.pid());
    shell.press(CTRL_C);
    assert_eq!(shell.prompt().status, 3);
    shell.leave();
}

/// The same after the job, while what it left is waited for.
#[test]
fn ctrl_z_suspends_childminder_while_it_waits_for_stragglers() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("mkfifo gate");
    place.write("job.sh", "sh -c 'read line < gate' &\nexit 3\n");
    shell.type_line("childminder --stragglers wait sh job.sh");
    place.await_log(" outlive it (wait)");
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    shell.run("bg");
    assert_eq!(shell.run("echo hello > gate; wait %1").status, 3);
    shell.leave();
}

/// "a signal that a process sent to childminder on purpose is passed to the job", and "SIGCONT
/// wakes both"
#[test]
fn a_process_can_suspend_both_by_way_of_childminder() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("mkfifo gate");
    shell.type_line("childminder -c sh -c 'echo up; read line < gate; exit 6'");
    shell.expect("up");
    let minded = Minded::of(&place);
    kill(minded.childminder, "TSTP");
    shell.expect("Stopped");
    shell.prompt();
    minded.await_stop();
    place.await_log("forwarded signal 20 (SIGTSTP) to child");
    kill(minded.childminder, "CONT");
    minded.await_run();
    place.await_log(" continued after ");
    await_in_jobs(&mut shell, "Running");
    assert_eq!(shell.run("echo hello > gate; wait %1").status, 6);
    assert_eq!(count(&place, "successfully sent"), 0);
    shell.leave();
}

/// The same, however fast the wake-up follows: childminder may not stop while its job goes on.
#[test]
fn a_wake_up_right_after_the_request_to_stop_is_heard() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder sh -c 'trap \"\" USR1; echo up; exec sleep 600'");
    shell.expect("up");
    let minded = Minded::of(&place);
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
                count(&place, "forwarded signal 10 (SIGUSR1)") == done
            });
        }
        minded.await_run();
    }
    kill(minded.childminder, "TERM");
    minded.await_end();
    // The one that followed the first stop or, if the shell saw none, the end.
    shell.prompt();
    shell.run("");
    shell.leave();
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
    let place = Place::new();
    place.write("job.sh", "sleep 600 &\ntrap 'kill $!; exit 130' INT\necho \"up $!.\"\nwait\n");
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder --new-session -c sh job.sh");
    shell.expect("up ");
    let sleeper: i32 = shell.expect(".").parse().expect("a pid");
    let minded = Minded::of(&place);
    assert_eq!(session(minded.job), minded.job);
    assert_eq!(session(minded.childminder), shell.pid());
    for round in 1..=2 {
        shell.press(CTRL_Z);
        shell.expect("Stopped");
        shell.prompt();
        minded.await_stop();
        wait_until("all of the job is stopped", || state(sleeper) == Some('T'));
        shell.type_line("fg");
        minded.await_run();
        await_continued(&place, round);
        wait_until("all of the job runs", || state(sleeper) != Some('T'));
    }
    shell.press(CTRL_C);
    assert_eq!(shell.prompt().status, 130);
    assert_in_order(
        &place,
        &[
            "forwarded signal 19 (SIGSTOP) to child",
            "suspended together",
            "forwarded signal 18 (SIGCONT) to child",
            "signal 2 (SIGINT) from the kernel",
            "forwarded signal 2 (SIGINT) to child",
        ],
    );
    assert_eq!(count(&place, "successfully sent"), 0);
    shell.leave();
}

/// The session of a process (proc(5)).
fn session(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    fields.split(' ').nth(3).and_then(|word| word.parse().ok()).expect("a session")
}

/// "The job starts with the mask and dispositions that childminder was given [...] (nohup must
/// still work)"
#[test]
fn nohup_lets_both_survive_the_terminal() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("mkfifo gate");
    shell.run("nohup childminder sh -c 'read line < gate; exit 0' &");
    let minded = Minded::of(&place);
    shell.hang_up();
    // The shell passes it on to its jobs; it stays blocked and thus pending, though ignored.
    place.await_log("signal 1 (SIGHUP) from kill(2)");
    place.write("gate", "hello\n");
    minded.await_end();
    place.await_log(" exited with status 0");
    place.await_log("verdict: success (certain)");
}

/// "Told truthfully": a hang-up that the job was told to ignore is not what ended it.
#[test]
fn a_failure_after_a_hang_up_that_was_ignored_is_the_jobs_own() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("mkfifo gate");
    shell.run("nohup childminder sh -c 'read line < gate; exit 3' &");
    let minded = Minded::of(&place);
    shell.hang_up();
    place.await_log("signal 1 (SIGHUP) from kill(2)");
    place.write("gate", "hello\n");
    minded.await_end();
    let verdict = place.await_log("verdict: ");
    assert!(verdict.starts_with("verdict: exit_nonzero (certain)"), "{verdict}");
}

/// "Childminder never dies of a signal it can trap; it ends when its job has ended."
#[test]
fn a_hang_up_ends_the_job_and_is_recorded() {
    for (suspend, option) in [(false, ""), (true, ""), (false, "--new-session")] {
        let place = Place::new();
        let mut shell = Shell::bash(&place);
        shell.type_line(&format!("childminder {option} sh -c 'echo up; exec sleep 600'"));
        shell.expect("up");
        let minded = Minded::of(&place);
        if suspend {
            shell.press(CTRL_Z);
            shell.expect("Stopped");
            shell.prompt();
            minded.await_stop();
        }
        shell.hang_up();
        minded.await_end();
        // A shell that ends also sends SIGTERM to what is stopped.
        assert_in_order(&place, &["signal 1 (SIGHUP) from", " terminated by signal 1"]);
        let log = messages(&place.log());
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
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line("exec childminder sh -c 'echo up; exec sleep 600'");
    shell.expect("up");
    let minded = Minded::of(&place);
    assert_eq!(minded.childminder, shell.pid());
    shell.hang_up();
    minded.await_end();
    place.await_log(" terminated by signal 1 (SIGHUP)");
    place.await_log("verdict: ");
}

/// "On a terminal a progress bar shows time left, calls and calls per second."
#[test]
fn a_progress_bar_is_drawn_and_cleared() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("stty rows 24 cols 80");
    shell.type_line("childminder -q -f 2 math-int");
    for words in ["math-int", " s left, ", " calls, ", " calls/s"] {
        shell.expect(words);
    }
    let answer = shell.prompt();
    assert_eq!(answer.status, 0);
    assert_eq!(shown_line(&answer.text), "", "{answer:?}");
    shell.leave();
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
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    for line in
        ["childminder -q -f 1 sleep 2> errors", "childminder -l stderr -f 1 sleep 2> errors"]
    {
        let answer = shell.run(line);
        assert_eq!((answer.text.as_str(), answer.status), ("", 0), "{line}");
        assert!(!place.text("errors").contains(['\x1b', '\r']), "{line}");
    }
    // Nor are there both, where the log itself goes to the terminal.
    let answer = shell.run("childminder -l stderr -f 1 sleep");
    assert!(!answer.text.contains("s left"), "{answer:?}");
    shell.leave();
}

/// "Signals that end `-f` early and cleanly; default none": the user is told so.
#[test]
fn ctrl_c_does_not_end_a_probe_and_says_so() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("stty rows 24 cols 80");
    shell.type_line("childminder -f 3 sleep");
    shell.expect("s left");
    shell.press(CTRL_C);
    shell.expect("childminder: SIGINT is logged and does not end -f (see --stop-on)");
    let answer = shell.prompt();
    assert_eq!(answer.status, 0);
    assert_eq!(shown_line(&answer.text), "", "{answer:?}");
    assert_eq!(count(&place, "signal 2 (SIGINT) from the kernel"), 1);
    shell.leave();
}

/// The same with `--stop-on`.
#[test]
fn ctrl_c_ends_a_probe_where_that_was_asked_for() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("stty rows 24 cols 80");
    shell.type_line("childminder --stop-on INT,TERM -f 600 sleep");
    shell.expect("s left");
    shell.press(CTRL_C);
    let answer = shell.prompt();
    assert_eq!(answer.status, 0);
    assert_eq!(shown_line(&answer.text), "", "{answer:?}");
    shell.leave();
}

/// "so that Ctrl-Z, bg and fg work from a shell", for a probe as well.
#[test]
fn a_probe_can_be_suspended() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.run("stty rows 24 cols 80");
    shell.type_line("childminder -f 2 sleep");
    shell.expect("s left");
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    shell.type_line("fg");
    assert_eq!(shell.prompt().status, 0);
    assert_in_order(&place, &["signal 20 (SIGTSTP) from the kernel", "suspended", "resumed"]);
    shell.leave();
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
        assert!(lines.len() > told.len() / columns, "{answer:?}");
        // Nothing is lost, and no word is broken: only the path may be wider.
        assert_eq!(words(&answer.text), words(&told), "{answer:?}");
        let fits = |line: &&str| line.chars().count() <= columns || line.contains("/log/");
        assert!(lines.iter().all(fits), "{answer:?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("  ")), "{answer:?}");
    }
    shell.leave();
}
