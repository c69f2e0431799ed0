//! A network of one node and one user for tests, small enough to break on purpose.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use minidlt_protocol::{
    genesis::{Genesis, Timeouts},
    registry::{Node, NodeRole, Organisation, Role, User},
    types::Timestamp,
    vote::ConsensusMode,
};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, ExtendedKeyUsage},
    },
};
use tempfile::TempDir;

use crate::{authority::Purpose, generate_key};

pub const NODE_FILE: &str = "\
identity: {name: node0, organisation: Org01}
api_listen: 127.0.0.1:3401
peers_listen: 127.0.0.1:3402
health_listen: 127.0.0.1:3403
";

pub const USER_FILE: &str = "\
identity: {name: admin, organisation: Org01}
nodes: ['https://127.0.0.1:3401']
";

/// What a certificate to issue is like.
#[derive(Clone, Copy)]
pub struct Kind<'a> {
    pub name: &'a str,
    /// Another common name beside it.
    pub second_name: Option<&'a str>,
    pub organisation: &'a str,
    pub authority: bool,
    /// For this use alone; for any unless given.
    pub only_for: Option<Purpose>,
    /// Validity, in days from now.
    pub from: i64,
    pub to: i64,
}

impl Default for Kind<'_> {
    fn default() -> Self {
        Self {
            name: "node0",
            second_name: None,
            organisation: "Org01",
            authority: false,
            only_for: None,
            from: -1,
            to: 365,
        }
    }
}

pub struct Authority {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Authority {
    pub fn new(organisation: &str) -> Self {
        let key = tls_key();
        let kind = Kind { name: "ca", organisation, authority: true, ..Kind::default() };
        Self { certificate: certificate(kind, &key, None), key }
    }
}

pub fn tls_key() -> PKey<Private> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap()
}

/// Issued by `issuer`, or self-signed.
pub fn certificate(kind: Kind<'_>, key: &PKey<Private>, issuer: Option<&Authority>) -> X509 {
    let mut name = X509NameBuilder::new().unwrap();
    for common_name in [Some(kind.name), kind.second_name].into_iter().flatten() {
        name.append_entry_by_nid(Nid::COMMONNAME, common_name).unwrap();
    }
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, kind.organisation).unwrap();
    let name = name.build();
    let day = |days: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        Asn1Time::from_unix(i64::try_from(now).unwrap() + days * 86_400).unwrap()
    };
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(issuer.map_or(&*name, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_not_before(&day(kind.from)).unwrap();
    builder.set_not_after(&day(kind.to)).unwrap();
    builder.set_pubkey(key).unwrap();
    let mut constraints = BasicConstraints::new();
    if kind.authority {
        constraints.critical().ca();
    }
    builder.append_extension(constraints.build().unwrap()).unwrap();
    if let Some(purpose) = kind.only_for {
        let mut usage = ExtendedKeyUsage::new();
        match purpose {
            Purpose::Server => usage.server_auth(),
            Purpose::Client => usage.client_auth(),
        };
        builder.append_extension(usage.build().unwrap()).unwrap();
    }
    builder.sign(issuer.map_or(key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

/// `genesis.yaml`, `node0/` and `users/admin/` in a directory that goes when this does.
pub struct Fixture {
    pub directory: TempDir,
    pub authority: Authority,
    pub genesis: Genesis,
}

impl Fixture {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("node0/data")).unwrap();
        fs::create_dir_all(directory.path().join("users/admin")).unwrap();
        let (node_key, user_key) = (generate_key().unwrap(), generate_key().unwrap());
        let authority = Authority::new("Org01");
        let identity = |text: &str| text.parse().unwrap();
        let ca = String::from_utf8(authority.certificate.to_pem().unwrap()).unwrap();
        let roles = BTreeSet::from([NodeRole::Peer, NodeRole::Orderer]);
        let node = Node::new(identity("node0@Org01"), node_key.public_key, roles, "127.0.0.1:3402".to_owned());
        let gateways = BTreeSet::from([node.identity()]);
        let user = User::new(identity("admin@Org01"), user_key.public_key, BTreeSet::from([Role::Admin]), gateways);
        let genesis = Genesis {
            network: "test".parse().unwrap(),
            created: Timestamp::from_millis(1),
            consensus: ConsensusMode::Bft,
            timeouts: Timeouts::default(),
            synchronise: Default::default(),
            organisations: vec![Organisation::new("Org01".parse().unwrap(), ca)],
            nodes: vec![node],
            users: vec![user],
            policies: BTreeMap::new(),
            predecessor: None,
        };
        let fixture = Self { directory, authority, genesis };
        fixture.write_genesis(&fixture.genesis);
        fixture.write("node0/config.yaml", NODE_FILE);
        fixture.write_private("node0/node.key", &node_key.pem);
        fixture.issue("node0", Kind::default());
        fixture.write("users/admin/user.yaml", USER_FILE);
        fixture.write_private("users/admin/user.key", &user_key.pem);
        fixture.issue("users/admin", Kind { name: "admin", ..Kind::default() });
        fixture
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(path), content).unwrap();
    }

    pub fn write_private(&self, path: &str, content: impl AsRef<[u8]>) {
        self.write(path, content);
        set_mode(&self.path(path), 0o600);
    }

    pub fn write_genesis(&self, genesis: &Genesis) {
        self.write("genesis.yaml", serde_yaml::to_string(genesis).unwrap());
    }

    /// A new certificate and key for the member whose directory is `at`.
    pub fn issue(&self, at: &str, kind: Kind<'_>) {
        let key = tls_key();
        self.write(&format!("{at}/tls.crt"), certificate(kind, &key, Some(&self.authority)).to_pem().unwrap());
        self.write_private(&format!("{at}/tls.key"), key.private_key_to_pem_pkcs8().unwrap());
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
