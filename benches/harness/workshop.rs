//! A place to measure in, and the programs to compare there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::Fallible;
use crate::harness::process;
use crate::harness::report::{Line, Verdict};

/// The bare job, without any wrapper.
pub const DIRECT: &str = "direct";
/// The peer that most budgets name.
pub const TINI: &str = "tini -s";

/// Small wrappers of the same trade, and how they are called before the job.
const PEERS: [(&str, &str, &[&str]); 3] = [
    (TINI, "tini", &["-s", "--"]),
    ("dumb-init", "dumb-init", &["--"]),
    ("catatonit", "catatonit", &["--"]),
];

/// What counts system calls and instructions.
const COUNTERS: [&str; 2] = ["strace", "valgrind"];

/// The beginning of the names of our directories; our pid follows.
const SCRATCH: &str = "childminder-speed-";

const COMPILE_WITHIN: Duration = Duration::from_secs(60);

/// A program that starts the job, or nothing at all.
#[derive(Clone)]
pub struct Wrapper {
    /// Its name in the table.
    pub name: String,
    /// What to type before the job.
    pub words: Vec<OsString>,
    /// How it is compared.
    pub kind: Kind,
}

/// How a wrapper is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To be compared with.
    Other,
    /// The release build, which is held to the budgets.
    Ours,
    /// The musl build, which has aims of its own.
    OursMusl,
}

impl Wrapper {
    /// The job itself.
    pub fn direct() -> Wrapper {
        Wrapper { name: DIRECT.into(), words: Vec::new(), kind: Kind::Other }
    }

    /// The whole command line of a job under this wrapper.
    pub fn around(&self, job: &[OsString]) -> Vec<OsString> {
        self.words.iter().chain(job).cloned().collect()
    }
}

/// Where we measure: copies of our programs, because somebody may build meanwhile, and places for
/// logs and other files.
///
/// Programs lie on the disk, for in memory their pages would count as dirty. Places lie in memory:
/// what ext4 takes for a new log depends on what was deleted there in the last minutes, our own
/// logs too, and was seen to grow from 40 to 1,000 us.
pub struct Workshop {
    programs: TempDir,
    places: TempDir,
    childminder: PathBuf,
    musl: Option<(PathBuf, &'static str)>,
}

impl Workshop {
    /// Opens it; it goes when it goes out of scope.
    pub fn open() -> Fallible<Workshop> {
        let built = Path::new(env!("CARGO_BIN_EXE_childminder"));
        let (disk, memory) = (Path::new(env!("CARGO_TARGET_TMPDIR")), Path::new("/dev/shm"));
        fs::create_dir_all(disk)?;
        let programs = scratch_in(disk)?;
        let places = scratch_in(if memory.is_dir() { memory } else { disk })?;
        let childminder = programs.path().join("childminder");
        copy(built, &childminder)?;
        let musl = match find_musl(built) {
            Some((built, name)) => {
                let program = programs.path().join("childminder-musl");
                copy(&built, &program)?;
                Some((program, name))
            }
            None => None,
        };
        Ok(Workshop { programs, places, childminder, musl })
    }

    /// A new and empty directory.
    pub fn place(&self, name: &str) -> Fallible<PathBuf> {
        let place = self.places.path().join(name);
        // A section may ask for one name again and again; the first time nothing is there.
        fs::remove_dir_all(&place).ok();
        fs::create_dir(&place)?;
        Ok(place)
    }

    /// The release build of childminder.
    pub fn childminder(&self) -> &Path {
        &self.childminder
    }

    /// childminder with these options, and its musl build if there is one.
    pub fn ours(&self, options: &[&str]) -> Vec<Wrapper> {
        let wrapper = |name: &str, program: &Path, kind| {
            let mut words = vec![program.as_os_str().to_owned()];
            words.extend(options.iter().map(OsString::from));
            let name = [&[name], options].concat().join(" ");
            Wrapper { name, words, kind }
        };
        let musl = self.musl.iter().map(|(program, name)| wrapper(name, program, Kind::OursMusl));
        std::iter::once(wrapper("childminder", &self.childminder, Kind::Ours)).chain(musl).collect()
    }

