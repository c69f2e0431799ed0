//! The node's signing keys, of which there are two while one takes the other's place.
//!
//! Which of them signs is what the ledger says: a vote, the key that the voters of its height have for this
//! node; a transaction, the one that its entry has; a message to peers, the one before for as long as that
//! is good, since a peer that is behind knows no other. The operator puts the new key beside the one in use
//! (`node.key.next`), then has it enrolled; once it is on the ledger it takes the other's place here and on the
//! disk, without a restart.

use std::{collections::BTreeSet, time::Duration};

use log::{error, info, warn};
use minidlt_config::{ConfigError, KeyFiles};
use minidlt_protocol::{
    crypto::{PublicKey, SecretKey},
    limits::CLOCK_WINDOW_MILLIS,
    registry::{FormerKey, IN_FORCE_AFTER, Node, Registry},
    types::{Height, Identity, Timestamp},
};
use tokio::sync::watch;

use crate::{clock, members::Members};

/// How often the files are looked at while the ledger has a key that is in none of them.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The public parts of the keys that a node holds, for those who must know whether it can sign.
pub type Held = watch::Receiver<BTreeSet<PublicKey>>;

/// The keys. They leave this only as signatures.
pub struct Keys {
    me: Identity,
    /// Never none.
    held: Vec<SecretKey>,
    /// What the file of the key in use holds. It was the ledger's when it came there.
    current: PublicKey,
    /// What was found in the file of the key before.
    replaced: Option<PublicKey>,
    files: KeyFiles,
    members: Members,
    shown: watch::Sender<BTreeSet<PublicKey>>,
    /// Of which key it was said that it lacks.
    said: Option<PublicKey>,
}

impl Keys {
    /// `first` is what was in the file of the key on starting.
    pub fn new(me: Identity, first: SecretKey, files: KeyFiles, members: Members) -> Self {
        let shown = watch::Sender::new([first.public_key()].into());
        let current = first.public_key();
        let mut keys = Self { me, held: vec![first], current, replaced: None, files, members, shown, said: None };
        keys.look();
        keys
    }

    pub fn held(&self) -> Held {
        self.shown.subscribe()
    }

    pub fn members(&self) -> Members {
        self.members.clone()
    }

    /// The key for votes of this height; `None` where this node has no vote there, or not the key for it.
    pub fn of_votes(&self, height: Height) -> Option<&SecretKey> {
        let registry = self.members.registry();
        self.find(&registry.voters_at(height).get(&self.me)?.key)
    }

    /// The key for messages to peers. The one before is left in time: another's clock may be ahead.
    pub fn of_messages(&self, now: Timestamp) -> &SecretKey {
        let registry = self.members.registry();
        let node = registry.nodes.get(&self.me);
        let good = |former: &FormerKey| now.plus_millis(CLOCK_WINDOW_MILLIS) <= former.until;
        let former = node.and_then(|node| node.former_key).filter(good);
        let former = former.and_then(|former| self.find(&former.public_key));
        former.unwrap_or_else(|| self.of_entry(node))
    }

    /// The key for transactions.
    pub fn of_transactions(&self) -> &SecretKey {
        self.of_entry(self.members.registry().nodes.get(&self.me))
    }

    /// The one that the ledger has, unless that is one that was replaced before, by the one in use: then this
    /// node's ledger is behind, and the others know only the newer. Where it has none of them, what is signed is
    /// refused, whichever signs.
    fn of_entry(&self, node: Option<&Node>) -> &SecretKey {
        let entry = node.map(|node| node.public_key).filter(|entry| !self.is_replaced(entry));
        entry.and_then(|entry| self.find(&entry)).or_else(|| self.find(&self.current)).unwrap_or(&self.held[0])
    }

    fn is_replaced(&self, key: &PublicKey) -> bool {
        *key != self.current && self.replaced.as_ref() == Some(key)
    }

    fn find(&self, public: &PublicKey) -> Option<&SecretKey> {
        self.held.iter().find(|key| key.public_key() == *public)
    }

    /// The keys with which this node may have to sign by and by, as the ledger has them.
    fn wanted(&self, registry: &Registry) -> BTreeSet<PublicKey> {
        let head = self.members.head().height;
        let coming = (1..=IN_FORCE_AFTER).map(|ahead| Height::new(head.get().saturating_add(ahead)));
        let votes = coming.filter_map(|height| registry.voters_at(height).get(&self.me).map(|voter| voter.key));
        let node = registry.nodes.get(&self.me);
        let former = node.and_then(|node| node.former_key).filter(|former| clock::now() <= former.until);
        let entry = node.map(|node| node.public_key);
        entry.into_iter().chain(former.map(|former| former.public_key)).chain(votes).collect()
    }

    /// Looks in the files for the keys that the ledger has for this node; `false` where its own is in none.
    pub fn look(&mut self) -> bool {
        let registry = self.members.registry();
        let (wanted, mut faults) = (self.wanted(&registry), String::new());
        for key in &wanted {
            if self.find(key).is_none() {
                self.look_for(key).unwrap_or_else(|error| faults = format!(". {error}"));
            }
        }
        let Some(own) = registry.nodes.get(&self.me).map(|node| node.public_key) else { return true };
        if self.find(&own).is_some() {
            self.said = None;
            self.settle(&own);
            self.held.retain(|key| key.public_key() == self.current || wanted.contains(&key.public_key()));
            self.show();
            return true;
        }
        if self.said.replace(own) != Some(own) {
            let [current, next] =
                [self.files.current().to_owned(), self.files.next()].map(|path| path.display().to_string());
            error!(
                "the ledger has the key {own} for {}, which is neither in {current} nor in {next}: what this node signs is \
                 refused, and it does not vote. Put the key in {next}, mode 0600{faults}",
                self.me
            );
        }
        false
    }

    fn look_for(&mut self, wanted: &PublicKey) -> Result<(), ConfigError> {
        for file in [self.files.next(), self.files.current().to_owned(), self.files.former()] {
            if let Some(key) = KeyFiles::read(&file)?.filter(|key| key.public_key() == *wanted) {
                match &file {
                    file if file == self.files.current() => self.current = *wanted,
                    file if *file == self.files.former() => self.replaced = Some(*wanted),
                    _ => {}
                }
                self.hold(key);
                break;
            }
        }
        Ok(())
    }

    fn hold(&mut self, key: SecretKey) {
        self.held.push(key);
        self.show();
    }

    fn show(&self) {
        self.shown.send_replace(self.held.iter().map(SecretKey::public_key).collect());
    }

    /// The file of the key holds the one that the ledger has, if its turn has come.
    fn settle(&mut self, own: &PublicKey) {
        // What cannot be read was told of above, or its turn has not come.
        if !matches!(KeyFiles::read(&self.files.next()), Ok(Some(next)) if next.public_key() == *own) {
            return;
        }
        let [next, current] = [self.files.next(), self.files.current().to_owned()];
        match self.files.take_up_next() {
            Ok(()) => {
                self.current = *own;
                info!(
                    "the ledger has a new key for this node, {own}: it is in {} now; the one before is in {}, to be \
                     destroyed once it is good for nothing any more",
                    current.display(),
                    self.files.former().display()
                );
            }
            Err(error) => warn!(
                "the new key {own} is in use, and {} cannot take the place of {}: {error}",
                next.display(),
                current.display()
            ),
        }
    }
}
