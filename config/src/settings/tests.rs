//! Each wrong configuration has its one line.

use minidlt_protocol::{
    limits::{MEMPOOL_BYTES, MEMPOOL_TRANSACTIONS},
    registry::{Organisation, User},
};
use openssl::x509::X509;

use super::*;
use crate::{
    authority::Purpose,
    fixture::{Authority, Fixture, Kind, NODE_FILE, certificate, set_mode, tls_key},
    generate_key, load_genesis,
};

fn read(fixture: &Fixture, environment: &[(&str, &str)], flags: &Flags) -> Result<Settings, ConfigError> {
    let variables = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load_with(&fixture.path("node0"), variables, flags)
}

/// The error's line, the fixture's directory as `D`.
fn line(fixture: &Fixture, result: Result<Settings, ConfigError>) -> String {
    let text = result.err().expect("it must be refused").to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    text.replace(fixture.directory.path().to_str().unwrap(), "D").replace("D/node0/../", "D/")
}

fn plain(fixture: &Fixture) -> Result<Settings, ConfigError> {
    read(fixture, &[], &Flags::default())
}

#[test]
fn defaults_fill_what_the_file_leaves_out() {
    let fixture = Fixture::new();
    let settings = plain(&fixture).unwrap();
    assert_eq!(settings.identity.to_string(), "node0@Org01");
    assert_eq!(settings.network, fixture.genesis.id());
    assert_eq!(settings.data_dir, fixture.path("node0/data"));
    assert_eq!(settings.log_level, LevelFilter::Info);
    let mempool = settings.limits.mempool;
    assert_eq!((mempool.transactions, mempool.bytes), (MEMPOOL_TRANSACTIONS, MEMPOOL_BYTES));
    assert_eq!(settings.warnings, Vec::<String>::new());
    assert!(load_with(&fixture.path("node0/config.yaml"), std::iter::empty(), &Flags::default()).is_ok());
}

#[test]
fn each_layer_lies_over_the_one_before() {
    let fixture = Fixture::new();
    let level = |environment: &[(&str, &str)], flag: Option<&str>| {
        let flags = Flags { log_level: flag.map(str::to_owned), ..Flags::default() };
        read(&fixture, environment, &flags).unwrap().log_level
    };
    assert_eq!(level(&[], None), LevelFilter::Info);
    fixture.write("node0/config.yaml", format!("{NODE_FILE}log_level: warn\n"));
    assert_eq!(level(&[], None), LevelFilter::Warn);
    assert_eq!(level(&[("MINIDLT_LOG_LEVEL", "debug")], None), LevelFilter::Debug);
    assert_eq!(level(&[("MINIDLT_LOG_LEVEL", "debug")], Some("error")), LevelFilter::Error);
    let nested = [("MINIDLT_LIMITS__MEMPOOL__TRANSACTIONS", "7"), ("OTHER_KEY", "ignored")];
    assert_eq!(read(&fixture, &nested, &Flags::default()).unwrap().limits.mempool.transactions, 7);
}

#[test]
fn what_a_node_endorses_is_a_word_or_types_of_records() {
    let fixture = Fixture::new();
    assert_eq!(plain(&fixture).unwrap().endorse, Endorse::Everything);
    let endorses = |text: &str| {
        fixture.write("node0/config.yaml", format!("{NODE_FILE}endorse: {text}\n"));
        plain(&fixture).map(|settings| settings.endorse)
    };
    assert_eq!(endorses("nothing").unwrap(), Endorse::Nothing);
    assert_eq!(endorses("everything").unwrap(), Endorse::Everything);
    let types = ["invoice", "trade"].map(|name| name.parse().unwrap());
    assert_eq!(endorses("[trade, invoice, trade]").unwrap(), Endorse::RecordTypes(types.into()));
    let long = format!("[{}x]", "x, ".repeat(1_000));
    for (text, expected) in [
        (
            "trade",
            "\"trade\" is nothing to endorse; write everything, nothing or a list of types of records, such as [trade]",
        ),
        (
            "[]",
            "\"[]\" is nothing to endorse; write everything, nothing or a list of types of records, such as [trade]",
        ),
        (
            "[a/b]",
            "\"a/b\" is not a name: 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first; choose another",
        ),
        (&*long, "1001 is not from 1 to 1000; choose one that is"),
        ("7", "neither a word nor a list of types of records; correct it"),
    ] {
        let refused = endorses(text).expect_err("it must be refused").to_string();
        let refused = refused.replace(fixture.directory.path().to_str().unwrap(), "D");
        assert_eq!(refused, format!("endorse in D/node0/config.yaml: {expected}"));
    }
    fixture.write("node0/config.yaml", NODE_FILE);
    let variable = [("MINIDLT_ENDORSE", "nothing")];
    assert_eq!(read(&fixture, &variable, &Flags::default()).unwrap().endorse, Endorse::Nothing);
}

