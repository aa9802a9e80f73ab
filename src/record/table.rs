//! The shared file, open and locked: nobody else writes to it while a [`Table`] exists.

use std::borrow::Cow;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

use crate::files::{self, FileId};
use crate::record::lock::{Lock, Patience};
use crate::record::row::Header;
use crate::record::unfit::Unfit;

/// How often a file is opened again that was replaced just then.
const REPLACED_MAX: u32 = 20;

/// The longest header that is read.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// So much is read at a time of what others wrote.
const CHUNK_BYTES: usize = 256 * 1024;

/// A last line that is longer is not ours.
const TORN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The file between two times: open, and not locked.
pub(super) struct Unlocked {
    file: File,
    id: FileId,
    length: u64,
    header: Cow<'static, Header>,
}

/// See the module's documentation. To be given back by [`Table::unlock`].
pub(super) struct Table {
    file: File,
    lock: Lock,
    id: FileId,
    header: Cow<'static, Header>,
    length: u64,
    is_empty: bool,
}

impl Table {
    /// Opens and locks the file, which is made if it is not there. `last` is what was given back the
    /// last time.
    pub(super) fn open(
        path: &Path,
        last: Option<Unlocked>,
        patience: Patience,
    ) -> Result<Table, Unfit> {
        if let Some(last) = last
            && let Some(table) = Table::open_again(path, last, patience)?
        {
            return Ok(table);
        }
        for _ in 0..REPLACED_MAX {
            let file = open_or_create(path)?;
            let meta = file.metadata().map_err(|error| Unfit::Hindered("look at it", error))?;
            check(&meta, path)?;
            let id = FileId::from(&meta);
            let lock = Lock::take(&file, path, patience)?;
            if let Some(length) = length_if_still(path, id) {
                let header = Cow::Borrowed(Header::ours_shared());
                let is_empty = length == 0;
                let table = Table { file, lock, id, header, length, is_empty };
                return table.with_header();
            }
            // It was rotated or replaced between open and lock: rows would go where nobody looks.
            lock.release(&file);
        }
        Err(Unfit::Hindered("it is replaced again and again", ErrorKind::ResourceBusy.into()))
    }

    /// Returns `None` if the file is another one by now, or may begin in another way.
    fn open_again(path: &Path, last: Unlocked, patience: Patience) -> Result<Option<Table>, Unfit> {
        let Unlocked { file, id, length: before, header } = last;
        let lock = Lock::take(&file, path, patience)?;
        match length_if_still(path, id) {
            Some(length) if 0 < before && before <= length => {
                Ok(Some(Table { file, lock, id, header, length, is_empty: false }))
            }
            _ => {
                lock.release(&file);
                Ok(None)
            }
        }
    }

    /// Lets others write. Only to close the file would not do: a process that is being started may
    /// have a copy of the descriptor until it is executed, and so would have the lock.
    pub(super) fn unlock(self) -> Unlocked {
        let Table { file, lock, id, header, length, .. } = self;
        lock.release(&file);
        Unlocked { file, id, length, header }
    }

    /// Reads the header; where that fails, others may write.
    fn with_header(mut self) -> Result<Table, Unfit> {
        if self.is_empty {
            return Ok(self);
        }
        match self.read_header() {
            Ok(()) => Ok(self),
            Err(unfit) => {
                drop(self.unlock());
                Err(unfit)
            }
        }
    }

    fn read_header(&mut self) -> Result<(), Unfit> {
        let hindered = |source| Unfit::Hindered("read its header", source);
        let ours = Header::our_line();
        let mut begin = vec![0; ours.len()];
        if self.file.read_at(&mut begin, 0).map_err(hindered)? == ours.len() && begin == ours {
            return Ok(());
        }
        let line = first_line(&self.file).map_err(hindered)?;
        if !line.ends_with(b"\n") && ours.starts_with(&line) {
            // The process that made the file was killed while it wrote the first line.
            return self.cut_to(0).map_err(hindered);
        }
        let header =
            Header::parse(&line).ok_or(Unfit::Refused("it is not a record of childminder"))?;
        let is_complete = header.is_complete();
        self.header = Cow::Owned(header);
        if is_complete { Ok(()) } else { Err(Unfit::Narrow) }
    }

