//! Deaths by signal on this machine, reported by the kernel (proc connector of netlink(7)).
//!
//! It is opened before the job is started, for a descendant may die in its first moment. A filter in the
//! kernel lets through only what died of a signal, and the end of the job, so that the forks and ordinary
//! exits of a busy machine do not wake us. The kernel compiles it, which takes longer than all the rest:
//! it is attached to a job that has run for a while, and until then nobody waits for these events, which
//! queue in the socket. Which of the dead were ours, `run` finds out.

use std::ffi::c_int;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;

use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::time::Moment;
use crate::sys::{SysError, check, pidfd_info};

/// CN_IDX_PROC and CN_VAL_PROC of linux/connector.h.
const CN_PROC: u32 = 1;
/// PROC_CN_MCAST_LISTEN of linux/cn_proc.h.
const LISTEN: u32 = 1;
/// PROC_EVENT_EXIT of linux/cn_proc.h.
const EXIT: u32 = 0x8000_0000;

/// Where a message has its parts: a netlink header of 16 bytes, a connector header of 20, the
/// event's head (what, cpu, time stamp) of 16, and then the event of an exit.
const WHAT: usize = 36;
const TIME: usize = 44;
const PROCESS_PID: usize = 52;
const PROCESS_TGID: usize = 56;
const EXIT_CODE: usize = 60;
const PARENT_TGID: usize = 72;

/// A message of an exit has 76 bytes.
const MESSAGE_BYTES_MAX: usize = 128;

/// At most this number of messages is read by one system call: those of a short job.
const READ_AT_ONCE: usize = 8;

/// The inode of the initial pid namespace (PROC_PID_INIT_INO of linux/proc_ns.h): elsewhere the
/// pids that the kernel reports are not ours.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Returns whether the pids that the kernel itself states are ours.
#[must_use]
pub fn is_initial_pid_namespace() -> bool {
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    namespace.as_os_str() == INITIAL_PID_NAMESPACE
}

/// A process, or a thread of it, that ended: of a signal, unless it is the job or no filter was attached yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeathNotice {
    pub pid: Pid,
    /// The thread, if this is not the end of its first one.
    pub thread: Option<Pid>,
    /// Its parent; the kernel reports it since 4.18.
    pub parent: Option<Pid>,
    /// When, before its parent or its children could learn of it.
    pub at: Moment,
    pub end: Termination,
}

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;

/// Where the highest byte of `WHAT` is.
const TOP_OF_WHAT: usize = if cfg!(target_endian = "little") { WHAT + 3 } else { WHAT };

/// How long the queue of the ends of all processes may be; the kernel doubles it and counts 768 bytes for each.
const QUEUE_BYTES: c_int = 512 * 1024;

const ALL: usize = u32::MAX as usize;

/// An instruction of a filter, but a jump.
fn instruction(code: u32, k: usize) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: k as u32 }
}

/// A jump on equality: with a number (BPF_K) or with the other register (BPF_X).
fn jump(with: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | with) as u16, jt, jf, k }
}

/// The stream of deaths.
pub struct ProcEvents {
    fd: OwnedFd,
}

impl ProcEvents {
    /// Opens it before the job is started, at the cost of three system calls: all that happens on this
    /// machine is reported until [`ProcEvents::follow`], as much as the socket's buffer holds.
    ///
    /// # Errors
    ///
    /// Of socket(2), bind(2) and send(2): an older kernel without root, or a network namespace.
    pub fn open() -> Result<ProcEvents, SysError> {
        let events = ProcEvents::socket()?;
        events.bind()?;
        events.listen()?;
        Ok(events)
    }

    /// Opens another stream, of the ends of all processes. The kernel keeps a thousand (without privileges, half
    /// of them) until they are read, and drops what follows: it is there to be read now and then, and not to be
    /// waited for.
    ///
    /// # Errors
    ///
    /// As [`ProcEvents::open`], and of setsockopt(2).
    pub fn open_ends() -> Result<ProcEvents, SysError> {
        let events = ProcEvents::socket()?;
        events.filter_ends()?;
        // A shorter queue costs evidence only; without privileges the second one cuts it to rmem_max (socket(7)).
        let lengthened = events.set(libc::SO_RCVBUFFORCE, &QUEUE_BYTES);
        lengthened.or_else(|_| events.set(libc::SO_RCVBUF, &QUEUE_BYTES)).ok();
        events.bind()?;
        events.listen()?;
        Ok(events)
    }

