//! The results as a picture: bars of ratios, a panel for each row.

use std::fmt::Write as _;

use crate::bench::{
    peers::Side,
    report::{PeerResults, Results, RowResults},
    rows::ROWS,
};

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 20.0;
const COLUMNS: usize = 2;
const BAR: f64 = 18.0;
const TITLE: f64 = 42.0;
const NAMES: f64 = 124.0;
/// Room for the figure behind the longest bar.
const FIGURES: f64 = 56.0;
const HEAD: f64 = 76.0;
const FOOT: f64 = 30.0;
/// Bars beyond so many times the shortest are cut: they would make all others look alike.
const LONGEST: f64 = 5.0;

/// A background and colours of its own for a light and a dark page: a picture in a README gets none of the page's.
const STYLE: &str = "\
.ground{fill:#ffffff;stroke:#d1d9e0}.text{fill:#1f2328}.faint{fill:#59636e}.cut{stroke:#ffffff;stroke-width:2}\
.limit{fill:#c8d1da}.towpath{fill:#0969da}.rust{fill:#d4a72c}.other{fill:#8c959f}\
.name{text-anchor:end}.strong{font-weight:600}\
@media(prefers-color-scheme:dark){\
.ground{fill:#0d1117;stroke:#3d444d}.text{fill:#f0f6fc}.faint{fill:#9198a1}.cut{stroke:#0d1117}\
.limit{fill:#3d444d}.towpath{fill:#4493f8}.rust{fill:#bb8009}.other{fill:#656c76}}";

/// What the colours say.
const KEY: [(Side, &str); 4] = [
    (Side::Towpath, "towpath"),
    (Side::Rust, "other Rust"),
    (Side::Other, "C++, JavaScript"),
    (Side::Limit, "TCP without a protocol"),
];

/// A panel's row, its title and what stands below it.
type Panel<'a> = (&'a RowResults, &'a str, &'a str);

/// All rows.
pub(crate) fn all(results: &Results) -> String {
    let panels: Vec<_> = results
        .rows
        .iter()
        .map(|row| (row, row.name, row.what()))
        .collect();
    svg(results, &panels, "cargo xtask bench")
}

/// The rows that have a title, with the command that made the picture.
pub(crate) fn titled(results: &Results, command: &str) -> String {
    let titled = ROWS.iter().filter_map(|row| {
        let measured = results.row(row.name)?;
        Some((measured, row.title?, row.name))
    });
    svg(results, &titled.collect::<Vec<_>>(), command)
}

fn svg(results: &Results, panels: &[Panel<'_>], command: &str) -> String {
    let panel_width = (WIDTH - MARGIN * 3.0) / 2.0;
    let mut body = String::new();
    text(
        &mut body,
        [MARGIN, 28.0],
        "text strong",
        "What a server spends, as a multiple of the least",
    );
    let caption = format!(
        "Shorter is better. Medians of {} interleaved rounds on one machine; differences below 15 % are a draw.",
        results.rounds
    );
    text(&mut body, [MARGIN, 46.0], "faint", &caption);
    key(&mut body);
    let mut y = HEAD;
    for pair in panels.chunks(COLUMNS) {
        let mut height: f64 = 0.0;
        let mut x = MARGIN;
        for shown in pair {
            height = height.max(panel(&mut body, shown, [x, y], panel_width));
            x += panel_width + MARGIN;
        }
        y += height + MARGIN;
    }
    let height = y + FOOT - MARGIN;
    text(&mut body, [MARGIN, height - 14.0], "faint", command);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <title>What a server spends, as a multiple of the least</title>\n\
         <style>{STYLE}</style>\n\
         <rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n\
         {body}</svg>\n",
        WIDTH - 1.0,
        height - 1.0
    )
}

fn key(out: &mut String) {
    let mut x = MARGIN;
    for (side, name) in KEY {
        bar(out, [x, 55.0], 11.0, side);
        text(out, [x + 16.0, 65.0], "faint", name);
        x += 16.0 + 6.2 * f64::from(u32::try_from(name.len()).unwrap_or(0)) + 18.0;
    }
}

/// Draws a row; returns its height.
fn panel(out: &mut String, (row, title, below): &Panel<'_>, [x, y]: [f64; 2], width: f64) -> f64 {
    let mut peers: Vec<_> = row.peers.iter().collect();
    peers.sort_by(|a, b| a.median.total_cmp(&b.median));
    let Some(shortest) = peers.first().map(|peer| peer.median.max(f64::MIN_POSITIVE)) else {
        return 0.0;
    };
    let longest = peers
        .last()
        .map_or(1.0, |peer| (peer.median / shortest).min(LONGEST));
    let room = width - NAMES - FIGURES;
    text(out, [x, y + 20.0], "text strong", title);
    text(out, [x, y + 35.0], "faint", &short(below));
    for (place, peer) in peers.iter().enumerate() {
        let top = y + TITLE + BAR * f64::from(u32::try_from(place).unwrap_or(0));
        let ratio = peer.median / shortest;
        let long = room * ratio.min(LONGEST) / longest;
        let end = x + NAMES + long;
        let class = match peer.is {
            Some(Side::Towpath) => "name text strong",
            _ => "name text",
        };
        text(out, [x + NAMES - 6.0, top + 12.0], class, peer.name);
        bar(out, [x + NAMES, top + 2.0], long, side(peer));
        if ratio > LONGEST {
            // The bar is cut, and shows it.
            let _ = writeln!(
                out,
                "<path class=\"cut\" d=\"M{:.1} {:.1}l4 -15m4 0l-4 15\"/>",
                end - 14.0,
                top + BAR - 2.0
            );
        }
        let figure = if ratio < 9.95 {
            format!("{ratio:.2} ×")
        } else {
            format!("{ratio:.0} ×")
        };
        text(out, [end + 5.0, top + 12.0], "faint", &figure);
    }
    TITLE + BAR * f64::from(u32::try_from(peers.len()).unwrap_or(0))
}

fn side(peer: &PeerResults) -> Side {
    peer.is.unwrap_or(Side::Other)
}

/// What fits below a panel's title.
fn short(what: &str) -> String {
    const MOST: usize = 66;
    if what.chars().count() <= MOST {
        return what.to_owned();
    }
    let cut: String = what.chars().take(MOST - 1).collect();
    format!("{cut}…")
}

fn bar(out: &mut String, [x, y]: [f64; 2], long: f64, side: Side) {
    let _ = writeln!(
        out,
        "<rect class=\"{}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"{:.1}\" rx=\"2\"/>",
        side.name(),
        BAR - 5.0,
    );
}

fn text(out: &mut String, [x, y]: [f64; 2], class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
    );
}
