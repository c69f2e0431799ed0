//! Members, organisations and policies as transactions change them: each change and each refusal, what a
//! block with several of them does, who votes when, and what holds after any sequence of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use minidlt_protocol::{
    block::{Block, CertifiedBlock},
    consensus,
    crypto::{PublicKey, SecretKey},
    governance::{
        AddOrganisation, Change, ChangeNode, ChangeOrganisation, ChangeRefused, ChangeUser, EnrolNode, EnrolUser,
        FirstAdmin, FormerKeyFor, RemoveOrganisation, SetPolicy, SetRecordType, apply, permit,
    },
    lineage::{self, VoterChange},
    receipt::{CertifiedHeader, RECEIPT_VERSION, Receipt},
    registry::{EntryKey, IN_FORCE_AFTER, NodeRole, Policy, Registry, Role, SignerRole, Standing},
    state::{self, Outcome},
    transaction::{Body, Content, Operation, Refusal, SignedTransaction, Transaction, TransactionBytes},
    types::{Height, Identity, Name, Round, Timestamp},
    vote::{Certificate, CommitSignature, ConsensusMode, Phase, Vote},
};
use proptest::prelude::*;

use crate::common::{
    ADMIN, ADMINS, AUDITOR, BROKER, Ledger, NOW, Network, TRADER, identity, key, name, network, node, node_key,
};

static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

fn public(seed: u8) -> PublicKey {
    key(seed).public_key()
}

fn admins(count: usize) -> Vec<Identity> {
    ADMINS[..count].iter().map(|(who, _)| identity(who)).collect()
}

fn enrol(who: &str, seed: u8, roles: &[Role]) -> Change {
    let (user, gateways) = (identity(who), BTreeSet::from([node(0)]));
    Change::EnrolUser(EnrolUser { user, public_key: public(seed), roles: roles.iter().copied().collect(), gateways })
}

pub fn change_user(who: &str, revision: u64) -> ChangeUser {
    let user = identity(who);
    ChangeUser { user, revision, public_key: None, roles: None, gateways: None, standing: None }
}

fn change_node(who: Identity, revision: u64) -> ChangeNode {
    let node = who;
    ChangeNode { node, revision, public_key: None, former_key: None, roles: None, address: None, standing: None }
}

fn enrol_node(who: &str, seed: u8, roles: &[NodeRole]) -> Change {
    let (node, address) = (identity(who), format!("127.0.0.1:{}", 5_000 + u16::from(seed)));
    Change::EnrolNode(EnrolNode { node, public_key: public(seed), roles: roles.iter().copied().collect(), address })
}

fn add_organisation(organisation: &str, seed: u8) -> Change {
    let admin = FirstAdmin {
        name: name("admin"),
        public_key: public(seed),
        roles: [Role::NodeInvoker, Role::UserInvoker].into(),
        gateways: [node(0)].into(),
    };
    Change::AddOrganisation(AddOrganisation { organisation: name(organisation), ca: "its certificate\n".into(), admin })
}

/// A registry in which the admin of each organisation has every right.
pub fn registry() -> Registry {
    let mut genesis = NETWORK.genesis.clone();
    for user in &mut genesis.users {
        if user.roles.contains(&Role::Admin) {
            user.roles.extend([Role::NodeInvoker, Role::PolicyInvoker, Role::UserInvoker]);
        }
    }
    genesis.policies = BTreeMap::new();
    genesis.registry()
}

/// By the admin of Org01 and so many more admins.
fn attempt(registry: &mut Registry, change: &Change, signers: &[Identity]) -> Result<Vec<EntryKey>, ChangeRefused> {
    permit(change, signers, registry)?;
    apply(change, registry, NOW)
}

pub fn refused(change: &Change, signers: &[Identity]) -> ChangeRefused {
    let (before, mut after) = (registry(), registry());
    let refused = attempt(&mut after, change, signers).expect_err("it is refused");
    assert_eq!(before, after, "what is refused changes nothing");
    refused
}

#[test]
fn users_are_enrolled_changed_suspended_and_revoked() {
    let (mut registry, by) = (registry(), admins(1));
    let who = identity("new@Org01");
    attempt(&mut registry, &enrol("new@Org01", 50, &[Role::Submitter]), &by).unwrap();
    assert_eq!(registry.key_of(&who), Some(public(50)));
    let change = ChangeUser {
        public_key: Some(public(51)),
        roles: Some([Role::Auditor].into()),
        standing: Some(Standing::Suspended),
        ..change_user("new@Org01", 0)
    };
    attempt(&mut registry, &Change::ChangeUser(change), &by).unwrap();
    assert_eq!(registry.active_user(&who), None, "suspended");
    assert_eq!((registry.users[&who].revision, registry.owner_of_key(&public(50))), (1, None));
    let resume = ChangeUser { standing: Some(Standing::Active), ..change_user("new@Org01", 1) };
    attempt(&mut registry, &Change::ChangeUser(resume), &by).unwrap();
    assert_eq!(registry.active_user(&who).map(|user| user.public_key), Some(public(51)));
    let revoke = ChangeUser { standing: Some(Standing::Revoked), ..change_user("new@Org01", 2) };
    attempt(&mut registry, &Change::ChangeUser(revoke), &by).unwrap();
    let again = ChangeUser { standing: Some(Standing::Active), ..change_user("new@Org01", 3) };
    let key = || EntryKey::User(who.clone());
    assert_eq!(attempt(&mut registry, &Change::ChangeUser(again), &by), Err(ChangeRefused::Revoked(key())));
    let anew = enrol("new@Org01", 52, &[Role::Submitter]);
    assert_eq!(attempt(&mut registry, &anew, &by), Err(ChangeRefused::Exists(key())));
}

