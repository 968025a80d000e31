//! The certificate authority of the link, and the leaf that the control plane shows to its nodes.
//!
//! The authority is made with the store and shared by every control plane on it; gateway tokens pin its fingerprint.
//! The leaf is made anew at every start and its key never leaves the process. Neither expires within any node's
//! lifetime: trust is given and taken by tokens, and a node with a wrong clock must still find its control plane.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{
    model::error::{Error, Internal},
    seal::{Keyring, Place},
    sensitive::Sensitive,
    store::{Store, authority},
};

/// The name of every control plane, whatever address it is reached at.
pub const SERVER_NAME: &str = "control-plane.lockgate.internal";

/// The authority and its private key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    /// Reads the authority from the store, or makes it. Control planes that start at once on a new store share one.
    pub async fn ensure(store: &Store, keyring: &Keyring) -> Result<Self, Error> {
        let place =
            Place { table: "link_authority", row: store.first_organization(), column: "sealed_key", version: 0 };
        let found = if let Some(found) = authority::find(store).await? {
            found
        } else {
            let made = Self::generate().map_err(internal)?;
            let sealed_key = keyring.seal(&place, &Sensitive::new(made.key.serialize_pem()));
            authority::create(store, &made.certificate, &sealed_key).await?
        };
        let authority::Authority { certificate, sealed_key } = found;
        let key = keyring.open(&place, &sealed_key).map_err(internal)?;
        let key = KeyPair::from_pem(key.expose()).map_err(internal)?;
        Ok(Self { certificate: certificate.into(), key })
    }

    fn generate() -> Result<Self, rcgen::Error> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        parameters.distinguished_name = named("Lockgate link authority");
        lasting(&mut parameters);
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    /// What gateway tokens carry.
    pub fn fingerprint(&self) -> String {
        proto::token::fingerprint(&self.certificate)
    }

    /// TLS for the link, with a new leaf; the chain includes the authority, by which nodes know it.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, Error> {
        let (leaf, key) = self.leaf().map_err(internal)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(internal)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf, self.certificate.clone()], key)
            .map_err(internal)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn leaf(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        let mut parameters = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        parameters.distinguished_name = named(SERVER_NAME);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        lasting(&mut parameters);
        let key = KeyPair::generate()?;
        let leaf = parameters.signed_by(&key, &issuer)?;
        Ok((leaf.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn lasting(parameters: &mut CertificateParams) {
    parameters.not_before = date_time_ymd(2000, 1, 1);
    parameters.not_after = date_time_ymd(2199, 12, 31);
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Internal(Internal::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_is_new_and_the_authority_stays() {
        let authority = Authority::generate().unwrap();
        let again = Authority {
            certificate: authority.certificate.clone(),
            key: KeyPair::from_pem(&authority.key.serialize_pem()).unwrap(),
        };
        assert_eq!(authority.fingerprint(), again.fingerprint());
        assert_ne!(authority.leaf().unwrap().0, again.leaf().unwrap().0);
        assert_ne!(authority.fingerprint(), Authority::generate().unwrap().fingerprint());
    }

    #[test]
    fn the_private_key_is_not_printed() {
        let authority = Authority::generate().unwrap();
        assert_eq!(
            format!("{authority:?}"),
            format!("Authority {{ fingerprint: \"{}\", .. }}", authority.fingerprint())
        );
    }
}
