use super::*;
use crate::nanny::source::foreign::job_log::JobLog;
use crate::nanny::source::foreign::pbs::Pbs;
use crate::nanny::source::foreign::sacct::Sacct;
use crate::nanny::source::foreign::swf::Swf;

fn runs(log: &mut dyn ForeignLog, text: &str) -> Vec<ForeignRun> {
    let mut found: Vec<ForeignLine> = text.lines().map(|line| log.line(line)).collect();
    found.push(log.end());
    let runs = found.into_iter().filter_map(|line| match line {
        ForeignLine::Run(run) => Some(*run),
        ForeignLine::Bad(why) => panic!("{why}"),
        _ => None,
    });
    runs.collect()
}

fn bad(log: &mut dyn ForeignLog, text: &str) -> String {
    let last = text.lines().map(|line| log.line(line)).last();
    let Some(ForeignLine::Bad(why)) = last else { panic!("{last:?}") };
    why
}

#[test]
fn jobs_of_the_workload_format() {
    let text = "; Computer: IBM SP2\n; UnixStartTime: 843480031\n\n\
        15 599850 192180 3477 4 10 200 4 53940 -1 1 12 13 2 1 -1 -1 -1\n\
        16 600000 -1 0 -1 -1 -1 -1 -1 -1 5 14 -1 184 -1 1 -1 -1\n\
        17 600000 1 2 1 -1 -1 1 60 -1 0 14 -1 -1 -1 1 -1 -1\n\
        17 600000 1 2 1 -1 -1 1 60 -1 2 14 -1 -1 -1 1 -1 -1\n";
    let runs = runs(&mut Swf::default(), text);
    let verdicts: Vec<_> = runs.iter().map(|run| run.verdict).collect();
    let expected = [VerdictKind::Success, VerdictKind::StopRequested, VerdictKind::Unknown];
    assert_eq!(verdicts, expected.map(Some));
    let first = &runs[0];
    assert_eq!((first.began, first.ended), (844_272_061.0, 844_275_538.0));
    assert_eq!(
        (first.user.as_str(), first.name.as_str(), first.batch.as_str()),
        ("u12", "app2", "g13")
    );
    assert_eq!((first.cpu_seconds, first.peak_bytes), (Some(40.0), Some(4 * 200 * 1024)));
    assert_eq!(first.request, ["PROCESSORS=4", "TIME_SECONDS=53940", "QUEUE=1"]);
    assert_eq!((runs[1].peak_bytes, runs[2].name.as_str()), (None, "job"));
    let row = first.row("swf");
    assert_eq!(row.text(Column::Time), "1996-10-02T16:58:58.000000Z");
    assert_eq!(row.text(Column::Host), "IBM SP2");
    // The same line has the same id, and it says when the run began.
    assert_eq!(row.get(Column::RunId), first.row("swf").get(Column::RunId));
    let id = Uuid::try_parse_ascii(row.get(Column::RunId)).expect("an id");
    assert_eq!(
        (id.get_version_num(), id.get_timestamp().map(|time| time.to_unix().0)),
        (7, Some(844_272_061))
    );
    assert!(bad(&mut Swf::default(), "1 2 3").contains("UnixStartTime"));
    assert!(bad(&mut Swf::default(), "; UnixStartTime: 1\n1 2 3").contains("3 fields"));
    assert!(bad(&mut Swf::default(), "; UnixStartTime: 1\n1 2 x").contains("not a number"));
}

#[test]
fn jobs_of_slurm_with_their_steps() {
    let text = "JobID|JobName|User|State|ExitCode|Start|End|NodeList|ReqMem|MaxRSS|Timelimit|Partition|WorkDir\n\
        7|train|ann|COMPLETED|0:0|2026-11-22T10:00:00|2026-11-22T11:00:00|node[03-05]|4G||1-02:03:04|gpu|/home/ann\n\
        7.batch|batch||COMPLETED|0:0|2026-11-22T10:00:00|2026-11-22T11:00:00|node03||2048K|||\n\
        7.0|x||COMPLETED|0:0|2026-11-22T10:00:00|2026-11-22T11:00:00|node03||1000K|||\n\
        8|a|bob|FAILED|3:0|2026-11-22T10:00:00|2026-11-22T10:00:01|n1,n2|0||5:00|cpu|\n\
        9|a|bob|OUT_OF_MEMORY|0:125|2026-11-22T10:00:00|2026-11-22T10:00:01|n1|1000||UNLIMITED|cpu|\n\
        10|a|bob|CANCELLED by 1001|0:15|Unknown|2026-11-22T10:00:01|None assigned|1000||5:00|cpu|\n\
        11|a|bob|NODE_FAIL|0:0|2026-11-22T10:00:00|2026-11-22T10:00:01|n1|1000||5:00|cpu|\n\
        12|a|bob|RUNNING|0:0|2026-11-22T10:00:00|Unknown|n1|1000||5:00|cpu|\n";
    let runs = runs(&mut Sacct::default(), text);
    assert_eq!(runs.len(), 5);
    let first = &runs[0];
    assert_eq!((first.host.as_str(), first.peak_bytes), ("node03", Some(2048 * 1024)));
    assert_eq!(first.request, ["TIME_SECONDS=93784", "MEMORY_BYTES=4294967296", "QUEUE=gpu"]);
    assert_eq!(
        (runs[1].verdict, runs[1].exit_code, runs[1].host.as_str()),
        (Some(VerdictKind::ExitNonzero), Some(3), "n1")
    );
    assert_eq!((runs[2].verdict, runs[2].signal), (Some(VerdictKind::OomKilled), Some(125)));
    assert_eq!(
        (runs[3].verdict, runs[3].sender_uid.as_str(), runs[3].host.as_str()),
        (Some(VerdictKind::StopRequested), "1001", "")
    );
    assert_eq!(runs[4].verdict, None);
    assert_eq!(runs[4].row("slurm").text(Column::Verdict), "lost");
    assert!(bad(&mut Sacct::default(), "JobID|State").contains("'start'"));
    let torn = "JobID|State|Start|End\n1|COMPLETED|2026-11-22T10:00:00";
    assert!(bad(&mut Sacct::default(), torn).contains("3 cells"));
    let strange = "JobID|State|Start|End\n1|ODD|2026-11-22T10:00:00|2026-11-22T10:00:00";
    assert!(bad(&mut Sacct::default(), strange).contains("'ODD'"));
}