#[test]
fn who_may_change_a_user() {
    let new = |roles: &[Role]| enrol("new@Org01", 50, roles);
    let role = |author: &str, roles| ChangeRefused::Role { author: identity(author), roles };
    let users: &[Role] = &[Role::UserInvoker, Role::Admin];
    assert_eq!(refused(&new(&[Role::Submitter]), &[identity(TRADER.0)]), role(TRADER.0, users));
    let other = ChangeRefused::OtherOrganisation { author: identity("admin@Org02"), organisation: name("Org01") };
    assert_eq!(refused(&new(&[Role::Submitter]), &[identity("admin@Org02")]), other);
    let nobody = identity("nobody@Org01");
    assert_eq!(refused(&new(&[Role::Submitter]), std::slice::from_ref(&nobody)), ChangeRefused::Author(nobody.clone()));
    let endorsed = [identity(TRADER.0), identity(ADMIN.0)];
    assert_eq!(refused(&new(&[Role::Submitter]), &endorsed), role(TRADER.0, users), "an endorser is no author");

    // An admin's rights and key are for admins alone.
    let mut registry = registry();
    attempt(&mut registry, &enrol("clerk@Org01", 60, &[Role::UserInvoker]), &admins(1)).unwrap();
    let clerk = [identity("clerk@Org01")];
    assert_eq!(attempt(&mut registry, &new(&[Role::Submitter]), &clerk).map(|keys| keys.len()), Ok(1));
    let alone = Err(role("clerk@Org01", &[Role::Admin]));
    assert_eq!(attempt(&mut registry, &enrol("x@Org01", 61, &[Role::Admin]), &clerk), alone);
    let promote = ChangeUser { roles: Some([Role::Admin].into()), ..change_user("clerk@Org01", 0) };
    assert_eq!(attempt(&mut registry, &Change::ChangeUser(promote), &clerk), alone);
    let usurp = ChangeUser { public_key: Some(public(62)), ..change_user("admin@Org01", 0) };
    assert_eq!(attempt(&mut registry, &Change::ChangeUser(usurp), &clerk), alone);
}

#[test]
fn what_a_change_of_users_is_refused_for() {
    let by = admins(1);
    let taken = enrol("trader@Org01", 50, &[Role::Submitter]);
    assert_eq!(refused(&taken, &by), ChangeRefused::Exists(EntryKey::User(identity(TRADER.0))));
    let named_as_node = enrol("node0@Org01", 50, &[Role::Submitter]);
    assert_eq!(refused(&named_as_node, &by), ChangeRefused::Exists(EntryKey::Node(node(0))));
    let same_key = enrol("new@Org01", TRADER.1, &[Role::Submitter]);
    assert_eq!(refused(&same_key, &by), ChangeRefused::KeyTaken(identity(TRADER.0)));
    assert_eq!(refused(&enrol("new@Org01", 50, &[]), &by), ChangeRefused::NoRole);
    let stale = ChangeUser { standing: Some(Standing::Suspended), ..change_user(TRADER.0, 1) };
    let key = || EntryKey::User(identity(TRADER.0));
    assert_eq!(refused(&Change::ChangeUser(stale), &by), ChangeRefused::Stale { key: key(), named: 1, found: 0 });
    assert_eq!(refused(&Change::ChangeUser(change_user(TRADER.0, 0)), &by), ChangeRefused::Nothing(key()));
    let missing = Change::ChangeUser(change_user("who@Org01", 0));
    assert_eq!(refused(&missing, &by), ChangeRefused::Missing(EntryKey::User(identity("who@Org01"))));
    let gateway = ChangeUser { gateways: Some([identity("node9@Org01")].into()), ..change_user(TRADER.0, 0) };
    assert_eq!(refused(&Change::ChangeUser(gateway), &by), ChangeRefused::Gateway(identity("node9@Org01")));
    for last in [
        ChangeUser { standing: Some(Standing::Suspended), ..change_user(ADMIN.0, 0) },
        ChangeUser { roles: Some([Role::Submitter].into()), ..change_user(ADMIN.0, 0) },
    ] {
        assert_eq!(refused(&Change::ChangeUser(last), &by), ChangeRefused::NoAdmin(name("Org01")));
    }
    let text = serde_json::json!({"enrol_user": {"user": {"name": "x", "organisation": "Org01"},
        "public_key": public(50), "roles": ["king"], "gateways": []}});
    assert!(serde_json::from_value::<Change>(text).unwrap_err().to_string().contains("king"), "no role nobody knows");
}

