//! `fama`.
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    fama_cli::run(std::env::args_os(), &mut std::io::stdout(), &mut std::io::stderr())
}
