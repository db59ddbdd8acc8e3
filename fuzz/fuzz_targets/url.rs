//! Any text as a URL, in every place that takes one; and as what stands around a password, which is never shown.
#![no_main]

use adflux::alerts::file;
use adflux::api::{HostName, Origin, PublicUrl};
use adflux::{kafka, store};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "correct-horse-battery";

fuzz_target!(|text: &str| {
    if text.contains(PASSWORD) {
        return;
    }
    let _ = store::check_url(text);
    let _ = file::check_url(text);
    let _ = (text.parse::<PublicUrl>(), text.parse::<Origin>(), text.parse::<HostName>());
    // Its three parts: a user, what the password goes on with, where the database is.
    let mut parts = text.splitn(3, '\n');
    let (user, more, place) = (parts.next(), parts.next(), parts.next());
    let (user, more, place) = (user.unwrap_or_default(), more.unwrap_or_default(), place.unwrap_or_default());
    for url in [
        text.to_owned(),
        format!("postgres://{user}:{PASSWORD}{more}@{place}"),
        format!("redis://:{PASSWORD}{more}@{place}"),
        format!("{text}?password={PASSWORD}"),
        format!("postgres://{place}?user={user}&password={PASSWORD}{more}"),
    ] {
        let shown = store::redact(&url);
        assert!(!shown.contains(PASSWORD), "{url:?} is shown as {shown:?}");
        if let Err(said) = store::check_url(&url) {
            assert!(!format!("{said:?}").contains(PASSWORD), "of {url:?} is said {said:?}");
        }
    }
    let property = format!("sasl.password={PASSWORD}{text}");
    if let Err(said) = kafka::parse_properties(&property) {
        assert!(!said.contains(PASSWORD), "of {property:?} is said {said:?}");
    }
});