#[test]
fn nodes_need_the_policy_only_where_it_is_about_a_vote() {
    let mut registry = registry();
    let (alone, majority) = (admins(1), admins(3));
    attempt(&mut registry, &enrol_node("node4@Org01", 70, &[NodeRole::Peer]), &alone).unwrap();
    let to_orderer = ChangeNode {
        roles: Some([NodeRole::Peer, NodeRole::Orderer].into()),
        ..change_node(identity("node4@Org01"), 0)
    };
    let to_orderer = Change::ChangeNode(to_orderer);
    let Err(ChangeRefused::Policy { name: "orderers", missing }) = attempt(&mut registry, &to_orderer, &alone) else {
        panic!("it needs endorsements");
    };
    assert_eq!(missing, "admin of 3 of the 4 organisations (1 signed)");
    let none = ChangeUser { standing: None, ..change_user(BROKER.0, 0) };
    assert!(attempt(&mut registry, &Change::ChangeUser(none), &alone).is_err());
    attempt(&mut registry, &to_orderer, &majority).unwrap();
    let keys = registry.follow_orderers(Height::new(5));
    assert_eq!(keys, [EntryKey::Voters(Height::new(5 + IN_FORCE_AFTER))]);
    let quorum = |height| registry.voters_at(Height::new(height)).quorum();
    assert_eq!((quorum(6), quorum(7)), (3, 4), "in force two heights later");

    let moved = ChangeNode { address: Some("host:1".into()), ..change_node(identity("node4@Org01"), 1) };
    attempt(&mut registry, &Change::ChangeNode(moved), &alone).expect("its address is its own affair");
    let suspended = ChangeNode { standing: Some(Standing::Suspended), ..change_node(identity("node4@Org01"), 2) };
    let suspended = Change::ChangeNode(suspended);
    let refused = attempt(&mut registry, &suspended, &alone);
    assert!(matches!(refused, Err(ChangeRefused::Policy { .. })), "it takes a vote away: {refused:?}");
    attempt(&mut registry, &suspended, &majority).unwrap();
    assert_eq!(registry.node_at("host:1"), Some(&identity("node4@Org01")));
}

#[test]
fn what_a_change_of_nodes_is_refused_for() {
    let by = admins(1);
    let bad_address = |address: &str| {
        let change = ChangeNode { address: Some(address.into()), ..change_node(node(0), 0) };
        refused(&Change::ChangeNode(change), &by)
    };
    for address in ["", "host", ":1", "host:", "host:0", "host:70000"] {
        assert_eq!(bad_address(address), ChangeRefused::Address(address.into()));
    }
    let taken = ChangeRefused::AddressTaken { address: "127.0.0.1:3412".into(), owner: node(1) };
    assert_eq!(bad_address("127.0.0.1:3412"), taken);
    let until = |millis| Some(FormerKeyFor { until: Timestamp::from_millis(millis) });
    let past = ChangeNode { public_key: Some(public(71)), former_key: until(NOW.millis()), ..change_node(node(0), 0) };
    assert_eq!(refused(&Change::ChangeNode(past), &by), ChangeRefused::FormerKey);
    let no_new = ChangeNode { former_key: until(u64::MAX), ..change_node(node(0), 0) };
    assert_eq!(refused(&Change::ChangeNode(no_new), &by), ChangeRefused::FormerKey);

    let mut registry = registry();
    let revoke =
        |at: u8| Change::ChangeNode(ChangeNode { standing: Some(Standing::Revoked), ..change_node(node(at), 0) });
    for at in [3, 2, 1] {
        let mut by = admins(4);
        by.swap(0, usize::from(at));
        attempt(&mut registry, &revoke(at), &by).unwrap();
    }
    assert_eq!(attempt(&mut registry, &revoke(0), &admins(4)), Err(ChangeRefused::NoOrderer));
}

#[test]
fn a_nodes_former_key_stamps_for_a_while_and_votes_no_more() {
    let mut registry = registry();
    let until = NOW.plus_millis(1_000);
    let rotate = ChangeNode {
        public_key: Some(public(71)),
        former_key: Some(FormerKeyFor { until }),
        ..change_node(node(0), 0)
    };
    attempt(&mut registry, &Change::ChangeNode(rotate), &admins(1)).unwrap();
    let node = &registry.nodes[&node(0)];
    let keys = |now| node.stamp_keys(now).copied().collect::<Vec<_>>();
    assert_eq!(keys(until), [public(71), node_key(0).public_key()]);
    assert_eq!(keys(until.plus_millis(1)), [public(71)]);
    assert_eq!(registry.orderers().get(&node.identity()).map(|voter| voter.key), Some(public(71)));
}

