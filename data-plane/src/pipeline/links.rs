//! Absolute links in a vendor's head that the client is meant to follow (Gemini's resumable upload, say): they must
//! lead back through the Invoke URL, or the client would go to the vendor with its gateway key.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::runtime::endpoint::Endpoint;
use crate::runtime::provider::{Provider, Scheme};
use crate::runtime::settings::Settings;

const LINKS: [HeaderName; 5] = [
    HeaderName::from_static("x-goog-upload-url"),
    HeaderName::from_static("x-goog-upload-control-url"),
    HeaderName::from_static("location"),
    HeaderName::from_static("content-location"),
    HeaderName::from_static("operation-location"),
];

/// Rewrites links to the provider's own upstream. `authority`: what the client called; of several public base URLs the
/// one with this authority is used, else the first.
pub(super) fn lead_back(
    headers: &mut HeaderMap,
    settings: &Settings,
    authority: Option<&str>,
    endpoint: &Endpoint,
    provider: &Provider,
) {
    for name in LINKS {
        let rewritten = headers.get(&name).and_then(|link| {
            let rest = behind_upstream(link.to_str().ok()?, provider)?;
            let base = base_url(settings, authority)?;
            HeaderValue::try_from(format!("{base}{}{rest}", endpoint.context.as_str())).ok()
        });
        if let Some(rewritten) = rewritten {
            headers.insert(name, rewritten);
        }
    }
}

/// What follows the provider's upstream URL; `None`: the link leads elsewhere.
fn behind_upstream<'a>(link: &'a str, provider: &Provider) -> Option<&'a str> {
    let upstream = &provider.upstream;
    let scheme = match upstream.scheme {
        Scheme::Http => "http://",
        Scheme::Https => "https://",
    };
    let rest = link.strip_prefix(scheme)?.strip_prefix(upstream.authority.to_str().ok()?)?;
    // Some vendors write the default port out.
    let rest = [":443", ":80"].iter().find_map(|port| rest.strip_prefix(port)).unwrap_or(rest);
    let rest = rest.strip_prefix(&*upstream.prefix)?;
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

fn base_url<'a>(settings: &'a Settings, authority: Option<&str>) -> Option<&'a str> {
    let matches = |url: &&str| {
        let behind = url.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
        behind.is_some() && behind == authority
    };
    let mut urls = settings.base_urls.iter().map(|url| &**url);
    urls.clone().find(matches).or_else(|| urls.next())
}
