//! The one binary. Parses the command line and hands over; every command's work is in its own file or in a plane.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong. An error is one line on stderr,
//! from what failed to why.

mod audit;
mod client;
mod command;
mod dev;
mod doctor;
mod ledger;
mod logging;
mod logs;
mod sample;
mod serve;
mod signal;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match serve::run(&command::Lockgate::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
