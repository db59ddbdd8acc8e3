//! The few commands of W3C WebDriver (<https://www.w3.org/TR/webdriver2/>) that the tests need, and
//! of chromedriver those that WebDriver lacks.
//!
//! The client libraries there are turn on features of crates that the product shares, the order of
//! serde_json's keys among them: what is tested would not be what is shipped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::wait::PATIENCE;

/// The key of an element's reference: "Elements" in the standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A session of a chromedriver of its own, gone with this value.
pub struct Driver {
    service: Child,
    runtime: Runtime,
    client: reqwest::Client,
    /// Where the session's commands go.
    session: String,
}

impl Driver {
    /// Starts Chromium without a window.
    pub fn start() -> Driver {
        // Numbers and days are written as in the United States, time is that of Berlin: whatever
        // the machine's own are.
        let mut service = Command::new("chromedriver")
            .args(["--port=0"])
            .env("TZ", "Europe/Berlin")
            .env("LANGUAGE", "en_US")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts: scripts/prerequisites test --install installs it");
        let mut lines = BufReader::new(service.stdout.take().expect("piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, port) = line.split_once("started successfully on port ")?;
                Some(port.trim_end_matches('.').to_owned())
            })
            .expect("chromedriver says its port");
        // Read on, so that it is never held up by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let patience = u64::try_from(PATIENCE.as_millis()).expect("milliseconds");
        let mut driver = Driver {
            service,
            runtime: Runtime::new().expect("a runtime"),
            client: reqwest::Client::new(),
            session: format!("http://127.0.0.1:{port}/session"),
        };
        let started = driver.post(
            "",
            &json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "timeouts": {"script": patience, "pageLoad": patience},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                "goog:chromeOptions": {"args": [
                    "--headless=new",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--hide-scrollbars",
                    "--lang=en-US",
                ]},
            }}}),
        );
        let id = started["sessionId"].as_str().expect("a session");
        driver.session = format!("{}/{id}", driver.session);
        driver
    }

    /// Sends a command and returns its value, or what went wrong.
    fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, String> {
        let answer = self.runtime.block_on(async {
            let response = request.timeout(PATIENCE + Duration::from_secs(30));
            let response = response.send().await.map_err(|e| e.to_string())?;
            response.json::<Value>().await.map_err(|e| e.to_string())
        })?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    fn post(&self, command: &str, parameters: &Value) -> Value {
        let url = format!("{}{command}", self.session);
        self.send(self.client.post(url).json(parameters))
            .unwrap_or_else(|e| panic!("{command} {parameters}: {e}"))
    }

    /// Goes to a URL and waits until it is loaded.
    pub fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// What the body of a function returns.
    pub fn execute(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// What the body of a function hands to its last argument.
    pub fn execute_async(&self, body: &str) -> Value {
        self.post("/execute/async", &json!({"script": body, "args": []}))
    }

    /// The path of the first element that a selector finds.
    fn element(&self, selector: &str) -> String {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.post("/element", &by);
        format!("/element/{}", found[ELEMENT].as_str().expect("an element"))
    }

    /// Clicks in the middle of an element, which fails where another one lies over it.
    pub fn click(&self, selector: &str) {
        self.post(&format!("{}/click", self.element(selector)), &json!({}));
    }

    /// Types into an element.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("{element}/value"), &json!({"text": text}));
    }

    /// Presses a key, wherever the focus is.
    pub fn press(&self, key: char) {
        let strokes = [
            json!({"type": "keyDown", "value": key}),
            json!({"type": "keyUp", "value": key}),
        ];
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.post("/actions", &json!({"actions": [keyboard]}));
    }

    /// Goes back, as with the browser's button.
    pub fn back(&self) {
        self.post("/back", &json!({}));
    }

    /// A command of Chromium's own protocol (<https://chromedevtools.github.io/devtools-protocol/>).
    pub fn tell(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", &body)
    }

    /// A picture of what the window shows, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let url = format!("{}/screenshot", self.session);
        let taken = self.send(self.client.get(url)).expect("a picture");
        let text = taken.as_str().expect("text");
        BASE64_STANDARD.decode(text).expect("base64")
    }

    /// What was logged since this was asked last.
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({"type": kind}));
        entries.as_array().expect("entries").clone()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Chromium ends with its session; where that fails, chromedriver's end takes it along.
        let _ = self.send(self.client.delete(&self.session));
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}
