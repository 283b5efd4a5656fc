//! The programs that the benchmark runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    failure::Failure,
    process::{Job, Log},
    project::{PROFILE, Project},
    python,
    tools::prepared,
};

/// The release of socketify whose uWebSockets is measured.
const SOCKETIFY: &str = "socketify==0.0.31";
const NODE_FILES: [&str; 4] = ["package.json", "package-lock.json", "bun.js", "ws.mjs"];

/// Where cargo leaves the generator and the servers.
pub(crate) fn release(project: &Project) -> PathBuf {
    build_folder(project).join("release")
}

pub(crate) fn load(project: &Project) -> PathBuf {
    release(project).join("bench-load")
}

/// Outside of `bench/`: what is built is all in one place.
fn build_folder(project: &Project) -> PathBuf {
    project.target().join("bench/build")
}

/// Builds the workspace `bench/`.
pub(crate) fn load_and_servers(project: &Project, log: &Log) -> Result<(), Failure> {
    println!("building the generator and the servers (some minutes the first time)");
    let build = Job::new("cargo")
        .args(["build", "--release", "--locked", "--manifest-path"])
        .args([project.root.join("bench/Cargo.toml")])
        .args(["--target-dir".as_ref(), build_folder(project).as_path()]);
    build_with(log, build, project)
}

/// Builds our own side.
pub(crate) fn testbeds(project: &Project, log: &Log) -> Result<(), Failure> {
    let build = Job::new("cargo")
        .args(["build", "--locked", "--profile", PROFILE])
        .args(["-p", "towpath-tests", "--bins"]);
    build_with(log, build, project)
}

fn build_with(log: &Log, build: Job, project: &Project) -> Result<(), Failure> {
    log.run(&build.folder(&project.root).gives_way())?
        .success()?;
    Ok(())
}

/// Installs Bun and `ws`, and puts the servers beside them; returns the folder.
pub(crate) fn node(project: &Project, log: &Log) -> Result<PathBuf, Failure> {
    let folder = project.tools().join("bench-node");
    let sources = project.root.join("bench/peers/node");
    let mut wanted = String::new();
    for file in NODE_FILES {
        wanted.push_str(&read(&sources.join(file))?);
    }
    prepared(&folder, &wanted, || {
        for file in NODE_FILES {
            let from = sources.join(file);
            fs::copy(&from, folder.join(file)).map_err(Failure::of_path(&from))?;
        }
        let install = Job::new("npm").args(["ci", "--no-audit", "--no-fund"]);
        log.run(&install.folder(&folder))?.success()?;
        Ok(())
    })?;
    Ok(folder)
}

/// Installs socketify and builds the server over its library; returns the server.
pub(crate) fn uws(project: &Project, log: &Log) -> Result<PathBuf, Failure> {
    let folder = project.tools().join("bench-uws");
    let source = project.root.join("bench/peers/uws/server.c");
    let wanted = format!("{SOCKETIFY}\n{}", read(&source)?);
    let server = folder.join("uws-server");
    prepared(&folder, &wanted, || {
        python::make_environment(&folder, log)?;
        python::install(&folder, &[SOCKETIFY.as_ref()], log)?;
        let find = Job::new("find")
            .args([&folder])
            .args(["-name", "libsocketify_linux_*.so"]);
        let found = log.run(&find)?.success()?;
        let library = Path::new(
            found
                .lines()
                .next()
                .ok_or_else(|| Failure::new("socketify brings no library for this machine"))?,
        );
        let runtime_path = library.parent().unwrap_or(&folder);
        let build = Job::new("cc")
            .args(["-O2", "-o"])
            .args([&server, &source])
            .args([library])
            .args([
                format!("-Wl,-rpath,{}", runtime_path.display()),
                "-Wl,--allow-shlib-undefined".to_owned(),
            ]);
        log.run(&build)?.success()?;
        Ok(())
    })?;
    Ok(server)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(Failure::of_path(path))
}
