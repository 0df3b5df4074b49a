//! Parse and dispatch; everything else is in the library.

use std::process::ExitCode;

/// Many small allocations of many sizes for years: mimalloc keeps the resident size steady where glibc's arenas grow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holdfast::cli::run()
}