/// What to replace in the good file, by what, and the line.
const FILES: &[(&str, &str, &str)] = &[
    ("name: node0, ", "", "identity.name in D/node0/config.yaml: is missing; add it"),
    ("identity: {name: node0, organisation: Org01}", "", "identity in D/node0/config.yaml: is missing; add it"),
    (
        "name: node0",
        "name: 7",
        "identity.name in D/node0/config.yaml: found unsigned int `7`, expected a string; correct it",
    ),
    (
        "name: node0",
        "name: no/de",
        "identity.name in D/node0/config.yaml: \"no/de\" is not a name: 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first; choose another",
    ),
    (
        "name: node0, ",
        "name: node0, nick: x, ",
        "identity.nick in D/node0/config.yaml: is not known; use one of name, organisation, or remove it",
    ),
    (
        "api_listen",
        "api_lsten",
        "api_lsten in D/node0/config.yaml: is not known; use one of identity, genesis, key, data_dir, peers_listen, api_listen, health_listen, tls, log_level, endorse, limits, or remove it",
    ),
    (
        "api_listen: 127.0.0.1:3401",
        "api_listen: localhost",
        "api_listen in D/node0/config.yaml: \"localhost\" is not an IP address with a port; write one such as 127.0.0.1:3401",
    ),
    (
        "127.0.0.1:3402",
        "127.0.0.1:70000",
        "peers_listen in D/node0/config.yaml: \"127.0.0.1:70000\" is not an IP address with a port; write one such as 127.0.0.1:3401",
    ),
    (
        "127.0.0.1:3402",
        "127.0.0.1:0",
        "peers_listen in D/node0/config.yaml: \"127.0.0.1:0\" has port 0, where nobody could find it; write a port from 1 to 65535",
    ),
    (
        "127.0.0.1:3402",
        "0.0.0.0:3401",
        "peers_listen in D/node0/config.yaml: port 3401 is that of api_listen too; give each its own",
    ),
    (
        "health_listen: 127.0.0.1:3403",
        "health_listen: 127.0.0.1:3402",
        "health_listen in D/node0/config.yaml: port 3402 is that of peers_listen too; give each its own",
    ),
    (
        "health_listen: 127.0.0.1:3403",
        "health_listen: 0.0.0.0:3403",
        "health_listen in D/node0/config.yaml: \"0.0.0.0:3403\" can be reached from other machines; write a loopback address such as 127.0.0.1:3403",
    ),
    (
        "api_listen",
        "log_level: loud\napi_listen",
        "log_level in D/node0/config.yaml: \"loud\" is not a level; use off, error, warn, info, debug or trace",
    ),
    (
        "api_listen",
        "limits: {sessions: 0}\napi_listen",
        "limits.sessions in D/node0/config.yaml: 0 is not from 1 to 16384; choose one that is",
    ),
    (
        "api_listen",
        "limits: {sessions: 15}\napi_listen",
        "limits.sessions in D/node0/config.yaml: 15 leaves too few connections besides those with 0 other nodes; raise it to 16 at least",
    ),
    (
        "api_listen",
        "limits: {requests: 70000}\napi_listen",
        "limits.requests in D/node0/config.yaml: 70000 is not from 1 to 65536; choose one that is",
    ),
    (
        "api_listen",
        "limits: {subscribers: 0}\napi_listen",
        "limits.subscribers in D/node0/config.yaml: 0 is not from 1 to 16384; choose one that is",
    ),
    (
        "api_listen",
        "limits: {sessions: -1}\napi_listen",
        "limits.sessions in D/node0/config.yaml: found signed int `-1`, expected u64; correct it",
    ),
    (
        "api_listen",
        "limits: {mempool: {transactions: 100001}}\napi_listen",
        "limits.mempool.transactions in D/node0/config.yaml: 100001 is not from 1 to 100000; choose one that is",
    ),
    (
        "api_listen",
        "limits: {mempool: {bytes: 1}}\napi_listen",
        "limits.mempool.bytes in D/node0/config.yaml: 1 is not from 4194304 to 268435456; choose one that is",
    ),
    (
        "api_listen",
        "limits: {mempool: 5}\napi_listen",
        "limits.mempool in D/node0/config.yaml: found unsigned int `5`, expected keys below it; correct it",
    ),
    (
        "api_listen",
        "tls: {keys: x}\napi_listen",
        "tls.keys in D/node0/config.yaml: is not known; use one of certificate, key, or remove it",
    ),
    (
        "api_listen",
        "genesis: nix.yaml\napi_listen",
        "genesis in D/node0/config.yaml: D/node0/nix.yaml cannot be read: No such file or directory (os error 2); check the path and its permissions",
    ),
    (
        "api_listen",
        "key: nix.key\napi_listen",
        "key in D/node0/config.yaml: D/node0/nix.key cannot be read: No such file or directory (os error 2); check the path and its permissions",
    ),
    (
        "api_listen",
        "key: tls.key\napi_listen",
        "key in D/node0/config.yaml: D/node0/tls.key holds a key that is not of the curve secp256k1; write one with 'minidlt keygen'",
    ),
    (
        "api_listen",
        "data_dir: nix/data\napi_listen",
        "data_dir in D/node0/config.yaml: D/node0/nix cannot be read: No such file or directory (os error 2); check the path and its permissions",
    ),
    (
        "api_listen",
        "tls: {certificate: nix.crt}\napi_listen",
        "tls.certificate in D/node0/config.yaml: D/node0/nix.crt cannot be read: No such file or directory (os error 2); check the path and its permissions",
    ),
    (
        "api_listen",
        "tls: {certificate: config.yaml}\napi_listen",
        "tls.certificate in D/node0/config.yaml: D/node0/config.yaml holds no certificate in PEM; use the one its organisation issued",
    ),
    (
        "api_listen",
        "tls: {key: node.key}\napi_listen",
        "tls.key in D/node0/config.yaml: D/node0/node.key is not the key of the certificate D/node0/tls.crt; use the pair made together",
    ),
    (
        "peers_listen",
        "api_listen: 127.0.0.1:1\npeers_listen",
        "D/node0/config.yaml: duplicate entry with key \"api_listen\"; correct the YAML",
    ),
    ("api_listen", "\tapi_listen", "D/node0/config.yaml: "),
];

