//! What a genesis must be, and how policies are read.

use minidlt_protocol::{
    codec,
    genesis::{Genesis, GenesisError, MAX_TIMEOUT_MILLIS},
    limits::{MAX_GENESIS_BYTES, MAX_MEMBERS, MAX_POLICIES, MAX_POLICY_DEPTH, MAX_VOTERS},
    registry::{NodeRole, Policy, PolicyError, Role},
    vote::ConsensusMode,
};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{genesis, identity, key, name, node};

fn check(change: impl FnOnce(&mut Genesis)) -> Result<(), GenesisError> {
    let mut changed = genesis(ConsensusMode::Bft);
    change(&mut changed);
    changed.check()
}

#[test]
fn an_honest_one_holds_and_survives_its_encodings() {
    for mode in [ConsensusMode::Bft, ConsensusMode::FullConsent] {
        let honest = genesis(mode);
        assert_eq!(honest.check(), Ok(()));
        let decoded: Genesis = codec::decode_canonical(&codec::encode(&honest), MAX_GENESIS_BYTES).unwrap();
        let read: Genesis = serde_json::from_str(&serde_json::to_string(&honest).unwrap()).unwrap();
        assert_eq!((&decoded, &read), (&honest, &honest));
        assert_eq!(read.id(), honest.id());
    }
}

#[test]
fn any_difference_is_another_network() {
    let id = genesis(ConsensusMode::Bft).id();
    let changes: [fn(&mut Genesis); 7] = [
        |g| g.network = name("other"),
        |g| g.created = g.created.plus_millis(1),
        |g| g.consensus = ConsensusMode::FullConsent,
        |g| g.timeouts.delta_ms += 1,
        |g| g.organisations[0].ca.push('\n'),
        |g| g.users.reverse(),
        |g| g.policies.clear(),
    ];
    for change in changes {
        let mut changed = genesis(ConsensusMode::Bft);
        change(&mut changed);
        assert_ne!(changed.id(), id);
    }
}

#[test]
fn lists() {
    assert_eq!(check(|g| g.organisations.clear()), Err(GenesisError::Empty { list: "organisations" }));
    assert_eq!(check(|g| g.nodes.clear()), Err(GenesisError::Empty { list: "nodes" }));
    assert_eq!(check(|g| g.users.clear()), Err(GenesisError::Empty { list: "users" }));
    let (count, limit) = (MAX_MEMBERS + 1, MAX_MEMBERS);
    let many = check(|g| g.users = vec![g.users[0].clone(); count]);
    assert_eq!(many, Err(GenesisError::TooMany { list: "users", count, limit }));
    let twice = |list, name: &str| Err(GenesisError::Duplicate { list, name: name.to_owned() });
    assert_eq!(check(|g| g.organisations.push(g.organisations[0].clone())), twice("organisations", "Org01"));
    assert_eq!(check(|g| g.nodes.push(g.nodes[1].clone())), twice("nodes", "node1@Org02"));
    assert_eq!(check(|g| g.users.push(g.users[0].clone())), twice("users", "trader@Org01"));
    assert_eq!(check(|g| g.users[0].name = name("node0")), twice("nodes and users", "node0@Org01"));
    let (count, limit) = (MAX_POLICIES + 1, MAX_POLICIES);
    let policies = check(|g| {
        let policy = g.policies[&name("orderers")].clone();
        g.policies = (0..count).map(|n| (name(&format!("p{n}")), policy.clone())).collect();
    });
    assert_eq!(policies, Err(GenesisError::TooMany { list: "policies", count, limit }));
    let oversized = check(|g| g.organisations[0].ca = "x".repeat(MAX_GENESIS_BYTES));
    assert!(matches!(oversized, Err(GenesisError::Oversized { .. })));
}

#[test]
fn what_may_not_be_shared() {
    let shared = |list, name: &str, other: &str, what| {
        Err(GenesisError::Shared { list, name: name.to_owned(), other: other.to_owned(), what })
    };
    let key_of_node = check(|g| g.nodes[1].public_key = g.nodes[0].public_key);
    assert_eq!(key_of_node, shared("nodes", "node0@Org01", "node1@Org02", "public_key"));
    let address = check(|g| g.nodes[1].address = g.nodes[0].address.clone());
    assert_eq!(address, shared("nodes", "node0@Org01", "node1@Org02", "address"));
    let key_of_user = check(|g| g.users[1].public_key = g.users[0].public_key);
    assert_eq!(key_of_user, shared("users", "trader@Org01", "broker@Org02", "public_key"));
    let key_of_both = check(|g| g.users[0].public_key = key(1).public_key());
    assert_eq!(key_of_both, shared("nodes and users", "node0@Org01", "trader@Org01", "public_key"));
}