    /// The C references: with glibc like our release build, and with musl if that is installed.
    pub fn references(&self) -> Fallible<Vec<Wrapper>> {
        let wrapper = |name: &str, program: PathBuf| {
            let words = vec![program.into(), "refwrap.log".into()];
            Wrapper { name: name.into(), words, kind: Kind::Other }
        };
        let mut all = vec![wrapper("C reference", self.c_program("refwrap")?)];
        if let Some(compiler) = find("musl-gcc") {
            all.push(wrapper(
                "C reference (musl)",
                self.compile(&compiler, "refwrap", "refwrap-musl")?,
            ));
        }
        Ok(all)
    }

    /// The peers that are installed.
    pub fn peers(&self) -> Vec<Wrapper> {
        let wrapper = |(name, program, options): &(&str, &str, &[&str])| {
            let mut words = vec![find(program)?.into_os_string()];
            words.extend(options.iter().map(OsString::from));
            Some(Wrapper { name: (*name).to_owned(), words, kind: Kind::Other })
        };
        PEERS.iter().filter_map(wrapper).collect()
    }

    /// Compiles `reference/NAME.c`, statically like our release build.
    pub fn c_program(&self, name: &str) -> Fallible<PathBuf> {
        let compiler = find("gcc").or_else(|| find("cc"));
        let compiler = compiler.ok_or("NOT INSTALLED: gcc, which compiles the references")?;
        self.compile(&compiler, name, name)
    }

    fn compile(&self, compiler: &Path, name: &str, program: &str) -> Fallible<PathBuf> {
        let target = self.programs.path().join(program);
        if !target.exists() {
            let source =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/reference/{name}.c"));
            let mut command = process::command(compiler, self.programs.path());
            command.args(["-O2", "-static", "-o"]).arg(&target).arg(source);
            process::output(&mut command, COMPILE_WITHIN)?;
            write_back(&target)?;
        }
        Ok(target)
    }
}

/// Makes a directory of ours, and takes away those that interrupted runs left behind.
fn scratch_in(directory: &Path) -> Fallible<TempDir> {
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(SCRATCH).and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Somebody else may be at it, too.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    let prefix = format!("{SCRATCH}{}-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir_in(directory)?)
}

fn copy(from: &Path, to: &Path) -> Fallible<()> {
    fs::copy(from, to)?;
    write_back(to)
}

/// Pages of a program that are not on the disk yet would count as dirty memory of its processes.
fn write_back(file: &Path) -> Fallible<()> {
    Ok(fs::File::open(file)?.sync_all()?)
}

/// A loud line for each tool that would have been used.
pub fn not_installed() -> Vec<Line> {
    let peers = PEERS.iter().map(|(_, program, _)| *program);
    let missing = peers.chain(COUNTERS).filter(|program| find(program).is_none());
    let line = |program| {
        let line = Line::new(program, "NOT INSTALLED");
        line.verdict(format!("apt-get install {program}"), Verdict::Skipped)
    };
    missing.map(line).collect()
}

/// Looks for a program along PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

/// The musl build lies beside ours in the target directory, if somebody made it; its name says
/// whether the sources have changed since then.
fn find_musl(built: &Path) -> Option<(PathBuf, &'static str)> {
    let musl = Path::new("x86_64-unknown-linux-musl/release/childminder");
    // target/release/childminder or target/TRIPLE/release/childminder
    let musl = built
        .ancestors()
        .skip(2)
        .take(2)
        .map(|target| target.join(musl))
        .find(|file| file.is_file())?;
    let is_stale = modified(&musl) < newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    Some((musl, if is_stale { "childminder (musl, OLD)" } else { "childminder (musl)" }))
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|meta| meta.modified()).ok()
}

/// When the youngest file below a directory was written.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}
