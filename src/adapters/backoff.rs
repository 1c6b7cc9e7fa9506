//! How long to wait before another try. Decides only; the caller sleeps.

use std::time::Duration;

/// Exponential backoff with full jitter, bounded in tries and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Tries in all, the first included.
    pub tries: u32,
    /// Upper end of the first wait; it doubles with each failure.
    pub base: Duration,
    /// Upper end of any wait that the other side did not ask for.
    pub cap: Duration,
    /// No wait ends later than this after the first try began.
    pub total: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            tries: 5,
            base: Duration::from_millis(250),
            cap: Duration::from_secs(20),
            total: Duration::from_secs(120),
        }
    }
}

impl Backoff {
    /// The wait after so many failures, or `None` if it is time to give up.
    ///
    /// `asked` is what the other side asked for; it is waited out in full (and a little more, so
    /// that many clients do not return at once) or, if that would take too long, not at all.
    /// `random` are 64 random bits.
    pub fn wait(
        &self,
        failures: u32,
        elapsed: Duration,
        asked: Option<Duration>,
        random: u64,
    ) -> Option<Duration> {
        if failures >= self.tries {
            return None;
        }
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let ceiling = self.base.saturating_mul(doubled).min(self.cap);
        let fraction = (random >> 11) as f64 / (1u64 << 53) as f64;
        let wait = match asked {
            Some(asked) => asked.saturating_add(self.base.mul_f64(fraction)),
            None => ceiling.mul_f64(fraction),
        };
        (elapsed.saturating_add(wait) <= self.total).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff::default();
        let longest = |failures| backoff.wait(failures, Duration::ZERO, None, u64::MAX);
        for (failures, millis) in [(1, 249), (2, 499), (3, 999), (4, 1999)] {
            let wait = longest(failures).expect("tries are left").as_millis();
            assert!((millis..=millis + 1).contains(&wait), "{failures}: {wait}");
        }
        assert_eq!(longest(5), None);
        let many = Backoff {
            tries: 100,
            ..backoff
        };
        assert!(many.wait(99, Duration::ZERO, None, u64::MAX).expect("left") <= backoff.cap);
        assert_eq!(
            many.wait(3, Duration::ZERO, None, 0),
            Some(Duration::ZERO),
            "full jitter starts at zero"
        );
    }

    #[test]
    fn what_the_other_side_asks_for_is_kept_or_given_up() {
        let backoff = Backoff::default();
        let wait = backoff.wait(1, Duration::ZERO, Some(30 * SECOND), 0);
        assert_eq!(wait, Some(30 * SECOND));
        assert_eq!(backoff.wait(1, 100 * SECOND, Some(30 * SECOND), 0), None);
        assert_eq!(
            backoff.wait(1, Duration::ZERO, Some(Duration::MAX), 1),
            None
        );
    }
}
