//! Settings of a user of the command line: `users/NAME/user.yaml`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use minidlt_protocol::{
    crypto::SecretKey,
    genesis::Genesis,
    types::{Hash, Identity},
};
use serde::{Deserialize, Serialize};

use crate::{
    authority::Authority,
    error::{ConfigError, Origin, Problem},
    files::{MAX_FILE_BYTES, parse_yaml, read_text},
    genesis::read_genesis,
    keys::read_signing_key,
    tls::{Lapse, Tls, TlsFiles, USER},
};

/// The name of a user's file within its directory.
pub const USER_FILE: &str = "user.yaml";

/// The user file as written; paths are relative to its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserFile {
    pub identity: Identity,
    /// The nodes to talk to unless told otherwise, the preferred one first: `https://host:port`.
    pub nodes: Vec<String>,
    #[serde(default = "default_genesis")]
    pub genesis: PathBuf,
    #[serde(default = "default_key")]
    pub key: PathBuf,
    #[serde(default)]
    pub tls: UserTls,
}

/// Where a user's certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Default for UserTls {
    fn default() -> Self {
        Self { certificate: "tls.crt".into(), key: "tls.key".into() }
    }
}

fn default_genesis() -> PathBuf {
    "../../genesis.yaml".into()
}

fn default_key() -> PathBuf {
    "user.key".into()
}

impl UserFile {
    pub fn new(identity: Identity, nodes: Vec<String>) -> Self {
        Self { identity, nodes, genesis: default_genesis(), key: default_key(), tls: UserTls::default() }
    }
}

/// All a client command needs to know. It holds private keys, so it is not `Debug`.
pub struct UserSettings {
    pub directory: PathBuf,
    pub identity: Identity,
    /// `https://host:port`, at least one.
    pub nodes: Vec<String>,
    pub genesis: Genesis,
    pub genesis_path: PathBuf,
    /// The genesis' hash.
    pub network: Hash,
    /// The organisations' certificate authorities, from the genesis.
    pub authority: Arc<Authority>,
    /// The user's signing key.
    pub key: SecretKey,
    pub tls: Tls,
    /// What will soon need doing; to be told.
    pub warnings: Vec<String>,
}

fn read_file(path: &Path) -> Result<(PathBuf, PathBuf, UserFile), ConfigError> {
    let file = if path.is_dir() { path.join(USER_FILE) } else { path.to_owned() };
    let raw = parse_yaml(&file, &read_text(&file, MAX_FILE_BYTES)?)?;
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    Ok((file, directory, raw))
}

/// Where a user's certificate and its key are, whatever they and all else are like: to renew them.
pub fn tls_files(path: &Path) -> Result<TlsFiles, ConfigError> {
    let (_, directory, raw) = read_file(path)?;
    Ok(tls_files_of(directory, &raw))
}

fn tls_files_of(directory: PathBuf, raw: &UserFile) -> TlsFiles {
    let [certificate, key] = [&raw.tls.certificate, &raw.tls.key].map(|path| directory.join(path));
    TlsFiles { identity: raw.identity.clone(), directory, certificate, key }
}

/// Reads a user's settings: `path` is its directory or its file.
pub fn load(path: &Path) -> Result<UserSettings, ConfigError> {
    let (file, directory, raw) = read_file(path)?;
    let wrong = |key: &str, problem| ConfigError::key(key, Origin::File(file.clone()), problem);
    if raw.nodes.is_empty() {
        return Err(wrong("nodes", Problem::Missing));
    }
    if let Some(url) = raw.nodes.iter().find(|url| !is_node_url(url)) {
        return Err(wrong("nodes", Problem::Url(url.clone())));
    }
    let genesis_path = directory.join(&raw.genesis);
    let (genesis, authority) = read_genesis(&genesis_path)?;
    let key_path = directory.join(&raw.key);
    let key = read_signing_key(&key_path).map_err(|problem| wrong("key", problem))?;
    let replaced = doubt_key(key_path, &raw.identity, &key, &genesis);
    let tls = tls_files_of(directory.clone(), &raw).read().map_err(|fault| wrong(fault.part.key(), fault.problem))?;
    let lapse = match tls.lapse().map_err(|problem| wrong("tls.certificate", problem))? {
        // Unlike a node, it can do nothing.
        Some(Lapse::Over(_)) => return Err(wrong("tls.certificate", tls.expired())),
        Some(Lapse::Soon(warning)) => Some(warning),
        None => None,
    };
    let warnings = replaced.into_iter().chain(lapse).chain(tls.doubts(&authority, USER)).collect();
    Ok(UserSettings {
        directory,
        identity: raw.identity,
        nodes: raw.nodes.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        network: genesis.id(),
        genesis,
        genesis_path,
        authority: Arc::new(authority),
        key,
        tls,
        warnings,
    })
}

