use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

use minidlt_config::{Flags, authority::Purpose, network::Local, user};
use minidlt_protocol::{registry::default_policy, types::Name, vote::ConsensusMode};
use openssl::{nid::Nid, pkcs12::Pkcs12, pkey::PKey, x509::X509};

use super::*;

fn lay_out(network: &Network, dir: &Path) -> Result<Genesis, InitError> {
    super::lay_out(network, dir, &Stop::default())
}

fn local(nodes: usize) -> Network {
    Network::local(Local { nodes, consensus: ConsensusMode::Bft, base_port: 3401 }).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// Every path below `at`, relative to `root`.
fn list(root: &Path, at: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        if path.is_dir() {
            list(root, &path, found);
        }
    }
}

#[test]
fn exactly_the_promised_files_are_written_with_their_modes() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    lay_out(&local(2), &dir).unwrap();
    let mut found = BTreeSet::new();
    list(&dir, &dir, &mut found);
    let mut expected: BTreeSet<String> = ["genesis.yaml", "ca.crt", "organisations", "users"].map(str::to_owned).into();
    let parts = [
        (vec!["organisations/Org01", "organisations/Org02"], vec!["ca.crt", "ca.key"]),
        (
            vec!["node0", "node1"],
            vec!["config.yaml", "node.key", "tls.crt", "tls.key", "data", "data/signer-0.log", "data/signer-1.log"],
        ),
        (
            vec!["users/admin", "users/admin-Org02", "users/trader"],
            vec!["user.yaml", "user.key", "tls.crt", "tls.key", "tls.p12"],
        ),
    ];
    for (directories, files) in parts {
        for directory in directories {
            expected.insert(directory.to_owned());
            expected.extend(files.iter().map(|file| format!("{directory}/{file}")));
        }
    }
    assert_eq!(found, expected);
    for path in found {
        let at = dir.join(&path);
        let private = [".key", ".p12", ".log"].iter().any(|end| path.ends_with(end));
        match (at.is_dir(), private) {
            (true, _) if path == "organisations" || path == "users" => assert_eq!(mode(&at) & 0o700, 0o700, "{path}"),
            (true, _) => assert_eq!(mode(&at), 0o700, "{path}"),
            (false, true) => assert_eq!(mode(&at), 0o600, "{path}"),
            (false, false) => assert_eq!(mode(&at) & 0o600, 0o600, "{path}"),
        }
    }
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "the staging directory is gone");
}

#[test]
fn every_node_and_user_loads_without_a_warning() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    let genesis = lay_out(&local(4), &dir).unwrap();
    for node in &genesis.nodes {
        let settings = minidlt_config::load(&dir.join(node.name.as_str()), Flags::default()).unwrap();
        assert_eq!((settings.identity, settings.network), (node.identity(), genesis.id()));
        assert_eq!(settings.peers_listen.to_string(), node.address);
        assert_eq!(settings.warnings, Vec::<String>::new());
    }
    for member in &genesis.users {
        let settings = user::load(&dir.join("users").join(member.name.as_str())).unwrap();
        assert_eq!((settings.identity, settings.network), (member.identity(), genesis.id()));
        assert_eq!(settings.key.public_key(), member.public_key);
        assert_eq!(settings.warnings, Vec::<String>::new());
    }
    let trader = user::load(&dir.join("users/trader")).unwrap();
    let ports = [3401, 3411, 3421, 3431].map(|port| format!("https://127.0.0.1:{port}"));
    assert_eq!(trader.nodes, ports);
    let names: Vec<&str> = genesis.policies.keys().map(Name::as_str).collect();
    assert_eq!(names, ["orderers", "organisations", "policies"]);
    assert!(genesis.policies.values().all(|policy| *policy == default_policy()));
}

#[test]
fn keys_are_of_the_curves_that_tools_expect() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    lay_out(&local(1), &dir).unwrap();
    let keys = [
        ("node0/node.key", Nid::SECP256K1),
        ("users/admin/user.key", Nid::SECP256K1),
        ("node0/tls.key", Nid::X9_62_PRIME256V1),
        ("users/admin/tls.key", Nid::X9_62_PRIME256V1),
        ("organisations/Org01/ca.key", Nid::X9_62_PRIME256V1),
    ];
    for (path, curve) in keys {
        let pem = fs::read(dir.join(path)).unwrap();
        assert!(pem.starts_with(b"-----BEGIN PRIVATE KEY-----"), "{path} is PKCS#8");
        let key = PKey::private_key_from_pem(&pem).unwrap();
        assert_eq!(key.ec_key().unwrap().group().curve_name(), Some(curve), "{path}");
    }
    let bundle = Pkcs12::from_der(&fs::read(dir.join("users/admin/tls.p12")).unwrap()).unwrap();
    let bundle = bundle.parse2(P12_PASSWORD).unwrap();
    let certificate = X509::from_pem(&fs::read(dir.join("users/admin/tls.crt")).unwrap()).unwrap();
    assert_eq!(bundle.cert.unwrap().to_der().unwrap(), certificate.to_der().unwrap());
    assert!(bundle.pkey.is_some() && bundle.ca.unwrap().len() == 1);
}

