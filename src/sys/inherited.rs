//! Attributes that execve(2) keeps and fork(2) resets: childminder was given them, and the job
//! would have them without it.

use libc::{c_int, c_long};

/// Those that somebody set before childminder was executed.
#[derive(Clone, Copy)]
pub struct Inherited {
    /// The signal at the end of the parent (PR_SET_PDEATHSIG); 0 for none.
    death_signal: c_int,
    /// The scheduling, if it is reset on fork (SCHED_RESET_ON_FORK of sched(7)).
    scheduling: Option<Scheduling>,
}

/// `struct sched_attr` of sched_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Scheduling {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    utilization_min: u32,
    utilization_max: u32,
}

const SIZE: u32 = size_of::<Scheduling>() as u32;

impl Inherited {
    /// Reads what this process has.
    #[must_use]
    pub fn of_ourselves() -> Inherited {
        let mut death_signal: c_int = 0;
        // SAFETY: the pointer is to an integer of ours.
        unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut death_signal) };
        // SAFETY: plain integer; 0 is this thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        let is_reset = policy >= 0 && policy & libc::SCHED_RESET_ON_FORK != 0;
        Inherited { death_signal, scheduling: if is_reset { scheduling() } else { None } }
    }

    /// Sets them again in the child. It makes no call but prctl and sched_setattr, and neither
    /// allocates nor locks. Where the kernel refuses a scheduling, which takes a privilege, the
    /// job has the default one.
    pub(super) fn restore(&self) {
        if let Some(scheduling) = &self.scheduling {
            let scheduling: *const Scheduling = scheduling;
            // SAFETY: the struct is as long as its first field says.
            unsafe { libc::syscall(libc::SYS_sched_setattr, 0, scheduling, 0) };
        }
        if self.death_signal != 0 {
            // SAFETY: plain integers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, self.death_signal) };
        }
    }
}

fn scheduling() -> Option<Scheduling> {
    let mut scheduling = Scheduling::default();
    let pointer = &raw mut scheduling;
    // SAFETY: the buffer is ours and as long as the size says.
    let result: c_long = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, pointer, SIZE, 0) };
    (result == 0).then_some(scheduling)
}
