//! Real clients against the programs under test: scripts of Python, Node and curl, and Chromium.

use std::{path::Path, thread, time::Duration};

use crate::{
    failure::Failure,
    process::{Ended, Job, Log, RunningServer},
    project::make_folder,
    steps::{Context, Outcome},
};

/// What one script may take; each ends by itself long before.
const LIMIT: Duration = Duration::from_secs(240);

/// Python's `websockets`, npm's `ws` and curl against both testbeds.
pub(crate) fn clients(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    let clients = context.tools.clients(&context.project)?;
    let scripts = context.project.root.join("tests/clients");
    against_each(context, log, "clients", |name, log| {
        let server = start_testbed(context, name, log)?;
        let base = format!("http://{}", server.address());
        let script = |program: &Path, file: &str| {
            let job = Job::new(program).args([scripts.join(file)]);
            log.run(&job.args([&base]).limit(LIMIT))
        };
        Ok(vec![
            script(&clients.python, "websockets_client.py")?,
            script("node".as_ref(), "ws_client.mjs")?,
            script("bash".as_ref(), "curl_count.sh")?,
        ])
    })
}

/// Chromium against both testbeds, and against the chat in both frameworks.
pub(crate) fn browser(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    context.tools.browser(&context.project)?;
    let scripts = context.project.root.join("tests/browser");
    let artefacts = context.project.artefacts();
    make_folder(&artefacts)?;
    against_each(context, log, "browser", |name, log| {
        let server = start_testbed(context, name, log)?;
        let node = Job::new("node").limit(LIMIT);
        let testbed = node
            .args([scripts.join("testbed.mjs")])
            .args([format!("http://{}", server.address())]);
        let testbed = log.run(&testbed)?;
        let node = Job::new("node").limit(LIMIT);
        // It starts and ends its server itself, since that is what it tests.
        let chat = node
            .args([scripts.join("chat.mjs")])
            .args(["--framework", name, "--artefacts"])
            .args([&artefacts])
            .args(["--server"])
            .args([context.project.program("chat")]);
        Ok(vec![testbed, log.run(&chat)?])
    })
}

fn start_testbed(context: &Context, name: &str, log: &Log) -> Result<RunningServer, Failure> {
    let program = context.project.program(&format!("testbed-{name}"));
    RunningServer::start(&program, &[], log)
}

/// Runs the scripts for both frameworks at the same time, each with a log of its own, and adds them up.
fn against_each(
    context: &Context,
    log: &Log,
    step: &str,
    scripts: impl Fn(&str, &Log) -> Result<Vec<Ended>, Failure> + Sync,
) -> Result<Outcome, Failure> {
    let reports = context.project.reports();
    let path = |name: &str| reports.join(format!("{step}-{name}.log"));
    let results: Vec<_> = thread::scope(|scope| {
        let run = |name| Log::create(path(name)).and_then(|log| scripts(name, &log));
        let runs: Vec<_> = context
            .servers
            .names()
            .iter()
            .map(|&name| (name, scope.spawn(move || run(name))))
            .collect();
        runs.into_iter()
            .map(|(name, run)| {
                let panicked = |_| Err(Failure::new("the step panicked"));
                (name, run.join().unwrap_or_else(panicked))
            })
            .collect()
    });
    let mut outcome = Outcome::default();
    for (name, result) in results {
        match result {
            Ok(ended) => ended.iter().for_each(|script| outcome.add_runner(script)),
            Err(failure) => outcome.fail(format!("{name}: {failure}")),
        }
        if path(name).exists() {
            log.append(&path(name))?;
        }
    }
    Ok(outcome)
}
