//! `nanny import`: the history of another program as a record of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::files::{Directory, Links};
use crate::model::text::plural;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::foreign::job_log::JobLog;
use crate::nanny::source::foreign::pbs::Pbs;
use crate::nanny::source::foreign::sacct::Sacct;
use crate::nanny::source::foreign::swf::Swf;
use crate::nanny::source::foreign::{ForeignLine, ForeignLog};
use crate::question::{Import, ImportForm};
use crate::record::row::Header;

/// Lines that cannot be read are named up to this number of each file.
const NAMED_MAX: u64 = 5;

/// A line may have this number of bytes; what is longer is not a line of such a log.
const LINE_BYTES_MAX: u64 = 1 << 20;

#[derive(Default)]
struct Counts {
    runs: u64,
    failed: u64,
    unfinished: u64,
    bad: u64,
}

pub fn answer(import: &Import, out: &mut dyn Write) -> Result<u8, Failure> {
    let path = &import.output;
    let failure = |source| Failure::File { action: "write", path: path.clone(), source };
    let name = path.file_name().ok_or_else(|| Failure::Refused("--output names no file".into()))?;
    // A record that is there may have rows of somebody: it is not touched.
    if path.symlink_metadata().is_ok() {
        let shown = path.display();
        return Err(Failure::Refused(format!(
            "{shown} exists: an import makes a record of its own, name another file"
        )));
    }
    let directory =
        Directory::open(path.parent().unwrap_or(Path::new("")), Links::Trusted).map_err(failure)?;
    let mut file = directory.begin(0o600).map_err(failure)?;
    let mut total = Counts::default();
    {
        let mut rows = BufWriter::with_capacity(1 << 18, &mut file);
        rows.write_all(&Header::ours().to_csv_line()).map_err(failure)?;
        for source in &import.files {
            let counts =
                read(source, import.form, &mut |line| rows.write_all(line).map_err(failure))?;
            total.runs += counts.runs;
            total.failed += counts.failed;
            total.unfinished += counts.unfinished;
            total.bad += counts.bad;
        }
        rows.flush().map_err(failure)?;
    }
    if total.runs == 0 {
        note("no run was found, and no record made");
        return Ok(NOTHING);
    }
    file.file().sync_all().map_err(failure)?;
    // Somebody may have made it meanwhile.
    file.keep_as(name).map_err(failure)?;
    let Counts { runs, failed, unfinished, bad } = total;
    writeln!(out, "{runs} run{}, {failed} failed: {}", plural(runs), path.display())?;
    if unfinished > 0 {
        writeln!(
            out,
            "{unfinished} had not ended and {} left out",
            if unfinished == 1 { "was" } else { "were" }
        )?;
    }
    Ok(if bad > 0 { NOTHING } else { 0 })
}

/// Reads a file, packed by gzip or not, and gives each row.
fn read(
    path: &Path,
    form: ImportForm,
    keep: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Counts, Failure> {
    let failure = |source| Failure::File { action: "read", path: path.to_owned(), source };
    let mut lines = open(path).map_err(failure)?;
    let (mut log, scheduler): (Box<dyn ForeignLog>, _) = match form {
        ImportForm::Sacct => (Box::<Sacct>::default(), "slurm"),
        ImportForm::Pbs => (Box::<Pbs>::default(), "pbs"),
        ImportForm::Swf => (Box::<Swf>::default(), "swf"),
        ImportForm::Joblog => (Box::<JobLog>::default(), "parallel"),
    };
    let mut counts = Counts::default();
    let mut take = |line: ForeignLine, number: u64| {
        match line {
            ForeignLine::Nothing => {}
            ForeignLine::Unfinished => counts.unfinished += 1,
            ForeignLine::Run(run) => {
                counts.runs += 1;
                counts.failed +=
                    u64::from(!run.verdict.is_some_and(|verdict| verdict.is_success()));
                keep(&run.row(scheduler).to_csv_line())?;
            }
            ForeignLine::Bad(why) => {
                counts.bad += 1;
                if counts.bad <= NAMED_MAX {
                    note(&format!("{}:{number}: not imported: {why}", path.display()));
                }
            }
        }
        Ok::<(), Failure>(())
    };
    let mut bytes = Vec::new();
    let mut number = 0;
    loop {
        bytes.clear();
        number += 1;
        if (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).map_err(failure)? == 0 {
            break;
        }
        if bytes.len() as u64 == LINE_BYTES_MAX {
            let what = io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {number} is longer than {LINE_BYTES_MAX} bytes"),
            );
            return Err(failure(what));
        }
        let line = String::from_utf8_lossy(&bytes);
        take(log.line(line.trim_end_matches(['\n', '\r'])), number)?;
    }
    take(log.end(), number)?;
    if let Some(more @ 1..) = counts.bad.checked_sub(NAMED_MAX) {
        note(&format!("{}: {more} more line{} not imported", path.display(), plural(more)));
    }
    Ok(counts)
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    let is_packed = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_packed {
        Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)))
    } else {
        Box::new(file)
    })
}
