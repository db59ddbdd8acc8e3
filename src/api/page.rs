//! The dashboard at `/`: the files of `web/`, as they are, in the binary.
//!
//! There is no build step. All files but the page itself live under one folder that is named for
//! their content, so they can be kept for ever, modules find each other by relative paths, and a
//! page never mixes the files of two versions.

use std::sync::LazyLock;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use warp::http::{HeaderName, HeaderValue, header};
use warp::reply::Response;

use super::endpoint::{Caching, Content, Endpoint, Handler};
use super::limits::Cost;
use super::parameters::{Parameter, ParameterType};
use super::problem::Problem;
use data_encoding::HEXLOWER;

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../web/", $name)))),*]
    };
}

static INDEX_HTML: &str = include_str!("../../web/index.html");
static FILES: &[(&str, &[u8])] = files!(
    "alerts.js" "api.js" "board.js" "campaign.js" "chart.js" "controls.js" "data.js" "dom.js" "figures.js"
    "letters.js" "live.js" "main.js" "metrics.js" "outside.js" "overview.js" "panel.js" "pipeline.js" "restatements.js" "state.js" "status.js"
    "then.js" "ticker.js" "time.js" "theme.js" "style.css" "icon.svg" "inter.woff2"
);

/// Loaded by the page before anything is drawn, so it is no module.
const NO_MODULE: &str = "theme.js";

/// Nothing from elsewhere, no inline script or style, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// No page of elsewhere keeps a hand on a window with one of ours.
pub(super) const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

const fn endpoint(path: &'static str, handler: Handler) -> Endpoint {
    Endpoint {
        is_strict: false,
        cost: Cost::Memory,
        scope: None,
        ..Endpoint::get(path, Content::Text("text/html"), handler)
    }
}

/// `GET /`: asked for anew each time, sent only if it changed.
pub(super) static INDEX: Endpoint = endpoint("/", Handler::Alone(|_| Ok(PAGE.index())));

static VERSION: Parameter = Parameter::path("version", ParameterType::Name, "The folder.");
static NAME: Parameter = Parameter::path("name", ParameterType::Name, "The file.");

/// `GET /assets/{version}/{name}`: kept for ever.
pub(super) static FILE: Endpoint = Endpoint {
    parameters: &[&[VERSION, NAME]],
    caching: Caching::Forever,
    ..endpoint(
        "/assets/{version}/{name}",
        Handler::Alone(|request| {
            let (version, name) = (
                request.arguments.in_path(&VERSION),
                request.arguments.in_path(&NAME),
            );
            PAGE.file(version, name).ok_or_else(Problem::not_found)
        }),
    )
};

/// The page, put together.
struct Page {
    /// Of all files: the name of their folder.
    version: String,
    index: Bytes,
}

impl Page {
    /// Puts the page together.
    fn new() -> Page {
        let mut hash = Sha256::new();
        for (name, bytes) in FILES {
            hash.update(name);
            hash.update(bytes);
        }
        let version = HEXLOWER.encode(hash.finalize().get(..8).unwrap_or_default());
        // Relative, as all links of the page: it may stand below a path of a proxy's.
        let folder = format!("assets/{version}");
        // Found at once, instead of one import after the other.
        let modules: Vec<String> = FILES
            .iter()
            .filter(|(name, _)| name.ends_with(".js") && *name != NO_MODULE)
            .map(|(name, _)| format!("<link rel=\"modulepreload\" href=\"{folder}/{name}\">"))
            .collect();
        let index = INDEX_HTML
            .replace("{{assets}}", &folder)
            .replace("{{modules}}", &modules.join("\n"));
        Page {
            version,
            index: index.into(),
        }
    }

    fn index(&self) -> Response {
        answer("index.html", self.index.clone())
    }

    fn file(&self, version: &str, name: &str) -> Option<Response> {
        let found = FILES.iter().find(|(file, _)| *file == name);
        let (name, bytes) = found.filter(|_| version == self.version)?;
        Some(answer(name, Bytes::from_static(bytes)))
    }
}

fn answer(name: &str, body: Bytes) -> Response {
    let kind = match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    };
    let mut response = Response::new(body.into());
    for (header, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(header, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/web");
        for entry in std::fs::read_dir(folder).expect("reads") {
            let name = entry.expect("reads").file_name();
            let name = name.to_str().expect("a name");
            let served = name == "index.html"
                || name.ends_with("LICENSE.txt")
                || FILES.iter().any(|(file, _)| *file == name);
            assert!(served, "web/{name} is not in the list of files");
        }
    }

    #[test]
    fn the_page_holds_nothing_inline_and_nothing_from_elsewhere() {
        let page = Page::new();
        let index = std::str::from_utf8(&page.index).expect("text");
        assert!(!index.contains("{{") && !index.contains("<style") && !index.contains("style="));
        assert!(!index.contains("<script>") && !index.contains("//") && !index.contains("=\"/"));
    }
}
