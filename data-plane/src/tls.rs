//! TLS towards clients: which certificate a name gets, and how a new pair of files replaces the old one without a
//! connection noticing. A pair that cannot be used replaces nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config;

/// The protocols that are offered, the preferred one first.
pub(crate) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or not readable.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no certificate.
    #[error("{path} holds no certificate in PEM form")]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// What is in the file is not a certificate of a server.
    #[error("the certificate in {path} cannot be used")]
    BadCertificate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The time of the certificate is over, or has not begun.
    #[error("the certificate in {path} is not valid now")]
    NotValidNow {
        /// Which.
        path: PathBuf,
        /// Expired, or not yet.
        source: rustls::Error,
    },
    /// A file holds no private key, or one of an unknown kind.
    #[error("{path} holds no private key in PEM form that can be used")]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// Certificate and key do not belong together.
    #[error("the key in {key_file} is not that of the certificate in {certificate_file}")]
    Mismatch {
        /// The one.
        certificate_file: PathBuf,
        /// The other.
        key_file: PathBuf,
    },
}

/// The certificates of a listener.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    names: Arc<Current>,
    files: config::Tls,
}

impl Tls {
    /// `None`: no certificate is configured, so the listener speaks plain HTTP. A certificate whose time is over is served
    /// nevertheless: its clients decide, and the others need theirs.
    pub(crate) fn load(files: &config::Tls) -> Result<Option<Self>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut pairs = Vec::with_capacity(files.certificates.len());
        for pair in &files.certificates {
            let certified = read(pair, &provider)?;
            if let Err(error) = check_time(pair, &certified, &provider) {
                tracing::error!(error = &error as &dyn std::error::Error, "clients will refuse a certificate");
            }
            pairs.push(certified);
        }
        let Some(names) = Names::of(pairs) else { return Ok(None) };
        let names = Arc::new(Current(ArcSwap::from_pointee(names)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the versions that are compiled in")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&names) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), names, files: files.clone() }))
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    fn reload(&self) -> Result<(), TlsError> {
        let provider = ring::default_provider();
        let mut pairs = Vec::with_capacity(self.files.certificates.len());
        for pair in &self.files.certificates {
            let certified = read(pair, &provider)?;
            check_time(pair, &certified, &provider)?;
            pairs.push(certified);
        }
        if let Some(names) = Names::of(pairs) {
            self.names.0.store(Arc::new(names));
        }
        Ok(())
    }
}

/// Looks at the files every now and then, and at once on SIGHUP. New ones are read when they have not changed between two
/// looks: whoever writes them may not be done yet.
/// `tell` is told whether what was read is served.
pub(crate) async fn watch(tls: Arc<Tls>, tell: impl Fn(bool), stop: CancellationToken) {
    // Without the signal, looking is enough.
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut served = stamps(&tls.files).await;
    let mut last = served.clone();
    loop {
        let told = async {
            match &mut hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        let at_once = tokio::select! {
            () = sleep(tls.files.reload) => false,
            () = told => true,
            () = stop.cancelled() => return,
        };
        let now = stamps(&tls.files).await;
        if at_once || (now != served && now == last) {
            let reader = Arc::clone(&tls);
            match tokio::task::spawn_blocking(move || reader.reload()).await {
                Ok(Ok(())) => {
                    tell(true);
                    tracing::info!("new certificates are served");
                }
                Ok(Err(error)) => {
                    tell(false);
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "new certificates cannot be used; the old ones are served");
                }
                Err(_) => tracing::error!("reading certificates ended in a panic"),
            }
            // Good or bad, they are looked at again when they change.
            served.clone_from(&now);
        }
        last = now;
    }
}

/// What tells a file from its successor; `None`: it is not there.
type Stamp = Option<(u64, u64, Option<SystemTime>)>;

async fn stamps(files: &config::Tls) -> Vec<Stamp> {
    let mut stamps = Vec::with_capacity(2 * files.certificates.len());
    for pair in &files.certificates {
        for path in [&pair.certificate_file, &pair.key_file] {
            let metadata = tokio::fs::metadata(path).await.ok();
            stamps.push(metadata.map(|metadata| (metadata.ino(), metadata.len(), metadata.modified().ok())));
        }
    }
    stamps
}

fn read(pair: &config::Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let config::Certificate { certificate_file, key_file } = pair;
    let path = || certificate_file.clone();
    let pem = bytes(certificate_file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| TlsError::NoCertificate { path: path() })?;
    let bad = |source| TlsError::BadCertificate { path: path(), source };
    ParsedCertificate::try_from(&chain[0]).map_err(bad)?;
    let pem = bytes(key_file)?;
    let no_key = || TlsError::NoKey { path: key_file.clone() };
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    let key = provider.key_provider.load_private_key(key).map_err(|_| no_key())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(TlsError::Mismatch { certificate_file: path(), key_file: key_file.clone() })
        }
        // A key that does not tell is believed.
        _ => Ok(certified),
    }
}

fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read = fs::read(path).map(Zeroizing::new);
    read.map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn check_time(pair: &config::Certificate, certified: &CertifiedKey, provider: &CryptoProvider) -> Result<(), TlsError> {
    let path = || pair.certificate_file.clone();
    let bad = |source| TlsError::BadCertificate { path: path(), source };
    let certificate = ParsedCertificate::try_from(&certified.cert[0]).map_err(bad)?;
    // Nobody is trusted, so this always fails; the time is looked at first.
    let verified = verify_server_cert_signed_by_trust_anchor(
        &certificate,
        &RootCertStore::empty(),
        &[],
        UnixTime::now(),
        provider.signature_verification_algorithms.all,
    );
    match verified {
        Err(
            source @ rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ),
        ) => Err(TlsError::NotValidNow { path: path(), source }),
        _ => Ok(()),
    }
}

