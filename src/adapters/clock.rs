//! The real clock and real dice.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::Timestamp;
use crate::ports::clock::Clock;

/// This machine's wall clock and a random number generator seeded per process. Its numbers serve
/// ids and jitter; they are no key material.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            // A clock set before 1970 still has to tell some time.
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |m| -m),
        };
        Timestamp(millis)
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_milliseconds_and_goes_on() {
        let first = SystemClock.now();
        assert!(first.rfc3339().starts_with("20"), "{first}");
        assert!(SystemClock.now() >= first);
    }

    #[test]
    fn dice_do_not_repeat_themselves() {
        let rolls: std::collections::HashSet<u64> = (0..64).map(|_| SystemClock.random()).collect();
        assert_eq!(rolls.len(), 64);
    }
}
