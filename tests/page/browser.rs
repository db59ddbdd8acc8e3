//! What a person does with a browser, and what they see.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait::PATIENCE;
use crate::webdriver::Driver;

/// One browser at a time: several starve each other on a small machine.
static TURN: Mutex<()> = Mutex::new(());

/// Keys, as WebDriver writes them: "Keyboard actions" in the standard.
pub mod key {
    pub const TAB: char = '\u{e004}';
    pub const ENTER: char = '\u{e007}';
    pub const ESCAPE: char = '\u{e00c}';
    pub const END: char = '\u{e010}';
    pub const LEFT: char = '\u{e012}';
}

/// A browser window.
pub struct Browser {
    driver: Driver,
    origin: String,
    _turn: MutexGuard<'static, ()>,
}

impl Browser {
    /// Opens a window for the pages of `origin`.
    pub fn open(origin: &str) -> Browser {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let browser = Browser {
            driver: Driver::start(),
            origin: origin.to_owned(),
            _turn: turn,
        };
        browser.window(1440, 900);
        browser
    }

    /// Goes to an address of the site: `/?range=all`.
    pub fn visit(&self, address: &str) {
        self.driver.go(&format!("{}{address}", self.origin));
    }

    /// Goes to an address of the page, and waits for its numbers.
    pub fn visit_page(&self, address: &str) {
        self.visit(address);
        self.settled();
    }

    /// The value of an expression.
    pub fn value(&self, expression: &str) -> Value {
        self.driver.execute(&format!("return ({expression});"))
    }

    /// Runs a script that calls `done` with its result.
    pub fn run_async(&self, script: &str) -> Value {
        self.driver
            .execute_async(&format!("const done = arguments[0];\n{script}"))
    }

    /// The text of the element that a selector finds.
    pub fn text(&self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({selector:?})?.innerText"));
        text.as_str()
            .unwrap_or_else(|| panic!("nothing is {selector}"))
            .to_owned()
    }

    /// The texts of all elements that a selector finds.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let all = self.value(&format!(
            "[...document.querySelectorAll({selector:?})].map((e) => e.innerText)"
        ));
        serde_json::from_value(all).expect("texts")
    }

    /// Waits until an expression is true.
    pub fn until(&self, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != json!(true) {
            assert!(
                Instant::now() < deadline,
                "never happened: {what}\n{}",
                self.text("body")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the page shows the numbers of the question that it now asks.
    pub fn settled(&self) {
        self.until(
            "the page has loaded",
            "document.getElementById('content').ariaBusy === 'false' && \
             [...document.querySelectorAll('main [data-figures]')].every((p) => p.dataset.figures === 'current')",
        );
    }

    /// Clicks as a person does: on what is visible.
    pub fn click(&self, selector: &str) {
        // Not below the bar, which stays in its place.
        self.value(&format!(
            "document.querySelector({selector:?})?.scrollIntoView({{ block: 'center' }})"
        ));
        self.driver.click(selector);
    }

    /// Types into a field.
    pub fn type_into(&self, selector: &str, text: &str) {
        self.driver.type_into(selector, text);
    }

    /// Chooses an option of a select.
    pub fn choose(&self, selector: &str, value: &str) {
        self.driver
            .click(&format!("{selector} option[value='{value}']"));
    }

    /// Presses a key, wherever the focus is.
    pub fn press(&self, key: char) {
        self.driver.press(key);
    }

    /// Goes back, as with the browser's button, and waits for what is there.
    pub fn back(&self) {
        let address = self.value("location.href");
        self.driver.back();
        self.until(
            "another address is shown",
            &format!("location.href !== {address}"),
        );
        self.settled();
    }

    /// Chromium's own protocol.
    pub fn tell(&self, command: &str, parameters: Value) -> Value {
        self.driver.tell(command, parameters)
    }

    /// Makes the window this large.
    pub fn window(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", size);
    }

    /// Makes the system prefer: `prefers-color-scheme`, `dark`.
    pub fn prefer(&self, feature: &str, value: &str) {
        let media = json!({"features": [{"name": feature, "value": value}]});
        self.tell("Emulation.setEmulatedMedia", media);
    }

    /// Takes a picture of the whole page, and leaves the window as it was.
    pub fn shot(&self, name: &str) {
        self.shot_when(name, "true");
    }

    /// The same once an expression is true of the page in a window that shows all of it.
    pub fn shot_when(&self, name: &str, ready: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../page");
        std::fs::create_dir_all(&folder).expect("a folder for screenshots");
        let size = self.value("[innerWidth, innerHeight, document.documentElement.scrollHeight]");
        let size: [u32; 3] = serde_json::from_value(size).expect("sizes");
        self.window(size[0], size[2].max(size[1]));
        self.until("it is ready for a picture", ready);
        let taken = self.driver.picture();
        self.window(size[0], size[1]);
        std::fs::write(folder.join(format!("{name}.png")), taken).expect("a file");
    }

    /// Fails if anything was asked of another server, or the page complained. What the browser itself
    /// says of requests that fail is let pass where they are made to fail.
    pub fn end(self, failures_expected: bool) {
        let complaints: Vec<String> = self
            .driver
            .log("browser")
            .iter()
            .filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            // What the browser says when it was itself slow to lay out the page.
            .filter(|entry| {
                !entry["message"]
                    .to_string()
                    .contains("was preloaded using link preload")
            })
            .filter(|entry| !failures_expected || entry["source"] != "network")
            .map(|entry| entry["message"].to_string())
            .collect();
        assert!(complaints.is_empty(), "the page complains: {complaints:#?}");
        let mut asked = 0;
        for entry in self.driver.log("performance") {
            let text = entry["message"].as_str().expect("text");
            let entry: Value = serde_json::from_str(text).expect("JSON");
            if entry["message"]["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let url = &entry["message"]["params"]["request"]["url"];
            let url = url.as_str().expect("a URL");
            let own = url.starts_with(&format!("{}/", self.origin));
            assert!(
                own || url.starts_with("data:"),
                "asked of another server: {url}"
            );
            asked += u32::from(own);
        }
        assert!(asked > 0, "no request was seen at all");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = std::thread::current().name().map(str::to_owned);
            let name = name.unwrap_or_default().replace("::", "-");
            // The browser itself may be what failed.
            let _ = catch_unwind(AssertUnwindSafe(|| self.shot(&format!("failed-{name}"))));
        }
    }
}
