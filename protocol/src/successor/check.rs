//! What makes a genesis the successor that it says it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Consent, Predecessor, SuccessorError};
use crate::{
    block::{Block, Head},
    codec,
    genesis::Genesis,
    governance::{self, Change, ChangeNode},
    limits::{MAX_ENDORSEMENTS, MAX_PREDECESSORS},
    lineage,
    registry::{Case, EntryKey, Registry, Standing},
    state::{self, Empty, StateError, StateReader, Table, Writes},
    state_proof::Base64,
    types::Identity,
    vote::ConsensusMode,
};

type Changes = BTreeMap<String, Option<Base64>>;

impl Predecessor {
    /// Checks that the chain ended so. Answers what became of the state that the last header certifies, and who is
    /// enrolled after the last block, before anybody is suspended.
    pub(super) fn executed(&self, mode: ConsensusMode) -> Result<(Changes, Registry), SuccessorError> {
        let (network, header) = (self.genesis.id(), &self.last.header);
        let before = header.height.previous().ok_or(SuccessorError::NoBlock)?;
        let lineage = lineage::follow(&self.genesis, &self.voter_changes, header.height)?;
        self.last.verify("last", &network, lineage.at(header.height))?;

        let entries = || self.state.iter().map(|(key, Base64(value))| (key.clone().into_bytes(), value.clone()));
        let writes: Writes = entries().map(|(key, value)| (key, Some(value))).collect();
        let update = state::update(&Empty, 0, &writes)?;
        if update.root != header.state_root {
            return Err(SuccessorError::StateRoot { computed: update.root, certified: header.state_root });
        }
        let registry = Arc::new(Registry::read(mode, entries()).map_err(SuccessorError::Registry)?);
        let transactions = self.transactions.iter().map(|Base64(bytes)| bytes.clone().into()).collect();
        let transactions = Block { header: header.clone(), transactions }.parse(&network)?;
        header.check_transactions(transactions.iter(), &registry)?;
        let head = Head {
            height: before,
            hash: header.previous,
            created: header.created,
            results_root: header.results_root,
            state_root: header.state_root,
            state_version: 0,
            certified_version: 0,
            transactions: 0,
        };
        let memory = Memory::of(update.entries);
        let execution = state::execute(&memory, &registry, &head, header.created, transactions.iter())?;
        let after = Registry::clone(&execution.registry);
        let mut writes = execution.writes;
        writes.extend(self.suspensions(&after)?);
        let text =
            |key: Vec<u8>| String::from_utf8(key).map_err(|error| SuccessorError::Key { key: error.into_bytes() });
        let changes = writes.into_iter().map(|(key, value)| Ok::<_, SuccessorError>((text(key)?, value.map(Base64))));
        Ok((changes.collect::<Result<_, _>>()?, after))
    }

    fn suspensions(&self, registry: &Registry) -> Result<Writes, SuccessorError> {
        let (mut registry, mut writes) = (registry.clone(), Writes::new());
        for node in &self.without {
            let orderer = registry.nodes.get(node).filter(|node| node.votes());
            let revision = orderer.ok_or_else(|| SuccessorError::NotAnOrderer(node.clone()))?.revision;
            let change = Change::ChangeNode(ChangeNode {
                node: node.clone(),
                revision,
                public_key: None,
                former_key: None,
                roles: None,
                address: None,
                standing: Some(Standing::Suspended),
            });
            let suspended = governance::apply(&change, &mut registry, self.last.header.created);
            suspended.map_err(|reason| SuccessorError::Without { node: node.clone(), reason })?;
            let key = EntryKey::Node(node.clone());
            writes.insert(key.to_bytes(), registry.encoded(&key));
        }
        Ok(writes)
    }
}

