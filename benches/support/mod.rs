//! A bench harness for operations of less than a millisecond: nanoseconds (the best of several rounds, because this
//! machine does other things too) and, where valgrind is installed, instructions, which do not depend on the machine's
//! mood. No bench passes or fails.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(120);

/// One operation to measure.
pub struct Bench {
    /// How it is named on the command line and in the table.
    pub name: String,
    /// Does it once.
    pub run: Box<dyn FnMut()>,
}

impl Bench {
    /// A bench of `run`.
    pub fn new<T>(name: impl Into<String>, mut run: impl FnMut() -> T + 'static) -> Self {
        Self { name: name.into(), run: Box::new(move || drop(black_box(run()))) }
    }
}

/// Measures all of them, or those whose name contains the first argument.
pub fn main(mut benches: Vec<Bench>) {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // The child under valgrind: `--count NAME N`.
    if let [flag, name, count] = arguments.as_slice()
        && flag == "--count"
    {
        let count: u64 = count.parse().expect("a number");
        let bench = benches.iter_mut().find(|bench| bench.name == *name).expect("a bench of that name");
        (0..count).for_each(|_| (bench.run)());
        return;
    }
    let filter = arguments.first().map_or("", String::as_str);
    let valgrind = Command::new("valgrind").arg("--version").output().is_ok();
    println!("{:<34} {:>12} {:>14}", "bench", "ns/op", "instructions");
    for bench in benches.iter_mut().filter(|bench| bench.name.contains(filter)) {
        let time = time(&mut bench.run);
        let instructions = if valgrind { instructions(&bench.name) } else { None };
        let instructions = instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"));
        println!("{:<34} {:>12.1} {:>14}", bench.name, time, instructions);
    }
}

fn time(run: &mut dyn FnMut()) -> f64 {
    let mut batch = 1_u32;
    loop {
        let start = Instant::now();
        (0..batch).for_each(|_| run());
        if start.elapsed() > ROUND / 10 || batch > 1 << 24 {
            break;
        }
        batch *= 2;
    }
    (0..ROUNDS)
        .map(|_| {
            let (start, mut done) = (Instant::now(), 0_u64);
            while start.elapsed() < ROUND {
                (0..batch).for_each(|_| run());
                done += u64::from(batch);
            }
            start.elapsed().as_nanos() as f64 / done as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// Instructions of one operation: the difference between two runs, so that the set-up does not count.
fn instructions(name: &str) -> Option<f64> {
    const FEW: u64 = 50;
    const MANY: u64 = 250;
    let count = |times: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .args(["--count", name, &times.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.contains("Collected :"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    Some((count(MANY)? - count(FEW)?) / (MANY - FEW) as f64)
}
