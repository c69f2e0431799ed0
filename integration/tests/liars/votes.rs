//! Votes, certificates of rounds, and what was said before, said again.

use std::collections::BTreeMap;

use minidlt_integration::{Cluster, Heard, now, peer::closed};
use minidlt_protocol::{
    codec,
    consensus::{LAST_ROUND, PolkaCertificate, RoundCertificate, RoundReason, RoundVote, Wire},
    limits::CLOCK_WINDOW_MILLIS,
    message::{ConsensusContent, Content, Message, Recipient},
    types::{Hash, Height, Identity, Round},
    vote::{CommitSignature, Phase, Proposal, SignedVote, Vote},
};

use crate::{HONEST, counts::Counts, liar::Liar};

pub fn lie(cluster: &Cluster, counts: &Counts, liar: &mut Liar) {
    let genuine = genuine(liar);
    for (what, wire) in forged(liar, &genuine) {
        liar.wire_to_all(&wire);
        counts.refused(what, "bad-content", 1);
    }
    // So many refused in one session end it.
    liar.open_anew();
    says_what_is_far(counts, liar);
    replays(counts, liar, &genuine);
    let rounds = HONEST.map(|node| cluster.metric(node, "minidlt_round"));
    assert!(rounds.iter().all(|round| *round < 5.0), "nobody went along: {rounds:?}");
}

/// Two prevotes for one block, by others, as they were heard.
fn genuine(liar: &Liar) -> [SignedVote; 2] {
    let mut votes: BTreeMap<Vote, BTreeMap<Identity, SignedVote>> = BTreeMap::new();
    liar.forget();
    let pair = liar.listen("two prevotes for one block", |_, heard| {
        let Content::Consensus(ConsensusContent::Wire(Wire::Vote(signed))) = heard.content else { return None };
        if signed.vote.phase != Phase::Prevote || signed.vote.block.is_none() {
            return None;
        }
        let alike = votes.entry(signed.vote.clone()).or_default();
        alike.insert(signed.voter.clone(), signed);
        (alike.len() == 2).then(|| alike.values().cloned().collect::<Vec<_>>())
    });
    pair.try_into().expect("two")
}

/// What does not hold, whatever the receiver knows.
fn forged(liar: &Liar, genuine: &[SignedVote; 2]) -> Vec<(&'static str, Wire)> {
    let [one, two] = genuine;
    let (vote, route) = (&one.vote, liar.route(HONEST[0]));
    let (height, round, block) = (vote.height, vote.round, vote.block.expect("it is for a block"));
    let mine = route.vote(vote.clone());
    let third = HONEST
        .map(|node| liar.name(node))
        .into_iter()
        .find(|name| *name != one.voter && *name != two.voter)
        .expect("a third");
    let stranger: Identity = "node9@Org09".parse().expect("an identity");
    let by = |voter: &Identity| SignedVote { voter: voter.clone(), ..mine.clone() };
    let commit = |vote: &SignedVote| CommitSignature { voter: vote.voter.clone(), signature: vote.signature };
    let polka = |votes: &[&SignedVote]| {
        let signatures = votes.iter().map(|vote| commit(vote)).collect();
        Wire::Polka(PolkaCertificate { height, round, block, signatures })
    };
    let entry = |reason, votes: &[&SignedVote]| {
        let part = |vote: &&SignedVote| RoundVote {
            voter: vote.voter.clone(),
            phase: vote.vote.phase,
            block: vote.vote.block,
            signature: vote.signature,
        };
        Wire::Round(RoundCertificate { height, round, reason, votes: votes.iter().map(part).collect() })
    };
    let my_turn = (0..).map(Height::new).find(|height| liar.is_my_turn(*height)).expect("one of four");
    let proposal = |height, round, polka_round| {
        Wire::Proposal(route.proposal(Proposal { height, round, polka_round, block: Hash::ZERO }))
    };
    let absurd = Round::new(LAST_ROUND.get() + 1);
    vec![
        ("a vote in another's name", Wire::Vote(by(&third))),
        ("a stranger's vote", Wire::Vote(by(&stranger))),
        ("a vote of a round that never comes", Wire::Vote(route.vote(Vote { round: absurd, ..vote.clone() }))),
        ("a proposal in another's turn", proposal(my_turn.next(), Round::ZERO, None)),
        ("a proposal by a polka to come", proposal(my_turn, Round::ZERO, Some(Round::ZERO))),
        ("a polka with a bad signature", polka(&[one, two, &by(&third)])),
        ("a polka with a signer twice", polka(&[one, two, two])),
        ("a polka with a strange signer", polka(&[one, two, &by(&stranger)])),
        ("a polka with too few", polka(&[one, two])),
        ("a polka with more than there are", polka(&[one, two, &mine, one, two])),
        ("a round by one vote", entry(RoundReason::Skip, &[&mine])),
        ("a round by one vote, twice", entry(RoundReason::Skip, &[&mine, &mine])),
        ("a round by a forged vote", entry(RoundReason::Skip, &[&mine, &by(&third)])),
        ("a round by prevotes", entry(RoundReason::Precommit, &[one, two, &mine])),
    ]
}

