//! Genesis files.

use minidlt_protocol::{codec, genesis::Genesis, limits::MAX_GENESIS_BYTES, state::genesis_head};

use super::memory::bounded;

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(genesis) = bounded(text.len(), || serde_yaml::from_str::<Genesis>(text)) else { return };
    if let Err(error) = genesis.check() {
        assert!(!error.to_string().contains('\n'), "an error is one line: {error}");
        return;
    }
    let (id, registry) = (genesis.id(), genesis.registry());
    let voters = registry.orderers();
    assert!(voters.quorum() >= 1 && voters.quorum() <= voters.as_slice().len());
    let (head, _) = genesis_head(&genesis).expect("a genesis that passes has a state");
    assert_eq!(head.hash, id);
    let encoded = codec::encode(&genesis);
    assert_eq!(codec::decode_canonical::<Genesis>(&encoded, MAX_GENESIS_BYTES).as_ref(), Ok(&genesis));
    let text = serde_yaml::to_string(&genesis).expect("a genesis is YAML");
    assert_eq!(serde_yaml::from_str::<Genesis>(&text).expect("as it was written"), genesis);
}
