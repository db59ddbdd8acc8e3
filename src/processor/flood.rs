//! The brake: a few bad records are dead letters, a flood of them is an outage.
//!
//! A wrong schema or a wrong topic would otherwise drain the whole log into `dead_letters` at full
//! speed, and the pipeline would look busy while it counts nothing.

/// How many of the last records are looked at.
pub const WINDOW: usize = 10_000;

/// Watches the share of bad records among the last [`WINDOW`].
pub struct Flood {
    limit: f64,
    /// Whether each of the last records was bad, as a ring.
    bad: Vec<bool>,
    next: usize,
    count: usize,
}

impl Flood {
    /// `limit` is the share, 0 to 1, above which [`Flood::record`] raises the alarm; 1 never does.
    pub fn new(limit: f64) -> Flood {
        Flood {
            limit,
            bad: Vec::with_capacity(WINDOW),
            next: 0,
            count: 0,
        }
    }

    /// Notes a record. `true` if the window is full and too much of it is bad.
    pub fn record(&mut self, bad: bool) -> bool {
        match self.bad.get_mut(self.next) {
            Some(oldest) => {
                self.count -= usize::from(*oldest);
                *oldest = bad;
            }
            None => self.bad.push(bad),
        }
        self.count += usize::from(bad);
        self.next = (self.next + 1) % WINDOW;
        bad && self.bad.len() == WINDOW && self.share() > self.limit
    }

    /// The share of bad records in the window.
    pub fn share(&self) -> f64 {
        self.count as f64 / self.bad.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_not_a_flood() {
        let mut flood = Flood::new(0.5);
        assert!((0..3 * WINDOW).all(|i| !flood.record(i % 2 == 0)));
        assert_eq!(flood.share(), 0.5);
        assert!(
            flood.record(true) || flood.record(true),
            "one above the limit"
        );
    }

    #[test]
    fn needs_a_full_window_and_forgets_what_left_it() {
        let mut flood = Flood::new(0.5);
        assert!((0..WINDOW - 1).all(|_| !flood.record(true)));
        assert!(flood.record(true));
        for _ in 0..WINDOW {
            flood.record(false);
        }
        assert_eq!(flood.share(), 0.0);
        assert!(!flood.record(true));
    }

    #[test]
    fn a_limit_of_one_never_stops() {
        let mut flood = Flood::new(1.0);
        assert!((0..2 * WINDOW).all(|_| !flood.record(true)));
    }
}
