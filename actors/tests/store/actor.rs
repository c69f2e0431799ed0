//! The actor around the writer.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Context, Handler};
use minidlt_actors::{
    messages::store::{Commit, Committed},
    store::{OpenError, Store},
};
use minidlt_protocol::types::Height;
use tempfile::tempdir;

use crate::support::Network;

#[derive(Default)]
struct Listener(Arc<Mutex<Vec<Height>>>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Committed> for Listener {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) {
        assert_eq!(committed.head.height, committed.block.header.height);
        self.0.lock().unwrap().push(committed.head.height);
    }
}

#[test]
fn a_commit_is_answered_and_told_and_the_store_ends_with_its_last_address() {
    let (dir, mut network) = (tempdir().unwrap(), Network::new());
    let (writer, reader) = network.open(dir.path()).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    actix_rt::System::new().block_on(async {
        let gone = Listener::default().start().recipient();
        let listener = Listener(heard.clone()).start().recipient();
        let store = Store::start(writer, vec![gone, listener]);
        for height in 1..=5 {
            let block = Arc::new(network.next(&reader.head(), 3));
            let committed = store.send(Commit(block.clone())).await.unwrap();
            assert_eq!((committed.head.height, committed.head.hash), (Height::new(height), block.hash));
            assert_eq!(committed.head, reader.head(), "readers know before the answer is there");
        }
        drop(store);
        drop(reader);
        // Its thread flushes and lets go of the directory.
        let reopened = loop {
            match network.open(dir.path()) {
                Err(OpenError::Locked(_)) => actix_rt::time::sleep(Duration::from_millis(5)).await,
                other => break other,
            }
        };
        assert_eq!(reopened.unwrap().1.head().height, Height::new(5));
    });
    assert_eq!(*heard.lock().unwrap(), (1..=5).map(Height::new).collect::<Vec<_>>());
}
