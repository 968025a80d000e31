//! Vendors behind TLS, with a private authority.

use std::sync::Arc;

use proto::config::{Endpoint, Kind, endpoint};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::fixture::*;

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
