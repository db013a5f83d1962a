//! The `pgpool` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgpool_rs::cli::run(std::env::args_os())
}
