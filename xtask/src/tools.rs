//! What the tests need beyond a Rust toolchain: installed when it is missing, kept for later runs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::{
    bench::install as bench,
    failure::Failure,
    process::{Job, Log},
    project::{Project, make_empty_folder},
    python,
};

/// Debian's Chromium: playwright drives it, and downloads no browser of its own.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Each tool is prepared once a run, by whoever asks first; the others wait for it.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    autobahn: OnceLock<Result<PathBuf, Failure>>,
    browser: OnceLock<Result<(), Failure>>,
    clients: OnceLock<Result<Clients, Failure>>,
    redis: OnceLock<Result<(), Failure>>,
    bench_node: OnceLock<Result<PathBuf, Failure>>,
    bench_uws: OnceLock<Result<PathBuf, Failure>>,
    /// apt has a lock, and answers whoever comes second with an error.
    apt: Mutex<()>,
}

/// What the real clients run with.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) python: PathBuf,
}

impl Tools {
    /// The `wstest` of Autobahn's test suite.
    pub(crate) fn autobahn(&self, project: &Project) -> Result<PathBuf, Failure> {
        let prepare = || {
            let log = setup_log(project, "autobahn")?;
            python::autobahn(project, &log).map_err(|failure| explain(&failure, &log))
        };
        self.autobahn.get_or_init(prepare).clone()
    }

    /// Chromium and playwright-core.
    pub(crate) fn browser(&self, project: &Project) -> Result<(), Failure> {
        let prepare = || {
            let log = setup_log(project, "browser")?;
            self.apt_when_missing(Path::new(CHROMIUM).exists(), "chromium", &log)
                .and_then(|()| self.node_modules(&project.root.join("tests/browser"), &log))
                .map_err(|failure| explain(&failure, &log))
        };
        self.browser.get_or_init(prepare).clone()
    }

    /// Python's `websockets`, npm's `ws` and curl.
    pub(crate) fn clients(&self, project: &Project) -> Result<Clients, Failure> {
        let prepare = || {
            let log = setup_log(project, "clients")?;
            self.prepare_clients(project, &log)
                .map_err(|failure| explain(&failure, &log))
        };
        self.clients.get_or_init(prepare).clone()
    }

    fn prepare_clients(&self, project: &Project, log: &Log) -> Result<Clients, Failure> {
        self.apt_when_missing(runs(log, "curl", &["--version"])?, "curl", log)?;
        self.node_modules(&project.root.join("tests/clients"), log)?;
        // Debian's own python3 comes without the module that makes virtual environments.
        let has_venv = runs(log, "python3", &["-c", "import ensurepip, venv"])?;
        self.apt_when_missing(has_venv, "python3-venv", log)?;
        let python = python::clients(project, log)?;
        Ok(Clients { python })
    }

    /// Debian's `redis-server`, which the tests start themselves.
    pub(crate) fn redis(&self, project: &Project) -> Result<(), Failure> {
        let prepare = || {
            let log = setup_log(project, "redis")?;
            runs(&log, "redis-server", &["--version"])
                .and_then(|present| self.apt_when_missing(present, "redis-server", &log))
                .map_err(|failure| explain(&failure, &log))
        };
        self.redis.get_or_init(prepare).clone()
    }

    /// The folder in which Bun, npm's `ws` and the benchmark's servers for them are.
    pub(crate) fn bench_node(&self, project: &Project) -> Result<PathBuf, Failure> {
        let prepare = || {
            let log = setup_log(project, "bench-node")?;
            bench::node(project, &log).map_err(|failure| explain(&failure, &log))
        };
        self.bench_node.get_or_init(prepare).clone()
    }

    /// The benchmark's server over uWebSockets.
    pub(crate) fn bench_uws(&self, project: &Project) -> Result<PathBuf, Failure> {
        let prepare = || {
            let log = setup_log(project, "bench-uws")?;
            let has_libuv = runs(&log, "sh", &["-c", "ldconfig -p | grep -q libuv.so.1"])?;
            self.apt_when_missing(has_libuv, "libuv1", &log)
                .and_then(|()| bench::uws(project, &log))
                .map_err(|failure| explain(&failure, &log))
        };
        self.bench_uws.get_or_init(prepare).clone()
    }

    fn apt_when_missing(&self, present: bool, package: &str, log: &Log) -> Result<(), Failure> {
        if present {
            return Ok(());
        }
        // A panic of another holder leaves nothing half done here: apt is a process of its own.
        let _one_at_a_time = self.apt.lock().unwrap_or_else(PoisonError::into_inner);
        log.run(&Job::new("apt-get").args(["update", "-q"]))?
            .success()?;
        let install = Job::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive");
        log.run(&install)?.success()?;
        Ok(())
    }

    /// Installs what `package-lock.json` of a folder names.
    fn node_modules(&self, folder: &Path, log: &Log) -> Result<(), Failure> {
        self.apt_when_missing(runs(log, "npm", &["--version"])?, "npm", log)?;
        let lock = folder.join("package-lock.json");
        let wanted = fs::read_to_string(&lock).map_err(Failure::of_path(&lock))?;
        prepared(&folder.join("node_modules"), &wanted, || {
            let install = Job::new("npm").args(["ci", "--no-audit", "--no-fund"]);
            log.run(&install.folder(folder))?.success()?;
            Ok(())
        })
    }
}

/// Fills a folder, unless an earlier run has done so for the same `wanted`.
pub(crate) fn prepared(
    folder: &Path,
    wanted: &str,
    fill: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Virtual environments hold their own path: one that was moved is made anew.
    let wanted = format!("{}\n{wanted}", folder.display());
    let stamp = folder.join(".towpath-prepared");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    make_empty_folder(folder)?;
    fill()?;
    fs::write(&stamp, wanted).map_err(Failure::of_path(&stamp))
}

/// Whether a program is there and answers.
pub(crate) fn runs(log: &Log, program: impl AsRef<Path>, args: &[&str]) -> Result<bool, Failure> {
    let job = Job::new(program.as_ref()).args(args);
    Ok(log.run(&job)?.succeeded())
}

fn setup_log(project: &Project, name: &str) -> Result<Log, Failure> {
    Log::create(project.reports().join(format!("setup-{name}.log")))
}

fn explain(failure: &Failure, log: &Log) -> Failure {
    Failure::new(format!("{failure}\n{}", log.tail(20)))
}
