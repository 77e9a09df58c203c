//! One task per server asks it who it is and how it is; the [`Cluster`] holds what they and the clients found out.

mod ask;
mod catalog;
mod cluster;
mod inbox;
mod link;
mod listen;
mod options;
mod positions;
mod probe;
mod report;
mod said;
mod shown;
#[cfg(test)]
mod tests;
mod visit;

pub use catalog::{CatalogOptions, Catalogs, Live, Seen};
pub use cluster::Cluster;
pub use inbox::{Inbox, InboxLimits, Missed};
pub use link::LinkError;
pub use listen::{Hub, Hubs, Own, Ticket, Unheard};
pub use options::{Discover, Options};
pub use positions::{Positions, Reading};
pub use report::{Report, examine};
pub use said::Hearer;
pub use shown::Committing;
pub use visit::{Visit, ask_once, named, probe_once, read_once};
