use serde::{Deserialize, Serialize};
use towpath::Snapshot;

/// What `/stats` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "they are those of the snapshot")]
pub struct Counts {
    pub websockets: u64,
    pub sse_streams: u64,
    pub upgrades_total: u64,
    pub rejected_total: u64,
    pub messages_in_total: u64,
    pub messages_out_total: u64,
    pub lagged_total: u64,
    pub gaps_total: u64,
    pub panics_total: u64,
    pub buffered_bytes: u64,
}

impl From<Snapshot> for Counts {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            websockets: snapshot.websockets,
            sse_streams: snapshot.sse_streams,
            upgrades_total: snapshot.upgrades_total,
            rejected_total: snapshot.rejected_total,
            messages_in_total: snapshot.messages_in_total,
            messages_out_total: snapshot.messages_out_total,
            lagged_total: snapshot.lagged_total,
            gaps_total: snapshot.gaps_total,
            panics_total: snapshot.panics_total,
            buffered_bytes: snapshot.buffered_bytes,
        }
    }
}
