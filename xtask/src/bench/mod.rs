//! `cargo xtask bench`: towpath beside what else there is, on this machine, in one run (`docs/benchmark.md`).

mod cell;
pub(crate) mod install;
mod peers;
mod plot;
mod report;
mod rows;
mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    bench::{
        cell::{Bench, Cell, Machine},
        peers::{PEERS, Peer, Program},
        report::{LeftOut, Results},
        rows::{ROWS, Row},
    },
    failure::Failure,
    process::Log,
    project::{Project, make_folder},
    tls,
    tools::Tools,
};

/// What is compared, and how often.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these rows; a part of a name stands for all that begin with it.
    #[arg(long, num_args = 1.., value_name = "ROW")]
    rows: Vec<String>,
    /// Only these peers.
    #[arg(long, num_args = 1.., value_name = "PEER")]
    peers: Vec<String>,
    /// How often each peer has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that are measured each time.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Writes the README's plot here, too: of the rows that have a title.
    #[arg(long, value_name = "PATH")]
    plot: Option<PathBuf>,
    /// Names the rows and the peers, and does nothing.
    #[arg(long)]
    list: bool,
}

/// Where results go: `results.json`, `plot.svg`, and the log.
fn folder(project: &Project) -> PathBuf {
    project.target().join("bench")
}

/// Runs the benchmark; prints each row as soon as it is done.
pub(crate) fn run(project: &Project, options: &Options) -> Result<(), Failure> {
    if options.list {
        return list();
    }
    let rows = chosen(ROWS, &options.rows, "row", |row, name| {
        row.name.starts_with(name)
    })?;
    let peers = chosen(PEERS, &options.peers, "peer", |peer, name| {
        peer.name == name
    })?;
    let folder = folder(project);
    make_folder(&folder)?;
    let log = Log::create(folder.join("bench.log"))?;
    let programs = install(project, &rows, &peers, &log)?;
    let machine = Machine::look(&log)?;
    machine.print();
    let bench = Bench {
        machine: &machine,
        load: install::load(project),
        identity: tls::identity(&folder.join("identity"))?,
        seconds: options.seconds,
        log: &log,
    };
    let mut results = Results::new(&machine, options.rounds, options.seconds);
    for row in rows {
        let taking_part = peers.iter().filter(|peer| row.has(peer.name));
        let mut left_out = Vec::new();
        let mut runners = Vec::new();
        for peer in taking_part {
            match programs.get(peer.name) {
                Some(Ok(program)) => runners.push((**peer, program.as_path())),
                Some(Err(failure)) => left_out.push(LeftOut::new(peer, failure)),
                None => {}
            }
        }
        if runners.is_empty() && left_out.is_empty() {
            continue;
        }
        println!("\n{}: {}", row.name, row.what);
        let measured = rounds(row, &runners, &bench, options.rounds, &mut left_out);
        results.add(row, measured, left_out);
        table::print(row, &results);
        // After each row: what is measured is kept when the run is broken off.
        write(&folder.join("results.json"), &results.to_json()?)?;
        write(&folder.join("plot.svg"), &plot::all(&results))?;
    }
    table::print_targets(&results);
    if let Some(path) = &options.plot {
        write(path, &plot::titled(&results, &command()))?;
    }
    println!("\nresults: {}", folder.join("results.json").display());
    println!("plot:    {}", folder.join("plot.svg").display());
    Ok(())
}

/// Each peer's cells, one a round: within a round the peers take turns, each round begins with another.
fn rounds(
    row: &Row,
    runners: &[(Peer, &Path)],
    bench: &Bench<'_>,
    rounds: u32,
    left_out: &mut Vec<LeftOut>,
) -> Vec<(Peer, Vec<Cell>)> {
    let mut measured: Vec<_> = runners
        .iter()
        .map(|(peer, _)| (*peer, Vec::new()))
        .collect();
    for round in 0..rounds {
        let mut order: Vec<_> = (0..runners.len()).collect();
        if !order.is_empty() {
            order.rotate_left(round as usize % runners.len());
        }
        for index in order {
            let (peer, program) = runners[index];
            if left_out.iter().any(|left_out| left_out.peer == peer.name) {
                continue;
            }
            let last = round + 1 == rounds;
            match bench.measure(row, &peer, program, last) {
                Ok(cell) => measured[index].1.push(cell),
                Err(failure) => left_out.push(LeftOut::new(&peer, &failure)),
            }
        }
    }
    // A peer that failed once is not compared: its rounds are not those of the others.
    measured.retain(|(peer, cells)| {
        !cells.is_empty() && left_out.iter().all(|left_out| left_out.peer != peer.name)
    });
    measured
}

/// The programs of the peers that the rows need; a peer that cannot be had has a reason in its place.
fn install(
    project: &Project,
    rows: &[&Row],
    peers: &[&Peer],
    log: &Log,
) -> Result<BTreeMap<&'static str, Result<PathBuf, Failure>>, Failure> {
    let needed = peers
        .iter()
        .filter(|peer| rows.iter().any(|row| row.has(peer.name)));
    install::load_and_servers(project, log)?;
    let tools = Tools::default();
    let mut programs = BTreeMap::new();
    for peer in needed {
        let program = match peer.program {
            Program::Testbed(name) => {
                install::testbeds(project, log)?;
                Ok(project.program(name))
            }
            Program::Server(name) => Ok(install::release(project).join(name)),
            Program::Uws => tools.bench_uws(project),
            Program::Node(script) | Program::Bun(script) => {
                tools.bench_node(project).map(|node| node.join(script))
            }
        };
        if let Err(failure) = &program {
            println!("left out: {} ({failure})", peer.name);
        }
        programs.insert(peer.name, program);
    }
    Ok(programs)
}

fn chosen<T>(
    all: &'static [T],
    wanted: &[String],
    what: &str,
    is: impl Fn(&T, &str) -> bool,
) -> Result<Vec<&'static T>, Failure> {
    if wanted.is_empty() {
        return Ok(all.iter().collect());
    }
    for name in wanted {
        if !all.iter().any(|one| is(one, name)) {
            return Err(Failure::new(format!(
                "there is no {what} `{name}`: see `cargo xtask bench --list`"
            )));
        }
    }
    let asked = |one: &&T| wanted.iter().any(|name| is(one, name));
    Ok(all.iter().filter(asked).collect())
}

fn list() -> Result<(), Failure> {
    println!("rows:");
    for row in ROWS {
        println!("  {:<24} {}", row.name, row.what);
    }
    println!("peers:");
    for peer in PEERS {
        println!("  {:<24} {}", peer.name, peer.what);
    }
    Ok(())
}

/// What was typed.
fn command() -> String {
    let mut command = "cargo xtask".to_owned();
    for word in std::env::args().skip(1) {
        command.push(' ');
        command.push_str(&word);
    }
    command
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::of_path(path))
}
