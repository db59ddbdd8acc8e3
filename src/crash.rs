//! Named points at which the fault laboratory (`make chaos`) ends or freezes this process.
//!
//! Only with the feature `crash-points`; without it [`point`] is empty and inlined away. With it,
//! `ADFLUX_CRASH_POINT=kill:before-commit:3` has the process end itself as `kill -9` does when it
//! comes to that point for the third time; `stop` in place of `kill` freezes it until SIGCONT.

/// The points, in the order in which a batch passes them.
pub const POINTS: [&str; 22] = [
    "on-assign",
    "before-begin",
    "after-begin",
    "before-position",
    "after-position",
    "before-blocks",
    "after-blocks",
    "before-sums",
    "after-sums",
    "before-commit",
    "after-commit",
    "before-kafka-commit",
    "after-kafka-commit",
    "on-revoke",
    "before-notice",
    "after-notice",
    // Beside it, sums are carried.
    "before-carry",
    "after-carry-chunks",
    "after-carry-directory",
    "before-carry-entered",
    "before-carry-commit",
    "after-carry",
];

/// Passes the point called `name`, one of [`POINTS`].
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Passes the point called `name`, one of [`POINTS`].
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    struct Armed {
        signal: Signal,
        name: String,
        passages_left: AtomicU64,
    }
    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("ADFLUX_CRASH_POINT").ok()?;
        let mut parts = text.split(':');
        let signal = match parts.next() {
            Some("kill") => Signal::SIGKILL,
            Some("stop") => Signal::SIGSTOP,
            _ => return refuse(&text),
        };
        let (Some(name), Some(Ok(nth))) = (parts.next(), parts.next().map(str::parse)) else {
            return refuse(&text);
        };
        if !POINTS.contains(&name) {
            return refuse(&text);
        }
        Some(Armed {
            signal,
            name: name.to_owned(),
            passages_left: AtomicU64::new(nth),
        })
    });
    fn refuse(text: &str) -> Option<Armed> {
        log::error!(
            "ADFLUX_CRASH_POINT={text} is not kill|stop:POINT:N with a point of {POINTS:?}"
        );
        None
    }
    if let Some(armed) = &*ARMED
        && armed.name == name
        && armed.passages_left.fetch_sub(1, Ordering::SeqCst) == 1
        && let Err(error) = kill(Pid::this(), armed.signal)
    {
        log::error!("cannot end at {name}: {error}");
    }
}
