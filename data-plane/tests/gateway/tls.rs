//! TLS on both sides: vendors behind it, with a private authority, and clients of ours.

use std::sync::Arc;

use data_plane::config::Certificate;
use proto::config::{Endpoint, Kind, endpoint};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::fixture::*;
use super::tunnel;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn draft(vendor: &Vendor, pem: &str) -> Draft {
    let url = format!("https://localhost:{}", vendor.address().port());
    let base = provider("/openai", &url);
    let Some(endpoint::Target::Upstream(upstream)) = base.target else { unreachable!() };
    let upstream = proto::config::Upstream { extra_ca_pem: pem.to_owned(), ..upstream };
    let endpoint = Endpoint { target: Some(endpoint::Target::Upstream(upstream)), ..provider("/openai", &url) };
    Draft::new(&url).settings(&["127.0.0.0/8", "::1/128"]).put(Kind::Endpoint, PROVIDER, &endpoint)
}

#[tokio::test]
async fn a_vendor_with_a_private_authority_is_verified_against_it() {
    let (vendor, authority) = (Vendor::start().await, Authority::new());
    let acceptor = authority.acceptor("localhost");
    let stand = Stand::start(&draft(&vendor, &authority.pem())).await;
    let serve = async {
        let stream = vendor.accept_raw().await;
        let mut upstream = Client::around(acceptor.accept(stream).await.unwrap());
        let (head, _) = upstream.message().await;
        upstream.send(ok("{}")).await;
        // Kept open, so that the second request can come here.
        let (again, _) = upstream.message().await;
        upstream.send(ok("{\"again\":1}")).await;
        (head, again)
    };
    let mut client = stand.client().await;
    let asks = async {
        client.send(post("/v1/x", "{}")).await;
        let first = client.answer().await;
        client.send(post("/v1/y", "{}")).await;
        (first, client.answer().await)
    };
    let ((first, second), (head, again)) = tokio::join!(asks, serve);
    assert_eq!((first.status, second.text()), (200, "{\"again\":1}"));
    assert_eq!(header(&head, "authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert!(again.starts_with("POST /v1/y "), "{again}");
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_is_a_502_and_gets_no_request() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (pem, acceptor) in [
        (String::new(), authority.acceptor("localhost")),
        (stranger.pem(), authority.acceptor("localhost")),
        (authority.pem(), authority.acceptor("other.example")),
    ] {
        let vendor = Vendor::start().await;
        let stand = Stand::start(&draft(&vendor, &pem)).await;
        let serve = async {
            let stream = vendor.accept_raw().await;
            assert!(acceptor.accept(stream).await.is_err());
        };
        let (answer, ()) = tokio::join!(stand.ask(post("/v1/x", "{}")), serve);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_tls".into()));
    }
}

#[tokio::test]
async fn a_vendor_that_speaks_no_tls_is_a_502() {
    let (vendor, authority) = (Vendor::start().await, Authority::new());
    let stand = Stand::start(&draft(&vendor, &authority.pem())).await;
    let serve = async {
        let mut upstream = vendor.accept().await;
        upstream.exactly(5).await;
        upstream.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let (answer, ()) = tokio::join!(stand.ask(post("/v1/x", "{}")), serve);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (502, &"upstream_tls".into()));
}

#[tokio::test]
async fn a_websocket_passes_through_our_own_tls_in_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (folder.path().join("gw.pem"), folder.path().join("gw.key"));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["gw.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(&certificate_file, certificate.pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let vendor = Vendor::start().await;
    let mut stand = Stand::with(Some(&tunnel::draft(&vendor)), |config| {
        config.tls.certificates = vec![Certificate { certificate_file, key_file }];
    })
    .await;

    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut trust = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    trust.alpn_protocols = vec![b"http/1.1".to_vec()];
    let plain = TcpStream::connect(stand.address).await.unwrap();
    let name = ServerName::try_from("gw.example").unwrap();
    let mut client = Client::around(TlsConnector::from(Arc::new(trust)).connect(name, plain).await.unwrap());

    // The first frame comes in one record with the handshake, before anybody has agreed to anything.
    let early = [0x82, 0x83, 0, 0, 0, 0, 1, 2, 3];
    client.send([tunnel::keyed("").as_bytes(), &early].concat()).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream.nothing_more().await;
    upstream.send(format!("{}\r\n", tunnel::AGREED)).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert_eq!(upstream.exactly(early.len()).await, early);
    // More than a record of TLS and a buffer of ours hold.
    let long: Vec<u8> = (0..=u8::MAX).cycle().take(300_000).collect();
    let frame = |mask: u8, key: &[u8]| {
        let length = u64::try_from(long.len()).unwrap().to_be_bytes();
        [&[0x82, mask | 127][..], &length, key, &long].concat()
    };
    let (up, down) = (frame(0x80, &[0; 4]), frame(0, &[]));
    let talk = async {
        client.send(&up).await;
        client.exactly(down.len()).await
    };
    let echo = async {
        let taken = upstream.exactly(up.len()).await;
        upstream.send(&down).await;
        taken
    };
    let (came, went) = tokio::join!(talk, echo);
    assert!(came == down && went == up, "every byte, in order");
    client.send(tunnel::CLIENT_CLOSES).await;
    assert_eq!(upstream.exactly(8).await, tunnel::CLIENT_CLOSES);
    upstream.send(tunnel::VENDOR_CLOSES).await;
    drop(upstream);
    assert_eq!(client.rest().await, tunnel::VENDOR_CLOSES);
    let record = stand.record().await;
    assert_eq!(record.status, Some(101));
    assert_eq!(record.request_bytes, (early.len() + up.len() + tunnel::CLIENT_CLOSES.len()) as u64);
}
