//! The `passgate` command. Everything it does is in the library; this file picks the allocator and the exit code.

use std::process::ExitCode;

/// Many small allocations of short life on few threads: jemalloc costs a proxy less than glibc here.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    passgate::main()
}