#[test]
fn organisations_come_change_their_ca_and_go() {
    let mut registry = registry();
    let add = add_organisation("Org05", 80);
    let missing = attempt(&mut registry, &add, &admins(2)).unwrap_err();
    assert!(matches!(missing, ChangeRefused::Policy { name: "organisations", .. }), "{missing}");
    attempt(&mut registry, &add, &admins(3)).unwrap();
    assert!(registry.has_role(&identity("admin@Org05"), Role::Admin.into()));
    // Five organisations: three are a majority still.
    let change = |revision, ca: Option<&str>| {
        Change::ChangeOrganisation(ChangeOrganisation {
            organisation: name("Org01"),
            revision,
            ca: ca.map(str::to_owned),
        })
    };
    attempt(&mut registry, &change(0, Some("another\n")), &admins(3)).unwrap();
    let organisation = registry.organisations[&name("Org01")].clone();
    assert_eq!(
        (organisation.ca.as_str(), organisation.former_ca.as_deref()),
        ("another\n", Some("certificate of Org01\n"))
    );
    attempt(&mut registry, &change(1, None), &admins(3)).unwrap();
    assert_eq!(registry.organisations[&name("Org01")].former_ca, None);
    let nothing = attempt(&mut registry, &change(2, None), &admins(3));
    assert_eq!(nothing, Err(ChangeRefused::Nothing(EntryKey::Organisation(name("Org01")))));

    let remove = |of: &str| Change::RemoveOrganisation(RemoveOrganisation { organisation: name(of), revision: 0 });
    assert!(matches!(attempt(&mut registry, &remove("Org02"), &admins(2)), Err(ChangeRefused::Policy { .. })));
    attempt(&mut registry, &remove("Org02"), &admins(3)).unwrap();
    assert_eq!((registry.active_node(&node(1)), registry.active_user(&identity(BROKER.0))), (None, None));
    assert_eq!(registry.orderers().as_slice().len(), 3);
    let enrol = Change::EnrolUser(EnrolUser {
        user: identity("x@Org02"),
        public_key: public(81),
        roles: [Role::Submitter].into(),
        gateways: BTreeSet::new(),
    });
    assert!(attempt(&mut registry, &enrol, &[identity("admin@Org02")]).is_err());
    assert!(matches!(
        attempt(&mut registry, &add_organisation("Org02", 82), &admins(1)),
        Err(ChangeRefused::Policy { .. })
    ));
}

#[test]
fn a_policy_that_could_never_be_met_is_refused_when_it_is_set_and_when_who_it_needs_goes() {
    let leaf = |organisation: &str, role: SignerRole| Policy::Leaf { organisation: name(organisation), role };
    let set = |policy| Change::SetPolicy(SetPolicy { name: name("p"), revision: None, policy });
    for bad in [
        leaf("Org09", Role::Admin.into()),
        leaf("Org01", Role::ContractInvoker.into()),
        Policy::AtLeast { at_least: 2, of: vec![leaf("Org01", Role::Admin.into())] },
        Policy::Majority { majority: Role::Auditor.into() },
        Policy::Named { organisation_in: "/seller".into(), role: NodeRole::Peer.into() },
    ] {
        let refused = refused(&set(bad), &admins(3));
        assert!(matches!(refused, ChangeRefused::BadPolicy { .. }), "{refused}");
    }
    let mut registry = registry();
    let needed = set(leaf("Org03", Role::Auditor.into()));
    let unendorsed = attempt(&mut registry, &needed, &admins(1));
    assert!(matches!(unendorsed, Err(ChangeRefused::Policy { name: "policies", .. })));
    attempt(&mut registry, &needed, &admins(3)).unwrap();
    let by = [identity("admin@Org03")];
    let gone = ChangeUser { standing: Some(Standing::Revoked), ..change_user(AUDITOR.0, 0) };
    let refused = attempt(&mut registry, &Change::ChangeUser(gone), &by).unwrap_err();
    let expected = "policy 'p': it could never be met: nobody of Org03 is auditor";
    assert_eq!(refused.to_string(), expected);
    let removed = Change::RemoveOrganisation(RemoveOrganisation { organisation: name("Org03"), revision: 0 });
    let refused = attempt(&mut registry, &removed, &admins(4)).unwrap_err();
    assert!(refused.to_string().contains("Org03 is no organisation"), "{refused}");
    let again =
        Change::SetPolicy(SetPolicy { name: name("p"), revision: Some(0), policy: leaf("Org01", Role::Admin.into()) });
    attempt(&mut registry, &again, &admins(3)).unwrap();
    attempt(&mut registry, &removed, &admins(4)).expect("nothing needs it any more");
}

/// A block of these changes, each by the admin of Org01 with so many more admins' endorsements.
pub struct Run {
    pub network: Network,
    pub ledger: Ledger,
    chain: Vec<CertifiedBlock>,
    nonce: u64,
}

impl Run {
    pub fn new(mode: ConsensusMode) -> Self {
        let mut network = network(mode);
        for user in &mut network.genesis.users {
            if user.roles.contains(&Role::Admin) {
                user.roles.extend([Role::NodeInvoker, Role::PolicyInvoker, Role::UserInvoker]);
            }
        }
        network.genesis.policies = BTreeMap::new();
        network.id = network.genesis.id();
        network.registry = Arc::new(network.genesis.registry());
        (network.head, _) = state::genesis_head(&network.genesis).unwrap();
        let ledger = network.ledger();
        Self { network, ledger, chain: Vec::new(), nonce: 0 }
    }

