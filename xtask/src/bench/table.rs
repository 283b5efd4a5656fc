//! The results as text.

use crate::bench::{
    peers::Side,
    report::{PeerResults, Ratio, Results, RowResults},
    rows::{Against, LooksAt, ROWS, Row, Target},
};

/// Differences below this are noise on a shared machine.
const DRAW: f64 = 0.15;

/// Prints a row's table.
pub(crate) fn print(row: &Row, results: &Results) {
    let Some(measured) = results.row(row.name) else {
        return;
    };
    for left_out in &measured.left_out {
        println!("  left out: {} ({})", left_out.peer, left_out.reason);
    }
    let mut references: Vec<(String, &PeerResults)> = Vec::new();
    let sides = [(Side::Limit, "raw"), (Side::Rust, "best Rust")];
    for (side, name) in sides {
        if let Some(peer) = measured.cheapest(side) {
            references.push((format!("x {name} ({})", peer.name), peer));
        }
    }
    for name in row.named() {
        if let Some(peer) = measured.peer(name) {
            references.push((format!("x {name}"), peer));
        }
    }
    let mut head = format!("  {:<18} {:>11}", "", unit(row));
    if row.looks_at == LooksAt::Latency {
        head.push_str(&format!(" {:>11}", "p99"));
    }
    for (name, _) in &references {
        head.push_str(&format!(" {name:>30}"));
    }
    if row.looks_at == LooksAt::Cpu {
        head.push_str(&format!(" {:>12} {:>10}", "calls/msg", "generator"));
    }
    println!("{head}");
    let mut peers: Vec<_> = measured.peers.iter().collect();
    peers.sort_by(|a, b| a.median.total_cmp(&b.median));
    for peer in peers {
        println!("{}", line(row, peer, &references));
    }
}

fn line(row: &Row, peer: &PeerResults, references: &[(String, &PeerResults)]) -> String {
    let mut line = format!("  {:<18} {:>11}", peer.name, figure(row, peer.median));
    if let Some(p99) = peer.p99() {
        line.push_str(&format!(" {:>11}", figure(row, p99)));
    }
    for (_, reference) in references {
        let ratio = peer.ratio_to(reference);
        line.push_str(&format!(" {:>30}", with_range(ratio)));
    }
    if row.looks_at == LooksAt::Cpu {
        let calls = peer.system_calls();
        let calls = calls.map_or_else(|| "-".to_owned(), |calls| format!("{calls:.3}"));
        line.push_str(&format!(" {calls:>12} {:>8.0} %", peer.load() * 100.0));
    }
    line
}

fn with_range(ratio: Ratio) -> String {
    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.least, ratio.most)
}

fn unit(row: &Row) -> &'static str {
    match row.looks_at {
        LooksAt::Cpu => "CPU ns",
        LooksAt::Memory { .. } => "bytes",
        LooksAt::Latency => "p50",
    }
}

fn figure(row: &Row, value: f64) -> String {
    match row.looks_at {
        LooksAt::Cpu | LooksAt::Memory { .. } => format!("{value:.0}"),
        LooksAt::Latency => format!("{:.1} µs", value / 1000.0),
    }
}

/// Prints what became of the targets of the rows that were asked for.
pub(crate) fn print_targets(results: &Results) {
    println!(
        "\ntargets of the plain loop (issue C), {} rounds:",
        results.rounds
    );
    let asked = ROWS.iter().filter(|row| results.row(row.name).is_some());
    for row in asked {
        for target in row.targets {
            let reached = results.reached(row, target);
            println!(
                "  {:<18} {:<14} at most {:>24}: {:<22} {}",
                row.name,
                target.ours,
                bound(target, results.row(row.name)),
                reached.map_or_else(String::new, |reached| shown(target, reached)),
                reached.map_or("not measured", |reached| verdict(target, reached))
            );
        }
    }
}

fn bound(target: &Target, row: Option<&RowResults>) -> String {
    let at_most = target.at_most;
    match target.against {
        Against::Raw => format!("{at_most} x raw"),
        Against::BestRust => {
            let best = row.and_then(|row| row.cheapest(Side::Rust));
            format!(
                "{at_most} x {}",
                best.map_or("the best Rust", |best| best.name)
            )
        }
        Against::Peer(name) | Against::Row(name) => format!("{at_most} x {name}"),
        Against::Bytes => format!("{at_most} B"),
        Against::SystemCalls => format!("{at_most} calls"),
    }
}

fn shown(target: &Target, reached: Ratio) -> String {
    match target.against {
        Against::Bytes => format!("{:.0}", reached.median),
        Against::SystemCalls => format!("{:.3}", reached.median),
        Against::Row(_) => format!("{:.2}", reached.median),
        Against::Raw | Against::BestRust | Against::Peer(_) => with_range(reached),
    }
}

fn verdict(target: &Target, reached: Ratio) -> &'static str {
    let over = reached.median / target.at_most - 1.0;
    if over <= 0.0 {
        "reached"
    } else if over < DRAW {
        "missed by less than 15 %"
    } else {
        "missed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let target = Target {
            ours: "",
            against: Against::Raw,
            at_most: 2.0,
        };
        let of = |median| {
            let ratio = Ratio {
                median,
                least: median,
                most: median,
            };
            verdict(&target, ratio)
        };
        assert_eq!(of(2.0), "reached");
        assert_eq!(of(2.2), "missed by less than 15 %");
        assert_eq!(of(2.4), "missed");
    }
}
