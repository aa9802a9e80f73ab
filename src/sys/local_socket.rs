//! Stream sockets with names of their own (unix(7), abstract sockets), and who is at the other end.
//!
//! No file is made, and the name goes with the process. Whoever knows a name may take it first or connect:
//! each side asks the kernel for the user of the other (SO_PEERCRED).

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::ptr;

use crate::model::process::Pid;

/// The process that connected or listens, when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: Pid,
    /// Its effective user.
    pub uid: u32,
}

/// Listens under a name; to be accepted from without blocking.
///
/// # Errors
///
/// The name is taken, or no descriptor is left.
pub fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to who listens under a name.
///
/// # Errors
///
/// Nobody does (ECONNREFUSED), or no descriptor is left.
pub fn connect(name: &str) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
}

/// Returns who is at the other end.
///
/// # Errors
///
/// The kernel does not say.
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(mem::size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: the descriptor is open; the buffer is one ucred, and its length is passed.
    let answer = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            ptr::from_mut(&mut found).cast(),
            &raw mut length,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer { pid: Pid(found.pid), uid: found.uid })
}

/// The name under which the supervisor of a run gives reports about its stacks.
#[must_use]
pub fn name_of_stacks(run: &str) -> String {
    format!("childminder/stacks/{run}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_know_who_the_other_is() {
        let name = format!("childminder-test/{}", std::process::id());
        assert!(connect(&name).is_err());
        let listener = listen(&name).expect("a free name");
        assert_eq!(listen(&name).map(drop).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let ours = connect(&name).expect("connected");
        let (theirs, _) = listener.accept().expect("somebody waits");
        let pid = Pid(std::process::id().cast_signed());
        let uid = nix::unistd::geteuid().as_raw();
        assert_eq!(peer(&ours).expect("known"), Peer { pid, uid });
        assert_eq!(peer(&theirs).expect("known"), Peer { pid, uid });
    }
}