    pub fn sign(&mut self, change: Change, signers: &[(&str, u8)]) -> SignedTransaction {
        self.nonce += 1;
        let (author, endorsers) = signers.split_first().unwrap();
        let operation = Operation::Change(change.into());
        let created = self.ledger.head.created;
        let expires = created.plus_millis(60_000);
        let body = Body { operation, created, expires, ..self.network.body(author.0, self.nonce) };
        let mut signed = SignedTransaction::sign(&body, &key(author.1));
        endorsers.iter().for_each(|(who, seed)| self.network.endorse(&mut signed, who, *seed));
        signed
    }

    /// Commits these, whatever comes of them, certified by the voters of the height, whose keys are `keys`.
    pub fn commit(&mut self, signed: &[SignedTransaction], keys: &BTreeMap<Identity, SecretKey>) -> Vec<Outcome> {
        let height = self.ledger.head.height.next();
        let voters = self.ledger.registry.voters_at(height).clone();
        let proposer = voters.proposer(height, Round::ZERO).unwrap().identity.clone();
        let created = self.ledger.head.created.plus_millis(1_000);
        let shared = |signed: &SignedTransaction| {
            let parsed = Transaction::parse(TransactionBytes::from(signed), &self.network.id).unwrap();
            Arc::new(parsed.verify(&self.ledger.registry).unwrap())
        };
        let shared: Vec<_> = signed.iter().map(shared).collect();
        let header = minidlt_protocol::block::build(&self.ledger.head, Round::ZERO, proposer, created, &shared).header;
        let block = header.hash(&self.network.id);
        let digest = Vote { phase: Phase::Precommit, height, round: Round::ZERO, block: Some(block) };
        let digest = digest.digest(&self.network.id);
        let signatures = voters.as_slice().iter().map(|voter| {
            let signature = keys[&voter.identity].sign(&digest);
            CommitSignature { voter: voter.identity.clone(), signature }
        });
        let certificate = Certificate { height, round: Round::ZERO, block, signatures: signatures.collect() };
        let transactions = shared.iter().map(|transaction| transaction.bytes.clone()).collect();
        let certified = CertifiedBlock { block: Block { header, transactions }, certificate };
        let outcomes = self.ledger.take(&self.network, &certified).outcomes;
        self.chain.push(certified);
        outcomes
    }
}

pub fn voters_keys() -> BTreeMap<Identity, SecretKey> {
    (0..4).map(|at| (node(at), node_key(at))).chain([(identity("node4@Org05"), key(90))]).collect()
}

pub fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { reason } => reason,
        Outcome::Ok => panic!("it took effect"),
    }
}

#[test]
fn of_two_conflicting_changes_in_a_block_the_first_wins() {
    let mut run = Run::new(ConsensusMode::Bft);
    let roles = |role| ChangeUser { roles: Some([role].into()), ..change_user(TRADER.0, 0) };
    let both = [Role::Auditor, Role::Submitter].map(|role| run.sign(Change::ChangeUser(roles(role)), &ADMINS[..1]));
    let twice = [51, 52].map(|seed| run.sign(enrol("new@Org01", seed, &[Role::Submitter]), &ADMINS[..1]));
    // And what the first changes takes from the author of the second.
    let second = run.sign(enrol("boss@Org01", 53, &[Role::Admin, Role::UserInvoker]), &ADMINS[..1]);
    let list: Vec<_> = [&both[..1], &twice[..], &[second]].concat();
    // The auditor is of one role already: the second change of that user would be the one that changes nothing.
    let outcomes = run.commit(&list, &voters_keys());
    assert_eq!((&outcomes[0], &outcomes[1], &outcomes[3]), (&Outcome::Ok, &Outcome::Ok, &Outcome::Ok));
    assert_eq!(
        failed(&outcomes[2]),
        "user/new@Org01 is there already; a name is never given twice, not even after a revocation"
    );
    let outcomes = run.commit(&both[1..], &voters_keys());
    assert_eq!(
        failed(&outcomes[0]),
        "user/trader@Org01 has revision 1 by now, this is a change of revision 0; look at it and sign anew"
    );
    let off = ChangeUser { roles: Some([Role::Submitter].into()), ..change_user(ADMIN.0, 0) };
    let off = run.sign(Change::ChangeUser(off), &[("boss@Org01", 53)]);
    let late = run.sign(enrol("late@Org01", 54, &[Role::Submitter]), &ADMINS[..1]);
    let outcomes = run.commit(&[off, late], &voters_keys());
    assert_eq!(outcomes[0], Outcome::Ok);
    assert!(failed(&outcomes[1]).contains("has none of the roles"), "{outcomes:?}");
}

