//! The state recomputed from genesis and what is kept of its past, held in memory, and compared with what is
//! stored.

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
pub struct Recomputed(BTreeMap<(Family, Vec<u8>), (Height, Vec<u8>)>);

impl StateReader for Recomputed {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(&(Family::State(table), key.to_vec())).map(|(_, value)| value.clone()))
    }

    fn floor(&self, table: Table, key: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>, StateError> {
        let family = Family::State(table);
        let below = self.0.range((family, Vec::new())..=(family, key.to_vec())).next_back();
        Ok(below.map(|((_, key), (_, value))| (key.clone(), value.clone())))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, StateError> {
        let keys = self.0.iter().filter(|((family, _), _)| *family == Family::State(Table::Keys));
        Ok(keys.map(|(_, (_, key))| key.clone()).collect())
    }
}

impl Recomputed {
    pub fn write(&mut self, height: Height, update: StateUpdate) {
        let entries = update.entries.into_iter().map(|(table, key, value)| (Family::State(table), key, value));
        self.write_beside(height, entries.collect());
    }

    pub fn write_beside(&mut self, height: Height, entries: Vec<(Family, Vec<u8>, Vec<u8>)>) {
        self.0.extend(entries.into_iter().map(|(family, key, value)| ((family, key), (height, value))));
    }

    /// Checks that just these entries are stored.
    pub fn compare(&self, rows: &Rows<'_>, head: Height) -> Result<(), FirstBad> {
        let tables = [Table::Nodes, Table::Values, Table::Keys].map(Family::State);
        let families = tables.into_iter().chain([Family::Versions, Family::History]);
        families.into_iter().try_for_each(|family| self.compare_family(rows, head, family))
    }

    fn compare_family(&self, rows: &Rows<'_>, head: Height, family: Family) -> Result<(), FirstBad> {
        let wrong = |height: Height, key: &[u8], what: &str| {
            bad(height, format_args!("{}: the entry under {} {what}", family.name(), hex::encode(key)))
        };
        let mut expected = self.0.range((family, Vec::new())..).take_while(|((of, _), _)| *of == family);
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
