//! The steps of `cargo xtask test`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use crate::{
    autobahn::{self, Selection, Server},
    failure::Failure,
    peers,
    process::{Ended, Job, Log},
    project::{PROFILE, PROGRAMS, Project},
    tally::Tally,
    tools::{Tools, runs},
};

/// All steps, in the order in which they are begun where nothing else stands against it.
pub(crate) const ALL: &[StepName] = StepName::ALL;

/// A step's name, as `--only` takes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum StepName {
    /// `cargo fmt --check`.
    Fmt,
    /// The testbeds and the chat example, in the profile `testbed`.
    Build,
    /// The test binaries.
    CompileTests,
    /// Unit, property and integration tests.
    Test,
    /// Those of them that drive the testbeds, with `--threads 1`.
    TestOneThread,
    /// Python's `websockets`, npm's `ws` and curl.
    Clients,
    /// Autobahn's 247 fast cases against both testbeds.
    Autobahn,
    /// Chromium against both testbeds and the chat.
    Browser,
    /// `cargo clippy -D warnings`.
    Clippy,
    /// The examples in the documentation.
    DocTests,
    /// `cargo doc -D warnings`.
    Doc,
    /// Each library crate with each feature alone, and with none.
    Features,
}

/// What a step needs for itself while it runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    /// Cargo's lock on the target folder: one at a time.
    Compile,
    /// The clock: few at a time, so that time-outs mean something.
    Run,
}

/// What the steps share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) project: Project,
    pub(crate) tools: Tools,
    pub(crate) selection: Selection,
    pub(crate) servers: Server,
}

/// What a step that came to its end has to say.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Lines for the person who started the run, also when all is well.
    pub(crate) notes: Vec<String>,
    /// What went wrong, the first the most telling.
    pub(crate) causes: Vec<String>,
}

impl Context {
    pub(crate) fn new(project: Project, selection: Selection, servers: Server) -> Self {
        Self {
            project,
            tools: Tools::default(),
            selection,
            servers,
        }
    }
}

impl Outcome {
    fn passed() -> Self {
        Self {
            tally: Tally::ONE_PASSED,
            ..Self::default()
        }
    }

    /// Adds a failed test of the step's own.
    pub(crate) fn fail(&mut self, cause: impl Into<String>) {
        self.tally.failed += 1;
        self.causes.push(cause.into());
    }

    /// Adds another part of the step.
    pub(crate) fn add(&mut self, other: Self) {
        self.tally += other.tally;
        self.notes.extend(other.notes);
        self.causes.extend(other.causes);
    }

    /// Adds what a test runner counted. One that failed without saying so in its count, or that counted nothing,
    /// is a failed test itself.
    pub(crate) fn add_runner(&mut self, ended: &Ended) {
        let tally = Tally::read(&ended.output);
        self.tally += tally.unwrap_or_default();
        match tally {
            None if ended.succeeded() => {
                self.fail(format!(
                    "{}: no closing line that counts tests",
                    ended.line()
                ));
            }
            Some(tally) if tally.failed > 0 => {
                let cause = format!("{}: {} tests failed", ended.line(), tally.failed);
                self.causes.push(cause);
            }
            _ if ended.succeeded() => {}
            _ => self.fail(ended.failure().to_string()),
        }
    }
}

