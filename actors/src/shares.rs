//! Shares: how much of something each of many has in use, never more than its share, so that one
//! cannot keep the others from it. Only who has something in use is remembered: the bound on the
//! whole bounds this too.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One may have this part of a whole.
const PARTS: usize = 4;
/// The part of an IPv6 address that names a network; a host has all addresses of its own.
const NETWORK_BITS: u128 = u128::MAX << 64;

/// What one may have of a whole: a quarter, rounded up.
pub fn share_of(whole: usize) -> usize {
    whole.div_ceil(PARTS)
}

pub struct Shares<K> {
    share: usize,
    /// No zeros, and nothing above the share.
    in_use: Mutex<BTreeMap<K, usize>>,
}

impl<K: Ord + Clone> Shares<K> {
    pub fn new(share: usize) -> Arc<Self> {
        Arc::new(Self { share, in_use: Mutex::default() })
    }

    pub fn share(&self) -> usize {
        self.share
    }

    /// Takes `amount` for `key` until the answer is dropped; `None` where its share has no room for
    /// that.
    pub fn take(self: &Arc<Self>, key: &K, amount: usize) -> Option<InUse<K>> {
        let mut taken = InUse { of: self.clone(), key: key.clone(), amount: 0 };
        taken.grow(amount).then_some(taken)
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, usize>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one has in use, given back when this is dropped.
pub struct InUse<K: Ord> {
    of: Arc<Shares<K>>,
    key: K,
    amount: usize,
}

impl<K: Ord + Clone> InUse<K> {
    /// Takes so much more; `false`, and nothing more is taken, where the share has no room for it.
    pub fn grow(&mut self, amount: usize) -> bool {
        let mut in_use = self.of.lock();
        let before = in_use.get(&self.key).copied().unwrap_or_default();
        if amount > self.of.share - before {
            return false;
        }
        if amount > 0 {
            in_use.insert(self.key.clone(), before + amount);
            self.amount += amount;
        }
        true
    }
}

impl<K: Ord> Drop for InUse<K> {
    fn drop(&mut self) {
        let mut in_use = self.of.lock();
        let Some(left) = in_use.get_mut(&self.key) else { return };
        *left -= self.amount;
        if *left == 0 {
            in_use.remove(&self.key);
        }
    }
}

/// A bound on the whole of something, and on each one's share of it.
pub struct Bound<K> {
    pub whole: Arc<Semaphore>,
    pub most: usize,
    pub shares: Arc<Shares<K>>,
}

/// Some of it, given back when this is dropped.
pub struct Place<K: Ord> {
    _of_whole: OwnedSemaphorePermit,
    _of_share: InUse<K>,
}

/// Which of the two bounds has no room.
pub enum Full {
    Whole,
    Share,
}

impl<K: Ord + Clone> Bound<K> {
    pub fn new(most: usize) -> Self {
        Self::with_share(most, share_of(most))
    }

    pub fn with_share(most: usize, share: usize) -> Self {
        Self { whole: Arc::new(Semaphore::new(most)), most, shares: Shares::new(share) }
    }

    pub fn take(&self, key: &K, amount: usize) -> Result<Place<K>, Full> {
        let permits = u32::try_from(amount).map_err(|_| Full::Whole)?;
        let of_whole = self.whole.clone().try_acquire_many_owned(permits).map_err(|_| Full::Whole)?;
        let of_share = self.shares.take(key, amount).ok_or(Full::Share)?;
        Ok(Place { _of_whole: of_whole, _of_share: of_share })
    }
}

/// Where a connection comes from: an IPv4 address, or the /64 of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & NETWORK_BITS).into()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_its_share_and_no_more_and_the_others_theirs() {
        let shares = Shares::new(3);
        let mut first = shares.take(&"a", 2).unwrap();
        assert!(shares.take(&"a", 2).is_none(), "two more would be four");
        let second = shares.take(&"a", 1).unwrap();
        assert!(!first.grow(1) && first.grow(0));
        let other = shares.take(&"b", 3).unwrap();
        drop(second);
        assert!(first.grow(1));
        drop((first, other));
        assert!(shares.take(&"a", 4).is_none() && shares.take(&"a", 3).is_some());
    }

    #[test]
    fn who_has_nothing_in_use_is_not_remembered() {
        let shares = Shares::new(1);
        let nothing = shares.take(&1, 0).unwrap();
        assert!(shares.lock().is_empty());
        drop((shares.take(&2, 1), shares.take(&2, 9), nothing));
        assert!(shares.lock().is_empty());
    }

    #[test]
    fn a_host_is_one_source_whatever_address_it_takes() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert_ne!(source("192.0.2.7"), source("192.0.2.8"));
        assert_eq!(source("2001:db8:1:2::3"), source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(source("2001:db8:1:2::3"), source("2001:db8:1:3::3"));
        assert_eq!(source("2001:db8:1:2::3").to_string(), "2001:db8:1:2::/64");
        assert_eq!([1, 3, 4, 5, 1_024].map(share_of), [1, 1, 1, 2, 256]);
    }
}
