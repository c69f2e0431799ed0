//! Hashing and signing, both domain-separated.
//!
//! Every digest begins with a [`Domain`] and the network's id, each with its length, so that bytes
//! signed for one purpose or network mean nothing for another. Signatures are ECDSA over secp256k1
//! (SEC 1, section 4.1), 64-byte compact, with low S as in BIP 146: one signature, one encoding.

use std::fmt;

use secp256k1::{Message, SECP256K1, ecdsa};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::types::{Hash, fixed_bytes};

/// What a digest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    Genesis,
    Transaction,
    Block,
    Vote,
    Proposal,
    Message,
    Alive,
    Successor,
}

impl Domain {
    fn tag(self) -> &'static str {
        match self {
            Self::Genesis => "minidlt/genesis/v1",
            Self::Transaction => "minidlt/transaction/v1",
            Self::Block => "minidlt/block/v1",
            Self::Vote => "minidlt/vote/v1",
            Self::Proposal => "minidlt/proposal/v1",
            Self::Message => "minidlt/message/v1",
            Self::Alive => "minidlt/alive/v1",
            Self::Successor => "minidlt/successor/v1",
        }
    }
}

/// SHA-256 of: the domain's tag and a zero byte, the network's id, then each part preceded by its
/// length as eight big-endian bytes.
pub fn digest(domain: Domain, network: &Hash, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(domain.tag());
    hasher.update([0]);
    hasher.update(network.as_bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    Hash::from_bytes(hasher.finalize().into())
}

/// A secp256k1 public key; 33 bytes compressed, hexadecimal in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(secp256k1::PublicKey);

/// Why key or signature bytes, or a signature, were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CryptoError {
    #[error("a public key is a point of secp256k1 in 33 compressed bytes")]
    PublicKey,
    #[error("a secret key is 32 bytes, not zero and below the order of secp256k1")]
    SecretKey,
    #[error("a signature is 64 bytes, R then S, both below the order of secp256k1")]
    SignatureEncoding,
    #[error("the signature's S is above half the order; send the low one (BIP 146)")]
    HighS,
    #[error("the signature is not by this key over these bytes")]
    SignatureMismatch,
}

impl PublicKey {
    pub fn from_bytes(bytes: &[u8; 33]) -> Result<Self, CryptoError> {
        secp256k1::PublicKey::from_slice(bytes).map(Self).map_err(|_| CryptoError::PublicKey)
    }

    pub fn to_bytes(&self) -> [u8; 33] {
        self.0.serialize()
    }

    /// Checks a signature; `Ok` is the only word of trust this module gives.
    pub fn verify(&self, digest: &Hash, signature: &Signature) -> Result<(), CryptoError> {
        let parsed = signature.parse()?;
        SECP256K1
            .verify_ecdsa(Message::from_digest(*digest.as_bytes()), &parsed, &self.0)
            .map_err(|_| CryptoError::SignatureMismatch)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed_bytes::serialize(&self.to_bytes(), serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: [u8; 33] = fixed_bytes::deserialize(deserializer)?;
        Self::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

/// A signature as it travels: 64 bytes that nobody has vouched for yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature([u8; 64]);

impl Signature {
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Reads what tools such as `openssl` write: DER, or 64 bytes; S of either kind. The result
    /// has low S. For the edge only: inside, a high S is refused.
    pub fn normalise(bytes: &[u8]) -> Result<Self, CryptoError> {
        let mut parsed =
            if bytes.len() == 64 { ecdsa::Signature::from_compact(bytes) } else { ecdsa::Signature::from_der(bytes) }
                .map_err(|_| CryptoError::SignatureEncoding)?;
        parsed.normalize_s();
        Ok(Self(parsed.serialize_compact()))
    }

    fn parse(&self) -> Result<ecdsa::Signature, CryptoError> {
        let parsed = ecdsa::Signature::from_compact(&self.0).map_err(|_| CryptoError::SignatureEncoding)?;
        let mut low = parsed;
        low.normalize_s();
        if low == parsed { Ok(parsed) } else { Err(CryptoError::HighS) }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fixed_bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes::deserialize(deserializer).map(Self)
    }
}

/// A private key. It has no way into a log, an error or an answer: it is neither `Debug`, nor
/// `Display`, nor `Serialize`, nor `Clone`.
pub struct SecretKey(secp256k1::SecretKey);

impl SecretKey {
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, CryptoError> {
        secp256k1::SecretKey::from_byte_array(*bytes).map(Self).map_err(|_| CryptoError::SecretKey)
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key(SECP256K1))
    }

    /// Signs deterministically (RFC 6979), low S.
    pub fn sign(&self, digest: &Hash) -> Signature {
        let message = Message::from_digest(*digest.as_bytes());
        Signature(SECP256K1.sign_ecdsa(message, &self.0).serialize_compact())
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of secp256k1 (SEC 2, section 2.4.1).
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    fn high_s(signature: &Signature) -> Signature {
        let order: [u8; 32] = hex::decode(ORDER).unwrap().try_into().unwrap();
        let mut bytes = *signature.as_bytes();
        let mut borrow = 0i16;
        for i in (0..32).rev() {
            let difference = i16::from(order[i]) - i16::from(bytes[32 + i]) - borrow;
            borrow = i16::from(difference < 0);
            bytes[32 + i] = difference.rem_euclid(256) as u8;
        }
        Signature::from_bytes(bytes)
    }

    #[test]
    fn a_signature_holds_for_its_key_its_bytes_its_domain_and_its_network_only() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let network = Hash::from_bytes([9; 32]);
        let signed = digest(Domain::Vote, &network, &[b"x"]);
        let signature = key.sign(&signed);
        assert_eq!(key.public_key().verify(&signed, &signature), Ok(()));
        let others = [
            digest(Domain::Proposal, &network, &[b"x"]),
            digest(Domain::Vote, &Hash::ZERO, &[b"x"]),
            digest(Domain::Vote, &network, &[b"y"]),
            digest(Domain::Vote, &network, &[b"x", b""]),
        ];
        for other in others {
            assert_eq!(key.public_key().verify(&other, &signature), Err(CryptoError::SignatureMismatch));
        }
        let stranger = SecretKey::from_bytes(&[2; 32]).unwrap().public_key();
        assert_eq!(stranger.verify(&signed, &signature), Err(CryptoError::SignatureMismatch));
    }

    #[test]
    fn a_high_s_is_refused_inside_and_lowered_at_the_edge() {
        let key = SecretKey::from_bytes(&[1; 32]).unwrap();
        let signed = digest(Domain::Vote, &Hash::ZERO, &[]);
        let low = key.sign(&signed);
        let high = high_s(&low);
        assert_eq!(key.public_key().verify(&signed, &high), Err(CryptoError::HighS));
        assert_eq!(Signature::normalise(high.as_bytes()), Ok(low));
        let der = ecdsa::Signature::from_compact(high.as_bytes()).unwrap().serialize_der();
        assert_eq!(Signature::normalise(&der), Ok(low));
        assert_eq!(Signature::normalise(b"junk"), Err(CryptoError::SignatureEncoding));
    }

    #[test]
    fn parts_are_kept_apart() {
        let together = digest(Domain::Block, &Hash::ZERO, &[b"ab", b"c"]);
        assert_ne!(together, digest(Domain::Block, &Hash::ZERO, &[b"a", b"bc"]));
    }
}