impl StepName {
    const ALL: &[Self] = &[
        Self::Fmt,
        Self::Build,
        Self::CompileTests,
        Self::Test,
        Self::Clients,
        Self::Autobahn,
        Self::Browser,
        Self::TestOneThread,
        Self::Clippy,
        Self::DocTests,
        Self::Doc,
        Self::Features,
    ];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Build => "build",
            Self::CompileTests => "compile-tests",
            Self::Test => "test",
            Self::TestOneThread => "test-one-thread",
            Self::Clients => "clients",
            Self::Autobahn => "autobahn",
            Self::Browser => "browser",
            Self::Clippy => "clippy",
            Self::DocTests => "doc-tests",
            Self::Doc => "doc",
            Self::Features => "features",
        }
    }

    /// Left out by `--quick`.
    pub(crate) fn is_slow(self) -> bool {
        matches!(self, Self::Autobahn | Self::Browser | Self::TestOneThread)
    }

    /// The steps that must have succeeded before.
    pub(crate) fn needs(self) -> &'static [Self] {
        match self {
            Self::Test | Self::TestOneThread => &[Self::Build, Self::CompileTests],
            Self::Clients | Self::Autobahn | Self::Browser => &[Self::Build],
            _ => &[],
        }
    }

    pub(crate) fn lane(self) -> Lane {
        match self {
            Self::Build
            | Self::CompileTests
            | Self::Clippy
            | Self::DocTests
            | Self::Doc
            | Self::Features => Lane::Compile,
            Self::Fmt
            | Self::Test
            | Self::TestOneThread
            | Self::Clients
            | Self::Autobahn
            | Self::Browser => Lane::Run,
        }
    }

    /// Installs what the step will need; meant for the time in which the compiler runs.
    pub(crate) fn prepare(self, context: &Context) -> Option<Result<(), Failure>> {
        let (tools, project) = (&context.tools, &context.project);
        match self {
            Self::Test | Self::TestOneThread => Some(tools.redis(project)),
            Self::Clients => Some(tools.clients(project).map(drop)),
            Self::Autobahn => Some(tools.autobahn(project).map(drop)),
            Self::Browser => Some(tools.browser(project)),
            _ => None,
        }
    }

    pub(crate) fn run(self, context: &Context, log: &Log) -> Result<Outcome, Failure> {
        let cargo = |args: &[&str]| Job::new("cargo").args(args).folder(&context.project.root);
        let check = |job: Job| log.run(&job)?.success().map(|_| Outcome::passed());
        match self {
            Self::Fmt => check(cargo(&["fmt", "--all", "--check"])),
            Self::Build => build(context, log),
            Self::CompileTests => compile_tests(context, log),
            Self::Test => test(context, log, None),
            Self::TestOneThread => test(context, log, Some(&testbed_suites(&context.project)?)),
            Self::Clients => peers::clients(context, log),
            Self::Autobahn => autobahn::run(context, log),
            Self::Browser => peers::browser(context, log),
            Self::Clippy => {
                let clippy = cargo(&["clippy", "--workspace", "--all-targets", "--all-features"]);
                check(clippy.args(["--", "-D", "warnings"]).gives_way())
            }
            Self::DocTests => {
                let doc = cargo(&[
                    "test",
                    "--doc",
                    "--workspace",
                    "--all-features",
                    "--no-fail-fast",
                ]);
                Ok(counted(&log.run(&doc.gives_way())?))
            }
            Self::Doc => {
                let doc = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
                check(doc.env("RUSTDOCFLAGS", "-D warnings").gives_way())
            }
            Self::Features => features(context, log),
        }
    }
}

/// The given steps and all that they need, in the order of [`ALL`].
pub(crate) fn with_needs(steps: &[StepName]) -> Vec<StepName> {
    let mut wanted = steps.to_vec();
    let mut next = 0;
    while let Some(step) = wanted.get(next).copied() {
        wanted.extend(step.needs());
        next += 1;
    }
    let all = ALL.iter().copied();
    all.filter(|step| wanted.contains(step)).collect()
}

fn counted(ended: &Ended) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.add_runner(ended);
    outcome
}

pub(crate) fn build(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    let mut job = Job::new("cargo").args(["build", "--profile", PROFILE]);
    for (package, binary, _) in PROGRAMS {
        job = job.args(["--package", package, "--bin", binary]);
    }
    log.run(&job.folder(&context.project.root))?.success()?;
    // What the cost tests measure; by itself, since the development dependencies that
    // come with examples would unify into the programs.
    let examples = Job::new("cargo").args([
        "build",
        "--profile",
        PROFILE,
        "--package",
        "towpath-tests",
        "--examples",
    ]);
    log.run(&examples.folder(&context.project.root))?
        .success()?;
    Ok(Outcome::passed())
}

