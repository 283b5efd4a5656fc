//! The Autobahn conformance suite: its client against both testbeds, its verdicts held against ours.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    each::against_each,
    failure::Failure,
    process::{Job, Log, RunningServer},
    project::make_empty_folder,
    steps::{Context, Outcome},
    tally::Tally,
};

/// The cases that are left out where time matters: limits, and compression.
const SLOW_CASES: [&str; 3] = ["9.*", "12.*", "13.*"];

/// Cases whose verdict is a remark, whatever the server does (7.1.6, 7.13.1, 7.13.2).
const INFORMATIONAL_CASES: usize = 3;

/// The testbeds under test.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Server {
    Axum,
    Actix,
    Both,
}

/// The cases that are run.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    Fast,
    All,
    Only(Vec<String>),
}

impl Server {
    /// The testbeds' names, as in `testbed-axum`.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Axum => &["axum"],
            Self::Actix => &["actix"],
            Self::Both => &["axum", "actix"],
        }
    }
}

impl Selection {
    /// How many cases there are, where that is known.
    fn expected_cases(&self) -> Option<usize> {
        match self {
            Self::Fast => Some(247),
            Self::All => Some(517),
            Self::Only(_) => None,
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Fast => 180,
            Self::All | Self::Only(_) => 60 * 60,
        })
    }

    /// Compression is off in the testbeds unless asked for; what asks for its cases wants it on.
    fn server_options(&self) -> &'static [&'static str] {
        let compressed = match self {
            Self::Fast => false,
            Self::All => true,
            Self::Only(patterns) => patterns
                .iter()
                .any(|pattern| pattern.starts_with("12") || pattern.starts_with("13")),
        };
        if compressed { &["--deflate"] } else { &[] }
    }

    fn specification<'a>(
        &'a self,
        folder: &'a Path,
        name: &'a str,
        address: &str,
    ) -> Specification<'a> {
        let all = vec!["*"];
        let (cases, exclude_cases) = match self {
            Self::Fast => (all, SLOW_CASES.to_vec()),
            Self::All => (all, Vec::new()),
            Self::Only(patterns) => (patterns.iter().map(String::as_str).collect(), Vec::new()),
        };
        Specification {
            outdir: folder,
            servers: [Target {
                agent: name,
                url: format!("ws://{address}/echo"),
            }],
            cases,
            exclude_cases,
            exclude_agent_cases: BTreeMap::new(),
        }
    }
}

/// What `wstest -m fuzzingclient` reads.
#[derive(Serialize)]
struct Specification<'a> {
    outdir: &'a Path,
    servers: [Target<'a>; 1],
    cases: Vec<&'a str>,
    #[serde(rename = "exclude-cases")]
    exclude_cases: Vec<&'a str>,
    #[serde(rename = "exclude-agent-cases")]
    exclude_agent_cases: BTreeMap<String, Vec<String>>,
}

#[derive(Serialize)]
struct Target<'a> {
    agent: &'a str,
    url: String,
}

/// What `wstest` says of one case in `index.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    behavior: String,
    behavior_close: String,
}

/// The verdicts on one server.
#[derive(Debug)]
struct Verdicts {
    cases: BTreeMap<String, Case>,
    expected: Option<usize>,
}

impl Case {
    fn passed(&self) -> bool {
        let good = |verdict: &str| matches!(verdict, "OK" | "INFORMATIONAL");
        good(&self.behavior) && good(&self.behavior_close)
    }
}

impl Verdicts {
    fn read(index: &str, name: &str, expected: Option<usize>) -> Result<Self, Failure> {
        let mut agents: BTreeMap<String, BTreeMap<String, Case>> = serde_json::from_str(index)
            .map_err(|error| Failure::new(format!("index.json: {error}")))?;
        let cases = agents.remove(name).ok_or_else(|| {
            Failure::new(format!(
                "index.json names no agent {name}: the server was not reached"
            ))
        })?;
        Ok(Self { cases, expected })
    }

    fn count(&self, verdict: &str) -> usize {
        let matches = self.cases.values().filter(|case| case.behavior == verdict);
        matches.count()
    }

    /// One line: the number of cases by verdict, and how many ended with a clean close.
    fn table_line(&self, name: &str) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for case in self.cases.values() {
            *counts.entry(&case.behavior).or_default() += 1;
        }
        let clean = self.cases.values().filter(|case| case.passed()).count();
        let mut line = format!("{name:<6} {:>4} cases", self.cases.len());
        for (verdict, count) in counts {
            // Writing to a String never fails.
            let _ = write!(line, ", {count} {verdict}");
        }
        let _ = write!(line, "; {clean} right and closed cleanly");
        line
    }

    /// What is wrong with the whole, beside single cases: too few of them ran, or a remark became a verdict.
    fn wrong_counts(&self) -> Option<String> {
        let expected = self.expected?;
        let (ok, informational) = (self.count("OK"), self.count("INFORMATIONAL"));
        let expected_ok = expected - INFORMATIONAL_CASES;
        (self.cases.len() != expected || ok != expected_ok || informational != INFORMATIONAL_CASES).then(|| {
            format!("expected {expected_ok} OK and {INFORMATIONAL_CASES} INFORMATIONAL, there are {ok} and {informational}")
        })
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for case in self.cases.values() {
            tally += Tally {
                passed: u32::from(case.passed()),
                failed: u32::from(!case.passed()),
            };
        }
        if self.wrong_counts().is_some() && tally.failed == 0 {
            tally.failed = 1;
        }
        tally
    }
}

