//! What browsers must obey: the session cookie, and the rule that only our own pages change anything.
//!
//! Both follow from the public URL, which is configuration: nothing here believes a `Host` header.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ipnet::IpNet;
use url::{Host, Url};

use crate::random;
use crate::sensitive::Sensitive;
use crate::store::session::ABSOLUTE;

/// Why the public URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableUrl {
    /// Neither http nor https, or with more than an origin.
    #[error("server.public_url must be an http or https address without path, e.g. https://lockgate.example.com")]
    NoOrigin,
    /// Sessions would travel in the clear.
    #[error(
        "the console would be served over plain http at {0}, where others on the way can read sessions; \
         put TLS in front and set server.public_url to its https address, listen on 127.0.0.1, \
         or accept the risk with server.allow_insecure"
    )]
    Insecure(String),
}

/// Where browsers reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    origin: String,
    https: bool,
    proxies: Vec<IpNet>,
}

/// Where a request comes from, as far as the browser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// One of our own pages.
    Own,
    /// Somebody else's page.
    Foreign,
    /// No browser, or one that does not say.
    Unsaid,
}

impl Site {
    /// Refuses plain http beyond this machine unless `allow_insecure`.
    pub fn new(public_url: &Url, allow_insecure: bool) -> Result<Self, UnusableUrl> {
        let https = match public_url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(UnusableUrl::NoOrigin),
        };
        if !matches!(public_url.path(), "" | "/") || public_url.query().is_some() || !public_url.username().is_empty() {
            return Err(UnusableUrl::NoOrigin);
        }
        let loopback = match public_url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(UnusableUrl::NoOrigin),
        };
        let origin = public_url.origin().ascii_serialization();
        if !https && !loopback && !allow_insecure {
            return Err(UnusableUrl::Insecure(origin));
        }
        Ok(Self { origin, https, proxies: Vec::new() })
    }

    /// Believes what these proxies say about whom they speak for.
    #[must_use]
    pub fn behind(self, proxies: Vec<IpNet>) -> Self {
        Self { proxies, ..self }
    }

    /// Who asks: the other end of the connection, or whom the trusted proxies there speak for. Read from the right: what
    /// stands further left than the first stranger was written by that stranger.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: IpAddr| self.proxies.iter().any(|network| network.contains(&address.to_canonical()));
        if !trusted(peer) {
            return peer;
        }
        let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
        let mut client = peer;
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Ok(address) = hop.trim().parse() else { break };
            client = address;
            if !trusted(address) {
                break;
            }
        }
        client
    }

    /// Scheme, host and port, without a slash at the end.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether browsers reach us over https.
    pub const fn https(&self) -> bool {
        self.https
    }

    /// The `__Host-` prefix makes browsers refuse the cookie from anyone but this very host, over https.
    const fn cookie_name(&self) -> &'static str {
        if self.https { "__Host-lockgate" } else { "lockgate" }
    }

    /// A new session's secret, and the header that gives it to the browser.
    pub fn new_cookie(&self) -> (Sensitive, HeaderValue) {
        let value = Sensitive::new(BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<32>()));
        let header = self.cookie(value.expose(), ABSOLUTE.whole_seconds());
        (value, header)
    }

    /// The header that takes the cookie away.
    pub fn no_cookie(&self) -> HeaderValue {
        self.cookie("", 0)
    }

    fn cookie(&self, value: &str, seconds: i64) -> HeaderValue {
        let secure = if self.https { "; Secure" } else { "" };
        let name = self.cookie_name();
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        let mut header = HeaderValue::try_from(text).expect("base64 and constants are ASCII");
        header.set_sensitive(true);
        header
    }

    /// The session's secret as the browser sent it; none if it sent two (one of them is somebody else's).
    pub fn read_cookie(&self, headers: &HeaderMap) -> Option<Sensitive> {
        let mut found = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, value)| *name == self.cookie_name() && !value.is_empty());
        let (_, value) = found.next()?;
        if found.next().is_some() { None } else { Some(Sensitive::new(value.to_owned())) }
    }

    /// Reads `Sec-Fetch-Site`, and `Origin` where a browser sends no such header.
    pub fn provenance(&self, headers: &HeaderMap) -> Provenance {
        let mut fetch = headers.get_all("sec-fetch-site").iter();
        if let Some(first) = fetch.next() {
            let own = first == "same-origin" && fetch.next().is_none();
            return if own { Provenance::Own } else { Provenance::Foreign };
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match origins.next() {
            None => Provenance::Unsaid,
            Some(origin) if origin.as_bytes() == self.origin.as_bytes() && origins.next().is_none() => Provenance::Own,
            Some(_) => Provenance::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(url: &str) -> Site {
        Site::new(&url.parse().unwrap(), false).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_cookie_is_bound_to_the_host_on_https_and_plain_on_loopback() {
        let (_, cookie) = site("https://lockgate.example.com").new_cookie();
        let cookie = cookie.to_str().unwrap().to_owned();
        assert!(cookie.starts_with("__Host-lockgate="), "{cookie}");
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200; Secure"), "{cookie}");
        let (secret, cookie) = site("http://127.0.0.1:9080").new_cookie();
        assert_eq!(
            cookie.to_str().unwrap(),
            format!("lockgate={}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200", secret.expose())
        );
        assert_eq!(secret.expose().len(), 43);
        assert_eq!(format!("{cookie:?}"), "Sensitive");
    }

    #[test]
    fn plain_http_beyond_this_machine_is_refused_unless_allowed() {
        for fine in ["http://127.0.0.1:9080", "http://localhost:1", "http://[::1]:9080", "https://lockgate.example.com"]
        {
            assert!(Site::new(&fine.parse().unwrap(), false).is_ok(), "{fine}");
        }
        for plain in ["http://lockgate.example.com", "http://0.0.0.0:9080", "http://10.0.0.7:9080"] {
            let error = Site::new(&plain.parse().unwrap(), false).unwrap_err();
            assert!(error.to_string().contains("server.allow_insecure"), "{error}");
            assert!(Site::new(&plain.parse().unwrap(), true).is_ok());
        }
        for wrong in ["ftp://localhost", "https://lockgate.example.com/console", "https://user@lockgate.example.com"] {
            assert_eq!(Site::new(&wrong.parse().unwrap(), true), Err(UnusableUrl::NoOrigin), "{wrong}");
        }
    }

    #[test]
    fn the_cookie_is_read_from_among_others_and_two_are_none() {
        let site = site("http://127.0.0.1:9080");
        let read = |pairs| site.read_cookie(&headers(pairs)).map(|value| value.expose().to_owned());
        assert_eq!(read(&[("cookie", "a=b; lockgate=x; c=d")]), Some("x".to_owned()));
        assert_eq!(read(&[("cookie", "lockgate=x; lockgate=y")]), None);
        assert_eq!(read(&[("cookie", "lockgate=x"), ("cookie", "lockgate=y")]), None);
        assert_eq!(read(&[("cookie", "__Host-lockgate=x")]), None);
    }

    #[test]
    fn only_trusted_proxies_say_whom_they_speak_for() {
        let site = site("https://lockgate.example.com").behind(vec!["10.0.0.0/8".parse().unwrap()]);
        let client = |peer: &str, forwarded: &[(&'static str, &'static str)]| {
            site.client(peer.parse().unwrap(), &headers(forwarded)).to_string()
        };
        let name = "x-forwarded-for";
        assert_eq!(client("10.0.0.1", &[(name, "6.6.6.6, 192.0.2.7, 10.0.0.2")]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &[(name, "192.0.2.7"), (name, "10.0.0.2")]), "192.0.2.7");
        assert_eq!(client("192.0.2.9", &[(name, "6.6.6.6")]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[(name, "6.6.6.6, nonsense, 10.0.0.2")]), "10.0.0.2");
    }

    #[test]
    fn only_our_own_pages_are_our_own() {
        let site = site("https://lockgate.example.com");
        let of = |pairs| site.provenance(&headers(pairs));
        assert_eq!(of(&[("sec-fetch-site", "same-origin")]), Provenance::Own);
        for foreign in ["same-site", "cross-site", "none", ""] {
            assert_eq!(site.provenance(&headers(&[("origin", "https://lockgate.example.com")])), Provenance::Own);
            let mut both = headers(&[("origin", "https://lockgate.example.com")]);
            both.insert("sec-fetch-site", HeaderValue::from_static(foreign));
            assert_eq!(site.provenance(&both), Provenance::Foreign, "{foreign}");
        }
        assert_eq!(of(&[("origin", "http://lockgate.example.com")]), Provenance::Foreign);
        assert_eq!(of(&[("origin", "null")]), Provenance::Foreign);
        assert_eq!(of(&[]), Provenance::Unsaid);
        assert_eq!(of(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]), Provenance::Foreign);
    }
}