    fn socket() -> Result<ProcEvents, SysError> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain integers.
        let fd = unsafe { libc::socket(libc::PF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
        check("open a netlink socket", fd.into())?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(ProcEvents { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Makes sure that the pids in the events are ours, at the cost of a link in /proc that the kernel
    /// has to make: to be called before any of them is believed.
    ///
    /// # Errors
    ///
    /// In a pid namespace they are not.
    pub fn check_pids() -> Result<(), SysError> {
        if is_initial_pid_namespace() {
            return Ok(());
        }
        Err(SysError::new("use process events in a pid namespace", Errno::ENOTSUP))
    }

    /// Attaches the filter, in place of the last one if there was one.
    ///
    /// # Errors
    ///
    /// Of setsockopt(2), and of [`ProcEvents::check_pids`].
    pub fn follow(&self, job: Pid) -> Result<(), SysError> {
        ProcEvents::check_pids()?;
        // Numbers are in the machine's order: the byte that counts lies at one end.
        let low = if cfg!(target_endian = "little") { EXIT_CODE } else { EXIT_CODE + 3 };
        self.filter(&mut [
            instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, TOP_OF_WHAT),
            jump(libc::BPF_K, 0x80, 0, 5),
            // A word is loaded in network order.
            instruction(LOAD_WORD, PROCESS_PID),
            jump(libc::BPF_K, job.0.unsigned_abs().to_be(), 2, 0),
            instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, low),
            libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
                jt: 0,
                jf: 1,
                k: 0x7f,
            },
            instruction(libc::BPF_RET | libc::BPF_K, ALL),
            instruction(libc::BPF_RET | libc::BPF_K, 0),
        ])
    }

    /// Lets the ends of processes through, of whatever they died.
    fn filter_ends(&self) -> Result<(), SysError> {
        self.filter(&mut [
            instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, TOP_OF_WHAT),
            jump(libc::BPF_K, 0x80, 0, 5),
            instruction(LOAD_WORD, PROCESS_PID),
            instruction(libc::BPF_MISC | libc::BPF_TAX, 0),
            instruction(LOAD_WORD, PROCESS_TGID),
            jump(libc::BPF_X, 0, 0, 1),
            instruction(libc::BPF_RET | libc::BPF_K, ALL),
            instruction(libc::BPF_RET | libc::BPF_K, 0),
        ])
    }

    fn filter(&self, program: &mut [libc::sock_filter]) -> Result<(), SysError> {
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        self.set(libc::SO_ATTACH_FILTER, &program)
    }

    fn set<T>(&self, option: c_int, value: &T) -> Result<(), SysError> {
        let value = ptr::from_ref(value).cast();
        let (fd, level) = (self.fd.as_raw_fd(), libc::SOL_SOCKET);
        // SAFETY: the value is one of that length; that of a filter points to a program of the length that it says.
        let set = unsafe { libc::setsockopt(fd, level, option, value, size_of::<T>() as u32) };
        check("filter process events", set.into()).map(|_| ())
    }

