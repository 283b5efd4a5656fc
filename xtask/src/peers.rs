//! Real clients against the programs under test: scripts of Python, Node and curl, and Chromium.

use std::{path::Path, time::Duration};

use crate::{
    each::against_each,
    failure::Failure,
    process::{Job, Log, RunningServer},
    project::make_folder,
    steps::{Context, Outcome},
};

/// What one script may take; each ends by itself long before.
const LIMIT: Duration = Duration::from_secs(240);

/// How the testbeds compress, as the scripts name it, and with which options.
const COMPRESSING: [(&str, &[&str]); 2] = [
    ("none", &["--deflate"]),
    ("takeover", &["--deflate", "--deflate-takeover"]),
];

/// Python's `websockets`, npm's `ws` and curl against both testbeds.
pub(crate) fn clients(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    let clients = context.tools.clients(&context.project)?;
    let scripts = context.project.root.join("tests/clients");
    against_each(context, log, "clients", |name, log| {
        let server = start_testbed(context, name, &[], log)?;
        let base = format!("http://{}", server.address());
        let script = |program: &Path, file: &str| {
            let job = Job::new(program).args([scripts.join(file)]);
            log.run(&job.args([&base]).limit(LIMIT))
        };
        let mut outcome = Outcome::default();
        outcome.add_runner(&script(&clients.python, "websockets_client.py")?);
        outcome.add_runner(&script("node".as_ref(), "ws_client.mjs")?);
        outcome.add_runner(&script("bash".as_ref(), "curl_count.sh")?);
        for (contexts, options) in COMPRESSING {
            let server = start_testbed(context, name, options, log)?;
            let base = format!("http://{}", server.address());
            let script = |program: &Path, file: &str| {
                let job = Job::new(program).args([scripts.join(file)]);
                log.run(&job.args([&*base, contexts]).limit(LIMIT))
            };
            outcome.add_runner(&script(&clients.python, "websockets_deflate.py")?);
            outcome.add_runner(&script("node".as_ref(), "ws_deflate.mjs")?);
        }
        Ok(outcome)
    })
}

/// Chromium against both testbeds, and against the chat in both frameworks.
pub(crate) fn browser(context: &Context, log: &Log) -> Result<Outcome, Failure> {
    context.tools.browser(&context.project)?;
    let scripts = context.project.root.join("tests/browser");
    let artefacts = context.project.artefacts();
    make_folder(&artefacts)?;
    against_each(context, log, "browser", |name, log| {
        let server = start_testbed(context, name, &[], log)?;
        let node = Job::new("node").limit(LIMIT);
        let testbed = node
            .args([scripts.join("testbed.mjs")])
            .args([format!("http://{}", server.address())]);
        let mut outcome = Outcome::default();
        outcome.add_runner(&log.run(&testbed)?);
        for (contexts, options) in COMPRESSING {
            let server = start_testbed(context, name, options, log)?;
            let node = Job::new("node").limit(LIMIT);
            let deflate = node
                .args([scripts.join("deflate.mjs")])
                .args([&*format!("http://{}", server.address()), contexts]);
            outcome.add_runner(&log.run(&deflate)?);
        }
        let node = Job::new("node").limit(LIMIT);
        // It starts and ends its server itself, since that is what it tests.
        let chat = node
            .args([scripts.join("chat.mjs")])
            .args(["--framework", name, "--artefacts"])
            .args([&artefacts])
            .args(["--server"])
            .args([context.project.program("chat")]);
        outcome.add_runner(&log.run(&chat)?);
        Ok(outcome)
    })
}

fn start_testbed(
    context: &Context,
    name: &str,
    options: &[&str],
    log: &Log,
) -> Result<RunningServer, Failure> {
    let program = context.project.program(&format!("testbed-{name}"));
    RunningServer::start(&program, options, log)
}
