//! The Autobahn conformance suite: its client against both testbeds, its verdicts held against ours.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

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

/// Of the 18 cases in each group of 12 and 13, those that are left out where some time is there: long messages, and
/// all sizes but one in fragments. Each sends 1,000 messages.
const LONGEST_COMPRESSED: [u32; 11] = [7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18];

/// The groups of 12 and 13.
const COMPRESSED_GROUPS: [(u32, u32); 2] = [(12, 5), (13, 7)];

/// Cases whose verdict is a remark, on the close too, whatever the server does (7.1.6, 7.13.1, 7.13.2).
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
    /// What takes seconds.
    Fast,
    /// That, limits, and compression but its longest cases.
    Most,
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
            Self::Most => Some(385),
            Self::All => Some(517),
            Self::Only(_) => None,
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Fast => 180,
            Self::Most => 30 * 60,
            // It takes a multiple of its time where the cores are shared.
            Self::All | Self::Only(_) => 3 * 60 * 60,
        })
    }

    /// Compression is off in the testbeds unless asked for; what asks for its cases wants it on.
    fn server_options(&self) -> &'static [&'static str] {
        let compressed = match self {
            Self::Fast => false,
            Self::Most | Self::All => true,
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
            Self::Fast => (all, SLOW_CASES.map(str::to_owned).to_vec()),
            Self::Most => (all, longest_compressed().collect()),
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

/// By name: a pattern of `wstest` matches whatever begins with what it matches.
fn longest_compressed() -> impl Iterator<Item = String> {
    let groups = COMPRESSED_GROUPS.into_iter();
    groups.flat_map(|(suite, groups)| {
        let cases = move |group| LONGEST_COMPRESSED.map(|case| format!("{suite}.{group}.{case}"));
        (1..=groups).flat_map(cases)
    })
}

/// What `wstest -m fuzzingclient` reads.
#[derive(Serialize)]
struct Specification<'a> {
    outdir: &'a Path,
    servers: [Target<'a>; 1],
    cases: Vec<&'a str>,
    #[serde(rename = "exclude-cases")]
    exclude_cases: Vec<String>,
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

    /// How many cases there are of each verdict.
    fn counts(&self, verdict: fn(&Case) -> &String) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for case in self.cases.values() {
            *counts.entry(verdict(case).as_str()).or_default() += 1;
        }
        counts
    }

    /// One line: the number of cases by verdict, on what the server did and on how it closed.
    fn table_line(&self, name: &str) -> String {
        let behavior = listed(&self.counts(|case| &case.behavior));
        let close = listed(&self.counts(|case| &case.behavior_close));
        let number = self.cases.len();
        format!("{name:<6} {number:>4} cases: {behavior}; close: {close}")
    }

    /// What is wrong with the whole, beside single cases: too few of them ran, or a remark became a verdict.
    fn wrong_counts(&self) -> Option<String> {
        let expected = self.expected?;
        let expected = BTreeMap::from([
            ("OK", expected - INFORMATIONAL_CASES),
            ("INFORMATIONAL", INFORMATIONAL_CASES),
        ]);
        let behavior = self.counts(|case| &case.behavior);
        let close = self.counts(|case| &case.behavior_close);
        (behavior != expected || close != expected).then(|| {
            let [expected, behavior, close] =
                [expected, behavior, close].map(|counts| listed(&counts));
            format!("expected {expected}; seen {behavior}; close: {close}")
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

/// `514 OK, 3 INFORMATIONAL`: the most of them first.
fn listed(counts: &BTreeMap<&str, usize>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let counts = counts
        .into_iter()
        .map(|(verdict, count)| format!("{count} {verdict}"));
    counts.collect::<Vec<_>>().join(", ")
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
        let remarks = std::iter::repeat_n(("INFORMATIONAL", "INFORMATIONAL"), informational);
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
    fn a_verdict_that_became_a_remark_fails() {
        for remarks in [2, 4] {
            let verdicts = verdicts(247 - remarks, remarks, &[], Some(247));
            assert_eq!(verdicts.tally().failed, 1, "{remarks}");
            let counts = verdicts.wrong_counts().unwrap();
            assert!(
                counts.starts_with("expected 244 OK, 3 INFORMATIONAL; seen "),
                "{counts}"
            );
        }
        let close = verdicts(243, 3, &[("OK", "INFORMATIONAL")], Some(247));
        assert_eq!(close.tally().failed, 1);
    }

    #[test]
    fn what_is_left_out_is_named_in_full() {
        let names: Vec<_> = longest_compressed().collect();
        let expected = Selection::All.expected_cases().unwrap() - names.len();
        assert_eq!(Selection::Most.expected_cases(), Some(expected));
        assert_eq!((&*names[0], &*names[131]), ("12.1.7", "13.7.18"));
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
            "axum      1 cases: 1 OK; close: 1 OK"
        );
        assert!(
            Verdicts::read(index, "actix", None).is_err(),
            "an agent that is not there"
        );
    }
}
