//! The fuzz targets of `fuzz/`, under the address sanitizer.
//!
//! What cargo-fuzz would do, without it: its flags are a few, and building it would take longer than building the
//! targets. `cargo fuzz run TARGET` works all the same, for work on one of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    failure::Failure,
    process::{Job, Log},
    project::{Project, make_folder},
    tally::Tally,
};

/// The sanitizer and the coverage that guides the fuzzer: cargo-fuzz's choice, as far as stable compilers take it.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth \
    -Zsanitizer=address -Ccodegen-units=1 --cfg fuzzing";

/// No input is worth more: what needs size is made of a few bytes by the target.
const MAX_INPUT: u32 = 4096;

/// A single input that takes so long is a finding, on a machine that does other things too.
const INPUT_SECONDS: u32 = 25;

/// Megabytes that a target may hold, and may ask for at once.
const MAX_MEMORY: u32 = 1024;
const MAX_ALLOCATION: u32 = 128;

/// How long a target may go on after its time: with what it was about, and to say how it went.
const GRACE: Duration = Duration::from_secs(120);

/// How much is shown of a build that failed, and of what a target said when it found something.
const SHOWN_LINES: usize = 30;

/// Runs the targets that `only` names, or all, for so many seconds in all, and returns what passed and failed.
pub(crate) fn run(
    project: &Project,
    seconds: u64,
    seed: Option<u32>,
    only: &[String],
) -> Result<Tally, Failure> {
    let begin = Instant::now();
    let log = Log::create(project.reports().join("fuzz.log"))?;
    let fuzz = Fuzz::new(project, &log)?;
    let targets = fuzz.targets(only)?;
    let mut tally = Tally::default();
    for (name, check) in [("fmt", fuzz.fmt()), ("clippy", fuzz.clippy())] {
        let ended = log.run(&check)?;
        count(&mut tally, ended.succeeded());
        if !ended.succeeded() {
            println!("FAILED {name}\n{}", ended.output);
        }
    }
    log.run(&fuzz.build(&targets))?
        .success()
        .map_err(|failure| Failure::new(format!("{failure}\n{}", log.tail(SHOWN_LINES))))?;
    println!(
        "       checked and built in {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    let each = (seconds / targets.len() as u64).max(1);
    let mut runs = 0;
    for target in &targets {
        let found = fuzz.fuzz(target, each, seed)?;
        runs += found.runs;
        count(&mut tally, found.failure.is_none());
        let verdict = if found.failure.is_none() {
            "ok"
        } else {
            "FAILED"
        };
        println!("{verdict:<6} {target:<14} {:>10} runs", found.runs);
        if let Some(failure) = found.failure {
            println!("{failure}");
        }
    }
    println!(
        "\n{runs} runs of {} targets in {:.0} s",
        targets.len(),
        begin.elapsed().as_secs_f64()
    );
    Ok(tally)
}

fn count(tally: &mut Tally, passed: bool) {
    *tally += Tally {
        passed: u32::from(passed),
        failed: u32::from(!passed),
    };
}

/// How a target ended.
struct Found {
    runs: u64,
    failure: Option<String>,
}

/// Where things are.
struct Fuzz<'a> {
    /// The workspace of the targets.
    folder: PathBuf,
    /// Its target folder, and the corpora: what an earlier run found is where the next begins.
    target: PathBuf,
    host: String,
    log: &'a Log,
}

impl<'a> Fuzz<'a> {
    fn new(project: &Project, log: &'a Log) -> Result<Self, Failure> {
        let version = log.run(&Job::new("rustc").args(["-vV"]))?.success()?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or_else(|| Failure::new("rustc -vV names no host"))?;
        // libFuzzer is C++, and is compiled by whatever c++ there is.
        let compiler = Job::new("c++").args(["--version"]);
        let compiles = log.run(&compiler).is_ok_and(|ended| ended.succeeded());
        if !compiles {
            return Err(Failure::new(
                "there is no C++ compiler, which libFuzzer needs: apt-get install g++",
            ));
        }
        Ok(Self {
            folder: project.root.join("fuzz"),
            target: project.fuzz(),
            host: host.to_owned(),
            log,
        })
    }

