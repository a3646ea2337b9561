//! How long the machine has been in suspend.

use std::time::Duration;

/// The time that the machine has spent in suspend since the first call: by how much the clock that counts
/// suspend has run ahead of the one that does not.
#[cfg(all(feature = "suspend", any(target_os = "linux", target_os = "android")))]
pub(super) fn asleep() -> Duration {
    use std::sync::OnceLock;

    use super::Clock;

    static FIRST: OnceLock<(boot_time::Instant, crate::time::Instant)> = OnceLock::new();
    // The clocks are always read in this order, so that a delay between the two makes the sleep of this call
    // look shorter, and never longer.
    let now = (boot_time::Instant::now(), Clock::system().now());
    let first = FIRST.get_or_init(|| now);
    let with_suspend = now.0.saturating_duration_since(first.0);
    with_suspend.saturating_sub(now.1.saturating_duration_since(first.1))
}

#[cfg(not(all(feature = "suspend", any(target_os = "linux", target_os = "android"))))]
#[inline]
pub(super) const fn asleep() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_awake_adds_nothing_to_its_sleep() {
        let before = asleep();
        let after = asleep();
        assert!(after.saturating_sub(before) < Duration::from_secs(1));
    }
}