/// What is served now.
#[derive(Debug)]
struct Current(ArcSwap<Names>);

impl ResolvesServerCert for Current {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().find(client.server_name()))
    }
}

/// Certificates by the names in them.
#[derive(Debug)]
struct Names {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// The first one is for those who name nobody we know.
    default: Arc<CertifiedKey>,
}

impl Names {
    fn of(pairs: Vec<CertifiedKey>) -> Option<Self> {
        let pairs: Vec<Arc<CertifiedKey>> = pairs.into_iter().map(Arc::new).collect();
        let default = Arc::clone(pairs.first()?);
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for pair in pairs {
            let Ok(certificate) = webpki::EndEntityCert::try_from(&pair.cert[0]) else { continue };
            for name in certificate.valid_dns_names() {
                let name = name.to_ascii_lowercase();
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut wildcard, parent),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.into()).or_insert_with(|| Arc::clone(&pair));
            }
        }
        Some(Self { exact, wildcard, default })
    }

    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let name = name.map(str::to_ascii_lowercase);
        let found = name.as_deref().and_then(|name| {
            let parent = name.split_once('.').map_or("", |(_, parent)| parent);
            self.exact.get(name).or_else(|| self.wildcard.get(parent))
        });
        Arc::clone(found.unwrap_or(&self.default))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::NamedTempFile;

    use super::*;

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn made(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        change(&mut params);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn tls(pairs: &[(&NamedTempFile, &NamedTempFile)]) -> config::Tls {
        let pair = |(certificate, key): &(&NamedTempFile, &NamedTempFile)| config::Certificate {
            certificate_file: certificate.path().to_owned(),
            key_file: key.path().to_owned(),
        };
        config::Tls { certificates: pairs.iter().map(pair).collect(), reload: Duration::from_secs(5) }
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_reason() {
        let ((certificate, key), (_, other)) = (made(&["a"], |_| {}), made(&["a"], |_| {}));
        let (certificate, key, other) = (file(&certificate), file(&key), file(&other));
        let (garbage, block) =
            (file("garbage"), file("-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n"));
        for (certificate, key, said, of) in [
            (&garbage, &key, "holds no certificate in PEM form", &garbage),
            (&block, &key, "cannot be used", &block),
            (&certificate, &garbage, "holds no private key", &garbage),
            (&certificate, &certificate, "holds no private key", &certificate),
            (&certificate, &other, "is not that of the certificate in", &other),
        ] {
            let Err(error) = Tls::load(&tls(&[(certificate, key)])) else { panic!("{said}: it was used") };
            let text = error.to_string();
            assert!(text.contains(said) && text.contains(of.path().to_str().unwrap()), "{text}");
        }
        let gone = file("");
        let mut files = tls(&[(&certificate, &gone)]);
        drop(gone);
        let Err(error) = Tls::load(&files) else { panic!("it is not there") };
        assert!(error.to_string().starts_with("cannot read /"), "{error}");
        files.certificates.clear();
        assert!(Tls::load(&files).unwrap().is_none());
    }

    #[test]
    fn a_certificate_out_of_its_time_replaces_nothing() {
        let (good, key) = made(&["a"], |_| {});
        let (path, key_path) = (file(&good), file(&key));
        let tls = Tls::load(&tls(&[(&path, &key_path)])).unwrap().unwrap();
        let served = || tls.names.0.load().default.cert[0].clone();
        let first = served();
        let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
        let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(2200, 1, 1);
        for (certificate, key) in [made(&["a"], past), made(&["a"], future)] {
            fs::write(path.path(), &certificate).unwrap();
            fs::write(key_path.path(), &key).unwrap();
            let error = tls.reload().unwrap_err();
            assert!(error.to_string().contains("is not valid now"), "{error}");
            assert_eq!(served(), first);
        }
        let (certificate, key) = made(&["b"], |_| {});
        fs::write(path.path(), &certificate).unwrap();
        fs::write(key_path.path(), &key).unwrap();
        tls.reload().unwrap();
        assert_ne!(served(), first);
    }

    #[test]
    fn an_exact_name_comes_before_a_wildcard_and_the_first_certificate_is_for_the_rest() {
        let provider = ring::default_provider();
        let certified = |names: &[&str]| {
            let (certificate, key) = made(names, |_| {});
            let (certificate, key) = (file(&certificate), file(&key));
            read(&tls(&[(&certificate, &key)]).certificates[0], &provider).unwrap()
        };
        let pairs =
            vec![certified(&["first.example"]), certified(&["*.gw.example"]), certified(&["A.gw.example", "b"])];
        let certificates: Vec<_> = pairs.iter().map(|pair| pair.cert[0].clone()).collect();
        let names = Names::of(pairs).unwrap();
        for (name, index) in [
            (Some("a.gw.example"), 2),
            (Some("A.GW.EXAMPLE"), 2),
            (Some("c.gw.example"), 1),
            (Some("x.a.gw.example"), 0),
            (Some("gw.example"), 0),
            (Some("b"), 2),
            (Some("first.example"), 0),
            (Some("other"), 0),
            (None, 0),
        ] {
            assert_eq!(names.find(name).cert[0], certificates[index], "{name:?}");
        }
        assert!(Names::of(Vec::new()).is_none());
    }
}
