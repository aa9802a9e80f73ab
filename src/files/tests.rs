use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use std::ffi::OsStr;
use std::fmt;

use super::*;

/// Who owns what the test plants, where it may give files away.
const STRANGER: u32 = 64_002;

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Gives a file or link to another user; says so where that is not permitted.
fn give_away(path: &Path) -> bool {
    let done = std::os::unix::fs::lchown(path, Some(STRANGER), Some(STRANGER));
    if done.is_err() {
        // Written to the descriptor: print macros are banned in the library, also here.
        let text = "files::tests: SKIPPED: only root can give a file to another user\n";
        nix::unistd::write(std::io::stderr(), text.as_bytes()).ok();
    }
    done.is_ok()
}

fn refused_as<T: fmt::Debug>(result: io::Result<T>) -> Option<Refusal> {
    refusal(&result.expect_err("it must be refused"))
}

/// Runs it on a thread and fails if it does not come back.
fn at_once<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(what()));
    result.recv_timeout(Duration::from_secs(10)).expect("it must not block")
}

#[test]
fn what_is_not_a_regular_file_is_refused_at_once() {
    let place = place();
    let fifo = place.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o666)).unwrap();
    let socket = place.path().join("socket");
    let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [fifo, socket, "/dev/zero".into(), "/dev/full".into(), place.path().to_owned()] {
        let found = at_once(move || read(&path, Owner::Anybody, Links::Trusted, 10));
        assert_eq!(refused_as(found), Some(Refusal::NotRegular));
    }
}

/// To open a device may start a watchdog or rewind a tape. What can be seen here: nobody who waits for a
/// reader of a FIFO goes on.
#[test]
fn what_is_not_a_regular_file_is_not_even_opened() {
    let place = place();
    let fifo = place.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let (done, writer) = std::sync::mpsc::channel();
    let path = fifo.clone();
    std::thread::spawn(move || done.send(File::options().write(true).open(path).is_ok()));
    let directory = Directory::open(place.path(), Links::Refused).unwrap();
    let mut looks = 0;
    while writer.recv_timeout(Duration::from_millis(5)).is_err() && looks < 100 {
        let found = open(&fifo, Owner::Anybody, Links::Trusted);
        assert_eq!(refused_as(found), Some(Refusal::NotRegular));
        let found = directory.file(OsStr::new("fifo"), Owner::Anybody);
        assert_eq!(refused_as(found), Some(Refusal::NotRegular));
        looks += 1;
    }
    assert_eq!(looks, 100, "the writer found a reader");
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let _reader = nix::fcntl::open(&fifo, flags, Mode::empty()).unwrap();
    assert!(writer.recv_timeout(Duration::from_secs(10)).unwrap(), "it goes on with a real one");
}

#[test]
fn a_fifo_that_is_fed_is_not_read() {
    let place = place();
    let fifo = place.path().join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let mut ends = File::options();
    let mut fed = ends.read(true).write(true).open(&fifo).unwrap();
    fed.write_all(b"data").unwrap();
    let found = at_once(move || read(&fifo, Owner::Anybody, Links::Refused, 10));
    assert_eq!(refused_as(found), Some(Refusal::NotRegular));
}

#[test]
fn reading_stops_at_the_bound() {
    let place = place();
    let path = place.path().join("file");
    fs::write(&path, "12345").unwrap();
    assert_eq!(read(&path, Owner::Us, Links::Refused, 5).unwrap(), b"12345");
    let found = read(&path, Owner::Us, Links::Refused, 4);
    assert_eq!(refused_as(found), Some(Refusal::TooLong(4)));
    // /proc gives no size at all, and a sparse file a huge one.
    let found = read(Path::new("/proc/self/status"), Owner::Us, Links::Refused, 4);
    assert_eq!(refused_as(found), Some(Refusal::TooLong(4)));
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let found = read(&path, Owner::Us, Links::Refused, 1 << 20);
    assert_eq!(refused_as(found), Some(Refusal::TooLong(1 << 20)));
}

