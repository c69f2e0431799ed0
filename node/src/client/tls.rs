//! TLS towards a node: version 1.3, the user's certificate, and no trust in anyone but the
//! network's own authorities.

use std::path::Path;

use openssl::{
    ssl::{SslConnector, SslFiletype, SslMethod, SslVersion},
    x509::{X509, store::X509StoreBuilder},
};

use super::{
    error::ClientError,
    files::read,
    user::User,
};

/// Room for the authorities of some thousand organisations.
const MAX_CA_BYTES: usize = 16 << 20;

/// `ca` is a PEM file of authorities; without it the network's own is taken.
pub fn connector(user: &User, ca: Option<&Path>) -> Result<SslConnector, ClientError> {
    let ca = ca.map_or_else(|| user.default_ca(), Path::to_path_buf);
    let content = |path: &Path, what: &str| ClientError::Content { path: path.into(), what: what.into() };

    let authorities = X509::stack_from_pem(&read(&ca, MAX_CA_BYTES)?)
        .ok()
        .filter(|authorities| !authorities.is_empty())
        .ok_or_else(|| content(&ca, "holds no PEM certificate; give the network's authorities with --ca FILE"))?;
    let mut store = X509StoreBuilder::new()?;
    for authority in authorities {
        store.add_cert(authority)?;
    }

    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    // In place of the system's authorities, which a new builder trusts.
    builder.set_cert_store(store.build());
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    let (certificate, key) = (user.directory.join("tls.crt"), user.directory.join("tls.key"));
    builder
        .set_certificate_chain_file(&certificate)
        .map_err(|_| content(&certificate, "cannot be read as a PEM certificate"))?;
    builder
        .set_private_key_file(&key, SslFiletype::PEM)
        .map_err(|_| content(&key, "cannot be read as the PEM key of the certificate beside it"))?;
    Ok(builder.build())
}
