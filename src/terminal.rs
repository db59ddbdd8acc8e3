//! What a person sees in a terminal: nothing that came from outside moves the cursor, changes colours, forges a line of the
//! log, or turns the direction of what stands beside it (Unicode Standard Annex 9, "Explicit Formatting Characters").

use std::borrow::Cow;
use std::io::{self, StdoutLock, Write};

use log::Level;

/// Whether it does more in a terminal than show itself.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Whether all of a text shows itself and does nothing else.
pub fn is_plain(text: &str) -> bool {
    !text.contains(acts)
}

/// The text with escapes, such as `\u{1b}`, for what does more than show itself. Lines end where they did.
fn escaped(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c != '\n' && acts(c);
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Standard output, to people.
pub fn out() -> Terminal<StdoutLock<'static>> {
    Terminal(io::stdout().lock())
}

/// Writes text to people.
pub struct Terminal<W: Write>(W);

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(escaped(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Begins to log to standard error, as RUST_LOG says, or from `default` up.
pub fn start_log(default: Level) {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default.as_str()))
        .format(|out, record| {
            let level = record.level();
            let style = out.default_level_style(level);
            let message = record.args().to_string();
            // A message of several lines is one entry still.
            let message = escaped(message.trim_end()).replace('\n', "\n    ");
            let time = out.timestamp_millis();
            writeln!(out, "[{time} {style}{level:<5}{style:#}] {message}")
        })
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_more_than_show_itself_is_escaped() {
        for (text, shown) in [
            ("cmp-1 é ह\u{93f} 日本 🚀", "cmp-1 é ह\u{93f} 日本 🚀"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\rb\tc", "a\\rb\\tc"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("one\ntwo", "one\ntwo"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(escaped(text), shown);
            assert_eq!(is_plain(text), text == shown && !text.contains('\n'));
            let mut out = Terminal(Vec::new());
            write!(out, "{text}").expect("memory");
            assert_eq!(String::from_utf8_lossy(&out.0), shown);
        }
    }
}