#[test]
fn jobs_of_pbs() {
    let line = |status: i32| {
        format!(
            "11/22/2026 10:00:00;E;12.srv;user=ann group=g jobname=sim queue=long start=1795341600 end=1795345200 \
         exec_host=n7/0+n7/1 Resource_List.mem=2gb Resource_List.walltime=02:00:00 Resource_List.ncpus=2 \
         Exit_status={status} resources_used.mem=1024kb resources_used.cput=00:30:00"
        )
    };
    for (status, verdict, code, signal) in [
        (0, VerdictKind::Success, Some(0), None),
        (2, VerdictKind::ExitNonzero, Some(2), None),
        (265, VerdictKind::Unknown, None, Some(9)),
        (-10, VerdictKind::OomKilled, None, None),
        (-11, VerdictKind::TimedOut, None, None),
        (-3, VerdictKind::Unknown, None, None),
    ] {
        let runs =
            runs(&mut Pbs, &format!("11/22/2026 09:00:00;Q;12.srv;queue=long\n{}", line(status)));
        assert_eq!(
            (runs[0].verdict, runs[0].exit_code, runs[0].signal),
            (Some(verdict), code, signal),
            "{status}"
        );
    }
    let run = &runs(&mut Pbs, &line(0))[0];
    assert_eq!(
        (run.host.as_str(), run.peak_bytes, run.cpu_seconds),
        ("n7", Some(1 << 20), Some(1800.0))
    );
    assert_eq!(
        run.request,
        ["TIME_SECONDS=7200", "MEMORY_BYTES=2147483648", "PROCESSORS=2", "QUEUE=long"]
    );
    assert!(bad(&mut Pbs, "no accounting").contains("date;type;job"));
    assert!(bad(&mut Pbs, "d;E;1;start=1 end=2").contains("Exit_status"));
}

#[test]
fn jobs_of_parallel() {
    let text = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n\
        1\t:\t1795341600.125\t     2.500\t0\t0\t0\t0\t/usr/bin/sort a\tb\n\
        2\tn1\t1795341600.125\t     0.010\t0\t0\t3\t0\tfalse\n\
        3\tn1\t1795341600.125\t     0.010\t0\t0\t0\t9\tsleep 9\n";
    let runs = runs(&mut JobLog, text);
    assert_eq!(
        (runs[0].command.as_str(), runs[0].name.as_str(), runs[0].ended),
        ("/usr/bin/sort a\tb", "sort", 1_795_341_602.625)
    );
    assert_eq!((runs[1].exit_code, runs[2].signal), (Some(3), Some(9)));
    assert_eq!(runs[0].row("parallel").words(Column::Command).expect("words").len(), 3);
    assert!(bad(&mut JobLog, "1\t2").contains("2 columns"));
}

#[test]
fn spans_and_sizes() {
    for (text, seconds) in [
        ("90", Some(90.0)),
        ("1:30", Some(90.0)),
        ("1-00:00:01.5", Some(86_401.5)),
        ("UNLIMITED", None),
        ("", None),
        ("-1", None),
    ] {
        assert_eq!(span(text), seconds, "{text}");
    }
    for (text, bytes) in [
        ("10", Some(10 << 20)),
        ("4.5G", Some(4_831_838_208)),
        ("3kb", Some(3072)),
        ("7b", Some(7)),
        ("2Gn", Some(2 << 30)),
        ("x", None),
        ("", None),
    ] {
        assert_eq!(size(text, 1 << 20), bytes, "{text}");
    }
}
