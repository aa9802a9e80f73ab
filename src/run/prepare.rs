//! The files of a job, opened before anything starts, so that a mistake costs nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::files::FileId;
use crate::plan::JobPlan;
use crate::run::kept_output::KeptOutput;
use crate::run::start_error::StartError;

/// What takes the place of the job's standard descriptors.
#[derive(Default)]
pub(super) struct StandardFiles {
    input: Option<File>,
    output: Option<File>,
    error: Option<File>,
    /// What takes both, or the one that is not redirected.
    kept: Option<KeptOutput>,
    /// Files that were not there before.
    created: Vec<PathBuf>,
    /// The length of the file of -e when the attempt began.
    error_begins_at: u64,
}

impl StandardFiles {
    /// Opens all, changing nothing that exists.
    pub(super) fn open(job: &JobPlan) -> Result<StandardFiles, StartError> {
        if let Some(directory) = &job.directory {
            check_directory(directory)?;
        }
        let mut files = StandardFiles::default();
        match files.open_all(job) {
            Ok(()) => Ok(files),
            Err(error) => {
                files.undo();
                Err(error)
            }
        }
    }

    fn open_all(&mut self, job: &JobPlan) -> Result<(), StartError> {
        if let Some(path) = &job.input {
            let file = File::open(path).map_err(StartError::file("open input file", path))?;
            self.input = Some(file);
        }
        if let Some(path) = &job.output {
            self.output = Some(self.open_output("open output file", path, job.append)?);
        }
        if let Some(path) = &job.error {
            let file = self.open_output("open error file", path, job.append)?;
            // Two descriptions of one file would write over each other.
            self.error = Some(match &self.output {
                Some(output) if is_same(output, &file) => {
                    output.try_clone().map_err(StartError::file("open error file", path))?
                }
                _ => file,
            });
        }
        if let Some(bytes) = job.quiet_success {
            self.keep(KeptOutput::new(bytes)?)?;
        }
        Ok(())
    }

    /// What is not redirected goes there.
    fn keep(&mut self, kept: KeptOutput) -> Result<(), StartError> {
        for place in [&mut self.output, &mut self.error] {
            if place.is_none() {
                let path = Path::new("--quiet-success");
                let file =
                    kept.descriptor().map_err(StartError::file("keep the output of", path))?;
                *place = Some(file);
            }
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Returns what the job wrote, if it was kept.
    pub(super) fn take_kept(&mut self) -> Option<KeptOutput> {
        self.kept.take()
    }

    fn open_output(
        &mut self,
        action: &'static str,
        path: &Path,
        append: bool,
    ) -> Result<File, StartError> {
        let mut options = OpenOptions::new();
        options.write(true).append(append);
        let existing = options.open(path);
        match existing {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file =
                    options.create(true).open(path).map_err(StartError::file(action, path))?;
                // Through a link the file is elsewhere, and the link stays the user's.
                self.created.push(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
                Ok(file)
            }
            other => other.map_err(StartError::file(action, path)),
        }
    }

    /// Nothing can go wrong any more: empties the outputs, unless they are appended to.
    pub(super) fn ready(mut self, append: bool) -> Result<StandardFiles, StartError> {
        if !append && let Err(source) = self.empty_outputs() {
            self.undo();
            let path = PathBuf::from("-o or -e");
            return Err(StartError::File { action: "empty the file of", path, source });
        }
        self.note_beginning();
        Ok(self)
    }

    fn note_beginning(&mut self) {
        let meta = self.error.as_ref().and_then(|file| file.metadata().ok());
        self.error_begins_at = meta.map_or(0, |meta| meta.len());
    }

    fn empty_outputs(&self) -> io::Result<()> {
        for file in [&self.output, &self.error].into_iter().flatten() {
            // A device or a pipe has no length to cut.
            if file.metadata()?.is_file() {
                file.set_len(0)?;
            }
        }
        Ok(())
    }

    /// Takes back what was made.
    pub(super) fn undo(self) {
        for path in &self.created {
            // It is ours and new; if it has gone already, so much the better.
            fs::remove_file(path).ok();
        }
    }

    /// Returns device and inode of the outputs.
    pub(super) fn ids(&self) -> Vec<FileId> {
        let files = [&self.output, &self.error].into_iter().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| FileId::from(&meta)).collect()
    }

    /// Returns the last lines that the job wrote to the file of -e in this attempt.
    pub(super) fn last_words(&self) -> Vec<String> {
        let Some(error) = &self.error else { return Vec::new() };
        // The descriptor is for writing only: the file is opened again, through it.
        let path = format!("/proc/self/fd/{}", error.as_raw_fd());
        let is_regular = error.metadata().is_ok_and(|meta| meta.is_file());
        match is_regular.then(|| File::open(path)) {
            Some(Ok(file)) => tail(file, self.error_begins_at).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Before a restart: the input is read from its beginning again, and the outputs keep what
    /// the failed attempt wrote.
    pub(super) fn rewind(&mut self) {
        if let Some(input) = &mut self.input {
            // A pipe has no beginning to go back to.
            input.seek(SeekFrom::Start(0)).ok();
        }
        for file in [&self.output, &self.error].into_iter().flatten() {
            // It is a descriptor of ours, and the flag is one that can be set.
            fcntl(file, FcntlArg::F_SETFL(OFlag::O_APPEND)).ok();
        }
        self.note_beginning();
    }

    /// Closes what the job reads or writes to another process: it has them, and no other attempt
    /// will need them.
    pub(super) fn release(&mut self) {
        let is_regular =
            |file: &mut File| file.metadata().is_ok_and(|meta| meta.is_file() || meta.is_dir());
        for file in [&mut self.input, &mut self.output, &mut self.error] {
            drop(file.take_if(|file| !is_regular(file)));
        }
    }

    /// The descriptors 0, 1 and 2 of the job, where they are not ours.
    pub(super) fn standard(&self) -> [Option<BorrowedFd<'_>>; 3] {
        [&self.input, &self.output, &self.error].map(|file| file.as_ref().map(AsFd::as_fd))
    }
}

/// At most this number of lines of standard error is kept of a failed attempt.
const LAST_LINES: usize = 20;
/// At most this number of bytes is read for them.
const LAST_BYTES: u64 = 16 * 1024;

/// Reads the last lines of a file, not further back than `from`.
fn tail(mut file: File, from: u64) -> io::Result<Vec<String>> {
    let begin = file.metadata()?.len().saturating_sub(LAST_BYTES).max(from);
    file.seek(SeekFrom::Start(begin))?;
    let mut text = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().count();
    Ok(text.lines().skip(lines.saturating_sub(LAST_LINES)).map(str::to_owned).collect())
}

fn check_directory(directory: &Path) -> Result<(), StartError> {
    let fail = StartError::file("use child directory", directory);
    match fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(fail(io::ErrorKind::NotADirectory.into())),
        Err(error) => Err(fail(error)),
    }
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => FileId::from(&one) == FileId::from(&other),
        _ => false,
    }
}
