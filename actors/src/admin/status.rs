//! Where this node stands.

use actix_web::{HttpResponse, web};
use minidlt_protocol::evidence::Recorded;
use serde_json::{Value, json};

use super::{State, blocking, problem::Problem};
use crate::messages::{
    consensus::GetConsensusStatus, mempool::GetMempoolStatus, network::GetPeers, sync::GetSyncStatus,
};

pub async fn get(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let api = &state.api;
    let (consensus, peers, mempool, sync) = tokio::try_join!(
        state.ask("consensus", &api.consensus, GetConsensusStatus),
        state.ask("the network", &api.peers, GetPeers),
        state.ask("the mempool", &api.mempool.status, GetMempoolStatus),
        state.ask("sync", &api.sync, GetSyncStatus),
    )?;
    let asked = state.clone();
    let evidence = blocking(move || evidence(&asked)).await?;
    let head = api.ledger.head();
    Ok(HttpResponse::Ok().json(json!({
        "node": api.me,
        "network": { "name": api.genesis.network, "id": state.network },
        "consensus": {
            "mode": api.genesis.consensus,
            "active": consensus.active,
            "height": consensus.height,
            "round": consensus.round,
            "block": consensus.block,
            "accepted_by": consensus.accepted_by,
            "missing": consensus.missing,
        },
        "voting": sync.voting,
        "fork": sync.fork,
        "predecessor": state.origin,
        "height": head.height,
        "head": head.hash,
        "created": head.created,
        "peers": peers,
        "certificates": api.tls.certificates(),
        "mempool": mempool,
        "evidence": evidence,
        "uptime_s": state.started.elapsed().as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
    })))
}

/// What the ledger has recorded against the voters.
fn evidence(state: &State) -> Result<Vec<Value>, Problem> {
    let mut list = Vec::new();
    for voter in state.api.members.voters().as_slice() {
        let voter = &voter.identity;
        for Recorded { height, round, kind, transaction } in state.api.ledger.evidence(voter)? {
            list.push(json!({
                "voter": voter,
                "height": height,
                "round": round,
                "kind": kind,
                "transaction": transaction,
            }));
        }
    }
    Ok(list)
}