#[test]
fn what_is_named_must_be_listed() {
    let missing = |list, name: &str, what, missing: &str| {
        Err(GenesisError::Missing { list, name: name.to_owned(), what, missing: missing.to_owned() })
    };
    let of_node = check(|g| g.nodes[0].organisation = name("Org09"));
    // Its users' gateways name it no more, but its organisation is looked at first.
    assert_eq!(of_node, missing("nodes", "node0@Org09", "organisation", "Org09"));
    let of_user = check(|g| g.users[0].organisation = name("Org09"));
    assert_eq!(of_user, missing("users", "trader@Org09", "organisation", "Org09"));
    let gateway = check(|g| g.users[0].gateways.extend([identity("node9@Org01")]));
    assert_eq!(gateway, missing("users", "trader@Org01", "gateway", "node9@Org01"));
    let leaf = || Policy::Leaf { organisation: name("Org09"), role: Role::Admin.into() };
    let policy = check(|g| drop(g.policies.insert(name("p"), Policy::Any { any: vec![leaf()] })));
    let lacking = "1 of 1 are needed, and Org09 is no organisation of this network";
    let reason = PolicyError::Unmeetable(lacking.to_owned());
    assert_eq!(policy, Err(GenesisError::Policy { name: name("p"), reason }));
    let no_admin = check(|g| g.users.retain(|user| user.identity() != identity("admin@Org03")));
    let reason = PolicyError::Unmeetable("nobody of Org03 is admin".into());
    assert!(matches!(no_admin, Err(GenesisError::Policy { .. } | GenesisError::NoAdmin(_))), "{no_admin:?} {reason}");
}

#[test]
fn voters_and_timeouts() {
    assert_eq!(check(|g| g.nodes.iter_mut().for_each(|n| n.roles.clear())), Err(GenesisError::NoOrderer));
    assert_eq!(check(|g| g.nodes[0].roles.retain(|role| *role != NodeRole::Orderer)), Ok(()));
    let voters = check(|g| {
        let model = g.nodes[0].clone();
        g.nodes.extend((4..=MAX_VOTERS as u8).map(|at| {
            let (name, public_key) = (name(&format!("node{at}")), key(at + 100).public_key());
            minidlt_protocol::registry::Node { name, public_key, address: format!("host:{at}"), ..model.clone() }
        }));
    });
    let (count, limit) = (MAX_VOTERS + 1, MAX_VOTERS);
    assert_eq!(voters, Err(GenesisError::TooMany { list: "nodes with role orderer", count, limit }));
    let timeout = |key, value, least| Err(GenesisError::Timeout { key, value, least });
    assert_eq!(check(|g| g.timeouts.propose_ms = 9), timeout("propose_ms", 9, 10));
    assert_eq!(check(|g| g.timeouts.vote_ms = u64::MAX), timeout("vote_ms", u64::MAX, 10));
    assert_eq!(check(|g| g.timeouts.delta_ms = 0), timeout("delta_ms", 0, 1));
    let most = MAX_TIMEOUT_MILLIS;
    assert_eq!(check(|g| (g.timeouts.propose_ms, g.timeouts.delta_ms) = (most, 1)), Ok(()));
}

