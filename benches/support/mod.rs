//! A bench harness: nanoseconds of one operation (the best of many short rounds, because the machine does other things
//! too) and, where valgrind is installed, its instructions in user space on this thread, which do not depend on the
//! machine's mood. What a bench needs is set up outside of what is counted. No bench passes or fails.
//!
//! `cargo bench --bench verify` runs all of them, `cargo bench --bench verify -- hit` those with `hit` in their name.
//! `TIMES=1` counts no instructions, which is quicker.
#![allow(clippy::print_stdout, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[allow(dead_code, clippy::unwrap_used, clippy::panic)]
#[path = "../../tests/it/support/tokens.rs"]
pub mod tokens;

/// Shorter than the turns that the system gives to other processes, so that some rounds are undisturbed.
const ROUND: Duration = Duration::from_millis(4);
const ROUNDS: usize = 200;
/// Operations before the count begins: tables are filled and buffers have their size.
const WARM_UP: u64 = 512;
/// Operations that are counted.
const COUNTED: u64 = 1024;

/// Does the operation as often as it is told.
pub type Run = Box<dyn FnMut(u64)>;

/// One operation to measure.
pub struct Bench {
    name: String,
    /// Sets it up from the files of the fixture.
    prepare: Box<dyn FnOnce(&Path) -> Run>,
}

impl Bench {
    /// A bench of the operation that `prepare` returns.
    pub fn new<R: FnMut(u64) + 'static>(
        name: impl Into<String>,
        prepare: impl FnOnce(&Path) -> R + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            prepare: Box::new(|directory| Box::new(prepare(directory))),
        }
    }
}

/// Measures all of them, or those whose name contains the first argument. `write_fixture` puts what must be the same in
/// every process (keys and tokens) into a directory, once.
pub fn main(write_fixture: fn(&Path), benches: Vec<Bench>) {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    // The child under valgrind.
    if let [flag, name, directory] = arguments.as_slice()
        && flag == "--count"
    {
        let bench = benches
            .into_iter()
            .find(|bench| bench.name == *name)
            .expect("a bench of that name");
        let mut run = (bench.prepare)(Path::new(directory));
        run(WARM_UP);
        return counted_region(&mut run);
    }
    let filter = arguments.first().map_or("", String::as_str);
    let counts =
        std::env::var_os("TIMES").is_none() && Command::new("valgrind").arg("--version").output().is_ok();
    let fixture = TempDir::new().expect("a temporary directory");
    write_fixture(fixture.path());
    println!("{:<30} {:>12} {:>14}", "", "ns", "instructions");
    for bench in benches.into_iter().filter(|bench| bench.name.contains(filter)) {
        let mut run = (bench.prepare)(fixture.path());
        run(WARM_UP);
        let nanoseconds = time(&mut run);
        drop(run);
        let instructions = if counts {
            instructions(&bench.name, fixture.path())
        } else {
            None
        };
        let instructions = instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"));
        println!("{:<30} {nanoseconds:>12.1} {instructions:>14}", bench.name);
    }
}

fn time(run: &mut Run) -> f64 {
    let mut batch = 1;
    loop {
        let start = Instant::now();
        run(batch);
        if start.elapsed() > ROUND / 2 {
            break;
        }
        batch *= 2;
    }
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run(batch);
            start.elapsed().as_nanos() as f64 / batch as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// What valgrind counts: it knows the function by its name.
#[inline(never)]
fn counted_region(run: &mut Run) {
    run(COUNTED);
}

fn instructions(name: &str, fixture: &Path) -> Option<f64> {
    let program: PathBuf = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*counted_region*",
        ])
        .arg(program)
        .args(["--count", name])
        .arg(fixture)
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    let count = line.rsplit(' ').next()?.parse::<f64>().ok()?;
    output.status.success().then_some(count / COUNTED as f64)
}