/// A user of the genesis had its key from there; it may have been replaced on the ledger since, which only a
/// node can say.
fn doubt_key(path: PathBuf, identity: &Identity, key: &SecretKey, genesis: &Genesis) -> Option<String> {
    let (found, identity) = (key.public_key(), identity.clone());
    let user = genesis.users.iter().find(|user| user.identity() == identity)?;
    let other = user.public_key != found;
    other.then(|| {
        let expected = Box::new(user.public_key);
        let problem = Problem::WrongKey { path, identity, found: Box::new(found), expected };
        format!("{problem}; unless it was replaced on the ledger since, what it signs is refused")
    })
}

/// `https://host:port`, perhaps with a slash at the end.
pub fn is_node_url(url: &str) -> bool {
    let authority = url.strip_prefix("https://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let parts = authority.and_then(|authority| authority.rsplit_once(':'));
    parts.is_some_and(|(host, port)| {
        let clean = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/?#@".contains(c));
        clean && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{Fixture, Kind, USER_FILE},
        generate_key,
    };

    #[test]
    fn a_users_directory_is_read_and_each_fault_has_its_line() {
        let fixture = Fixture::new();
        let at = fixture.path("users/admin");
        let user = load(&at).unwrap();
        assert_eq!((user.identity.to_string().as_str(), user.network), ("admin@Org01", fixture.genesis.id()));
        let line = |text: String| {
            fixture.write("users/admin/user.yaml", text);
            let said = load(&at).err().expect("it must be refused").to_string();
            said.replace(fixture.directory.path().to_str().unwrap(), "D")
        };
        assert_eq!(
            line(USER_FILE.replace("https", "http")),
            "nodes in D/users/admin/user.yaml: \"http://127.0.0.1:3401\" is not the URL of a node; \
             write one such as https://127.0.0.1:3401"
        );
        assert_eq!(
            line(USER_FILE.replace("'https://127.0.0.1:3401'", "")),
            "nodes in D/users/admin/user.yaml: is missing; add it"
        );
        assert!(line(format!("{USER_FILE}colour: red\n")).contains("unknown field `colour`"));
        fixture.write("users/admin/user.yaml", USER_FILE);
        let admin = Kind { name: "admin", from: -9, ..Kind::default() };
        fixture.issue("users/admin", Kind { to: 10, ..admin });
        let [warning] = &load(&at).unwrap().warnings[..] else { panic!("one warning") };
        assert!(warning.contains("tls.crt expires on ") && warning.contains("minidlt renew "), "{warning}");
        fixture.issue("users/admin", Kind { to: -1, ..admin });
        let said = load(&at).err().expect("it can do nothing").to_string();
        assert!(said.contains("tls.crt expired on ") && said.contains("; renew it: minidlt renew "), "{said}");
        fixture.write_private("users/admin/user.key", generate_key().unwrap().pem);
        fixture.issue("users/admin", admin);
        let warnings = load(&at).expect("it may have been replaced on the ledger").warnings;
        let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
        assert!(warning.contains("but the genesis gives admin@Org01 the key"), "{warning}");
    }

    #[test]
    fn urls_are_those_of_nodes() {
        for good in ["https://127.0.0.1:3401", "https://a.example:1/", "https://[::1]:3401"] {
            assert!(is_node_url(good), "{good}");
        }
        for bad in ["http://a:1", "https://a", "https://:1", "https://a:0", "https://a:1/v1", "https://u@a:1"] {
            assert!(!is_node_url(bad), "{bad}");
        }
    }
}
