//! Runs steps at the same time where they can be, and says how each ended.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    process::Log,
    steps::{Context, Lane, Outcome, StepName},
    tally::Tally,
};

/// How much of a failed step's output is shown; the rest is in its log.
const SHOWN_LINES: usize = 400;

/// How all steps ended.
#[derive(Debug, Default)]
pub(crate) struct Report {
    tally: Tally,
    /// The steps that failed, with the first line of the cause.
    failed: Vec<(StepName, String)>,
    steps: usize,
    time: Duration,
}

/// A step that is over.
struct Finished {
    step: StepName,
    time: Duration,
    result: Result<Outcome, Failure>,
}

impl Lane {
    /// How many steps of it run at the same time: made for two cores.
    fn width(self) -> usize {
        match self {
            Self::Compile => 1,
            Self::Run => 2,
        }
    }
}

impl Report {
    fn add(&mut self, finished: &Finished, log: Option<&Log>) {
        let Finished { step, time, result } = finished;
        let tally = result.as_ref().map_or(
            Tally {
                passed: 0,
                failed: 1,
            },
            |outcome| outcome.tally,
        );
        self.tally += tally;
        let failed = tally.failed > 0;
        let verdict = if failed { "FAILED" } else { "ok" };
        let counts = match tally {
            Tally::ONE_PASSED => String::new(),
            Tally { passed, failed } => format!("  {passed} passed, {failed} failed"),
        };
        println!(
            "{verdict:<6} {:<14} {:>6.1} s{counts}",
            step.name(),
            time.as_secs_f64()
        );
        if failed && let Some(log) = log {
            println!("--- output of {} ({})", step.name(), log.path().display());
            print!("{}", log.tail(SHOWN_LINES));
            println!("--- end of {}", step.name());
        }
        let (notes, causes) = match result {
            Ok(outcome) => (outcome.notes.clone(), outcome.causes.clone()),
            Err(failure) => (Vec::new(), vec![failure.to_string()]),
        };
        for line in notes.iter().chain(&causes).flat_map(|text| text.lines()) {
            println!("       {line}");
        }
        if failed {
            let cause = causes.iter().flat_map(|cause| cause.lines()).next();
            let cause =
                cause.map_or_else(|| format!("{} tests failed", tally.failed), str::to_owned);
            self.failed.push((*step, cause));
        }
    }

    /// Prints which steps failed and, as the very last line, the count of tests.
    pub(crate) fn print_end(&self) -> ExitCode {
        println!();
        println!(
            "{} of {} steps ok in {:.0} s",
            self.steps - self.failed.len(),
            self.steps,
            self.time.as_secs_f64()
        );
        for (step, cause) in &self.failed {
            println!("failed step: {} ({cause})", step.name());
        }
        self.tally.print_end()
    }
}

/// Runs the steps, whose needs are among them and before them, to the end of the last.
pub(crate) fn run(context: &Context, steps: &[StepName]) -> Result<Report, Failure> {
    let begin = Instant::now();
    let logs: Vec<_> = steps
        .iter()
        .map(|step| {
            Log::create(
                context
                    .project
                    .reports()
                    .join(format!("{}.log", step.name())),
            )
        })
        .collect::<Result<_, _>>()?;
    let log_of = |step| {
        let position = steps.iter().position(|other| *other == step);
        position.and_then(|position| logs.get(position))
    };
    let mut report = Report {
        steps: steps.len(),
        ..Report::default()
    };
    thread::scope(|scope| {
        for step in steps {
            scope.spawn(|| {
                let begin = Instant::now();
                let prepared = step.prepare(context);
                // A failure is told by the step itself, which asks for the same.
                if matches!(prepared, Some(Ok(()))) {
                    println!(
                        "       what {} needs is there ({:.1} s)",
                        step.name(),
                        begin.elapsed().as_secs_f64()
                    );
                }
            });
        }
        let (sender, receiver) = mpsc::channel();
        let mut queue = Queue::new(steps);
        while !queue.is_done() {
            for step in queue.take_ready() {
                let (sender, log) = (sender.clone(), log_of(step));
                scope.spawn(move || {
                    let begin = Instant::now();
                    let run = std::panic::AssertUnwindSafe(|| match log {
                        Some(log) => step.run(context, log),
                        None => Err(Failure::new("has no log")),
                    });
                    // A step that panics has failed; the others go on.
                    let result = std::panic::catch_unwind(run)
                        .unwrap_or_else(|_| Err(Failure::new("the step panicked")));
                    let time = begin.elapsed();
                    // The receiver lives until all steps have told their end.
                    let _ = sender.send(Finished { step, time, result });
                });
            }
            let mut ended: Vec<_> = queue.take_blocked().into_iter().map(not_run).collect();
            if ended.is_empty() {
                ended.extend(receiver.recv());
            }
            for finished in ended {
                let succeeded = finished
                    .result
                    .as_ref()
                    .is_ok_and(|outcome| outcome.tally.failed == 0);
                queue.finish(finished.step, succeeded);
                report.add(&finished, log_of(finished.step));
            }
        }
    });
    report.time = begin.elapsed();
    Ok(report)
}

