//! The binary as a child process, which never outlives its test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ledger::Ledger;
use crate::wait::wait_until;

/// `adflux` with nothing set but what the test says.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adflux"));
    for (name, _) in std::env::vars() {
        let is_ours = ["ADFLUX_", "KAFKA_", "OTEL_", "RUST_", "TRACE"];
        if is_ours.iter().any(|ours| name.starts_with(ours)) || name == "REDIS_URL" {
            command.env_remove(name);
        }
    }
    command
}

/// Lines of a pipe, gathered by a thread as they come.
struct Lines {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Lines {
        let text = Arc::new(Mutex::new(String::new()));
        let gathered = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let mut text = gathered.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Lines {
            text,
            thread: Some(thread),
        }
    }

    fn so_far(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All there is, once the process has ended.
    fn all(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reading thread does not panic");
        }
        self.so_far()
    }
}

/// A running process.
pub struct Process {
    child: Child,
    what: String,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        Process::fed(command, Stdio::null())
    }

    /// The same with something to read on its standard input.
    pub fn fed(command: &mut Command, input: impl Into<Stdio>) -> Process {
        let what = command
            .get_args()
            .next()
            .map_or_else(String::new, |a| a.to_string_lossy().into_owned());
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = Lines::of(child.stdout.take().expect("piped"));
        let stderr = Lines::of(child.stderr.take().expect("piped"));
        Process {
            child,
            what,
            stdout,
            stderr,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid is an i32");
        kill(Pid::from_raw(pid), signal).expect("the process is there");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.stderr.so_far()
    }

    /// Waits until its log has `text` in it, and fails if it ends before.
    pub fn wait_for_log(&mut self, text: &str) {
        let Process {
            child,
            what,
            stderr,
            ..
        } = self;
        wait_until(&format!("{what} logs '{text}'"), || {
            let ended = child.try_wait().expect("its state can be asked for");
            // What it said last may still have been on its way.
            let ended = ended.filter(|_| !stderr.all().contains(text));
            assert!(ended.is_none(), "{what} never logged '{text}' ({ended:?})");
            stderr.so_far().contains(text)
        });
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let mut status = None;
        wait_until(&format!("the end of {}", self.what), || {
            status = self.child.try_wait().expect("its state can be asked for");
            status.is_some()
        });
        let ended = Ended {
            status: status.expect("it has ended"),
            stdout: self.stdout.all(),
            log: self.stderr.all(),
        };
        assert!(!ended.log.contains("panicked"), "{} panicked", self.what);
        ended
    }

    /// Waits for the end of `simulate`, and reads what it has sent.
    pub fn ledger(self) -> Ledger {
        Ledger::parse(&self.end().success().stdout)
    }

    /// Ends `simulate`, and reads what it has sent.
    pub fn stop_sending(self) -> Ledger {
        Ledger::parse(&self.terminate().success().stdout)
    }

    /// Ends it as an operator does.
    pub fn terminate(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.end()
    }

    /// Ends it as a power cut does.
    pub fn kill(self) -> Ended {
        self.signal(Signal::SIGKILL);
        self.end()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Frozen or not. An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.stderr.all();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(40)..].join("\n");
            let pid = self.child.id();
            eprintln!("--- the last that {} ({pid}) logged:\n{last}", self.what);
        }
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub log: String,
}

impl Ended {
    /// Fails unless it exited with 0.
    pub fn success(self) -> Ended {
        assert!(self.status.success(), "{}:\n{}", self.status, self.log);
        self
    }

    /// Fails unless it exited with `code`.
    pub fn code(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{}", self.log);
        self
    }

    /// Fails unless its log says so.
    pub fn says(self, text: &str) -> Ended {
        assert!(
            self.log.contains(text),
            "it did not say '{text}':\n{}",
            self.log
        );
        self
    }
}