/// Where `compile-tests` tells `test` what to run, so that running takes no lock of cargo's: the compiler goes on
/// meanwhile.
fn nextest_files(context: &Context) -> [PathBuf; 2] {
    ["nextest-binaries.json", "nextest-metadata.json"]
        .map(|name| context.project.reports().join(name))
}

fn compile_tests(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    let root = &context.project.root;
    let [binaries, metadata] = nextest_files(context);
    if !has_nextest(log)? {
        let compile = Job::new("cargo").args([
            "test",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--no-run",
        ]);
        log.run(&compile.folder(root))?.success()?;
        return Ok(Outcome::passed());
    }
    let list = Job::new("cargo")
        .args([
            "nextest",
            "list",
            "--workspace",
            "--all-targets",
            "--all-features",
        ])
        .args(["--list-type", "binaries-only", "--message-format", "json"]);
    let list = log.run(&list.folder(root))?.success()?;
    write_json_line(&list, "{\"rust-build-meta\"", &binaries)?;
    let describe = Job::new("cargo").args(["metadata", "--format-version", "1", "--all-features"]);
    let describe = log.run(&describe.folder(root))?.success()?;
    write_json_line(&describe, "{\"packages\"", &metadata)?;
    Ok(Outcome::passed())
}

/// Takes the one line of JSON out of what a command said beside it.
fn write_json_line(output: &str, begin: &str, path: &Path) -> Result<(), Failure> {
    let line = output
        .lines()
        .find(|line| line.starts_with(begin))
        .ok_or_else(|| Failure::new(format!("no line that begins with {begin}")))?;
    fs::write(path, line).map_err(Failure::of_path(path))
}

/// The suites of `towpath-tests` that drive no testbed, or say themselves with how many threads.
const OTHER_SUITES: [&str; 8] = [
    "compose",
    "costs",
    "drains",
    "options",
    "parity",
    "same",
    "scenarios",
    "thousand",
];

/// The suites of `towpath-tests` that start testbeds: all but the others, so that a new one is not forgotten.
fn testbed_suites(project: &Project) -> Result<Vec<String>, Failure> {
    let folder = project.root.join("tests/tests");
    let mut suites = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Failure::of_path(&folder))? {
        let path = entry.map_err(Failure::of_path(&folder))?.path();
        // A folder without is a part of the suite that has its name.
        let is_suite = path.is_file() || path.join("main.rs").is_file();
        let name = path.file_stem().and_then(|name| name.to_str());
        suites.extend(name.filter(|_| is_suite).map(str::to_owned));
    }
    suites.retain(|suite| !OTHER_SUITES.contains(&suite.as_str()));
    suites.sort_unstable();
    Ok(suites)
}

/// Runs the tests, all of them or those of some suites with testbeds of one thread.
fn test(context: &Context, log: &Log, one_thread: Option<&[String]>) -> Result<Outcome, Failure> {
    let suites = one_thread.unwrap_or_default();
    let mut job = Job::new("cargo");
    job = if has_nextest(log)? {
        let [binaries, metadata] = nextest_files(context);
        let job = job
            .args([
                "nextest",
                "run",
                "--no-fail-fast",
                "--config-file",
                "xtask/nextest.toml",
            ])
            .args(["--status-level", "slow", "--final-status-level", "flaky"])
            .args(["--binaries-metadata".as_ref(), binaries.as_path()])
            .args(["--cargo-metadata".as_ref(), metadata.as_path()]);
        suites.iter().fold(job, |job, suite| {
            let filter = format!("package(towpath-tests) & binary(={suite})");
            job.args(["--filterset", &filter])
        })
    } else {
        let targets = if suites.is_empty() {
            vec!["--all-targets"]
        } else {
            let targets = suites.iter().flat_map(|suite| ["--test", suite]);
            targets.collect()
        };
        job.args(["test", "--workspace", "--all-features", "--no-fail-fast"])
            .args(targets)
    };
    job = with_programs(job, &context.project);
    job = job.env("TOWPATH_EXAMPLES", context.project.program("examples"));
    if one_thread.is_some() {
        job = job.env("TOWPATH_TESTBED_THREADS", "1");
    }
    let ended = log.run(&job.folder(&context.project.root))?;
    let mut outcome = counted(&ended);
    outcome.notes = flaky(&ended.output);
    Ok(outcome)
}

