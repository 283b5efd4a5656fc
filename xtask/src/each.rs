//! The same against both frameworks, at the same time.

use std::thread;

use crate::{
    failure::Failure,
    process::Log,
    steps::{Context, Outcome},
};

/// What `wstest` says before each case: hundreds of lines that hide the others.
const NOISE: &str = "Running test case ID";

/// Runs `part` for each of the chosen frameworks, with a log of its own that ends up in the step's, and adds the
/// outcomes up. One that fails does not stop the other.
pub(crate) fn against_each(
    context: &Context,
    log: &Log,
    step: &str,
    part: impl Fn(&str, &Log) -> Result<Outcome, Failure> + Sync,
) -> Result<Outcome, Failure> {
    let reports = context.project.reports();
    let path = |name: &str| reports.join(format!("{step}-{name}.log"));
    let run = |name: &str| Log::create(path(name)).and_then(|log| part(name, &log));
    let results: Vec<_> = thread::scope(|scope| {
        let names = context.servers.names().iter();
        let parts: Vec<_> = names
            .map(|&name| (name, scope.spawn(|| run(name))))
            .collect();
        let panicked = |_| Err(Failure::new("panicked"));
        let join = parts.into_iter();
        join.map(|(name, part)| (name, part.join().unwrap_or_else(panicked)))
            .collect()
    });
    let mut sum = Outcome::default();
    for (name, result) in results {
        match result {
            Ok(outcome) => sum.add(outcome),
            Err(failure) => sum.fail(format!("{name}: {failure}")),
        }
        if path(name).exists() {
            log.append(&path(name), NOISE)?;
        }
    }
    Ok(sum)
}