fn not_run((step, need): (StepName, StepName)) -> Finished {
    Finished {
        step,
        time: Duration::ZERO,
        result: Err(Failure::new(format!(
            "not run, since {} failed",
            need.name()
        ))),
    }
}

/// Where a step is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Waiting,
    Running,
    Done { succeeded: bool },
}

/// Which steps may begin.
#[derive(Debug)]
struct Queue {
    order: Vec<StepName>,
    states: BTreeMap<&'static str, State>,
}

impl Queue {
    fn new(steps: &[StepName]) -> Self {
        Self {
            order: steps.to_vec(),
            states: steps
                .iter()
                .map(|step| (step.name(), State::Waiting))
                .collect(),
        }
    }

    fn state(&self, step: StepName) -> State {
        // A need that is not part of this run is taken as met: `with_needs` adds those that matter.
        let met = State::Done { succeeded: true };
        self.states.get(step.name()).copied().unwrap_or(met)
    }

    fn is_done(&self) -> bool {
        let mut states = self.states.values();
        states.all(|state| matches!(state, State::Done { .. }))
    }

    /// The next steps whose needs are met and whose lane has room; they run from now on.
    fn take_ready(&mut self) -> Vec<StepName> {
        let mut taken = Vec::new();
        for step in self.order.clone() {
            let lane = step.lane();
            let running = self.order.iter().filter(|other| other.lane() == lane);
            let running = running
                .filter(|other| self.state(**other) == State::Running)
                .count();
            let met = |need: &StepName| self.state(*need) == State::Done { succeeded: true };
            if self.state(step) == State::Waiting
                && running < lane.width()
                && step.needs().iter().all(met)
            {
                self.states.insert(step.name(), State::Running);
                taken.push(step);
            }
        }
        taken
    }

    /// The waiting steps that will never run, each with the need that failed.
    fn take_blocked(&self) -> Vec<(StepName, StepName)> {
        let failed = |need: &&StepName| self.state(**need) == State::Done { succeeded: false };
        let waiting = self
            .order
            .iter()
            .filter(|step| self.state(**step) == State::Waiting);
        waiting
            .filter_map(|step| step.needs().iter().find(failed).map(|need| (*step, *need)))
            .collect()
    }

    fn finish(&mut self, step: StepName, succeeded: bool) {
        self.states.insert(step.name(), State::Done { succeeded });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::{ALL, with_needs};

    #[test]
    fn one_compiler_and_two_runners_at_a_time() {
        let mut queue = Queue::new(ALL);
        assert_eq!(queue.take_ready(), [StepName::Fmt, StepName::Build]);
        queue.finish(StepName::Fmt, true);
        assert_eq!(
            queue.take_ready(),
            [],
            "the rest needs the compiler or the build"
        );
        queue.finish(StepName::Build, true);
        let next = [
            StepName::CompileTests,
            StepName::Clients,
            StepName::Autobahn,
        ];
        assert_eq!(queue.take_ready(), next);
        queue.finish(StepName::CompileTests, true);
        assert_eq!(
            queue.take_ready(),
            [StepName::Clippy],
            "both runners are taken"
        );
        queue.finish(StepName::Clients, true);
        assert_eq!(queue.take_ready(), [StepName::Test]);
    }

    #[test]
    fn what_needs_a_failed_step_is_told_and_not_run() {
        let mut queue = Queue::new(&with_needs(&[StepName::Test, StepName::Fmt]));
        assert_eq!(queue.take_ready(), [StepName::Fmt, StepName::Build]);
        queue.finish(StepName::Build, false);
        assert_eq!(queue.take_blocked(), [(StepName::Test, StepName::Build)]);
        queue.finish(StepName::Test, false);
        assert_eq!(queue.take_blocked(), []);
        assert!(
            !queue.is_done(),
            "fmt is still running, and the test binaries wait for the compiler"
        );
    }

    #[test]
    fn asking_for_one_step_brings_what_it_needs() {
        assert_eq!(
            with_needs(&[StepName::Autobahn]),
            [StepName::Build, StepName::Autobahn]
        );
        assert_eq!(with_needs(&[StepName::Fmt]), [StepName::Fmt]);
    }
}
