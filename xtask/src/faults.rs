//! `cargo xtask faults`: what goes wrong in crowds and at length, in full; `cargo xtask test` has it shortened.

use std::time::Duration;

use clap::ValueEnum;

use crate::{
    failure::Failure,
    process::{Job, Log},
    steps::{Context, Outcome, build, with_programs},
};

/// What one suite may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// A suite's name, as `--only` takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Suite {
    /// Slow readers, ugly ends, storms and deploys, by the thousand.
    Scenarios,
    /// Two testbeds with Redis as their broker, which breaks.
    Redis,
}

impl Suite {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[Self::Scenarios, Self::Redis];

    /// The suite of `towpath-tests`, and the variable that asks for it in full.
    const fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::Scenarios => ("scenarios", "TOWPATH_SCENARIOS"),
            Self::Redis => ("redis", "TOWPATH_FAULTS"),
        }
    }
}

/// Builds the programs, runs the suites one after another, and prints what they saw.
pub(crate) fn run(context: &Context, suites: &[Suite]) -> Result<Outcome, Failure> {
    let log = Log::create(context.project.reports().join("faults.log"))?;
    let mut outcome = Outcome::default();
    build(context, &log)?;
    for suite in suites {
        let (name, variable) = suite.test();
        let job = Job::new("cargo")
            .args(["test", "--package", "towpath-tests", "--test", name])
            .args(["--", "--nocapture", "--test-threads", "1"])
            .env(variable, "full")
            .folder(&context.project.root)
            .limit(LIMIT);
        let ended = log.run(&with_programs(job, &context.project))?;
        let said = ended.output.lines();
        let said = said.filter(|line| line.contains("testbed-"));
        outcome.notes.extend(said.map(str::to_owned));
        outcome.add_runner(&ended);
    }
    if outcome.tally.failed > 0 {
        outcome.causes.push(log.tail(60));
    }
    Ok(outcome)
}
