//! What every [`Broker`] is to do, as tests that its author runs.
//!
//! ```
//! use std::sync::Arc;
//! use towpath::hub::{MemoryBroker, conformance::{self, Cluster}};
//!
//! /// The embedded broker has no server: all nodes are one.
//! struct Embedded(Arc<MemoryBroker>);
//!
//! impl Cluster for Embedded {
//!     type Broker = Arc<MemoryBroker>;
//!
//!     async fn node(&self, _link: &'static str) -> Self::Broker {
//!         Arc::clone(&self.0)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() {
//! let cluster = Embedded(Arc::new(MemoryBroker::new()));
//! let report = conformance::run(&cluster).await;
//! assert_eq!(report.failed(), [], "{report}");
//! assert_eq!(report.skipped(), ["restart", "wipe", "trimmed_while_cut", "publish_while_cut"]);
//! # }
//! ```

mod checks;
mod faults;
mod nodes;

use std::fmt;

use super::Broker;
use nodes::Nodes;

/// A broker's server, which the suite may break, and nodes that use it.
///
/// What a cluster cannot do is left out, and [`Report::skipped`] tells it.
pub trait Cluster: Send + Sync {
    /// What is tested.
    type Broker: Broker;

    /// A broker as one more process would have it, on the same data as all others. It
    /// reaches the server by a link of this name, which no other node has at the time.
    fn node(&self, link: &'static str) -> impl Future<Output = Self::Broker> + Send;

    /// Kills the server and starts it again, at the same place and with the same data.
    /// `false` where that cannot be done.
    fn restart(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Kills the server and starts it again, at the same place and without any data.
    /// `false` where that cannot be done.
    fn wipe(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Cuts the link: connections break, and none can be made. `false` where that
    /// cannot be done.
    fn cut(&self, _link: &'static str) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Mends it.
    fn mend(&self, _link: &'static str) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// How the checks went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    passed: Vec<&'static str>,
    skipped: Vec<&'static str>,
    failed: Vec<(&'static str, String)>,
}

impl Report {
    /// The checks that passed.
    #[must_use]
    pub fn passed(&self) -> &[&'static str] {
        &self.passed
    }

    /// The checks that need what the cluster cannot do.
    #[must_use]
    pub fn skipped(&self) -> &[&'static str] {
        &self.skipped
    }

    /// The checks that failed, and why.
    #[must_use]
    pub fn failed(&self) -> &[(&'static str, String)] {
        &self.failed
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, skipped) = (self.passed.len(), self.skipped.len());
        write!(
            f,
            "{passed} passed, {skipped} skipped, {} failed",
            self.failed.len()
        )?;
        for (name, why) in &self.failed {
            write!(f, "\n{name}: {why}")?;
        }
        Ok(())
    }
}

/// What a check came to: `Ok(false)` where the cluster cannot do what it needs.
type Outcome = Result<bool, String>;

/// Fails the check that it stands in.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+));
        }
    };
}
use ensure;

/// Runs all checks, one after the other, in real time: a minute or so where the server
/// is broken on the way. Topics have names of their own, so the server may have others.
pub async fn run<C: Cluster>(cluster: &C) -> Report {
    let nodes = &Nodes::new(cluster);
    let mut report = Report::default();
    macro_rules! check {
        ($($module:ident::$name:ident),+ $(,)?) => {$(
            let name = stringify!($name);
            tracing::debug!(name, "conformance");
            match Box::pin($module::$name(nodes)).await {
                Ok(true) => report.passed.push(name),
                Ok(false) => report.skipped.push(name),
                Err(why) => report.failed.push((name, why)),
            }
        )+};
    }
    check!(
        checks::order_and_numbers,
        checks::replay,
        checks::last,
        checks::expired,
        checks::unknown,
        checks::retention_by_count,
        checks::retention_by_bytes,
        checks::payloads,
        checks::two_nodes_one_order,
        checks::resume_at_another_node,
        checks::seen_elsewhere,
        checks::resume_while_publishing,
        checks::leave_and_come_back,
        checks::many_topics,
        faults::restart,
        faults::wipe,
        faults::trimmed_while_cut,
        faults::publish_while_cut,
    );
    report
}