#[test]
fn who_is_enrolled_in_a_block_may_submit_in_the_next_and_who_is_revoked_may_not() {
    let mut run = Run::new(ConsensusMode::Bft);
    let record = |run: &Run, who: &str, seed: u8, nonce: u64| {
        let created = run.ledger.head.created;
        let body = Body { created, expires: created.plus_millis(60_000), ..run.network.body(who, nonce) };
        let signed = SignedTransaction::sign(&body, &key(seed));
        Transaction::parse(TransactionBytes::from(&signed), &run.network.id).unwrap()
    };
    let early = record(&run, "new@Org01", 50, 1_000);
    let unknown = Err(Refusal::UnknownAuthor(identity("new@Org01")));
    assert_eq!(early.authorise(&run.ledger.registry, None), unknown);
    let enrolment = run.sign(enrol("new@Org01", 50, &[Role::Submitter]), &ADMINS[..1]);
    run.commit(&[enrolment], &voters_keys());
    let held = early.verify(&run.ledger.registry).expect("it is enrolled now");
    assert_eq!(held.authorise(&run.ledger.registry, Some(&node(0))), Ok(()));

    // A key replaced takes back what was signed with the one before.
    let rotate = ChangeUser { public_key: Some(public(51)), ..change_user("new@Org01", 0) };
    let rotate = run.sign(Change::ChangeUser(rotate), &ADMINS[..1]);
    run.commit(&[rotate], &voters_keys());
    assert_eq!(held.check_keys(&run.ledger.registry), Err(Refusal::KeyReplaced(identity("new@Org01"))));
    let list = [Arc::new(held)];
    let header = run.network.certified(&run.ledger.head, &list, &[]).block.header;
    let refused = header.check_transactions(list.iter().map(|t| &***t), &run.ledger.registry);
    assert!(refused.unwrap_err().to_string().contains("was replaced"));

    let revoke = ChangeUser { standing: Some(Standing::Revoked), ..change_user("new@Org01", 1) };
    let revoke = run.sign(Change::ChangeUser(revoke), &ADMINS[..1]);
    run.commit(&[revoke], &voters_keys());
    let late = record(&run, "new@Org01", 51, 1_001);
    assert_eq!(late.authorise(&run.ledger.registry, None), unknown);
}

/// Org05 comes, its node becomes an orderer, and Org04 goes: receipts and state proofs of every block verify
/// from the genesis of four.
#[test]
fn receipts_verify_across_changes_of_voters() {
    for mode in [ConsensusMode::Bft, ConsensusMode::FullConsent] {
        let mut run = Run::new(mode);
        let keys = voters_keys();
        let add = run.sign(add_organisation("Org05", 80), &ADMINS[..3]);
        run.commit(&[add], &keys);
        let admin5 = ("admin@Org05", 80);
        let orderer = enrol_node("node4@Org05", 90, &[NodeRole::Peer, NodeRole::Orderer]);
        let orderer = run.sign(orderer, &[admin5, ADMINS[0], ADMINS[1]]);
        assert_eq!(run.commit(&[orderer], &keys), [Outcome::Ok]);
        run.commit(&[], &keys);
        assert_eq!(run.ledger.registry.voters_at(Height::new(4)).as_slice().len(), 5);
        let goes = RemoveOrganisation { organisation: name("Org04"), revision: 0 };
        let goes = run.sign(Change::RemoveOrganisation(goes), &[ADMINS[0], ADMINS[1], admin5]);
        assert_eq!(run.commit(&[goes], &keys), [Outcome::Ok]);
        let news = run.sign(enrol("new@Org05", 91, &[Role::Submitter]), &[admin5]);
        run.commit(&[news], &keys);
        for _ in 0..3 {
            run.commit(&[], &keys);
        }
        let counts: Vec<_> = run.chain.iter().map(|block| block.certificate.signatures.len()).collect();
        assert_eq!(counts, [4, 4, 4, 5, 5, 4, 4, 4]);
        for at in [0, 1, 3, 4] {
            let receipt = receipt(&run, at);
            receipt.verify(&run.network.genesis).unwrap_or_else(|error| panic!("block {}: {error}", at + 1));
            let changes = receipt.voter_changes.len();
            assert_eq!(changes, [0, 0, 0, 1, 2][at]);
            if changes > 0 {
                let without = Receipt { voter_changes: vec![], ..receipt.clone() };
                assert!(without.verify(&run.network.genesis).is_err());
                let mut other = receipt.clone();
                other.voter_changes[0].proven.value = None;
                assert!(other.verify(&run.network.genesis).is_err());
            }
            let mut other = receipt.clone();
            other.signers[0] = run_at(&run, at).prove("user/trader@Org01");
            let error = other.verify(&run.network.genesis).unwrap_err().to_string();
            let who = identity(parsed_author(&run, at));
            assert_eq!(error, format!("signers[0]: user/trader@Org01 is no entry of {who} in good standing"));
        }
    }
}

fn parsed_author(run: &Run, at: usize) -> &'static str {
    let author = run.chain[at].block.parse(&run.network.id).unwrap()[0].author.to_string();
    ["admin@Org01", "admin@Org05"].into_iter().find(|who| *who == author).expect("one of them")
}

/// The ledger before block `at` of the chain, from 0.
fn run_at(run: &Run, at: usize) -> Ledger {
    let mut ledger = run.network.ledger();
    run.chain[..at].iter().for_each(|certified| drop(ledger.take(&run.network, certified)));
    ledger
}

fn certified_header(run: &Run, at: usize) -> CertifiedHeader {
    let CertifiedBlock { block, certificate } = &run.chain[at];
    let voters = run.ledger.registry.voters_at(block.header.height);
    CertifiedHeader::new(&run.network.id, block.header.clone(), certificate.clone(), voters)
}

