//! Servers with all kinds of certificates, and what a user of Org01 makes of them.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    thread,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use minidlt_config::{
    generate_key,
    user::{self, USER_FILE, UserFile},
};
use minidlt_protocol::registry::{Organisation, Role, User};
use tempfile::TempDir;

use super::*;
use crate::{
    client::{
        api::{NodeClient, http_client},
        receipts::fixture::genesis,
    },
    init::certificates::{Authority as Issuer, Issued, Purpose as Use},
};

/// `node1@Org01` and `node2@Org02` are nodes, `trader@Org01` is the user.
struct World {
    one: Issuer,
    two: Issuer,
    user: UserSettings,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let [one, two] = ["Org01", "Org02"].map(|name| Issuer::new(&name.parse().unwrap()).unwrap());
        let (mut genesis, key) = (genesis(), generate_key().unwrap());
        genesis.organisations = vec![organisation(&one), organisation(&two)];
        genesis.nodes[1].organisation = two.organisation().clone();
        genesis.users[0].public_key = key.public_key;
        // An organisation without an admin is refused.
        let admin = User::new(
            "admin@Org02".parse().unwrap(),
            generate_key().unwrap().public_key,
            [Role::Admin].into(),
            Default::default(),
        );
        genesis.users.push(admin);
        let trader = genesis.users[0].identity();
        let certificate = one.issue(&trader, &Use::User).unwrap();
        let file = UserFile::new(trader, vec!["https://localhost:3401".into()]);
        let file = UserFile { genesis: "genesis.yaml".into(), ..file };
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("genesis.yaml", serde_yaml::to_string(&genesis).unwrap().into_bytes()),
            (USER_FILE, serde_yaml::to_string(&file).unwrap().into_bytes()),
            ("user.key", key.pem),
            ("tls.crt", certificate.certificate_pem().unwrap()),
            ("tls.key", certificate.key_pem().unwrap()),
        ];
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        let user = user::load(directory.path()).unwrap();
        Self { one, two, user, directory }
    }
}

fn organisation(issuer: &Issuer) -> Organisation {
    let ca = String::from_utf8(issuer.certificate_pem().unwrap()).unwrap();
    Organisation::new(issuer.organisation().clone(), ca)
}

/// A certificate for localhost that names `who`.
fn issue(issuer: &Issuer, who: &str) -> Issued {
    issuer.issue(&who.parse().unwrap(), &Use::Node { host: "localhost" }).unwrap()
}

/// How a server with this certificate is taken where `host` is wanted.
fn visit(tls: &Tls, host: &str, server: &Issued) -> Result<(), Distrust> {
    let verdict = Verdict::default();
    let connector = tls.connector(verdict.clone()).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let acceptor = server.acceptor().build();
    let serving = thread::spawn(move || acceptor.accept(far).is_ok());
    let connected = connector.connect(host, near).is_ok();
    // The client may have left before the server's last word: what counts is what the client saw.
    let _maybe_cut_off = serving.join().unwrap();
    let distrust = verdict.take();
    assert_eq!(connected, distrust.is_none(), "{distrust:?}");
    distrust.map_or(Ok(()), Err)
}

#[test]
fn a_node_is_whom_its_own_organisation_vouches_for_and_the_genesis_lists() {
    let World { one, two, user, .. } = World::new();
    let tls = Tls::new(&user, None).unwrap();
    assert_eq!(visit(&tls, "localhost", &issue(&one, "node1@Org01")), Ok(()));
    assert_eq!(visit(&tls, "127.0.0.1", &issue(&two, "node2@Org02")), Ok(()));

    let stranger = Issuer::new(one.organisation()).unwrap();
    let users_own = one.issue(&user.identity, &Use::User).unwrap();
    let cases = [
        ("another organisation's CA", issue(&two, "node1@Org01"), "localhost", "the CA of Org01 does not vouch for"),
        ("a node that nobody enrolled", issue(&one, "node9@Org01"), "localhost", "not an enrolled node"),
        ("a user as a server", issue(&one, "trader@Org01"), "localhost", "not an enrolled node"),
        // In OpenSSL's words, which differ from version to version:
        ("a certificate for clients alone", users_own, "localhost", ""),
        ("another host", issue(&one, "node1@Org01"), "example.org", ""),
        ("a stranger's CA", issue(&stranger, "node1@Org01"), "localhost", ""),
    ];
    for (what, server, host, reason) in cases {
        let Distrust { subject, reason: found } = visit(&tls, host, &server).expect_err(what);
        assert!(!found.is_empty() && found.contains(reason), "{what}: {found}");
        assert!(subject.contains("Org01"), "{what}: {subject}");
    }
}

#[test]
fn while_an_organisation_replaces_its_ca_nodes_of_both_are_trusted() {
    let World { one, user, .. } = World::new();
    let next = Issuer::new(one.organisation()).unwrap();
    let overlap = Organisation { former_ca: Some(organisation(&one).ca), ..organisation(&next) };
    let authority = Arc::new(Authority::new(&[overlap]).unwrap());
    let tls = Tls::new(&UserSettings { authority, ..user }, None).unwrap();
    for issuer in [&one, &next] {
        assert_eq!(visit(&tls, "localhost", &issue(issuer, "node1@Org01")), Ok(()));
        visit(&tls, "example.org", &issue(issuer, "node1@Org01")).unwrap_err();
    }
    let stranger = Issuer::new(one.organisation()).unwrap();
    visit(&tls, "localhost", &issue(&stranger, "node1@Org01")).unwrap_err();
}

#[test]
fn authorities_of_a_file_vouch_for_any_node_and_no_others_do() {
    let World { one, two, user, directory } = World::new();
    let path = directory.path().join("ca.pem");
    fs::write(&path, two.certificate_pem().unwrap()).unwrap();
    let tls = Tls::new(&user, Some(path.as_path())).unwrap();
    assert_eq!(visit(&tls, "localhost", &issue(&two, "gateway@Org01")), Ok(()));
    visit(&tls, "localhost", &issue(&one, "node1@Org01")).unwrap_err();
    visit(&tls, "example.org", &issue(&two, "node2@Org02")).unwrap_err();

    fs::write(&path, "no certificate").unwrap();
    assert!(matches!(Tls::new(&user, Some(path.as_path())), Err(ClientError::Content { .. })));
}

#[test]
fn the_error_says_who_is_refused_and_why_each_time() {
    let World { two, user, .. } = World::new();
    let forged = issue(&two, "node1@Org01");
    let tls = Tls::new(&user, None).unwrap();
    actix_rt::System::new().block_on(async {
        let server = HttpServer::new(|| App::new().route("/", web::get().to(HttpResponse::Ok)));
        let server = server.workers(1).disable_signals().bind_openssl("127.0.0.1:0", forged.acceptor()).unwrap();
        let url = format!("https://127.0.0.1:{}", server.addrs()[0].port());
        actix_rt::spawn(server.run());
        let verdict = Verdict::default();
        let told = verdict.clone();
        let make = move || tls.connector(told).map(http_client);
        let node = NodeClient::new(url.parse().unwrap(), make).with_verdict(verdict);
        for _ in 0..2 {
            let error = node.status().await.unwrap_err();
            assert!(!error.is_transient() && matches!(error, ClientError::Certificate { .. }), "{error:?}");
            let line = error.to_string();
            assert!(line.starts_with(&format!("{url} is not trusted: its certificate, for [")), "{line}");
            assert!(line.contains("node1") && line.contains("the CA of Org01 does not vouch for"), "{line}");
        }
    });
}
