//! Real clients against the programs under test: scripts of Python, Node and curl, and Chromium.

use std::{path::Path, time::Duration};

use crate::{
    each::against_each,
    failure::Failure,
    process::{Job, Log, RunningServer},
    project::make_folder,
    steps::{Context, Outcome},
    tls,
};

/// What one script may take; each ends by itself long before.
const LIMIT: Duration = Duration::from_secs(240);

/// How the testbeds compress, as the scripts name it, and with which options.
const COMPRESSING: [(&str, &[&str]); 2] = [
    ("none", &["--deflate"]),
    ("takeover", &["--deflate", "--deflate-takeover"]),
];

/// Python's `websockets`, npm's `ws` and curl against both testbeds; Python's `h2` against the one that has WebSocket
/// over HTTP/2.
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
        if name == "axum" {
            outcome.add_runner(&script(&clients.python, "h2_client.py")?);
            let (server, url) = start_with_tls(context, name, "clients", log)?;
            let job = Job::new(&clients.python).args([scripts.join("h2_client.py")]);
            outcome.add_runner(&log.run(&job.args([&url]).limit(LIMIT))?);
            drop(server);
        }
        Ok(outcome)
    })
}

/// Chromium against both testbeds, and against the chat and the example of a drain in both frameworks.
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
        let (server, url) = start_with_tls(context, name, "browser", log)?;
        let version = if name == "axum" { "http2" } else { "http1.1" };
        let http2 = Job::new("node")
            .limit(LIMIT)
            .args([scripts.join("http2.mjs")])
            .args([&*url, version]);
        outcome.add_runner(&log.run(&http2)?);
        drop(server);
        let node = Job::new("node").limit(LIMIT);
        // It starts and ends its server itself, since that is what it tests.
        let chat = node
            .args([scripts.join("chat.mjs")])
            .args(["--framework", name, "--artefacts"])
            .args([&artefacts])
            .args(["--server"])
            .args([context.project.program("chat")]);
        outcome.add_runner(&log.run(&chat)?);
        let drain = Job::new("node")
            .limit(LIMIT)
            .args([scripts.join("drain.mjs")])
            .args([context.project.program(&format!("drain-{name}"))]);
        outcome.add_runner(&log.run(&drain)?);
        Ok(outcome)
    })
}

/// A testbed with a certificate of its own, and its address.
fn start_with_tls(
    context: &Context,
    name: &str,
    step: &str,
    log: &Log,
) -> Result<(RunningServer, String), Failure> {
    let folder = context.project.reports().join(format!("tls-{step}-{name}"));
    let [certificate, key] = tls::identity(&folder)?;
    let server = start_testbed(context, name, &["--tls", &certificate, &key], log)?;
    let url = format!("https://{}", server.address());
    Ok((server, url))
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
