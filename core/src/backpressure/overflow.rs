/// What happens to a subscription that lags behind by more than the
/// [`queue`](crate::hub::HubBuilder::queue), "the so many" below: for the whole hub by
/// [`HubBuilder::overflow`](crate::hub::HubBuilder::overflow), for the sockets and streams
/// below a layer by [`Limits::overflow`](super::Limits::overflow), for one subscription by
/// [`Subscribe::overflow`](crate::hub::Subscribe::overflow).
///
/// Publishers are never blocked by a reader, and a reader costs no memory: whatever it
/// has not read is in its topic's log, or gone. Every event that it does not get is
/// counted as [`lagged_total`](crate::Snapshot::lagged_total), one that was replaced
/// too.
///
/// ```
/// use towpath::hub::{Hub, Overflow};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::builder().queue(64).overflow(Overflow::DropOldest).build()?;
/// let prices = hub.subscribe("prices").overflow(Overflow::Conflate).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It ends: a WebSocket is closed with 1013, an event stream ends without a
    /// gap, since its client resumes.
    #[default]
    Disconnect,
    /// It falls behind, until what it has not read is no longer kept; then it is
    /// told a [`Gap`](crate::hub::Gap).
    Block,
    /// It loses the oldest events that it has not read: it goes on with the newest so
    /// many, behind a [`Gap`](crate::hub::Gap) with the number of those it lost.
    DropOldest,
    /// It loses the newest events: it gets the so many that waited for it first, as far
    /// as they are still kept, then one [`Gap`](crate::hub::Gap) with the number of those
    /// it lost, then what is published from then on.
    DropNewest,
    /// Of what it has not read it gets the newest event of each
    /// [key](crate::hub::Publish::key), in order; one without a key stands for itself.
    ///
    /// What a newer event of its key has replaced is no gap. If more than the so many
    /// are left, or are no longer kept, the oldest go, as under
    /// [`DropOldest`](Self::DropOldest).
    Conflate,
}
