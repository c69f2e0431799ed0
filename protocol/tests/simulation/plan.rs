//! What a run is made of: how many nodes, what goes wrong and until when.

use minidlt_protocol::{sync::Synchronise, vote::ConsensusMode};

use super::voters::Change;

/// How the shell around the core is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Correct,
    /// Sends without syncing the log first.
    SkipsSync,
    /// Comes back with an empty log, and with a signer that has forgotten, too.
    ForgetsAll,
    /// Comes back with an empty log; its signer has a record of its own and remembers.
    ForgetsLog,
    /// A node that lost its disk takes itself for a new one, and votes at once.
    TrustsEmptyDisk,
    /// Goes on with the voters it began with, whatever blocks say.
    KeepsFirstVoters,
}

/// One node behaves unlike the others for some time, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Spell {
    pub node: usize,
    pub from: u64,
    pub until: u64,
    pub kind: SpellKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpellKind {
    /// Is switched off.
    Absent,
    /// Its signer refuses.
    SignerRefuses,
    /// Finds every block invalid.
    Objects,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub mode: ConsensusMode,
    /// The first so many nodes vote at first.
    pub first_voters: usize,
    /// How that changes: what one block carries, block by block, with some that carry none between them.
    pub changes: Vec<Vec<Change>>,
    /// The first so many nodes lie.
    pub liars: usize,
    pub shell: Shell,
    /// Until then messages are lost and nodes crash.
    pub faults_until: u64,
    pub drop_permille: u64,
    pub repeat_permille: u64,
    /// At each thing a node does.
    pub crash_permille: u64,
    /// How often one node loses its disk, one at a time: the next only once the last votes again.
    pub wipes: u64,
    /// It keeps the log of its votes, and loses its chain alone.
    pub keeps_log: bool,
    /// How many must match before a node takes part.
    pub policy: Synchronise,
    pub partitions: bool,
    pub most_delay: u64,
    pub spell: Option<Spell>,
    /// How many heights all honest nodes must have while the faults last.
    pub heights_amid: u64,
    /// How many heights must follow once the faults have stopped; none where so many are faulty that
    /// the others need not get on.
    pub heights_after: u64,
}

impl Plan {
    /// A calm network.
    pub fn calm(seed: u64, nodes: usize, mode: ConsensusMode) -> Self {
        Self {
            seed,
            nodes,
            mode,
            first_voters: nodes,
            changes: Vec::new(),
            liars: 0,
            shell: Shell::Correct,
            faults_until: 0,
            drop_permille: 0,
            repeat_permille: 0,
            crash_permille: 0,
            wipes: 0,
            keeps_log: false,
            policy: Synchronise::Quorum,
            partitions: false,
            most_delay: 20,
            spell: None,
            heights_amid: 0,
            heights_after: 5,
        }
    }

    /// Everything goes wrong for some seconds.
    pub fn rough(seed: u64, nodes: usize, mode: ConsensusMode) -> Self {
        Self {
            faults_until: 6_000,
            // Every third run loses much, and crashes often.
            drop_permille: if seed.is_multiple_of(3) { 250 } else { 60 },
            repeat_permille: 100,
            crash_permille: if seed.is_multiple_of(3) { 30 } else { 8 },
            policy: [Synchronise::Any, Synchronise::Quorum, Synchronise::All][(seed % 7 % 3) as usize],
            partitions: seed % 2 == 1,
            most_delay: if seed % 5 == 4 { 300 } else { 40 },
            heights_after: 3,
            ..Self::calm(seed, nodes, mode)
        }
    }
}
