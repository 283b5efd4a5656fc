//! All results of a run, and what they are compared with.

use serde::Serialize;

use crate::{
    bench::{
        cell::{Cell, Machine},
        peers::{Peer, Side},
        rows::{Against, Row, Target},
    },
    failure::Failure,
};

/// What is written to `results.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    cpu: String,
    kernel: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<RowResults>,
}

#[derive(Debug, Serialize)]
pub(crate) struct RowResults {
    pub(crate) name: &'static str,
    what: &'static str,
    pub(crate) peers: Vec<PeerResults>,
    pub(crate) left_out: Vec<LeftOut>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PeerResults {
    pub(crate) name: &'static str,
    side: &'static str,
    #[serde(skip)]
    pub(crate) is: Option<Side>,
    pub(crate) median: f64,
    pub(crate) cells: Vec<Cell>,
}

/// A peer that could not be measured, and why.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) peer: &'static str,
    pub(crate) reason: String,
}

impl LeftOut {
    pub(crate) fn new(peer: &Peer, failure: &Failure) -> Self {
        Self {
            peer: peer.name,
            reason: failure.to_string(),
        }
    }
}

/// A ratio of two peers: the median over the rounds, and its extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) fn new(machine: &Machine, rounds: u32, seconds: f64) -> Self {
        Self {
            cpu: machine.cpu.clone(),
            kernel: machine.kernel.clone(),
            rounds,
            seconds,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        row: &Row,
        measured: Vec<(Peer, Vec<Cell>)>,
        left_out: Vec<LeftOut>,
    ) {
        let peers = measured.into_iter().map(|(peer, cells)| PeerResults {
            name: peer.name,
            side: peer.side.name(),
            is: Some(peer.side),
            median: median(cells.iter().map(|cell| cell.value).collect()),
            cells,
        });
        self.rows.push(RowResults {
            name: row.name,
            what: row.what,
            peers: peers.collect(),
            left_out,
        });
    }

    pub(crate) fn row(&self, name: &str) -> Option<&RowResults> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// What a target's figure came to: a ratio, or bytes or calls as they are.
    pub(crate) fn reached(&self, row: &Row, target: &Target) -> Option<Ratio> {
        let results = self.row(row.name)?;
        let ours = results.peer(target.ours)?;
        let reference = match target.against {
            Against::Raw => results.cheapest(Side::Limit)?,
            Against::BestRust => results.cheapest(Side::Rust)?,
            Against::Peer(name) => results.peer(name)?,
            Against::Row(name) => {
                // Other rounds, other moments: medians can be compared, rounds cannot.
                let ratio = ours.median / self.row(name)?.peer(target.ours)?.median;
                return Some(Ratio::of(ratio));
            }
            Against::Bytes => return Some(Ratio::of(ours.median)),
            Against::SystemCalls => return ours.system_calls().map(Ratio::of),
        };
        Some(ours.ratio_to(reference))
    }

    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        let fails = |error| Failure::new(format!("results: {error}"));
        serde_json::to_string_pretty(self).map_err(fails)
    }
}

impl RowResults {
    pub(crate) fn what(&self) -> &'static str {
        self.what
    }

    pub(crate) fn peer(&self, name: &str) -> Option<&PeerResults> {
        self.peers.iter().find(|peer| peer.name == name)
    }

    /// The cheapest of one side.
    pub(crate) fn cheapest(&self, side: Side) -> Option<&PeerResults> {
        let of_side = self.peers.iter().filter(|peer| peer.is == Some(side));
        of_side.min_by(|a, b| a.median.total_cmp(&b.median))
    }
}

impl PeerResults {
    /// Round by round: what disturbs a round disturbs both.
    pub(crate) fn ratio_to(&self, reference: &Self) -> Ratio {
        let rounds = self.cells.iter().zip(&reference.cells);
        let ratios: Vec<_> = rounds.map(|(a, b)| a.value / b.value).collect();
        Ratio {
            least: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            most: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(ratios),
        }
    }

    pub(crate) fn system_calls(&self) -> Option<f64> {
        self.cells.iter().find_map(|cell| cell.system_calls)
    }

    pub(crate) fn p99(&self) -> Option<f64> {
        let p99: Vec<_> = self.cells.iter().filter_map(|cell| cell.p99).collect();
        (!p99.is_empty()).then(|| median(p99))
    }

    /// The share of its core that the generator needed.
    pub(crate) fn load(&self) -> f64 {
        median(self.cells.iter().map(|cell| cell.load).collect())
    }
}

impl Ratio {
    fn of(value: f64) -> Self {
        Self {
            median: value,
            least: value,
            most: value,
        }
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(values[middle - 1], *value),
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(values: &[f64]) -> PeerResults {
        let cell = |value: &f64| Cell {
            value: *value,
            p99: None,
            load: 0.0,
            rss: 0,
            system_calls: None,
        };
        PeerResults {
            name: "",
            side: "",
            is: None,
            median: median(values.to_vec()),
            cells: values.iter().map(cell).collect(),
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_round_that_was_disturbed_for_both_does_not_change_the_ratio() {
        let (ours, other) = (peer(&[2.0, 20.0, 2.0]), peer(&[1.0, 10.0, 1.0]));
        let ratio = ours.ratio_to(&other);
        assert_eq!((ratio.least, ratio.median, ratio.most), (2.0, 2.0, 2.0));
    }
}
