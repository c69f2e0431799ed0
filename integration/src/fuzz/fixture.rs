//! The network that everything is of: that of the pinned vectors, all of whose keys are known.

use std::sync::LazyLock;

use minidlt_protocol::{
    consensus::{RoundCertificate, Wire},
    crypto::SecretKey,
    types::{Hash, Identity},
    vote::Certificate,
};

use super::network::{ADMINS, AUDITOR, BROKER, Network, TRADER, key, node, node_key};

pub static NETWORK: LazyLock<Network> = LazyLock::new(Network::bft);

/// The key of a node, where it is one.
pub fn key_of_node(identity: &Identity) -> Option<SecretKey> {
    (0..4).find(|at| node(*at) == *identity).map(node_key)
}

/// The key of a user, where it is one.
pub fn key_of_user(identity: &Identity) -> Option<SecretKey> {
    let mut users = [TRADER, BROKER, AUDITOR].into_iter().chain(ADMINS);
    users.find(|(name, _)| identity.to_string() == *name).map(|(_, seed)| key(seed))
}

/// Replaces every signature by the one that its claimed signer would have made.
pub fn sign_wire(wire: &mut Wire) {
    let id = &NETWORK.id;
    match wire {
        Wire::Proposal(signed) => {
            if let Some(key) = key_of_node(&signed.proposer) {
                signed.signature = key.sign(&signed.proposal.digest(id));
            }
        }
        Wire::Vote(signed) => {
            if let Some(key) = key_of_node(&signed.voter) {
                signed.signature = key.sign(&signed.vote.digest(id));
            }
        }
        Wire::Polka(certificate) => {
            let digest = certificate.vote().digest(id);
            for one in &mut certificate.signatures {
                if let Some(key) = key_of_node(&one.voter) {
                    one.signature = key.sign(&digest);
                }
            }
        }
        Wire::Round(certificate) => sign_round(certificate),
    }
}

fn sign_round(certificate: &mut RoundCertificate) {
    let digests: Vec<Hash> = certificate.signed_votes().map(|vote| vote.vote.digest(&NETWORK.id)).collect();
    for (one, digest) in certificate.votes.iter_mut().zip(digests) {
        if let Some(key) = key_of_node(&one.voter) {
            one.signature = key.sign(&digest);
        }
    }
}

/// Likewise, of a certificate, made one for `block`.
pub fn certify(certificate: &mut Certificate, block: Hash) {
    certificate.block = block;
    let digest = certificate.vote().digest(&NETWORK.id);
    for one in &mut certificate.signatures {
        if let Some(key) = key_of_node(&one.voter) {
            one.signature = key.sign(&digest);
        }
    }
}