/// Tells the integration tests where the programs under test are.
pub(crate) fn with_programs(job: Job, project: &Project) -> Job {
    PROGRAMS.iter().fold(job, |job, (_, binary, variable)| {
        job.env(variable, project.program(binary))
    })
}

/// The tests that passed only when nextest tried them again, each once.
fn flaky(output: &str) -> Vec<String> {
    let mut lines: Vec<_> = output
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("FLAKY "))
        .map(str::to_owned)
        .collect();
    lines.dedup();
    lines
}

fn has_nextest(log: &Log) -> Result<bool, Failure> {
    runs(log, "cargo", &["nextest", "--version"])
}

/// On the workspace features unify and prove nothing, so each crate is checked by itself.
fn features(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    let mut causes = Vec::new();
    for package in context.project.libraries() {
        let alone = package.features.keys().map(String::as_str);
        let alone = alone.filter(|feature| *feature != "default");
        for feature in std::iter::once("").chain(alone) {
            let check = Job::new("cargo")
                .args(["check", "--package", &package.name])
                .args(["--no-default-features", "--features", feature])
                .folder(&context.project.root);
            let ended = log.run(&check.gives_way())?;
            // Not by `-D warnings` in RUSTFLAGS, which would compile every dependency once more. Cargo says again
            // what it said when it compiled, so nothing is missed in a second run.
            let warned = ended.output.contains("` (lib) generated ");
            if warned || !ended.succeeded() {
                let with = if feature.is_empty() {
                    "no feature"
                } else {
                    feature
                };
                let what = if warned { "warns" } else { "does not build" };
                causes.push(format!("{} {what} with {with}", package.name));
            }
        }
    }
    let mut outcome = Outcome::passed();
    if !causes.is_empty() {
        outcome.tally = Tally {
            passed: 0,
            failed: 1,
        };
        outcome.causes = causes;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_testbed_is_run_with_one_thread() {
        let suites = testbed_suites(&Project::locate().unwrap()).unwrap();
        assert!(suites.contains(&"topics".to_owned()), "{suites:?}");
        for other in OTHER_SUITES {
            assert!(!suites.contains(&other.to_owned()), "{other}");
            let file = Path::new("../tests/tests").join(other);
            assert!(
                file.join("main.rs").exists() || file.with_extension("rs").exists(),
                "{other} is left out, and is not there"
            );
        }
    }

    #[test]
    fn what_passed_only_the_second_time_is_told() {
        let output = "\
     Summary [   0.2s] 2 tests run: 2 passed (1 flaky), 0 skipped
   FLAKY 2/2 [   0.004s] towpath-tests::topics a_gap_is_told::axum
   FLAKY 2/2 [   0.004s] towpath-tests::topics a_gap_is_told::axum
";
        let told = flaky(output);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with("towpath-tests::topics a_gap_is_told::axum"));
    }

    #[test]
    fn a_quick_run_leaves_out_what_takes_long() {
        let slow: Vec<_> = ALL.iter().filter(|step| step.is_slow()).collect();
        let expected = [
            StepName::Autobahn,
            StepName::Browser,
            StepName::TestOneThread,
        ];
        assert_eq!(slow, expected.iter().collect::<Vec<_>>());
    }
}
