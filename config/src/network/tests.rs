use super::*;

fn local(nodes: usize, base_port: u16) -> Result<Network, ConfigError> {
    Network::local(Local { nodes, consensus: ConsensusMode::Bft, base_port })
}

#[test]
fn four_nodes_are_four_organisations_with_the_documented_ports_and_users() {
    let network = local(4, DEFAULT_BASE_PORT).unwrap();
    let nodes: Vec<_> = network.nodes.iter().map(|n| format!("{} {} {}", n.name, n.organisation, n.port)).collect();
    assert_eq!(nodes, ["node0 Org01 3401", "node1 Org02 3411", "node2 Org03 3421", "node3 Org04 3431"]);
    let users: Vec<_> =
        network.users.iter().map(|u| format!("{} {} {:?}", u.name, u.organisation, u.gateways)).collect();
    let expected = [
        "admin Org01 [0]",
        "admin-Org02 Org02 [1]",
        "admin-Org03 Org03 [2]",
        "admin-Org04 Org04 [3]",
        "trader Org01 [0, 1, 2, 3]",
    ];
    assert_eq!(users, expected);
    assert!(network.users[4].roles.iter().eq([&Role::Submitter]));
}

#[test]
fn an_organisation_that_joins_has_a_node_and_an_admin() {
    let joining = |host: &str, base_port| {
        let (network, organisation) = ("minidlt".parse().unwrap(), "Org05".parse().unwrap());
        Network::joining(Joining { network, nodes: 4, organisation, host: host.into(), base_port })
    };
    let network = joining("ledger.org05.example", 3441).unwrap();
    let [node, user] = [network.nodes[0].clone().name, network.users[0].clone().name];
    assert_eq!((node.as_str(), user.as_str()), ("node4", "admin-Org05"));
    assert_eq!(network.nodes[0].at(network.nodes[0].peers_port()), "ledger.org05.example:3442");
    assert_eq!((network.nodes.len(), network.users.len(), &network.users[0].gateways[..]), (1, 1, &[0][..]));
    let line = |result: Result<Network, ConfigError>| result.unwrap_err().to_string();
    assert!(line(joining("a b", 3441)).starts_with("host from the flag --host: "));
    assert!(line(joining("127.0.0.1", 65_535)).starts_with("base-port from the flag --base-port: "));
}

#[test]
fn flags_out_of_bounds_are_named() {
    let line = |result: Result<Network, ConfigError>| result.err().map(|error| error.to_string());
    let expected = "nodes from the flag --nodes: 0 is not from 1 to 100; choose one that is";
    assert_eq!(line(local(0, 3401)).as_deref(), Some(expected));
    let expected = "base-port from the flag --base-port: 65540 is not from 1 to 65533; choose one that is";
    assert_eq!(line(local(2, 65_530)).as_deref(), Some(expected));
    assert!(local(100, 3401).is_ok());
}

#[test]
fn how_many_must_match_is_as_the_file_says_or_a_quorum() {
    let load = |line: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let users = "users: [{name: a, organisation: A, roles: [admin]}]";
        std::fs::write(file.path(), format!("organisations: [A]\nnodes: [{{organisation: A}}]\n{users}\n{line}"))
            .unwrap();
        Network::load(file.path(), None, DEFAULT_BASE_PORT)
    };
    assert_eq!(load("").unwrap().synchronise, Synchronise::Quorum);
    assert_eq!(load("synchronise: any").unwrap().synchronise, Synchronise::Any);
    assert_eq!(load("synchronise: all").unwrap().synchronise, Synchronise::All);
    let wrong = load("synchronise: most").unwrap_err().to_string();
    assert!(wrong.contains("synchronise") && wrong.contains("`most`"), "{wrong}");
}

/// Each wrong network file, with its line after the file's path.
#[test]
fn each_wrong_network_file_has_its_line() {
    let head = "organisations: [A, B]\n";
    let table = [
        (
            "nodes: [{organisation: C}]",
            "nodes.0.organisation in F: names the organisation C, which is not listed; add it or correct the name",
        ),
        ("nodes: []", "nodes in F: 0 is not from 1 to 10000; choose one that is"),
        (
            "nodes: [{organisation: A, host: 'a b'}]",
            "nodes.0.host in F: \"a b\" is neither a host name nor an IP address; correct it",
        ),
        (
            "nodes: [{organisation: A, port: 65534}]",
            "nodes.0.port in F: 65534 is not from 1 to 65533; choose one that is",
        ),
        ("nodes: [{organisation: A, port: 0}]", "nodes.0.port in F: 0 is not from 1 to 65533; choose one that is"),
        (
            "nodes: [{organisation: A, port: 5000}, {organisation: B, port: 5002, host: localhost}]",
            "nodes.1.port in F: port 5002 is that of another node of this host too; give each its own",
        ),
        ("nodes: [{organisation: A, name: n}, {organisation: B, name: n}]", "nodes: n in F: stands twice; keep one"),
        (
            "nodes: [{organisation: A}]\nusers: [{name: u, organisation: A, roles: [submitter], gateways: [nix]}]",
            "users.0.gateways in F: names the node nix, which is not listed; add it or correct the name",
        ),
        (
            "nodes: [{organisation: A}]\nusers: [{name: u, organisation: Z, roles: []}]",
            "users.0.organisation in F: names the organisation Z, which is not listed; add it or correct the name",
        ),
        (
            "nodes: [{organisation: A}]\nusers: [{name: u, organisation: A, roles: [admin]}]",
            "users in F: none of B has the role admin, so nobody could enrol its members; add one",
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network.yaml");
    for (body, expected) in table {
        std::fs::write(&path, format!("{head}{body}\n")).unwrap();
        let line = Network::load(&path, None, DEFAULT_BASE_PORT).unwrap_err().to_string();
        assert_eq!(line.replace(path.to_str().unwrap(), "F"), expected, "{body}");
    }
}

#[test]
fn a_network_file_takes_hosts_ports_roles_and_gateways() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("network.yaml");
    let text = "network: trading\nconsensus: full-consent\norganisations: [A, B]\nnodes:\n\
                - {organisation: A, host: '::1'}\n- {name: b, organisation: B, host: b.example, roles: [peer], port: 9000}\n\
                users:\n- {name: u, organisation: A, roles: [admin, submitter], gateways: [b, node0]}\n- {name: v, organisation: B, roles: [admin]}\n";
    std::fs::write(&path, text).unwrap();
    let network = Network::load(&path, None, DEFAULT_BASE_PORT).unwrap();
    assert_eq!((network.name.as_str(), network.consensus), ("trading", ConsensusMode::FullConsent));
    assert_eq!(network.nodes[0].at(3402), "[::1]:3402");
    assert!(network.nodes[0].is_local() && !network.nodes[1].is_local());
    assert_eq!(network.nodes[1].at(network.nodes[1].peers_port()), "b.example:9001");
    assert_eq!(network.users[0].gateways, [1, 0]);
    let overridden = Network::load(&path, Some(ConsensusMode::Bft), DEFAULT_BASE_PORT).unwrap();
    assert_eq!(overridden.consensus, ConsensusMode::Bft);
}