#[test]
fn each_wrong_file_has_its_line() {
    let fixture = Fixture::new();
    for (good, bad, expected) in FILES {
        assert!(NODE_FILE.contains(good));
        fixture.write("node0/config.yaml", NODE_FILE.replacen(good, bad, 1));
        let line = line(&fixture, plain(&fixture));
        if expected.ends_with(": ") {
            assert!(line.starts_with(expected) && line.ends_with("; correct the YAML"), "{line}");
        } else {
            assert_eq!(line, *expected);
        }
    }
}

#[test]
fn environment_and_flags_are_named_as_typed() {
    let fixture = Fixture::new();
    let table = [
        (
            "MINIDLT_API_LISTEN",
            "x",
            "api_listen from the environment variable MINIDLT_API_LISTEN: \"x\" is not an IP address with a port; write one such as 127.0.0.1:3401",
        ),
        (
            "MINIDLT_LIMITS__SESSIONS",
            "0",
            "limits.sessions from the environment variable MINIDLT_LIMITS__SESSIONS: 0 is not from 1 to 16384; choose one that is",
        ),
        (
            "MINIDLT_LIMITS__SESSIONS",
            "few",
            "limits.sessions from the environment variable MINIDLT_LIMITS__SESSIONS: found string \"few\", expected u64; correct it",
        ),
        (
            "MINIDLT_TLS__KEYS",
            "x",
            "tls.keys from the environment variable MINIDLT_TLS__KEYS: is not known; use one of certificate, key, or remove it",
        ),
        (
            "MINIDLT_APILISTEN",
            "x",
            "apilisten from the environment variable MINIDLT_APILISTEN: is not known; use one of identity, genesis, key, data_dir, peers_listen, api_listen, health_listen, tls, log_level, endorse, limits, or remove it",
        ),
        (
            "MINIDLT_TLS",
            "x",
            "tls from the environment variable MINIDLT_TLS: found string \"x\", expected keys below it; correct it",
        ),
        (
            "MINIDLT_KEY",
            "nix.key",
            "key from the environment variable MINIDLT_KEY: nix.key cannot be read: No such file or directory (os error 2); check the path and its permissions",
        ),
    ];
    for (variable, value, expected) in table {
        assert_eq!(line(&fixture, read(&fixture, &[(variable, value)], &Flags::default())), expected);
    }
    let flags = Flags { health_listen: Some("10.0.0.1:1".to_owned()), ..Flags::default() };
    let expected = "health_listen from the flag --health-listen: \"10.0.0.1:1\" can be reached from other machines; \
                    write a loopback address such as 127.0.0.1:3403";
    assert_eq!(line(&fixture, read(&fixture, &[], &flags)), expected);
}