fn receipt(run: &Run, at: usize) -> Receipt {
    let ledger = run_at(run, at);
    let plain = run.network.receipt(&run.chain, at, 0);
    let last = plain.next.header.height;
    let sets = run.ledger.registry.voter_sets.iter().map(|set| set.from);
    let changes = sets.filter(|from| *from > Height::GENESIS && *from <= last).map(|from| {
        let at = usize::try_from(from.get()).unwrap() - 2;
        let proven = run_at(run, at).prove(&EntryKey::Voters(from).to_string());
        VoterChange { header: certified_header(run, at), proven }
    });
    let parsed = run.chain[at].block.parse(&run.network.id).unwrap();
    assert_eq!(plain.minidlt_receipt, RECEIPT_VERSION);
    Receipt {
        voter_changes: changes.collect(),
        signers: ledger.proven(&parsed[0].signers_entries(&ledger.registry)),
        block: certified_header(run, at),
        next: certified_header(run, at + 1),
        ..plain
    }
}

#[test]
fn changes_of_voters_out_of_order_prove_nothing() {
    let genesis = &NETWORK.genesis;
    assert!(lineage::follow(genesis, &[], Height::new(9)).is_ok());
    let header = CertifiedHeader::new(
        &NETWORK.id,
        NETWORK.chain(&[vec![]])[0].block.header.clone(),
        NETWORK.chain(&[vec![]])[0].certificate.clone(),
        &NETWORK.voters,
    );
    let proven = NETWORK.ledger().prove(&EntryKey::Voters(Height::new(2)).to_string());
    let absent = VoterChange { header, proven };
    assert!(lineage::follow(genesis, std::slice::from_ref(&absent), Height::new(9)).is_err(), "there is no such entry");
    assert!(lineage::follow(genesis, &[absent], Height::new(1)).is_err(), "it is not needed");
}

#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    organisation: u8,
    member: u8,
    seed: u8,
    choice: u8,
    endorsers: u8,
    stale: bool,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0u8..10, 0u8..6, 0u8..5, 40u8..70, 0u8..8, 0u8..16, prop::bool::weighted(0.1));
    let step = step.prop_map(|(kind, organisation, member, seed, choice, endorsers, stale)| Step {
        kind,
        organisation,
        member,
        seed,
        choice,
        endorsers,
        stale,
    });
    prop::collection::vec(prop::collection::vec(step, 0..5), 1..12)
}

impl Step {
    fn organisation(&self) -> Name {
        name(&format!("Org0{}", self.organisation + 1))
    }

    fn user(&self) -> Identity {
        let who = ["admin", "trader", "broker", "auditor", "new"][usize::from(self.member)];
        Identity::new(name(who), self.organisation())
    }

    fn node(&self) -> Identity {
        Identity::new(name(&format!("node{}", self.member)), self.organisation())
    }

    fn standing(&self) -> Standing {
        [Standing::Active, Standing::Suspended, Standing::Revoked][usize::from(self.choice % 3)]
    }

    fn roles(&self) -> BTreeSet<Role> {
        let all = [Role::Admin, Role::UserInvoker, Role::NodeInvoker, Role::PolicyInvoker, Role::Submitter];
        all.into_iter().enumerate().filter(|(at, _)| self.choice >> (at % 3) & 1 == 1).map(|(_, role)| role).collect()
    }

    fn change(&self, registry: &Registry) -> Change {
        let (user, node) = (self.user(), self.node());
        let stale = u64::from(self.stale);
        let revision = registry.users.get(&user).map_or(0, |user| user.revision) + stale;
        let of_node = registry.nodes.get(&node).map_or(0, |node| node.revision) + stale;
        let of_organisation = registry.organisations.get(&self.organisation()).map_or(0, |one| one.revision) + stale;
        let change = ChangeUser { user: user.clone(), ..change_user("x@Org01", revision) };
        let changed_node = change_node(node.clone(), of_node);
        let roles: BTreeSet<NodeRole> = match self.choice % 3 {
            0 => [NodeRole::Peer].into(),
            _ => [NodeRole::Peer, NodeRole::Orderer].into(),
        };
        match self.kind {
            0 => enrol(&user.to_string(), self.seed, &self.roles().into_iter().collect::<Vec<_>>()),
            1 => Change::ChangeUser(ChangeUser { standing: Some(self.standing()), ..change }),
            2 => Change::ChangeUser(ChangeUser { roles: Some(self.roles()), ..change }),
            3 => enrol_node(&node.to_string(), self.seed, &roles.into_iter().collect::<Vec<_>>()),
            4 => Change::ChangeNode(ChangeNode { standing: Some(self.standing()), ..changed_node }),
            5 => Change::ChangeNode(ChangeNode { roles: Some(roles), ..changed_node }),
            6 => add_organisation(self.organisation().as_str(), self.seed),
            7 => Change::RemoveOrganisation(RemoveOrganisation {
                organisation: self.organisation(),
                revision: of_organisation,
            }),
            9 => Change::SetRecordType(SetRecordType {
                name: name("t"),
                revision: registry.record_types.get(&name("t")).map(|entry| entry.revision + stale),
                schema: Content::from_json(&serde_json::json!({"maxLength": self.seed})),
                policy: (self.choice > 3)
                    .then(|| Policy::Leaf { organisation: self.organisation(), role: Role::Admin.into() }),
                standing: Some(self.standing()),
            }),
            _ => Change::SetPolicy(SetPolicy {
                name: name("p"),
                revision: registry.policies.get(&name("p")).map(|entry| entry.revision),
                policy: Policy::Leaf { organisation: self.organisation(), role: Role::Admin.into() },
            }),
        }
    }

