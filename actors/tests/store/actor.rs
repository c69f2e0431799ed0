//! The actor around the writer.

use std::{sync::Arc, time::Duration};

use actix::Actor;
use minidlt_actors::{
    messages::store::Commit,
    store::{OpenError, Store},
};
use minidlt_protocol::types::Height;
use tempfile::tempdir;

use crate::support::Network;

#[test]
fn a_commit_is_answered_once_readers_see_it_and_the_store_ends_with_its_last_address() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (writer, reader) = network.open(dir.path()).unwrap();
    actix_rt::System::new().block_on(async {
        let store = Store::new(writer).start();
        for height in 1..=5 {
            let block = Arc::new(network.next(&reader.head(), 3));
            let committed = store.send(Commit(block.clone())).await.unwrap();
            assert_eq!((committed.head.height, committed.head.hash), (Height::new(height), block.hash));
            assert_eq!(committed.block.hash, block.hash);
            assert_eq!(committed.head, reader.head(), "readers know before the answer is there");
        }
        drop(store);
        drop(reader);
        // It lets go of the directory.
        let reopened = loop {
            match network.open(dir.path()) {
                Err(OpenError::Locked(_)) => actix_rt::time::sleep(Duration::from_millis(5)).await,
                other => break other,
            }
        };
        assert_eq!(reopened.unwrap().1.head().height, Height::new(5));
    });
}