/// Runs the suite against each server at the same time.
pub(crate) fn run(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    let wstest = context.tools.autobahn(&context.project)?;
    against_each(context, log, "autobahn", |name, log| {
        let reports = context.project.reports().join(format!("autobahn-{name}"));
        make_empty_folder(&reports)?;
        let verdicts = run_wstest(context, &wstest, name, &reports, log)?;
        let counts = verdicts.wrong_counts();
        let counts = counts.map(|counts| format!("{name}: {counts}"));
        let mut causes: Vec<_> = counts.into_iter().collect();
        causes.extend(describe_failures(&verdicts, &reports, name));
        Ok(Outcome {
            tally: verdicts.tally(),
            notes: vec![verdicts.table_line(name)],
            causes,
        })
    })
}

fn run_wstest(
    context: &Context,
    wstest: &Path,
    name: &str,
    reports: &Path,
    log: &Log,
) -> Result<Verdicts, Failure> {
    let program = context.project.program(&format!("testbed-{name}"));
    let selection = &context.selection;
    let mut server = RunningServer::start(&program, selection.server_options(), log)?;
    let specification = reports.join("specification.json");
    let text =
        serde_json::to_string_pretty(&selection.specification(reports, name, server.address()))
            .map_err(|error| Failure::new(error.to_string()))?;
    fs::write(&specification, text).map_err(Failure::of_path(&specification))?;
    let job = Job::new(wstest)
        .args(["--mode", "fuzzingclient", "--spec"])
        .args([&specification])
        .folder(reports)
        .limit(selection.limit());
    // Its exit status says only that it came to its end.
    log.run(&job)?.success()?;
    server.check_alive()?;
    let index = reports.join("index.json");
    let index = fs::read_to_string(&index).map_err(Failure::of_path(&index))?;
    Verdicts::read(&index, name, selection.expected_cases())
}

/// The wrong cases, with what `wstest` expected and saw.
fn describe_failures(verdicts: &Verdicts, reports: &Path, name: &str) -> Vec<String> {
    let wrong = verdicts.cases.iter().filter(|(_, case)| !case.passed());
    wrong
        .map(|(id, case)| {
            let file = reports.join(format!("{name}_case_{}.json", id.replace('.', "_")));
            let report: BTreeMap<String, serde_json::Value> = fs::read_to_string(&file)
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default();
            let said = |key| {
                report
                    .get(key)
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or_default()
            };
            format!(
                "{name} {id}: {}, close {}: {} {}",
                case.behavior,
                case.behavior_close,
                said("result"),
                said("resultClose"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(
        ok: usize,
        informational: usize,
        wrong: &[(&str, &str)],
        expected: Option<usize>,
    ) -> Verdicts {
        let good = std::iter::repeat_n(("OK", "OK"), ok);
        let remarks = std::iter::repeat_n(("INFORMATIONAL", "OK"), informational);
        let cases = good
            .chain(remarks)
            .chain(wrong.iter().copied())
            .enumerate()
            .map(|(number, (behavior, close))| {
                let case = Case {
                    behavior: behavior.to_owned(),
                    behavior_close: close.to_owned(),
                };
                (number.to_string(), case)
            })
            .collect();
        Verdicts { cases, expected }
    }

    #[test]
    fn the_right_counts_pass() {
        let right = verdicts(244, 3, &[], Some(247));
        assert_eq!(
            right.tally(),
            Tally {
                passed: 247,
                failed: 0
            }
        );
        assert_eq!(right.wrong_counts(), None);
    }

    #[test]
    fn an_unclean_close_and_a_lax_answer_fail() {
        for wrong in [
            ("OK", "UNCLEAN"),
            ("NON-STRICT", "OK"),
            ("UNIMPLEMENTED", "OK"),
            ("FAILED", "OK"),
        ] {
            let verdicts = verdicts(10, 0, &[wrong], None);
            assert_eq!(
                verdicts.tally(),
                Tally {
                    passed: 10,
                    failed: 1
                },
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn missing_cases_fail_though_all_that_ran_are_right() {
        let few = verdicts(200, 3, &[], Some(247));
        assert_eq!(
            few.tally(),
            Tally {
                passed: 203,
                failed: 1
            }
        );
    }

    #[test]
    fn reads_the_index_of_wstest() {
        let index = r#"{"axum": {"1.1.1": {"behavior": "OK", "behaviorClose": "OK", "duration": 2,
            "remoteCloseCode": 1000, "reportfile": "axum_case_1_1_1.json"}}}"#;
        let read = Verdicts::read(index, "axum", None).unwrap();
        assert_eq!(
            read.tally(),
            Tally {
                passed: 1,
                failed: 0
            }
        );
        assert_eq!(
            read.table_line("axum"),
            "axum      1 cases, 1 OK; 1 right and closed cleanly"
        );
        assert!(
            Verdicts::read(index, "actix", None).is_err(),
            "an agent that is not there"
        );
    }
}
