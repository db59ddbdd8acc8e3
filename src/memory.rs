//! How much memory this process may use, and the sizes that are cut from it.

use std::path::{Path, PathBuf};

/// Below this, nothing works well; taken for granted.
const LEAST: u64 = 128 << 20;

/// The memory that this process may use, in bytes: the smallest limit of its control groups (version 1 or 2), or what
/// the machine has. Where the system does not say, as outside of Linux, 1 GiB.
pub fn allowed() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = limit_files(&groups)
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let machine = total(&machine).unwrap_or(1 << 30);
    limits.fold(machine, u64::min).max(LEAST)
}

/// The files that hold the limits of the groups in `/proc/self/cgroup`, and of those above them: of a container, the
/// path may be one that only its host sees.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        // hierarchy:controllers:path; version 2 is 0 and names no controllers.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(
            path.ancestors()
                .map(|group| Path::new(root).join(group).join(file)),
        );
    }
    files
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Parses a size: 512MB, 1.5GiB, or a number of bytes. Units are of 1,024.
///
/// # Errors
/// A message for the user.
pub fn size(text: &str) -> Result<u64, String> {
    let size = bytes(text).filter(|size| *size >= LEAST);
    size.ok_or_else(|| format!("'{text}' is not a size such as 512MB or 2GB, of 128MB at least"))
}

/// A number of bytes: 512MB, 1.5 GiB, 4096; none of anything else.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text
        .trim()
        .trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.trim().strip_prefix(digits).unwrap_or_default();
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1_024.0,
        "m" | "mb" | "mib" => 1_048_576.0,
        "g" | "gb" | "gib" => 1_073_741_824.0,
        _ => return None,
    };
    let number: f64 = digits.trim().parse().ok()?;
    let bytes = number * scale;
    (0.0..1e15).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512MB"), Ok(512 << 20));
        assert_eq!(size("1.5 GiB"), Ok(1536 << 20));
        assert_eq!(size("268435456"), Ok(256 << 20));
        for bad in ["", "1MB", "-5GB", "NaN", "infGB", "5 potatoes", "1e300GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_those_of_the_group_and_of_all_above_it() {
        let of = |groups: &str| -> Vec<String> {
            let files = limit_files(groups).into_iter();
            files.map(|file| file.display().to_string()).collect()
        };
        assert_eq!(
            of("0::/a/b\n"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            of("5:cpu:/x\n4:hugetlb,memory:/d\n"),
            [
                "/sys/fs/cgroup/memory/d/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert!(of("nonsense").is_empty());
    }

    #[test]
    fn what_the_machine_has() {
        assert_eq!(
            total("MemTotal:       2048 kB\nMemFree: 1 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn this_process_may_use_some() {
        assert!(allowed() >= LEAST);
    }
}
