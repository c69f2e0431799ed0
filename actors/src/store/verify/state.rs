//! The state recomputed from genesis, held in memory, and compared with the stored one.

use std::collections::BTreeMap;

use minidlt_protocol::{
    state::{StateError, StateReader, StateUpdate, Table},
    types::Height,
};

use super::{
    super::schema::Family,
    FirstBad, bad,
    rows::{Rows, unreadable},
};

/// Entries, and the height that wrote each.
#[derive(Default)]
pub struct Recomputed(BTreeMap<(Table, Vec<u8>), (Height, Vec<u8>)>);

impl StateReader for Recomputed {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&(table, key.to_vec())).map(|(_, value)| value.clone()))
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StateError> {
        let below = self.0.range((table, Vec::new())..=(table, key.to_vec())).next_back();
        Ok(below.map(|((_, key), (_, value))| (key.clone(), value.clone())))
    }
}

impl Recomputed {
    pub fn write(&mut self, height: Height, update: StateUpdate) {
        self.0.extend(update.entries.into_iter().map(|(table, key, value)| ((table, key), (height, value))));
    }

    /// Checks that just these entries are stored.
    pub fn compare(&self, rows: &Rows<'_>, head: Height) -> Result<(), FirstBad> {
        [Table::Nodes, Table::Values, Table::Keys]
            .into_iter()
            .try_for_each(|table| self.compare_table(rows, head, table))
    }

    fn compare_table(&self, rows: &Rows<'_>, head: Height, table: Table) -> Result<(), FirstBad> {
        let family = Family::State(table);
        let wrong = |height: Height, key: &[u8], what: &str| {
            bad(height, format_args!("{}: the entry under {} {what}", family.name(), hex::encode(key)))
        };
        let mut expected = self.0.range((table, Vec::new())..).take_while(|((of, _), _)| *of == table);
        for row in rows.all(family) {
            let (key, value) = row.map_err(|error| unreadable(head, family, &error))?;
            match expected.next() {
                Some(((_, ours), (height, right))) if **ours == *key => {
                    if **right != *value {
                        return Err(wrong(*height, &key, "is not what the blocks lead to"));
                    }
                }
                Some(((_, ours), (height, _))) if **ours < *key => return Err(wrong(*height, ours, "is missing")),
                _ => return Err(wrong(head, &key, "is one too many")),
            }
        }
        match expected.next() {
            Some(((_, ours), (height, _))) => Err(wrong(*height, ours, "is missing")),
            None => Ok(()),
        }
    }
}
