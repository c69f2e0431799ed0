//! TLS towards a node: version 1.3, the user's certificate, and no trust in anyone but the
//! network's own authorities.

use std::path::Path;

use minidlt_config::user::UserSettings;
use openssl::{
    ssl::{SslConnector, SslMethod, SslVersion},
    x509::{X509, store::X509StoreBuilder},
};

use super::{error::ClientError, files::read};

/// Room for the authorities of some thousand organisations.
const MAX_CA_BYTES: usize = 16 << 20;

/// `ca` is a PEM file of authorities to trust in place of the genesis' own.
pub fn connector(user: &UserSettings, ca: Option<&Path>) -> Result<SslConnector, ClientError> {
    let authorities = match ca {
        None => user.authorities.values().cloned().collect(),
        Some(path) => authorities(path)?,
    };
    let mut store = X509StoreBuilder::new()?;
    for authority in authorities {
        store.add_cert(authority)?;
    }
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    // In place of the system's authorities, which a new builder trusts.
    builder.set_cert_store(store.build());
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_certificate(&user.tls.certificate)?;
    builder.set_private_key(&user.tls.key)?;
    Ok(builder.build())
}

fn authorities(path: &Path) -> Result<Vec<X509>, ClientError> {
    let authorities = X509::stack_from_pem(&read(path, MAX_CA_BYTES)?).unwrap_or_default();
    if authorities.is_empty() {
        let what = "holds no PEM certificate; give the network's authorities".into();
        return Err(ClientError::Content { path: path.into(), what });
    }
    Ok(authorities)
}