#[test]
fn links_are_followed_only_if_asked_and_trusted() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "text").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("file", at("one")).unwrap();
    symlink("one", at("two")).unwrap();
    symlink(at("two"), at("directory/three")).unwrap();
    symlink("../directory", at("directory/self")).unwrap();
    symlink("..", at("directory/up")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("nothing", at("dangling")).unwrap();
    for name in ["one", "two", "directory/three"] {
        let found = read(&at(name), Owner::Us, Links::Refused, 10);
        assert_eq!(refused_as(found), Some(Refusal::Link), "{name}");
        let found = read(&at(name), Owner::Us, Links::Trusted, 10);
        assert_eq!(found.unwrap(), b"text", "{name}");
    }
    for name in ["directory/self", "directory/self/", "directory/self/.", "directory/up"] {
        Directory::open(&at(name), Links::Trusted).unwrap();
        let found = Directory::open(&at(name), Links::Refused).unwrap_err();
        assert_eq!(found.kind(), io::ErrorKind::NotADirectory, "{name}");
    }
    let found = read(&at("loop"), Owner::Us, Links::Trusted, 10);
    assert_eq!(refused_as(found), Some(Refusal::Link));
    let found = read(&at("dangling"), Owner::Us, Links::Trusted, 10);
    assert_eq!(found.unwrap_err().kind(), io::ErrorKind::NotFound);
    let found = Directory::open(&at("file"), Links::Trusted).unwrap_err();
    assert_eq!(found.kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn what_a_stranger_made_is_refused() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("file"), "ours").unwrap();
    fs::write(at("his"), "his").unwrap();
    symlink("file", at("link")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::create_dir(at("place")).unwrap();
    symlink("../file", at("place/link")).unwrap();
    if ![at("his"), at("link"), at("directory"), at("place")].iter().all(|path| give_away(path)) {
        return;
    }
    let found = read(&at("his"), Owner::UsOrRoot, Links::Refused, 10);
    assert_eq!(refused_as(found), Some(Refusal::Owner(STRANGER)));
    assert_eq!(read(&at("his"), Owner::Anybody, Links::Refused, 10).unwrap(), b"his");
    let found = read(&at("link"), Owner::Anybody, Links::Trusted, 10);
    assert_eq!(refused_as(found), Some(Refusal::Link));
    // In a directory of his own his links are as good as the directory.
    fs::remove_file(at("place/link")).unwrap();
    symlink("../file", at("place/link")).unwrap();
    give_away(&at("place/link"));
    assert_eq!(read(&at("place/link"), Owner::Us, Links::Trusted, 10).unwrap(), b"ours");
    let here = Directory::open(place.path(), Links::Refused).unwrap();
    let found = here.make(OsStr::new("directory"), 0o700, Owner::Us);
    assert_eq!(refused_as(found), Some(Refusal::Owner(STRANGER)));
}

#[test]
fn a_new_file_replaces_a_link_and_never_what_it_leads_to() {
    let place = place();
    let at = |name: &str| place.path().join(name);
    fs::write(at("precious"), "precious").unwrap();
    symlink("precious", at("link")).unwrap();
    let here = Directory::open(place.path(), Links::Refused).unwrap();
    assert_eq!(
        here.create(OsStr::new("link"), 0o600).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    let mut new = here.begin(0o600).unwrap();
    new.write_all(b"new").unwrap();
    new.replace(OsStr::new("link")).unwrap();
    assert_eq!(fs::read(at("link")).unwrap(), b"new");
    assert!(fs::symlink_metadata(at("link")).unwrap().is_file());
    assert_eq!(fs::metadata(at("link")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn a_name_is_taken_once() {
    let place = place();
    let here = Directory::open(place.path(), Links::Refused).unwrap();
    for (text, is_first) in [("first", true), ("second", false)] {
        let mut new = here.begin(0o600).unwrap();
        new.write_all(text.as_bytes()).unwrap();
        let kept = new.keep_as(OsStr::new("key"));
        assert_eq!(kept.is_ok(), is_first);
        assert!(kept.err().is_none_or(|error| error.kind() == io::ErrorKind::AlreadyExists));
    }
    assert_eq!(here.read(OsStr::new("key"), Owner::Us, 10).unwrap(), b"first");
    drop(here.begin(0o600).unwrap());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing half-done stays");
    here.take((&here, OsStr::new("key")), OsStr::new("other")).unwrap();
    fs::write(place.path().join("more"), "more").unwrap();
    let taken = here.take((&here, OsStr::new("more")), OsStr::new("other"));
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    here.remove(OsStr::new("other")).unwrap();
    assert!(here.reopen().unwrap().metadata().unwrap().is_dir());
    let made = here.make(OsStr::new("inside"), 0o700, Owner::Us).unwrap();
    assert!(made.metadata().unwrap().is_dir());
    here.make(OsStr::new("inside"), 0o700, Owner::Us).expect("it is there already");
    symlink("inside", place.path().join("link")).unwrap();
    let found = here.make(OsStr::new("link"), 0o700, Owner::Us);
    assert_eq!(refused_as(found), Some(Refusal::NotDirectory));
}