#[test]
fn a_missing_file_and_a_missing_directory_have_their_lines() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.path("node0/config.yaml")).unwrap();
    let expected = "D/node0/config.yaml: cannot be read: No such file or directory (os error 2); check the path and \
                    its permissions";
    assert_eq!(line(&fixture, plain(&fixture)), expected);
}

#[test]
fn keys_must_be_private_and_of_this_node() {
    let fixture = Fixture::new();
    set_mode(&fixture.path("node0/node.key"), 0o640);
    let expected = "key by default: D/node0/node.key has mode 0640, so others than its owner can read it; \
                    run: chmod 600 D/node0/node.key";
    assert_eq!(line(&fixture, plain(&fixture)), expected);
    set_mode(&fixture.path("node0/node.key"), 0o600);
    set_mode(&fixture.path("node0/tls.key"), 0o604);
    assert!(line(&fixture, plain(&fixture)).starts_with("tls.key by default: D/node0/tls.key has mode 0604"));
    set_mode(&fixture.path("node0/tls.key"), 0o600);

    let other = generate_key().unwrap();
    fixture.write_private("node0/node.key", &other.pem);
    let expected = format!(
        "{} has the public key {}, but the genesis gives node0@Org01 the key {}; use the key made for it; unless it \
         was replaced on the ledger since, what it signs is refused",
        fixture.path("node0/node.key").display(),
        other.public_key,
        fixture.genesis.nodes[0].public_key
    );
    assert_eq!(plain(&fixture).unwrap().warnings, [expected]);

    let secret = String::from_utf8(other.pem).unwrap();
    fixture.write_private("node0/node.key", secret.replace("PRIVATE", "PUBLIC"));
    let said = line(&fixture, plain(&fixture));
    let expected = "key by default: D/node0/node.key holds no private key in unencrypted PEM; \
                    write one with 'minidlt keygen'";
    assert_eq!(said, expected);
}

#[test]
fn certificates_must_be_this_nodes_and_of_a_time_that_has_come() {
    let fixture = Fixture::new();
    let refused = |kind: Kind<'_>| {
        fixture.issue("node0", kind);
        line(&fixture, plain(&fixture))
    };
    assert_eq!(
        refused(Kind { name: "node1", ..Kind::default() }),
        "tls.certificate by default: D/node0/tls.crt names the subject [commonName = \"node1\", organizationName = \
         \"Org01\"], but this is CN=node0, O=Org01; use the certificate issued for it"
    );
    let early = refused(Kind { from: 2, ..Kind::default() });
    assert!(early.starts_with("tls.certificate by default: D/node0/tls.crt is not valid before "), "{early}");
}

#[test]
fn a_certificate_that_the_genesis_does_not_believe_is_warned_about_and_one_that_ran_out_is_read() {
    let fixture = Fixture::new();
    let warning = || {
        let warnings = plain(&fixture).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        warnings[0].replace(fixture.directory.path().to_str().unwrap(), "D")
    };
    let stranger = Authority::new("Org01");
    let key = tls_key();
    fixture.write("node0/tls.crt", certificate(Kind::default(), &key, Some(&stranger)).to_pem().unwrap());
    fixture.write_private("node0/tls.key", key.private_key_to_pem_pkcs8().unwrap());
    let said = warning();
    let expected = "D/node0/tls.crt: the CA of Org01 does not vouch for the certificate of node0@Org01 as a server: ";
    let advice = "; have the organisation issue a new one, or use the right genesis; unless the ledger has another CA \
                  of Org01 by now than the genesis";
    assert!(said.starts_with(expected) && said.ends_with(advice), "{said}");
    for (only, other) in [(Purpose::Server, "client"), (Purpose::Client, "server")] {
        fixture.issue("node0", Kind { only_for: Some(only), ..Kind::default() });
        let half = warning();
        assert!(half.contains(&format!("does not vouch for the certificate of node0@Org01 as a {other}: ")), "{half}");
    }
    for to in [-1, 10] {
        fixture.issue("node0", Kind { from: -9, to, ..Kind::default() });
        let settings = plain(&fixture).unwrap();
        assert_eq!(settings.warnings, Vec::<String>::new());
        assert_eq!(settings.tls.check(&settings.authority, NODE).is_ok(), to > 0);
        assert!(settings.tls.lapse().unwrap().is_some());
    }
}

