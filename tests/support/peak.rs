//! How much memory a process has used.

use std::process::Child;
use std::time::Duration;

/// The most that it has had resident, in MiB, as Linux tells it (`proc_pid_status(5)`).
pub fn peak(pid: u32) -> u64 {
    seen(pid).expect("it runs")
}

/// The same of a child that is waited for, as it was last seen before its end.
pub fn peak_until_end(child: &mut Child) -> u64 {
    let mut most = 0;
    while child.try_wait().expect("ours").is_none() {
        most = most.max(seen(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    }
    most
}

/// None of one that has ended.
fn seen(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes >> 10)
}
