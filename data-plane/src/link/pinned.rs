//! Verifies the control plane's certificate: the chain must bring the authority whose fingerprint the gateway token
//! carries, and the leaf must be signed by that authority alone, for the one name of control planes.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

#[derive(Debug)]
pub(super) struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    pub(super) fn new(fingerprint: String, provider: Arc<CryptoProvider>) -> Self {
        Self { fingerprint, provider }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| proto::token::fingerprint(certificate) == self.fingerprint)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Issuer {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    }

    fn leaf(issuer: &Issuer, name: &str) -> CertificateDer<'static> {
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn verify(pin: &Issuer, chain: &[&CertificateDer<'static>]) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Pinned::new(proto::token::fingerprint(pin.der()), provider);
        let name = ServerName::try_from(super::super::SERVER_NAME).unwrap();
        let intermediates: Vec<_> = chain[1..].iter().map(|certificate| (*certificate).clone()).collect();
        verifier.verify_server_cert(chain[0], &intermediates, &name, &[], UnixTime::now()).map(|_| ())
    }

    #[test]
    fn a_leaf_of_the_pinned_authority_is_taken() {
        let ours = authority();
        verify(&ours, &[&leaf(&ours, super::super::SERVER_NAME), ours.der()]).unwrap();
    }

    #[test]
    fn every_other_chain_is_refused() {
        let (ours, theirs) = (authority(), authority());
        let name = super::super::SERVER_NAME;
        // Another authority; ours shown beside a leaf that it did not sign; ours left out; another name.
        assert!(verify(&ours, &[&leaf(&theirs, name), theirs.der()]).is_err());
        assert!(verify(&ours, &[&leaf(&theirs, name), theirs.der(), ours.der()]).is_err());
        assert!(verify(&ours, &[&leaf(&ours, name)]).is_err());
        assert!(verify(&ours, &[&leaf(&ours, "control-plane.example"), ours.der()]).is_err());
    }
}