/// What is signed as it should be, of heights and rounds where nobody is. It is passed over.
fn says_what_is_far(counts: &Counts, liar: &Liar) {
    let here = liar.standing(HONEST[0], None).expect("blocks were committed").header.height;
    let far_heights = [here.next().next(), Height::new(here.get() + 1_000), Height::new(u64::MAX)];
    let far_rounds = [3, 11, 1_000, LAST_ROUND.get()].map(Round::new);
    for height in far_heights.into_iter().chain([here, here.next()]) {
        for round in far_rounds {
            for phase in [Phase::Prevote, Phase::Precommit] {
                let vote = Vote { phase, height, round, block: Some(Hash::from_bytes([0xee; 32])) };
                liar.wire_to_all(&Wire::Vote(liar.route(HONEST[0]).vote(vote)));
            }
        }
    }
    // Read after all of that.
    HONEST.into_iter().for_each(|to| liar.send(to, b"not a message"));
    counts.refused("the word after what is far", "malformed", 1);
}

/// The very bytes that were said before, by itself and by others, where they were said and elsewhere.
fn replays(counts: &Counts, liar: &mut Liar, genuine: &[SignedVote; 2]) {
    let heard = liar.listen("something said to all", |_, heard: Heard| {
        let message: Message = codec::decode(&heard.message, heard.message.len()).expect("a message");
        (message.recipient == Recipient::All).then_some(heard)
    });
    HONEST.into_iter().for_each(|to| liar.send(to, &heard.message));
    counts.refused("another's message", "other-sender", 1);

    let wire = |vote: &SignedVote| Content::Consensus(ConsensusContent::Wire(Wire::Vote(vote.clone())));
    let nil = Vote { block: None, ..genuine[0].vote.clone() };
    let mine: Vec<_> = HONEST.map(|to| liar.route(to).message(&wire(&liar.route(to).vote(nil.clone())))).into();
    for (at, to) in HONEST.into_iter().enumerate() {
        let others = &mine[(at + 1) % mine.len()];
        liar.send(to, others);
    }
    counts.refused("what was said to another", "other-recipient", 1);
    let old = now().minus_millis(CLOCK_WINDOW_MILLIS + 1_000);
    for to in HONEST {
        let message = liar.route(to).stamped(&codec::encode(&wire(&genuine[0])), old);
        liar.send(to, &message);
    }
    counts.refused("what was said long ago", "time-window", 1);

    // What it may say, it may say again: nothing comes of it.
    let firsts: Vec<_> = HONEST.map(|to| liar.line(to).expect("a session").first.clone()).into();
    for again in [false, true] {
        if again {
            liar.open_anew();
        }
        for (to, message) in HONEST.into_iter().zip(&mine) {
            (0..3).for_each(|_| liar.send(to, message));
            genuine.iter().for_each(|vote| liar.say(to, &wire(vote)));
            liar.send(to, b"not a message");
        }
        counts.refused("the word after what was said before", "malformed", 1);
    }

    for (to, first) in HONEST.into_iter().zip(&firsts) {
        let stream = liar.route(to).connect_saying(first).expect("TLS stands");
        closed(stream, std::time::Instant::now());
    }
    counts.connection_refused("the first word of another connection", "other-binding");
}
