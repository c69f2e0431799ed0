//! The Store, from outside: one binary, so that RocksDB is linked once.

mod actor;
mod evidence;
mod ledger;
mod scale;
mod support;
mod verify;
