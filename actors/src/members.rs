//! Who is enrolled, for all who must know: the registry as of the last block, as the Store publishes it.

use std::sync::Arc;

use minidlt_protocol::{
    block::Head,
    registry::{IN_FORCE_AFTER, Registry},
    types::{Height, Identity},
    vote::Voters,
};
use tokio::sync::watch;

/// A handle; cheap to clone and to ask.
#[derive(Clone)]
pub struct Members {
    heads: watch::Receiver<Head>,
    registries: watch::Receiver<Arc<Registry>>,
}

impl Members {
    /// The registry must be published before the head that it is of.
    pub fn new(heads: watch::Receiver<Head>, registries: watch::Receiver<Arc<Registry>>) -> Self {
        Self { heads, registries }
    }

    pub fn registry(&self) -> Arc<Registry> {
        self.registries.borrow().clone()
    }

    pub fn head(&self) -> Head {
        self.heads.borrow().clone()
    }

    /// Changes with each commit, after it is on disk.
    pub fn heads(&self) -> watch::Receiver<Head> {
        self.heads.clone()
    }

    /// Who votes at the height that comes.
    pub fn voters(&self) -> Arc<Voters> {
        let height = self.heads.borrow().height.next();
        self.registries.borrow().voters_at(height).clone()
    }

    /// Who votes at this height; `None` where that is not known yet.
    pub fn voters_at(&self, height: Height) -> Option<Arc<Voters>> {
        let head = self.heads.borrow().height;
        let known = head.get().saturating_add(IN_FORCE_AFTER);
        (height.get() <= known).then(|| self.registries.borrow().voters_at(height).clone())
    }

    /// Whether connections are kept with this node.
    pub fn hears(&self, node: &Identity) -> bool {
        let height = self.heads.borrow().height.next();
        self.registries.borrow().heard_node(node, height).is_some()
    }

    /// Waits for the next registry, or also for the next head; `None` where there will be none.
    pub async fn changed(&mut self, or_head: bool) -> Option<()> {
        tokio::select! {
            changed = self.registries.changed() => changed.ok(),
            changed = self.heads.changed(), if or_head => changed.ok(),
        }
    }
}
