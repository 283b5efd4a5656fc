//! The project's own commands: `cargo xtask test` is the one test command, `cargo xtask autobahn` its conformance
//! suite alone, `cargo xtask fuzz` the fuzz targets.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks to its user"
)]

mod autobahn;
mod bench;
mod each;
mod failure;
mod faults;
mod fuzz;
mod peers;
mod process;
mod project;
mod python;
mod schedule;
mod steps;
mod tally;
mod tls;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    autobahn::{Selection, Server},
    failure::Failure,
    project::Project,
    steps::{Context, StepName},
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every check and test, and installs what they need.
    Test {
        /// Leaves Autobahn, the browser and the testbeds with one thread out.
        #[arg(long)]
        quick: bool,
        /// Runs these steps and what they need.
        #[arg(long, value_enum, num_args = 1.., value_name = "STEP", conflicts_with = "quick")]
        only: Vec<StepName>,
    },
    /// Runs the Autobahn conformance suite against the testbeds.
    Autobahn {
        /// Runs all 517 cases, with the testbeds' `--deflate`, in place of the 247 fast ones.
        #[arg(long)]
        all: bool,
        /// Runs 385 of them: without the longest of those that compress.
        #[arg(long, conflicts_with = "all")]
        most: bool,
        /// Runs the cases that match these patterns, as `9.*` or `7.1.3`.
        #[arg(long, num_args = 1.., value_name = "PATTERN", conflicts_with_all = ["all", "most"])]
        cases: Vec<String>,
        /// The testbed that is tested.
        #[arg(long, value_enum, default_value_t = Server::Both)]
        server: Server,
    },
    /// Measures towpath beside its peers: see docs/benchmark.md.
    Bench(bench::Options),
    /// Runs what goes wrong in crowds, in full: the tests have it shortened.
    Faults {
        /// Runs these suites.
        #[arg(long, value_enum, num_args = 1.., value_name = "SUITE")]
        only: Vec<faults::Suite>,
    },
    /// Runs the fuzz targets under the address sanitizer.
    Fuzz {
        /// How long all of them run together, one after another.
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
        /// Where chance begins, so that a run can be repeated [default: anywhere].
        #[arg(long, value_name = "N")]
        seed: Option<u32>,
        /// Runs these targets, the files of `fuzz/fuzz_targets`.
        #[arg(long, num_args = 1.., value_name = "TARGET")]
        only: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let project = Project::locate()?;
    let (selection, servers, steps) = match command {
        Command::Test { quick, only } => {
            (Selection::Fast, Server::Both, chosen_steps(quick, &only))
        }
        Command::Autobahn {
            all,
            most,
            cases,
            server,
        } => {
            let selection = match (all, most) {
                (true, _) => Selection::All,
                (_, true) => Selection::Most,
                _ if cases.is_empty() => Selection::Fast,
                _ => Selection::Only(cases),
            };
            (selection, server, steps::with_needs(&[StepName::Autobahn]))
        }
        Command::Bench(options) => {
            bench::run(&project, &options)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Faults { only } => {
            let suites = if only.is_empty() {
                faults::Suite::ALL
            } else {
                &only
            };
            let context = Context::new(project, Selection::Fast, Server::Both);
            let outcome = faults::run(&context, suites)?;
            for line in outcome.notes.iter().chain(&outcome.causes) {
                println!("{line}");
            }
            return Ok(outcome.tally.print_end());
        }
        Command::Fuzz {
            seconds,
            seed,
            only,
        } => {
            return Ok(fuzz::run(&project, seconds, seed, &only)?.print_end());
        }
    };
    let report = schedule::run(&Context::new(project, selection, servers), &steps)?;
    Ok(report.print_end())
}

fn chosen_steps(quick: bool, only: &[StepName]) -> Vec<StepName> {
    if only.is_empty() {
        steps::ALL
            .iter()
            .copied()
            .filter(|step| !(quick && step.is_slow()))
            .collect()
    } else {
        steps::with_needs(only)
    }
}
