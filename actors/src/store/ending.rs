//! What a successor carries on of a chain.

use std::collections::BTreeMap;

use minidlt_protocol::{
    block::CertifiedBlock,
    state::{self, StateReader},
    successor::Ending,
};

use super::reader::{ReadError, Reader};

impl Reader {
    /// The last block, and the state that its header certifies; `None` where there is no block yet.
    pub fn ending(&self) -> Result<Option<Ending>, ReadError> {
        let head = self.head();
        let Some(CertifiedBlock { block, certificate }) = self.certified_block(head.height)? else { return Ok(None) };
        let mut state = BTreeMap::new();
        for key in self.database.keys()? {
            if let Some(value) = state::value(&*self.database, head.certified_version, &key)? {
                state.insert(key, value);
            }
        }
        let voter_changes = self.voter_changes(head.height)?;
        let last = self.certify(block.header, certificate)?;
        Ok(Some(Ending { voter_changes, last, transactions: block.transactions, state }))
    }
}