#[test]
fn a_node_enrolled_after_the_genesis_is_warned_and_another_nodes_key_is_refused() {
    let fixture = Fixture::new();
    fixture.write("node0/config.yaml", NODE_FILE.replace("node0", "late"));
    fixture.issue("node0", Kind { name: "late", ..Kind::default() });
    let expected = "key by default: D/node0/node.key is the key of node0@Org01, not of late@Org01; use the key made \
                    for it";
    assert_eq!(line(&fixture, plain(&fixture)), expected);
    fixture.write_private("node0/node.key", generate_key().unwrap().pem);
    let expected = "late@Org01 is not in the genesis; peers accept it once a transaction has enrolled it";
    assert_eq!(plain(&fixture).unwrap().warnings, [expected]);
}

#[test]
fn a_genesis_has_real_authorities_each_its_own() {
    let fixture = Fixture::new();
    let refused = |ca: String, copies: bool| {
        let mut genesis = fixture.genesis.clone();
        genesis.organisations[0].ca = ca;
        if copies {
            let twin = genesis.organisations[0].clone();
            genesis.organisations.push(Organisation { name: "Org02".parse().unwrap(), ..twin });
            let (admin, key) = (genesis.users[0].clone(), generate_key().unwrap().public_key);
            genesis.users.push(User { organisation: "Org02".parse().unwrap(), public_key: key, ..admin });
        }
        fixture.write_genesis(&genesis);
        let text = load_genesis(&fixture.path("genesis.yaml")).unwrap_err().to_string();
        text.replace(fixture.directory.path().to_str().unwrap(), "D")
    };
    let pem = |certificate: X509| String::from_utf8(certificate.to_pem().unwrap()).unwrap();
    let tail = "; correct the genesis, the same on every node";
    assert_eq!(
        refused("junk".to_owned(), false),
        format!("D/genesis.yaml: organisations: Org01: ca holds 0 certificates in PEM, exactly one is needed{tail}")
    );
    let key = tls_key();
    assert_eq!(
        refused(pem(certificate(Kind::default(), &key, Some(&fixture.authority))), false),
        format!("D/genesis.yaml: organisations: Org01: ca is not self-signed{tail}")
    );
    assert_eq!(
        refused(pem(certificate(Kind::default(), &key, None)), false),
        format!(
            "D/genesis.yaml: organisations: Org01: ca is not marked as a certificate authority \
             (basicConstraints CA:TRUE){tail}"
        )
    );
    assert_eq!(
        refused(pem(fixture.authority.certificate.clone()), true),
        format!("D/genesis.yaml: organisations: Org02: ca has the key of Org01's ca{tail}")
    );
}

#[test]
fn a_wrong_genesis_is_named_by_its_path() {
    let fixture = Fixture::new();
    let text = std::fs::read_to_string(fixture.path("genesis.yaml")).unwrap();
    let mut twice = fixture.genesis.clone();
    twice.nodes.push(twice.nodes[0].clone());
    let mut nowhere = fixture.genesis.clone();
    nowhere.nodes[0].address = "nowhere".to_owned();
    let yaml = |genesis: &Genesis| serde_yaml::to_string(genesis).unwrap();
    let table = [
        (yaml(&twice), "D/genesis.yaml: nodes: node0@Org01 stands twice; correct the genesis, the same on every node"),
        (
            yaml(&nowhere),
            "D/genesis.yaml: nodes: node0@Org01: address \"nowhere\" is not host:port; correct the genesis, the same \
             on every node",
        ),
        (format!("network: x\n{text}"), "D/genesis.yaml: duplicate field `network`; correct the YAML"),
        (
            "x: 1".to_owned(),
            "D/genesis.yaml: unknown field `x`, expected one of `network`, `created`, `consensus`, \
             `timeouts`, `synchronise`, `organisations`, `nodes`, `users`, `policies`, `predecessor`; correct the YAML",
        ),
    ];
    for (text, expected) in table {
        fixture.write("genesis.yaml", text);
        assert_eq!(line(&fixture, plain(&fixture)), expected);
    }
}
