//! How much memory a process has used.

/// The most that it has had resident, in MiB, as Linux tells it (`proc_pid_status(5)`).
pub fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes
        .expect("its peak")
        .trim()
        .parse()
        .expect("a number");
    kibibytes >> 10
}
