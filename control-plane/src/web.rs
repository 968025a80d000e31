//! The console's files, built into the binary from `web/dist`, and what a browser is told about them.
//!
//! Without a built console there is one page that says how to build it; the API needs no console. Knows paths and
//! headers, not who asks: the console is a client of the API and holds nothing secret.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

#[derive(rust_embed::Embed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Dist;

/// Scripts, styles and fonts of our own origin alone; no inline code, no frames, no plugins.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Files under here carry a hash in their name: what a name holds never changes.
const HASHED: &str = "assets/";
const INDEX: &str = "index.html";

const NOT_BUILT: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Lockgate</title>\n\
     <h1>The console is not built into this binary</h1>\n\
     <p>The API is here all the same, at <a href=\"/openapi.json\"><code>/api/v1</code></a>. To build the console \
     (needs Node 20), run <code>make console</code> and build the binary again; <code>make run</code> does both.</p>\n";

/// Where files come from: the binary, or a test.
trait Files {
    fn get(&self, path: &str) -> Option<Cow<'static, [u8]>>;
}

struct Embedded;

impl Files for Embedded {
    fn get(&self, path: &str) -> Option<Cow<'static, [u8]>> {
        Dist::get(path).map(|file| file.data)
    }
}

/// Whether a console was built into this binary.
pub fn is_built() -> bool {
    Dist::get(INDEX).is_some()
}

/// The answer to `GET` of a path that is none of the API's. Paths without a file are the console's own routes.
pub fn serve(path: &str, request: &HeaderMap) -> Response<Bytes> {
    respond(&Embedded, path, request)
}

fn respond(files: &impl Files, path: &str, request: &HeaderMap) -> Response<Bytes> {
    let path = path.trim_start_matches('/');
    if let Some(response) = file(files, path, request) {
        return response;
    }
    // A hashed file that is gone is a page of an older version asking: an answer of another type would break it worse.
    if path.starts_with(HASHED) {
        return text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no such file");
    }
    file(files, INDEX, request).unwrap_or_else(|| text(StatusCode::OK, "text/html; charset=utf-8", NOT_BUILT))
}

fn file(files: &impl Files, path: &str, request: &HeaderMap) -> Option<Response<Bytes>> {
    if path.is_empty() || matches!(ending(path), "br" | "gz") {
        return None;
    }
    let plain = files.get(path)?;
    let accepted = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let packed = [("br", ".br"), ("gzip", ".gz")]
        .into_iter()
        .filter(|(name, _)| accepts(accepted, name))
        .find_map(|(name, ending)| Some((name, files.get(&format!("{path}{ending}"))?)));
    let (encoding, data) = match packed {
        Some((name, data)) => (Some(name), data),
        None => (None, plain),
    };
    let data = match data {
        Cow::Borrowed(data) => Bytes::from_static(data),
        Cow::Owned(data) => Bytes::from(data),
    };
    let mut response = Response::new(data);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    let caching = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    Some(response)
}

/// Whether `name` stands in an `Accept-Encoding`, and not with weight nought.
fn accepts(accepted: &str, name: &str) -> bool {
    accepted.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let refused = |weight: &str| {
            weight.strip_prefix("q=").is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        };
        parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case(name)) && !parts.any(refused)
    })
}

fn text(status: StatusCode, kind: &'static str, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

fn content_type(path: &str) -> &'static str {
    match ending(path) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "webmanifest" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// What every answer carries, the API's too. `https`: whether browsers reach us that way.
pub fn secure(headers: &mut HeaderMap, https: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    if https {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Built;

    impl Files for Built {
        fn get(&self, path: &str) -> Option<Cow<'static, [u8]>> {
            let data: &[u8] = match path {
                "index.html" => b"<index>",
                "assets/app-1a2b.js" => b"plain",
                "assets/app-1a2b.js.br" => b"packed",
                "favicon.svg" => b"<svg>",
                _ => return None,
            };
            Some(Cow::Borrowed(data))
        }
    }

    struct Nothing;

    impl Files for Nothing {
        fn get(&self, _path: &str) -> Option<Cow<'static, [u8]>> {
            None
        }
    }

    fn get(path: &str) -> Response<Bytes> {
        respond(&Built, path, &HeaderMap::new())
    }

    #[test]
    fn hashed_files_are_kept_for_ever_and_missing_ones_are_404() {
        let response = get("/assets/app-1a2b.js");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(get("/assets/app-9z9z.js").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn every_other_path_is_the_console_itself_and_never_kept() {
        for path in ["/", "/providers/openai-prod", "/index.html"] {
            let response = get(path);
            assert_eq!(response.body(), "<index>", "{path}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        }
        assert_eq!(get("/favicon.svg").headers()[header::CONTENT_TYPE], "image/svg+xml");
    }

    #[test]
    fn a_packed_form_goes_to_whoever_accepts_it() {
        let with = |accepted| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            respond(&Built, "/assets/app-1a2b.js", &headers)
        };
        assert_eq!(with("gzip, br").body(), "packed");
        assert_eq!(with("gzip, br").headers()[header::CONTENT_ENCODING], "br");
        assert_eq!(with("br;q=0, gzip").body(), "plain");
        assert_eq!(get("/assets/app-1a2b.js").body(), "plain");
        assert_eq!(get("/assets/app-1a2b.js.br").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn without_a_console_a_page_says_how_to_build_it() {
        let response = respond(&Nothing, "/", &HeaderMap::new());
        assert!(std::str::from_utf8(response.body()).unwrap().contains("make console"));
    }

    #[test]
    fn nothing_inline_runs_and_nobody_frames_us() {
        assert!(!POLICY.contains("unsafe") && POLICY.contains("frame-ancestors 'none'"));
        assert!(!NOT_BUILT.contains("style=") && !NOT_BUILT.contains("<script"));
        let mut headers = HeaderMap::new();
        secure(&mut headers, false);
        assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        secure(&mut headers, true);
        assert!(headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
    }
}