impl Genesis {
    /// What makes a successor one, but the policies: who is to sign it may have yet to.
    pub(crate) fn check_successor(&self, predecessor: &Predecessor) -> Result<Registry, SuccessorError> {
        if self.depth() > MAX_PREDECESSORS {
            return Err(SuccessorError::TooMany);
        }
        predecessor.genesis.check()?;
        self.check_settings(&predecessor.genesis)?;
        let last = predecessor.last.header.created;
        if self.created < last {
            return Err(SuccessorError::GoesBack { created: self.created, last });
        }
        let (changes, after) = predecessor.executed(self.consensus)?;
        let differs = |key: &&String| changes.get(*key) != predecessor.changes.get(*key);
        if let Some(key) = changes.keys().chain(predecessor.changes.keys()).find(differs) {
            return Err(SuccessorError::Changes { key: codec::clip(key) });
        }
        let registry = predecessor.registry(self.consensus).map_err(SuccessorError::Registry)?;
        self.check_lists(&registry)?;
        self.check_signatures(predecessor, &after)?;
        Ok(after)
    }

    fn check_settings(&self, before: &Self) -> Result<(), SuccessorError> {
        let settings = [
            ("network", self.network == before.network),
            ("consensus", self.consensus == before.consensus),
            ("timeouts", self.timeouts == before.timeouts),
            ("synchronise", self.synchronise == before.synchronise),
        ];
        match settings.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(SuccessorError::Setting { what }),
            None => Ok(()),
        }
    }

    /// Who is a member stands in clear, too, for people and for whoever reads no state.
    fn check_lists(&self, registry: &Registry) -> Result<(), SuccessorError> {
        let policies = registry.policies.iter().map(|(name, entry)| (name, &entry.policy));
        let lists = [
            ("organisations", self.organisations.iter().eq(registry.organisations.values())),
            ("nodes", self.nodes.iter().eq(registry.nodes.values())),
            ("users", self.users.iter().eq(registry.users.values())),
            ("policies", self.policies.iter().eq(policies)),
        ];
        match lists.into_iter().find(|(_, same)| !same) {
            Some((list, _)) => Err(SuccessorError::List { list }),
            None => Ok(()),
        }
    }

    fn check_signatures(&self, predecessor: &Predecessor, registry: &Registry) -> Result<(), SuccessorError> {
        let signatures = &predecessor.signatures;
        if signatures.len() > MAX_ENDORSEMENTS {
            return Err(SuccessorError::Signatures { count: signatures.len() });
        }
        let (digest, mut seen) = (self.consent_digest().unwrap_or_default(), BTreeSet::new());
        for Consent { user, signature } in signatures {
            if !seen.insert(user) {
                return Err(SuccessorError::Twice(user.clone()));
            }
            let known = registry.active_user(user).ok_or_else(|| SuccessorError::Signer(user.clone()))?;
            let held = known.public_key.verify(&digest, signature);
            held.map_err(|reason| SuccessorError::Signature { user: user.clone(), reason })?;
        }
        Ok(())
    }
}

/// Checks that these signatures, each of which holds, are all that is asked for. `registry` is as of the last block.
pub(crate) fn check_consent(predecessor: &Predecessor, registry: &Registry) -> Result<(), SuccessorError> {
    let signers: Vec<Identity> = predecessor.signatures.iter().map(|consent| consent.user.clone()).collect();
    let case = Case { registry, signers: &signers, contents: &[] };
    for name in predecessor.policies() {
        let explanation = registry.policy(name).map(|policy| policy.explain(&case));
        if let Some(explanation) = explanation.filter(|explanation| !explanation.met) {
            return Err(SuccessorError::Policy { name, missing: explanation.missing() });
        }
    }
    Ok(())
}

/// A state of one version in memory.
struct Memory(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl Memory {
    fn of(entries: Vec<(Table, Vec<u8>, Vec<u8>)>) -> Self {
        Self(entries.into_iter().map(|(table, key, value)| ((table, key), value)).collect())
    }
}

impl StateReader for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<state::Entry>, StateError> {
        let below = self.0.range((table, Vec::new())..=(table, key.to_vec())).next_back();
        Ok(below.map(|((_, key), value)| (key.clone(), value.clone())))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        Ok(self.0.iter().filter(|((table, _), _)| *table == Table::Keys).map(|(_, key)| key.clone()).collect())
    }
}