    fn bind(&self) -> Result<(), SysError> {
        let address = Address {
            family: libc::AF_NETLINK as libc::sa_family_t,
            pad: 0,
            pid: 0,
            groups: CN_PROC,
        };
        // SAFETY: the struct has the layout and length of a sockaddr_nl.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<Address>() as libc::socklen_t,
            )
        };
        check("listen to process events", result.into()).map(|_| ())
    }

    fn listen(&self) -> Result<(), SysError> {
        let message = Message {
            length: size_of::<Message>() as u32,
            kind: libc::NLMSG_DONE as u16,
            flags: 0,
            sequence: 0,
            port: 0,
            index: CN_PROC,
            value: CN_PROC,
            connector_sequence: 0,
            acknowledge: 0,
            data_length: size_of::<u32>() as u16,
            data_flags: 0,
            operation: LISTEN,
        };
        // SAFETY: the struct is plain numbers without gaps, and its length is passed.
        let sent = unsafe {
            libc::send(
                self.fd.as_raw_fd(),
                (&raw const message).cast(),
                size_of::<Message>(),
                libc::MSG_NOSIGNAL,
            )
        };
        check("ask for process events", sent as libc::c_long).map(|_| ())
    }

    /// Reads what came, about `most` at most; returns whether something was lost on the way (ENOBUFS).
    ///
    /// # Errors
    ///
    /// Of recvmmsg(2), except that nothing is there.
    pub fn read(&self, most: usize, notices: &mut Vec<DeathNotice>) -> Result<bool, SysError> {
        let mut is_lossy = false;
        let mut read = 0;
        while read < most {
            match self.read_some(notices) {
                Ok(count) => {
                    read += count;
                    if count < READ_AT_ONCE {
                        break;
                    }
                }
                Err(error) => match error.source {
                    Errno::EAGAIN => break,
                    Errno::ENOBUFS => is_lossy = true,
                    Errno::EINTR => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(is_lossy)
    }

    /// Reads what came by one call, and returns how many messages that were.
    fn read_some(&self, notices: &mut Vec<DeathNotice>) -> Result<usize, SysError> {
        let mut buffers = [[0_u8; MESSAGE_BYTES_MAX]; READ_AT_ONCE];
        let mut places = buffers.each_mut().map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        });
        let mut headers = places.each_mut().map(|place| {
            // SAFETY: a mmsghdr of zeroes has no name, no control data and no flags.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = place;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        // SAFETY: each header names one place, and that a buffer of its length, all of which live
        // until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                READ_AT_ONCE as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = check("read process events", count.into())?.unsigned_abs() as usize;
        for (header, buffer) in headers.iter().zip(&buffers).take(count) {
            notices.extend(buffer.get(..header.msg_len as usize).and_then(parse));
        }
        Ok(count)
    }
}

impl AsFd for ProcEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[repr(C)]
struct Address {
    family: libc::sa_family_t,
    pad: u16,
    pid: u32,
    groups: u32,
}

/// A netlink message with a connector message in it.
#[repr(C)]
struct Message {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    index: u32,
    value: u32,
    connector_sequence: u32,
    acknowledge: u32,
    data_length: u16,
    data_flags: u16,
    operation: u32,
}

/// Reads one message; `None` for all but ends.
fn parse(message: &[u8]) -> Option<DeathNotice> {
    let number = |offset: usize| {
        let bytes = message.get(offset..offset + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let pid =
        |offset| number(offset).and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let process = pid(PROCESS_TGID)?;
    if number(WHAT)? != EXIT {
        return None;
    }
    // Threads end one by one; the first thread stands for the process.
    let thread = pid(PROCESS_PID).map(Pid).filter(|thread| thread.0 != process);
    let end = pidfd_info::termination(i32::try_from(number(EXIT_CODE)?).ok()?)?;
    let nanos = u64::from_ne_bytes(message.get(TIME..TIME + 8)?.try_into().ok()?);
    let at = Moment(Duration::from_nanos(nanos));
    let parent = pid(PARENT_TGID).map(Pid);
    Some(DeathNotice { pid: Pid(process), thread, parent, at, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;
    use proptest::prelude::*;

    fn message(pid: u32, tgid: u32, status: u32, parent: u32) -> Vec<u8> {
        let mut bytes = vec![0; 76];
        let mut put = |offset: usize, value: u32| {
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(WHAT, EXIT);
        put(PROCESS_PID, pid);
        put(PROCESS_TGID, tgid);
        put(EXIT_CODE, status);
        put(PARENT_TGID, parent);
        bytes[TIME..TIME + 8].copy_from_slice(&5_000_000_000_u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_end_of_a_process_by_a_signal_is_read() {
        let end = Termination::Signaled { signal: Signal::SEGV, core_dumped: true };
        let at = Moment(Duration::from_secs(5));
        let notice = DeathNotice { pid: Pid(812), thread: None, parent: Some(Pid(7)), at, end };
        assert_eq!(parse(&message(812, 812, 0x8b, 7)), Some(notice));
        let exited = parse(&message(812, 812, 3 << 8, 7)).map(|notice| notice.end);
        assert_eq!(exited, Some(Termination::Exited(3)), "the filter lets the job's through");
    }

    #[test]
    fn a_thread_is_not_taken_for_its_process() {
        let notice = parse(&message(813, 812, 9, 7));
        assert_eq!(notice.map(|one| (one.pid, one.thread)), Some((Pid(812), Some(Pid(813)))));
    }

    #[test]
    fn a_kernel_before_4_18_reports_no_parent() {
        let short = &message(812, 812, 9, 7)[..72];
        assert_eq!(parse(short).and_then(|notice| notice.parent), None);
        assert!(parse(short).is_some());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(notice) = parse(&bytes) {
                prop_assert!(notice.pid.0 > 0);
            }
        }
    }
}
