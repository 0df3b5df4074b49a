//! Starts the command line; everything else is in the library.

/// Many small allocations of many sizes for years: mimalloc keeps the resident size steady where glibc's arenas grow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    holdfast::cli::run()
}
