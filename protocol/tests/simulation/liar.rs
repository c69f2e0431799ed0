//! What a lying node sends: different things to different nodes, and junk.

use minidlt_protocol::{
    consensus::{RoundCertificate, RoundReason, RoundVote, Wire},
    crypto::SecretKey,
    types::{Hash, Height, Identity, Round},
    vote::{Phase, Proposal, SignedProposal, SignedVote, Vote},
};

use super::{
    rng::Rng,
    world::{Block, NETWORK, identity, key},
};

pub fn signed_vote(key: &SecretKey, voter: &Identity, vote: Vote) -> Wire {
    let signature = key.sign(&vote.digest(&NETWORK));
    Wire::Vote(SignedVote { voter: voter.clone(), vote, signature })
}

/// A liar's view of one peer.
pub struct Peer {
    pub to: usize,
    /// What the peer prevoted in its round, as if liars could see everything.
    pub prevoted: Option<Hash>,
}

/// What this peer gets in place of `honest`, and a body to go with it.
pub fn twist(
    rng: &mut Rng,
    me: usize,
    peer: &Peer,
    honest: &Wire,
    known: &[Hash],
    head: Hash,
) -> (Option<Wire>, Option<Block>) {
    let (key, identity) = (key(me), identity(me));
    match honest {
        _ if rng.chance(150) => (None, None),
        Wire::Vote(signed) if signed.voter == identity && rng.chance(800) => {
            let block = match rng.below(6) {
                0 => None,
                1 if !known.is_empty() => Some(*rng.pick(known)),
                2 => Some(Hash::from_bytes([rng.below(256) as u8; 32])),
                // All liars agree with everybody.
                _ => peer.prevoted.or(signed.vote.block),
            };
            (Some(signed_vote(&key, &identity, Vote { block, ..signed.vote.clone() })), None)
        }
        Wire::Proposal(signed) if signed.proposer == identity && rng.chance(500) => {
            let height = signed.proposal.height;
            let (nonce, good) = (peer.to as u64 % 2, rng.chance(800));
            let body = Block { height, proposer: me, previous: head, nonce, good, changes: Vec::new() };
            let polka_round = (signed.proposal.round > Round::ZERO && rng.chance(300)).then_some(Round::ZERO);
            let proposal = Proposal { block: body.hash(), polka_round, ..signed.proposal.clone() };
            let signature = key.sign(&proposal.digest(&NETWORK));
            (Some(Wire::Proposal(SignedProposal { proposer: identity, proposal, signature })), Some(body))
        }
        _ => (Some(honest.clone()), None),
    }
}

/// Something nobody asked for.
pub fn junk(rng: &mut Rng, key: &SecretKey, me: &Identity, height: Height, round: Round, known: &[Hash]) -> Wire {
    let far = [0, 1, 2, 9, 10, 11, 1_000, 999_999, 1_000_000, u32::MAX];
    let round = match rng.below(3) {
        0 => round,
        1 => Round::new(*rng.pick(&far)),
        _ => Round::new(round.get().saturating_add(rng.below(12) as u32)),
    };
    let height = Height::new((height.get() + rng.below(3)).saturating_sub(u64::from(rng.chance(200))));
    let phase = if rng.chance(500) { Phase::Prevote } else { Phase::Precommit };
    let block = if known.is_empty() || rng.chance(300) { None } else { Some(*rng.pick(known)) };
    let vote = Vote { phase, height, round, block };
    match rng.below(3) {
        0 => {
            let signature = key.sign(&vote.digest(&NETWORK));
            let one = RoundVote { voter: me.clone(), phase, block, signature };
            let reason = if rng.chance(500) { RoundReason::Skip } else { RoundReason::Precommit };
            let votes = vec![one; rng.below(5) as usize];
            Wire::Round(RoundCertificate { height, round, reason, votes })
        }
        1 => {
            let proposal = Proposal { height, round, polka_round: None, block: block.unwrap_or(Hash::ZERO) };
            let signature = key.sign(&proposal.digest(&NETWORK));
            Wire::Proposal(SignedProposal { proposer: me.clone(), proposal, signature })
        }
        _ => signed_vote(key, me, vote),
    }
}