    /// Returns whether the header is ours, in our order.
    pub(super) fn has_our_header(&self) -> bool {
        matches!(self.header, Cow::Borrowed(_))
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Returns where the next row begins, and in which file that is.
    pub(super) fn end(&self) -> (u64, u64) {
        (self.id.inode, self.length)
    }

    /// Returns the torn last line, if there is one: a writer was killed in the middle of it, or the
    /// machine was.
    pub(super) fn torn(&self) -> io::Result<Vec<u8>> {
        if self.length == 0 {
            return Ok(Vec::new());
        }
        let mut begin = self.length;
        let mut tail = Vec::new();
        while begin > 0 && self.length - begin < TORN_BYTES_MAX {
            // Each step doubles what is there, so that nothing is copied often.
            let step =
                if begin == self.length { 1 } else { begin.min((self.length - begin).max(4096)) };
            let mut chunk = vec![0; usize::try_from(step).unwrap_or(1)];
            self.file.read_exact_at(&mut chunk, begin - step)?;
            if let Some(end) = chunk.iter().rposition(|byte| *byte == b'\n') {
                return Ok([&chunk[end + 1..], &tail].concat());
            }
            begin -= step;
            tail = [chunk, tail].concat();
        }
        // Without a line end anywhere it would have no header; so it is something strange.
        Err(ErrorKind::InvalidData.into())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Takes away what is behind that length.
    pub(super) fn cut_to(&mut self, length: u64) -> io::Result<()> {
        self.length = length;
        self.is_empty = length == 0;
        self.file.set_len(length)
    }

    /// Appends whole lines by one write(2), or nothing.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let bytes = match self.is_empty {
            true => Cow::Owned([&self.header.to_csv_line(), lines].concat()),
            false => Cow::Borrowed(lines),
        };
        let written = loop {
            match (&self.file).write(&bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match written {
            Ok(count) if count == bytes.len() => {
                self.length += bytes.len() as u64;
                self.is_empty = false;
                Ok(())
            }
            Ok(_) => {
                // If this fails as well, the next writer mends it.
                self.file.set_len(self.length)?;
                Err(ErrorKind::StorageFull.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Shows each line from there to the end that is not longer than `bytes_max`, with its end.
    pub(super) fn each_line_since(
        &self,
        offset: u64,
        bytes_max: usize,
        mut see: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut line = Vec::new();
        let mut at = offset;
        while at < self.length {
            let room = usize::try_from(self.length - at).unwrap_or(usize::MAX).min(chunk.len());
            self.file.read_exact_at(&mut chunk[..room], at)?;
            at += room as u64;
            for part in chunk[..room].split_inclusive(|byte| *byte == b'\n') {
                // One byte more than a line may have says that it is too long, whatever follows.
                line.extend_from_slice(
                    &part[..part.len().min((bytes_max + 1).saturating_sub(line.len()))],
                );
                if part.ends_with(b"\n") {
                    if line.len() <= bytes_max {
                        see(&line);
                    }
                    line.clear();
                }
            }
        }
        Ok(())
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Opens the file for no access at all, if it is there; waits for nobody, whatever is there.
pub(super) fn hold(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path).ok()
}

fn open_or_create(path: &Path) -> Result<File, Unfit> {
    let mut options = OpenOptions::new();
    // O_NONBLOCK: whoever put a FIFO there should not hold us up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    // Shared by a group or by all as the umask says: that is what it is for.
    options.read(true).append(true).custom_flags(flags).mode(0o666);
    for _ in 0..REPLACED_MAX {
        // First without O_CREAT, which follows a link to nowhere and is refused where
        // fs.protected_regular guards files of others.
        let opened = match options.create_new(false).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = options.create_new(true).open(path);
                // The next run of this user has to open it, too.
                made.and_then(|made| files::let_owner(&made, 0o600).map(|()| made))
            }
            other => other,
        };
        return match opened {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => Err(match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::ELOOP => Unfit::Refused("it is a symbolic link"),
                Errno::EISDIR => Unfit::Refused("it is a directory"),
                Errno::ENXIO => Unfit::Refused("it is not a regular file"),
                _ => Unfit::Hindered("open it", error),
            }),
        };
    }
    Err(Unfit::Hindered("it comes and goes", ErrorKind::ResourceBusy.into()))
}

fn check(meta: &Metadata, path: &Path) -> Result<(), Unfit> {
    if !meta.is_file() {
        return Err(Unfit::Refused("it is not a regular file"));
    }
    if [nix::unistd::geteuid().as_raw(), 0].contains(&meta.uid()) {
        return Ok(());
    }
    let hindered = |source| Unfit::Hindered("look at it", source);
    let above = fs::metadata(directory_of(path)).map_err(hindered)?;
    match is_trusted(meta, &above) {
        true => Ok(()),
        false => Err(Unfit::Refused("it is another user's, in a directory that all may write to")),
    }
}

/// Where everybody may make files, only those of ours, of root and of the directory's owner are what
/// they seem to be.
pub(super) fn is_trusted(meta: &Metadata, directory: &Metadata) -> bool {
    let is_for_all = directory.mode() & 0o002 != 0;
    let owners = [nix::unistd::geteuid().as_raw(), 0, directory.uid()];
    !is_for_all || owners.contains(&meta.uid())
}

pub(super) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Returns the length of the file if it is still the one of that name.
fn length_if_still(path: &Path, id: FileId) -> Option<u64> {
    let named = fs::symlink_metadata(path).ok()?;
    (FileId::from(&named) == id).then_some(named.len())
}

fn first_line(file: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; 4096];
    loop {
        let count = file.read_at(&mut text, 0)?;
        if let Some(end) = text[..count].iter().position(|byte| *byte == b'\n') {
            text.truncate(end + 1);
            return Ok(text);
        }
        if count < text.len() || text.len() >= HEADER_BYTES_MAX {
            // No line at all: a header that was torn, or something strange.
            text.truncate(count);
            return Ok(text);
        }
        text.resize(HEADER_BYTES_MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::time::Moment;

    #[test]
    fn lines_are_seen_whole_across_chunks_and_those_too_long_are_not() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("all.csv");
        let header = Header::ours().to_csv_line();
        let lines = |count: usize| vec![b"0123456789\n".to_vec(); count].concat();
        let long = [vec![b'x'; CHUNK_BYTES * 2], b"\n".to_vec()].concat();
        let many = CHUNK_BYTES / 5;
        fs::write(&path, [header.clone(), lines(many), long, lines(3), b"torn".to_vec()].concat())
            .expect("written");
        let patience = Patience { now: || Moment(Duration::ZERO), until: Moment(Duration::MAX) };
        let table = Table::open(&path, None, patience).map_err(|_| ()).expect("a table");
        let mut seen = 0;
        let see = |line: &[u8]| {
            assert_eq!(line, b"0123456789\n");
            seen += 1;
        };
        table.each_line_since(header.len() as u64, 1024, see).expect("read");
        assert_eq!(seen, many + 3);
        assert_eq!(table.torn().expect("read"), b"torn");
    }
}
