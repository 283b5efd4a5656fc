//! Virtual environments of Python: one of CPython 3 for the `websockets` client, one of CPython 2.7 for Autobahn,
//! whose suite was never ported (under 3.11 it installs, and dies at import).

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::Failure,
    process::{Job, Log},
    project::Project,
    tools::{prepared, runs},
};

/// The last virtualenv but a few that can make an environment for CPython 2.7 (20.22 dropped it).
const VIRTUALENV: &str = "virtualenv==20.15.1";

/// Where CPython 2.7 may be, where neither pyenv nor the path knows it.
const PYTHON27_VARIABLE: &str = "TOWPATH_PYTHON27";

/// Makes the environment of the Python client; returns its interpreter.
pub(crate) fn clients(project: &Project, log: &Log) -> Result<PathBuf, Failure> {
    let folder = project.tools().join("python-clients");
    let requirements = project.root.join("tests/clients/requirements.txt");
    prepared(&folder, &read(&requirements)?, || {
        make_environment(&folder, log)?;
        install(&folder, &["-r".as_ref(), &requirements], log)
    })?;
    Ok(folder.join("bin/python"))
}

/// Makes the environment of Autobahn's test suite; returns its `wstest`.
pub(crate) fn autobahn(project: &Project, log: &Log) -> Result<PathBuf, Failure> {
    let folder = project.tools().join("autobahn");
    let requirements = project.root.join("xtask/autobahn/requirements.txt");
    let wstest = folder.join("bin/wstest");
    prepared(&folder, &read(&requirements)?, || {
        let python27 = find_python27(log)?;
        let maker = project.tools().join("virtualenv");
        prepared(&maker, VIRTUALENV, || {
            make_environment(&maker, log)?;
            install(&maker, &[VIRTUALENV.as_ref()], log)
        })?;
        let make = Job::new(maker.join("bin/virtualenv"))
            .args(["--quiet", "--python"])
            .args([&python27, &folder]);
        log.run(&make)?.success()?;
        install(&folder, &["-r".as_ref(), &requirements], log)?;
        log.run(&Job::new(&wstest).args(["--autobahnversion"]))?
            .success()?;
        Ok(())
    })?;
    Ok(wstest)
}

pub(crate) fn make_environment(folder: &Path, log: &Log) -> Result<(), Failure> {
    let make = Job::new("python3").args(["-m", "venv"]).args([folder]);
    log.run(&make)?.success()?;
    Ok(())
}

pub(crate) fn install(environment: &Path, what: &[&Path], log: &Log) -> Result<(), Failure> {
    let pip = Job::new(environment.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(what);
    log.run(&pip)?.success()?;
    Ok(())
}

fn find_python27(log: &Log) -> Result<PathBuf, Failure> {
    let mut candidates: Vec<_> = env::var_os(PYTHON27_VARIABLE)
        .map(PathBuf::from)
        .into_iter()
        .collect();
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".pyenv")));
    if let Some(versions) = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok()) {
        let two = versions
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("2.7"));
        candidates.extend(two.map(|entry| entry.path().join("bin/python2.7")));
    }
    candidates.push(PathBuf::from("python2.7"));
    for candidate in candidates {
        // The path may hold a shim that only says which version is not set.
        if runs(
            log,
            &candidate,
            &["-c", "import sys; assert sys.version_info[:2] == (2, 7)"],
        )? {
            return Ok(candidate);
        }
    }
    Err(Failure::new(format!(
        "CPython 2.7 is missing, which Autobahn's test suite needs: install it (`pyenv install 2.7.18`) or name it in {PYTHON27_VARIABLE}"
    )))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(Failure::of_path(path))
}
