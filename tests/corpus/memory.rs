//! Real out-of-memory (OOM) deaths in a memory cgroup, and what looks like one. Root only: an ordinary user
//! seldom has a cgroup; some of the jobs here are an ordinary user's all the same.

use crate::case::{Case, case};

/// Makes a memory cgroup `$cg` of 64 MiB and enters it with `into`.
const CGROUP: &str = r#"
if [ -d /sys/fs/cgroup/memory ]; then root=/sys/fs/cgroup/memory; limit=memory.limit_in_bytes
else root=/sys/fs/cgroup; limit=memory.max; fi
cg=$root/corpus-$$; mkdir "$cg" && echo 67108864 > "$cg/$limit" || exit 98
trap 'i=0; until rmdir "$cg" 2>/dev/null || [ $i -gt 100 ]; do i=$((i+1)); sleep 0.05; done' EXIT
into() { sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$cg" "$@"; }
begin_into() { sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$cg" "$CM" "$@" & minder=$!; }
as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
"#;

fn grouped(name: &str, cause: &str, right: &'static str, script: &str) -> Case {
    // The shell ends by `exit`, so that the trap removes the cgroup when all are out of it.
    case(name, cause, right, &format!("{CGROUP}{script}")).root().alone()
}

const KILLED: &str = "killed_by_process likely | unknown possible";

pub fn cases() -> Vec<Case> {
    let mut cases = killed_by_kernel();
    cases.extend(look_alikes());
    cases
}

fn killed_by_kernel() -> Vec<Case> {
    vec![
        grouped("oom-job", "the kernel killed the job: the cgroup's limit", "oom_killed certain",
            r#"into "$CM" sh -c 'sleep 0.2; exec "$DEATHS" eat 200'; exit $?"#).says("64.0 MiB").status(137),
        grouped("oom-job-at-once", "the kernel killed the job in its first milliseconds",
            "oom_killed certain likely", r#"into "$CM" "$DEATHS" eat 200; exit $?"#).status(137),
        grouped("oom-worker-0", "the kernel killed a worker; the job returned 0", "success_with_losses certain",
            r#"into "$CM" sh -c 'sleep 0.2; "$DEATHS" eat 200; exit 0'; exit $?"#).says("memory").status(0),
        grouped("oom-worker-1", "the kernel killed a worker; the job gave up with 1",
            "oom_killed likely certain | descendant_killed likely",
            r#"into "$CM" sh -c 'sleep 0.2; "$DEATHS" eat 200 || exit 1'; exit $?"#).says("memory").status(1),
        grouped("oom-worker-137", "the kernel killed a worker; the shell returned 137", "oom_killed certain",
            r#"into "$CM" sh -c 'sleep 0.2; "$DEATHS" eat 200; exit $?'; exit $?"#).says("memory").status(137),
        grouped("oom-as-user", "the kernel killed an ordinary user's job", "oom_killed certain likely",
            r#"chmod 777 .; into setpriv --reuid 65534 --regid 65534 --clear-groups "$CM" sh -c 'sleep 0.2; exec "$DEATHS" eat 200'; exit $?"#)
            .status(137),
        grouped("oom-unsampled", "the kernel killed the job; --sample 0", "oom_killed certain likely possible | unknown possible",
            r#"into "$CM" --sample 0 sh -c 'sleep 0.2; exec "$DEATHS" eat 200'; exit $?"#).status(137),
        grouped("oom-hung-pool", "the kernel killed a worker; its pool hung, and --timeout ended it", "timed_out certain",
            r#"into "$CM" --timeout 2 sh -c 'sleep 0.2; "$DEATHS" eat 200; exec sleep 60'; exit $?"#)
            .says("SIGKILL").says("memory|oom").status(124),
    ]
}

fn look_alikes() -> Vec<Case> {
    vec![
        grouped("oom-stranger", "the kernel killed a stranger in our cgroup; later a person killed the job", KILLED,
            r#"begin_into sh -c ': > ready; exec sleep 60'
await ready; await_job; watched; into "$DEATHS" eat 200; sleep 1; kill -9 $job; end"#).status(137),
        grouped("oom-stranger-user", "the same for an ordinary user, who may not read the kernel's log",
            "killed_by_process likely | unknown possible | oom_killed possible likely",
            r#"chmod 777 .; sh -c 'echo $$ > "$0/cgroup.procs" && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' "$cg" "$CM" sh -c ': > ready; exec sleep 60' & minder=$!
await ready; await_job; watched; into "$DEATHS" eat 200; sleep 1; kill -9 $job; end"#).status(137),
        grouped("oom-replaced-worker", "the kernel killed a worker, which was replaced; later a person killed the job", KILLED,
            r#"begin_into sh -c 'sleep 0.2; "$DEATHS" eat 200; : > ready; exec sleep 60'
await ready; await_job; sleep 3; kill -9 $job; end"#).status(137),
        grouped("oom-replaced-worker-3", "the kernel killed a worker, which was replaced; the job failed seconds later",
            "exit_nonzero certain likely possible | oom_killed possible | descendant_killed possible",
            r#"into "$CM" sh -c 'sleep 0.2; "$DEATHS" eat 200; sleep 4; exit 3'; exit $?"#).status(3),
        grouped("oom-elsewhere", "the kernel killed somebody in another cgroup; a person killed the job", KILLED,
            r#"begin sh -c ': > ready; exec sleep 60'
await ready; await_job; watched; into "$DEATHS" eat 200; sleep 0.2; kill -9 $job; end"#).status(137),
        grouped("earlyoom", "a daemon in user space killed it at 92 % of the limit", KILLED,
            r#"begin_into "$DEATHS" eat 56 ready
await ready; await_job; sleep 1.3; kill -9 $job; end"#)
            .says("kernel's OOM killer").says("of limit 64.0 MiB|of the limit").status(137),
        grouped("page-cache", "the page cache filled the cgroup; a person killed the job, which is small", KILLED,
            r#"begin_into sh -c 'head -c 150000000 /dev/zero > big; : > ready; exec sleep 60'
await ready; await_job; watched; kill -9 $job; end"#).never("64.0 MiB of limit").status(137),
        grouped("limit-and-137", "the program chose 137 in a cgroup that was never short of memory", "exit_nonzero certain",
            r#"into "$CM" sh -c 'sleep 0.2; exit 137'; exit $?"#).status(137),
        grouped("oom-then-crash", "the kernel killed a worker; seconds later the job crashed", "crashed likely certain",
            r#"into "$CM" sh -c 'sleep 0.2; "$DEATHS" eat 200; sleep 2; exec "$DEATHS" null'; exit $?"#).status(139),
    ]
}