    /// All targets are those that have a file.
    fn targets(&self, only: &[String]) -> Result<Vec<String>, Failure> {
        let folder = self.folder.join("fuzz_targets");
        let mut all = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Failure::of_path(&folder))? {
            let path = entry.map_err(Failure::of_path(&folder))?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            all.extend(name.map(str::to_owned));
        }
        all.sort_unstable();
        if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
            return Err(Failure::new(format!(
                "there is no target {unknown}, only {}",
                all.join(", ")
            )));
        }
        all.retain(|name| only.is_empty() || only.contains(name));
        Ok(all)
    }

    fn cargo(&self, command: &str) -> Job {
        Job::new("cargo").args([command]).folder(&self.folder)
    }

    fn fmt(&self) -> Job {
        self.cargo("fmt").args(["--check"])
    }

    fn clippy(&self) -> Job {
        self.cargo("clippy")
            .args(["--locked", "--all-targets", "--target-dir"])
            .args([&self.target])
            .args(["--", "-D", "warnings"])
    }

    fn build(&self, targets: &[String]) -> Job {
        let bins = targets.iter().flat_map(|target| ["--bin", target]);
        self.cargo("build")
            .args(["--locked", "--release", "--target", &self.host])
            .args(["--target-dir".as_ref(), self.target.as_os_str()])
            .args(bins)
            // There is no nightly toolchain to ask for: the sanitizer's runtime comes with the stable one.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", RUSTFLAGS)
    }

    fn program(&self, target: &str) -> PathBuf {
        self.target.join(&self.host).join("release").join(target)
    }

    /// Runs one target for a time.
    fn fuzz(&self, target: &str, seconds: u64, seed: Option<u32>) -> Result<Found, Failure> {
        let corpus = self.target.join("corpus").join(target);
        let artefacts = self.target.join("artefacts").join(target);
        make_folder(&corpus)?;
        make_folder(&artefacts)?;
        let mut prefix = artefacts.into_os_string();
        prefix.push("/");
        let flags = [
            format!("-artifact_prefix={}", Path::new(&prefix).display()),
            format!("-max_total_time={seconds}"),
            format!("-max_len={MAX_INPUT}"),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-rss_limit_mb={MAX_MEMORY}"),
            format!("-malloc_limit_mb={MAX_ALLOCATION}"),
            // Zero is libFuzzer's word for one of chance.
            format!("-seed={}", seed.unwrap_or_default()),
            "-print_final_stats=1".to_owned(),
        ];
        let program = self.program(target);
        let job = Job::new(&program)
            .args([&corpus, &self.folder.join("seeds").join(target)])
            .args(&flags)
            .folder(&self.folder)
            .limit(Duration::from_secs(seconds) + GRACE);
        let ended = self.log.run(&job)?;
        let runs = runs(&ended.output);
        let artefact = artefact(&ended.output);
        let failure = (!ended.succeeded() || artefact.is_some() || runs.is_none()).then(|| {
            let again = artefact.map_or_else(String::new, |artefact| {
                format!(
                    "artefact: {artefact}\nagain:    {} {artefact}\n",
                    program.display()
                )
            });
            format!(
                "--- output of {target} ({})\n{}--- end of {target}\n{}\n{again}",
                self.log.path().display(),
                told(&ended.output),
                ended.failure(),
            )
        });
        Ok(Found {
            runs: runs.unwrap_or(0),
            failure,
        })
    }
}

/// The beginning of what a target says of a finding; behind it are stacks, and the input in four notations.
fn told(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    let begins = |line: &&str| line.contains("panicked at") || line.contains("ERROR: ");
    let first = lines.iter().position(begins);
    let first = first.unwrap_or_else(|| lines.len().saturating_sub(SHOWN_LINES));
    let shown = lines[first..].iter().take(SHOWN_LINES);
    shown.map(|line| format!("{line}\n")).collect()
}

/// The number that libFuzzer closes with: also after a finding, if not after every one.
fn runs(output: &str) -> Option<u64> {
    let line = output.lines().rev();
    let mut numbers = line.filter_map(|line| {
        let number = line.strip_prefix("stat::number_of_executed_units:")?;
        number.trim().parse().ok()
    });
    numbers.next()
}

/// The input that libFuzzer wrote for a finding.
fn artefact(output: &str) -> Option<&str> {
    let (_, path) = output.split_once("Test unit written to ")?;
    path.lines().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_libfuzzer_says() {
        let output = "#2\tINITED cov: 25\nDone 267817 runs in 3 second(s)\n\
            stat::number_of_executed_units: 267817\nstat::average_exec_per_sec:     89272\n";
        assert_eq!(runs(output), Some(267_817));
        assert_eq!(artefact(output), None);
        let output = "SUMMARY: libFuzzer: deadly signal\n\
            artifact_prefix='a/'; Test unit written to a/crash-82d8\nBase64: ZOen\n";
        assert_eq!(runs(output), None);
        assert_eq!(artefact(output), Some("a/crash-82d8"));
        let output = "#2 pulse\nthread panicked at src/wire.rs:1\na frame was cut\nstack";
        assert!(told(output).starts_with("thread panicked"));
    }

    #[test]
    fn every_target_has_seeds_and_is_built() {
        let folder = Path::new("../fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let mut targets = 0;
        for entry in fs::read_dir(folder.join("fuzz_targets")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let seeds = fs::read_dir(folder.join("seeds").join(name)).unwrap();
            assert!(seeds.count() > 0, "{name} has no seeds");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            targets += 1;
        }
        assert_eq!(targets, manifest.matches("[[bin]]").count());
    }
}
