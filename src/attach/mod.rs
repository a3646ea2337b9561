//! Adapters for the stream of a reader: one takes out the pongs, and one looks at the pings.

mod filter_pongs;
mod inspect_pings;

pub use self::filter_pongs::FilterPongs;
pub use self::inspect_pings::InspectPings;
