//! What the stream of a reader becomes: pongs are taken out of it, and pings are looked at.

mod filter_pongs;
mod inspect_pings;

pub use self::filter_pongs::FilterPongs;
pub use self::inspect_pings::InspectPings;
