//! Transactions signed before anything is measured.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use actix_rt::task::spawn_blocking;
use minidlt_config::user;
use minidlt_protocol::{
    limits::MAX_LIFETIME_MILLIS,
    transaction::{Content, TransactionBytes},
    types::Hash,
};
use serde_json::{Value, json};

use super::error::BenchError;
use crate::client::{
    ClientError,
    submission::{Prepared, Signer},
    time,
};

/// What signed transactions may take of the bench's memory; beyond it fewer are made, and the load
/// ends when they have run out.
const MAX_BYTES: usize = 1 << 30;

pub struct Presigned {
    pub transactions: Vec<TransactionBytes>,
    /// The place of each in `transactions`.
    pub places: HashMap<Hash, usize>,
    pub records_per_transaction: usize,
}

/// Set when it is dropped: nobody waits for the signatures any more.
#[derive(Default)]
struct Unwanted(Arc<AtomicBool>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Presigned {
    /// Signs up to `count` transactions as the user of a directory, on threads of their own. Dropped
    /// before it is done, it ends them: a runtime waits for its blocking threads.
    pub async fn sign(user: &Path, count: usize, records: usize, threads: usize) -> Result<Self, BenchError> {
        let unwanted = Unwanted::default();
        let (user, stop) = (user.to_owned(), unwanted.0.clone());
        let signing = spawn_blocking(move || Self::sign_all(&user, count, records, threads, &stop));
        signing.await.expect("signing does not panic")
    }

    fn sign_all(
        user: &Path,
        count: usize,
        records: usize,
        threads: usize,
        stop: &AtomicBool,
    ) -> Result<Self, BenchError> {
        let first = sign_range(user, 0..1, records, stop)?;
        let size = first.first().map_or(1, |prepared| prepared.bytes.as_slice().len());
        let count = count.min(MAX_BYTES / size).max(1);
        let share = count.div_ceil(threads);
        let ranges = (0..threads).map(|thread| thread * share..((thread + 1) * share).min(count));
        let signed: Vec<Vec<Prepared>> = thread::scope(|scope| {
            let sign = |range| scope.spawn(move || sign_range(user, range, records, stop));
            let workers: Vec<_> = ranges.map(sign).collect();
            workers.into_iter().map(|worker| worker.join().expect("signing does not panic")).collect::<Result<_, _>>()
        })?;
        let signed: Vec<Prepared> = signed.into_iter().flatten().collect();
        let places = signed.iter().enumerate().map(|(place, prepared)| (prepared.id, place)).collect();
        let transactions = signed.into_iter().map(|prepared| prepared.bytes).collect();
        Ok(Self { transactions, places, records_per_transaction: records })
    }
}

/// Ends early where it is told to stop.
fn sign_range(
    user: &Path,
    range: std::ops::Range<usize>,
    records: usize,
    stop: &AtomicBool,
) -> Result<Vec<Prepared>, BenchError> {
    let user = user::load(user).map_err(ClientError::from)?;
    let mut signer = Signer::new(user, MAX_LIFETIME_MILLIS)?;
    let now = time::now();
    let one = |number: usize| {
        let contents = (0..records).map(|record| Content::from_json(&trade(number * records + record))).collect();
        signer.sign(None, contents, now).map_err(|refusal| BenchError::Transaction { records, refusal })
    };
    range.take_while(|_| !stop.load(Ordering::Relaxed)).map(one).collect()
}

const ISINS: [&str; 4] = ["US5949181045", "DE0007164600", "GB0002374006", "FR0000120271"];
const PARTIES: [&str; 6] = [
    "Larkspur Capital",
    "Quayside Brokers",
    "Harbour Securities",
    "Meridian Custody",
    "Fjord Asset Management",
    "Baltic Clearing",
];

/// A record in the shape of the sample data: a trade of a security between two parties.
fn trade(number: usize) -> Value {
    let pick = |salt: usize| number.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let seller = pick(1) % PARTIES.len();
    let buyer = (seller + 1 + pick(2) % (PARTIES.len() - 1)) % PARTIES.len();
    json!({
        "date": format!("20{:02}-{:02}-01", pick(3) % 26, 1 + pick(4) % 12),
        "ISIN": ISINS[pick(5) % ISINS.len()],
        "price": (1_000 + pick(6) % 9_000) as f64 / 100.0,
        "volume": (1 + pick(7) % 100) * 100,
        "seller": PARTIES[seller],
        "buyer": PARTIES[buyer],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trades_are_of_one_shape_and_differ() {
        let trades: std::collections::BTreeSet<String> = (0..1000).map(|number| trade(number).to_string()).collect();
        assert!(trades.len() > 900);
        for number in 0..1000 {
            let trade = trade(number);
            assert_eq!(trade.as_object().unwrap().len(), 6);
            assert_ne!(trade["seller"], trade["buyer"]);
            assert!(trade["price"].as_f64().unwrap() >= 10.0 && trade["volume"].as_u64().unwrap() >= 100);
        }
    }
}