#[test]
fn policies_that_nobody_or_everybody_meets() {
    let leaf = || Policy::Leaf { organisation: name("Org01"), role: Role::Admin.into() };
    assert_eq!(Policy::Any { any: vec![] }.check(false), Err(PolicyError::Empty));
    assert_eq!(Policy::All { all: vec![leaf(), Policy::All { all: vec![] }] }.check(false), Err(PolicyError::Empty));
    for (at_least, count) in [(0, 1), (2, 1), (0, 0), (usize::MAX, 2)] {
        let policy = Policy::AtLeast { at_least, of: vec![leaf(); count] };
        assert_eq!(policy.check(false), Err(PolicyError::AtLeast { at_least, count }));
    }
    let nested = |levels| (1..levels).fold(leaf(), |inner, _| Policy::Any { any: vec![inner] });
    assert_eq!(nested(MAX_POLICY_DEPTH).check(false), Ok(()));
    assert_eq!(nested(MAX_POLICY_DEPTH + 1).check(false), Err(PolicyError::TooDeep));
    let deepest = codec::encode(&nested(MAX_POLICY_DEPTH));
    assert_eq!(codec::decode(&deepest, 1 << 10), Ok(nested(MAX_POLICY_DEPTH)));
    let bad = check(|g| drop(g.policies.insert(name("p"), nested(MAX_POLICY_DEPTH + 1))));
    assert_eq!(bad, Err(GenesisError::Policy { name: name("p"), reason: PolicyError::TooDeep }));
}

#[test]
fn a_policy_is_read_as_one_thing_or_not_at_all() {
    let read = |value: serde_json::Value| serde_json::from_value::<Policy>(value).ok();
    let leaf = json!({"organisation": "Org01", "role": "admin"});
    assert_eq!(read(leaf.clone()), Some(Policy::Leaf { organisation: name("Org01"), role: Role::Admin.into() }));
    assert!(matches!(read(json!({"any": [leaf]})), Some(Policy::Any { .. })));
    assert!(matches!(read(json!({"all": [leaf]})), Some(Policy::All { .. })));
    assert!(matches!(read(json!({"at_least": 1, "of": [leaf]})), Some(Policy::AtLeast { at_least: 1, .. })));
    let refused = [
        json!({}),
        json!([]),
        json!("admin"),
        json!({"any": [leaf], "all": [leaf]}),
        json!({"any": [leaf], "organisation": "Org01", "role": "admin"}),
        json!({"at_least": 1}),
        json!({"of": [leaf]}),
        json!({"at_least": -1, "of": [leaf]}),
        json!({"at_least": 1.5, "of": [leaf]}),
        json!({"organisation": "Org01"}),
        json!({"organisation": "Org01", "role": "king"}),
        json!({"organisation": "Org01", "role": "admin", "more": 1}),
        json!({"any": leaf}),
        json!({"any": [[leaf]]}),
    ];
    for value in refused {
        assert_eq!(read(value.clone()), None, "{value}");
    }
}

/// An untagged enum tries one shape after another: hostile nesting must not double the work a level.
#[test]
fn nesting_costs_no_exponential_work() {
    let mut value = json!({"organisation": "Org01", "role": "king"});
    for _ in 0..60 {
        value = json!({"any": [value], "all": []});
    }
    assert!(serde_json::from_value::<Policy>(value).is_err());
}

fn policies() -> impl Strategy<Value = Policy> {
    let roles = prop_oneof![Just(Role::Admin), Just(Role::Submitter), Just(Role::PolicyInvoker)];
    let leaf =
        ("Org0[1-4]", roles).prop_map(|(org, role)| Policy::Leaf { organisation: name(&org), role: role.into() });
    leaf.prop_recursive(6, 40, 4, |inner| {
        let parts = prop::collection::vec(inner, 1..4);
        (parts, 0usize..3, 1usize..4).prop_map(|(parts, kind, at_least)| match kind {
            0 => Policy::Any { any: parts },
            1 => Policy::All { all: parts },
            _ => Policy::AtLeast { at_least: at_least.min(parts.len()), of: parts },
        })
    })
}

proptest! {
    #[test]
    fn policies_survive_their_encodings(policy in policies()) {
        prop_assert_eq!(policy.check(false), Ok(()));
        let bytes = codec::encode(&policy);
        prop_assert_eq!(codec::decode_canonical::<Policy>(&bytes, bytes.len()).unwrap(), policy.clone());
        let text = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
    }
}

#[test]
fn the_registry_is_what_genesis_says() {
    let registry = genesis(ConsensusMode::Bft).registry();
    assert!(registry.active_node(&node(0)).is_some() && registry.active_user(&node(0)).is_none());
    assert_eq!(registry.key_of(&node(3)), Some(key(4).public_key()));
    assert_eq!(registry.key_of(&identity("admin@Org01")), Some(key(14).public_key()));
    assert_eq!(registry.key_of(&identity("nobody@Org01")), None);
    assert_eq!(registry.orderers().as_slice().len(), 4);
}