    /// Any user for its author, and some admins: what it may not do is what is asked.
    fn signers(&self, registry: &Registry) -> Vec<Identity> {
        let author = Identity::new(name("admin"), self.organisation());
        let endorsers = registry.users.values().filter(|user| user.name == name("admin"));
        let endorsers = endorsers.enumerate().filter(|(at, _)| self.endorsers >> (at % 4) & 1 == 1);
        let endorsers = endorsers.map(|(_, user)| user.identity()).filter(|one| *one != author);
        [author.clone()].into_iter().chain(endorsers).collect()
    }
}

fn check_invariants(registry: &Registry) {
    for organisation in registry.active_organisations() {
        let admin = |user: &minidlt_protocol::registry::User| {
            user.organisation == *organisation && user.standing.is_active() && user.roles.contains(&Role::Admin)
        };
        assert!(registry.users.values().any(admin), "{organisation} has an admin who can act");
    }
    assert!(registry.orderers().quorum() >= 1 && !registry.orderers().as_slice().is_empty(), "somebody votes");
    let keys = registry.users.values().map(|user| user.public_key);
    let keys: Vec<_> = keys.chain(registry.nodes.values().map(|node| node.public_key)).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len(), "each member has a key of its own");
    let everybody: Vec<_> = registry.users.keys().chain(registry.nodes.keys()).cloned().collect();
    let named = ["orderers", "organisations", "policies", "p"].iter().filter_map(|name| registry.policy(name));
    let types = registry.record_types.values().filter(|one| one.standing.is_active());
    for policy in named.chain(types.filter_map(|one| one.policy.clone())) {
        let contents = [];
        let case = minidlt_protocol::registry::Case { registry, signers: &everybody, contents: &contents };
        assert!(policy.explain(&case).met, "if all sign, every policy is met");
    }
    for user in registry.users.values().filter(|user| !registry.is_active(&user.organisation)) {
        assert!(!user.standing.is_active(), "nobody of a removed organisation acts");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is asked by whomever, in blocks: what must hold holds after each, no right is used that its
    /// user has not, and all who execute the same blocks have the same state, also read back from it.
    #[test]
    fn what_must_hold_holds_after_any_changes(blocks in steps()) {
        let mut genesis = NETWORK.genesis.clone();
        for user in genesis.users.iter_mut().filter(|user| user.roles.contains(&Role::Admin)) {
            user.roles.extend([Role::NodeInvoker, Role::PolicyInvoker, Role::UserInvoker]);
        }
        genesis.policies = BTreeMap::new();
        let (mut head, made) = state::genesis_head(&genesis).unwrap();
        let mut memory = crate::common::MemoryState::default();
        memory.apply(made);
        let mut registry = Arc::new(genesis.registry());
        let mut height = Height::GENESIS;
        for block in blocks {
            height = height.next();
            let before = registry.clone();
            let mut writes = state::Writes::new();
            let mut keys = Vec::new();
            for step in &block {
                let (change, signers) = (step.change(&registry), step.signers(&registry));
                let now = registry.clone();
                let permitted = permit(&change, &signers, &registry);
                let author = registry.active_user(&signers[0]).cloned();
                let done = permitted.and_then(|()| apply(&change, Arc::make_mut(&mut registry), NOW));
                match done {
                    Err(_) => prop_assert_eq!(&*now, &*registry, "what is refused changes nothing"),
                    Ok(changed) => {
                        let author = author.expect("its author was active");
                        prop_assert!(change.roles().iter().any(|role| author.roles.contains(role)));
                        keys.extend(changed);
                    }
                }
                check_invariants(&registry);
            }
            if !keys.is_empty() {
                keys.extend(Arc::make_mut(&mut registry).follow_orderers(height));
                writes.extend(keys.iter().map(|key| (key.to_bytes(), registry.encoded(key))));
                let update = state::update(&memory, head.state_version + 1, &writes).unwrap();
                head.state_version += 1;
                head.state_root = memory.apply(update);
            } else {
                prop_assert!(Arc::ptr_eq(&before, &registry) || *before == *registry);
            }
            let read = state::registry(&memory, head.state_version, genesis.consensus).unwrap();
            prop_assert_eq!(&read, &*registry, "the state says all of it");
            let voters = registry.voters_at(height.next());
            prop_assert_eq!(voters, before.voters_at(height.next()), "who votes next was known before");
            prop_assert!(voters.as_slice().len() <= consensus::MAX_VOTERS);
        }
    }
}