#[test]
fn certificates_name_their_owner_its_uses_and_its_hosts() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, file) = (parent.path().join("network"), parent.path().join("network.yaml"));
    let text =
        "organisations: [A, B]\nnodes:\n- {organisation: A, host: a.example}\n- {organisation: B, host: 192.0.2.7}\n";
    fs::write(&file, text).unwrap();
    let network = Network::load(&file, None, 3401).unwrap();
    lay_out(&network, &dir).unwrap();
    let certificate = |path: &str| X509::from_pem(&fs::read(dir.join(path)).unwrap()).unwrap();
    let authority = minidlt_config::load(&dir.join("node0"), Flags::default()).unwrap().authority;
    let members = [("node0", "node0@A", true), ("node1", "node1@B", true), ("users/admin-B", "admin-B@B", false)];
    for (at, who, is_server) in members {
        let certificate = certificate(&format!("{at}/tls.crt"));
        assert_eq!(authority.check(&certificate, Purpose::Client), Ok(who.parse().unwrap()));
        assert_eq!(authority.check(&certificate, Purpose::Server).is_ok(), is_server, "{who}");
    }
    let names = |path: &str| -> Vec<String> {
        let names = certificate(path).subject_alt_names().unwrap();
        let text = |name: &openssl::x509::GeneralNameRef| {
            name.dnsname().map(str::to_owned).unwrap_or_else(|| format!("{:?}", name.ipaddress().unwrap()))
        };
        names.iter().map(text).collect()
    };
    assert_eq!(names("node0/tls.crt"), ["localhost", "[127, 0, 0, 1]", "a.example"]);
    assert_eq!(names("node1/tls.crt"), ["localhost", "[127, 0, 0, 1]", "[192, 0, 2, 7]"]);
    let bundle = X509::stack_from_pem(&fs::read(dir.join("ca.crt")).unwrap()).unwrap();
    assert_eq!(bundle.len(), 2);
    for node in ["node0", "node1"] {
        minidlt_config::load(&dir.join(node), Flags::default()).unwrap();
    }
}

#[test]
fn a_network_that_is_there_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    lay_out(&local(1), &dir).unwrap();
    let before = fs::read(dir.join("genesis.yaml")).unwrap();
    assert!(matches!(lay_out(&local(1), &dir), Err(InitError::Exists(path)) if path == dir));
    assert_eq!(fs::read(dir.join("genesis.yaml")).unwrap(), before);
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, Permissions::from_mode(0o750)).unwrap();
    lay_out(&local(1), &empty).unwrap();
    assert_eq!(mode(&empty), 0o750, "its owner chose the mode");
}

#[test]
fn what_a_directory_cannot_replace_is_refused_before_anything_is_written() {
    let parent = tempfile::tempdir().unwrap();
    let [empty, link] = ["empty", "link"].map(|name| parent.path().join(name));
    fs::create_dir(&empty).unwrap();
    symlink(&empty, &link).unwrap();
    let refused = lay_out(&local(1), &link).unwrap_err();
    assert!(matches!(&refused, InitError::NotReplaceable(path) if *path == link), "{refused}");
    assert!(refused.to_string().ends_with("link/network"), "{refused}");
    assert!(matches!(lay_out(&local(1), &empty.join("..")), Err(InitError::Exists(_))));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}

#[test]
fn what_is_dropped_before_it_is_published_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let staging = Staging::new(&parent.path().join("network"), Stop::default()).unwrap();
    staging.private_directory("node0").unwrap();
    staging.private("node0/node.key", b"secret").unwrap();
    drop(staging);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn told_to_stop_it_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    let stop = Stop::default();
    let staging = Staging::new(&dir, stop.clone()).unwrap();
    staging.private_directory("node0").unwrap();
    staging.private("node0/node.key", b"secret").unwrap();
    stop.set(Signal::Terminate);
    stop.set(Signal::Interrupt);
    let stopped = |outcome: Result<(), InitError>| matches!(outcome, Err(InitError::Stopped(Signal::Terminate)));
    assert!(stopped(staging.private("node0/tls.key", b"secret")));
    assert!(stopped(staging.publish()));
    assert!(stopped(super::lay_out(&local(1), &dir, &stop).map(drop)));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_run_left_is_told_and_that_of_a_live_one_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("network");
    assert_eq!(leftovers(&dir), Vec::<PathBuf>::new());
    // Beyond the largest process id there is.
    let dead = parent.path().join(".network.init-4194305");
    for name in [".network.init-4194305", ".other.init-4194305", ".network.init-x", "network.init-4194305"] {
        fs::create_dir(parent.path().join(name)).unwrap();
    }
    let own = parent.path().join(format!(".network.init-{}", std::process::id()));
    fs::create_dir(&own).unwrap();
    assert_eq!(leftovers(&dir), std::slice::from_ref(&dead));
    assert!(matches!(lay_out(&local(1), &dir), Err(InitError::Leftover(path)) if path == own));
    fs::remove_dir(&own).unwrap();
    lay_out(&local(1), &dir).unwrap();
    assert!(dead.exists(), "it is for its owner to remove");
}
