//! The Store, from outside: one binary, so that RocksDB is linked once.

mod actor;
mod damage;
mod evidence;
mod governance;
mod ledger;
mod mempool;
#[path = "../shared/random.rs"]
mod random;
mod restore;
mod scale;
mod support;
mod sync;
mod verify;
