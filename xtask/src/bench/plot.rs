//! The results as a picture: bars of ratios, a panel for each row.

use std::fmt::Write as _;

use crate::bench::{
    peers::Side,
    report::{PeerResults, Results, RowResults},
};

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 16.0;
const COLUMNS: usize = 2;
const BAR: f64 = 17.0;
const TITLE: f64 = 40.0;
const NAMES: f64 = 118.0;
/// Room for the figure behind the longest bar.
const FIGURES: f64 = 56.0;
/// Bars beyond so many times the shortest are cut: they would make all others look alike.
const LONGEST: f64 = 5.0;

/// A picture that stands on a light and on a dark page, without fonts or scripts of its own.
pub(crate) fn svg(results: &Results) -> String {
    let panel_width = (WIDTH - MARGIN * 3.0) / 2.0;
    let mut body = String::new();
    let mut y = 54.0;
    for pair in results.rows.chunks(COLUMNS) {
        let mut height: f64 = 0.0;
        for (column, row) in pair.iter().enumerate() {
            let x = MARGIN
                + if column == 0 {
                    0.0
                } else {
                    panel_width + MARGIN
                };
            height = height.max(panel(&mut body, row, x, y, panel_width));
        }
        y += height + MARGIN;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"system-ui, -apple-system, Segoe UI, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\" font-weight=\"600\" fill=\"#1f2328\">What a server spends, as a multiple of the least</text>\n\
         <text x=\"{MARGIN}\" y=\"42\" fill=\"#59636e\">shorter is better; medians of {} interleaved rounds; differences below 15 % are a draw</text>\n\
         {body}</svg>\n",
        results.rounds
    )
}

/// Draws a row; returns its height.
fn panel(out: &mut String, row: &RowResults, x: f64, y: f64, width: f64) -> f64 {
    let mut peers: Vec<_> = row.peers.iter().collect();
    peers.sort_by(|a, b| a.median.total_cmp(&b.median));
    let Some(shortest) = peers.first().map(|peer| peer.median.max(f64::MIN_POSITIVE)) else {
        return 0.0;
    };
    let longest = peers
        .last()
        .map_or(1.0, |peer| (peer.median / shortest).min(LONGEST));
    let room = width - NAMES - FIGURES;
    text(
        out,
        x,
        y + 16.0,
        "font-weight=\"600\" fill=\"#1f2328\"",
        row.name,
    );
    text(
        out,
        x,
        y + 31.0,
        "font-size=\"10\" fill=\"#59636e\"",
        &short(row.what()),
    );
    for (place, peer) in peers.iter().enumerate() {
        let top = y + TITLE + BAR * f64::from(u32::try_from(place).unwrap_or(0));
        let ratio = peer.median / shortest;
        let long = room * ratio.min(LONGEST) / longest;
        let end = x + NAMES + long;
        let weight = if peer.is == Some(Side::Towpath) {
            "font-weight=\"600\" fill=\"#1f2328\" text-anchor=\"end\""
        } else {
            "fill=\"#1f2328\" text-anchor=\"end\""
        };
        text(out, x + NAMES - 6.0, top + 12.0, weight, peer.name);
        let _ = writeln!(
            out,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{}\"/>",
            x + NAMES,
            top + 2.0,
            BAR - 4.0,
            color(peer)
        );
        if ratio > LONGEST {
            // The bar is cut, and shows it.
            let _ = writeln!(
                out,
                "<path d=\"M{:.1} {:.1}l4 -15m4 0l-4 15\" stroke=\"#ffffff\" stroke-width=\"2\"/>",
                end - 14.0,
                top + BAR - 1.0
            );
        }
        text(
            out,
            end + 5.0,
            top + 12.0,
            "fill=\"#59636e\"",
            &format!("{ratio:.2} ×"),
        );
    }
    TITLE + BAR * f64::from(u32::try_from(peers.len()).unwrap_or(0))
}

fn color(peer: &PeerResults) -> &'static str {
    match peer.is {
        Some(Side::Towpath) => "#0969da",
        Some(Side::Limit) => "#d1d9e0",
        Some(Side::Rust) => "#bf8700",
        Some(Side::Other) | None => "#818b98",
    }
}

/// What fits below a panel's name.
fn short(what: &str) -> String {
    const MOST: usize = 78;
    if what.chars().count() <= MOST {
        return what.to_owned();
    }
    let cut: String = what.chars().take(MOST - 1).collect();
    format!("{cut}…")
}

fn text(out: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>"
    );
}
