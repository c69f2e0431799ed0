//! Health and metrics, in plain HTTP on the loopback alone: for the machine the node runs on.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix::Recipient;
use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, web};
use minidlt_protocol::types::Identity;
use serde_json::json;

use crate::{
    members::Members,
    messages::network::{GetPeers, PeerState},
    metrics::Metrics,
};

/// What health is told from.
pub struct Health {
    pub members: Members,
    pub me: Identity,
    pub peers: Recipient<GetPeers>,
    pub metrics: Arc<Metrics>,
}

/// A health server that runs.
pub struct RunningHealth {
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl RunningHealth {
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

pub const CONNECTIONS: usize = 64;
/// For a request to come, and for another part of the node to answer.
const TIME: Duration = Duration::from_secs(2);

/// Serves on a listener that is already bound, which must be on the loopback.
pub fn start(health: Health, listener: TcpListener) -> io::Result<RunningHealth> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let reason = format!("health and metrics are served on the loopback alone, not on {address}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let health = web::Data::new(health);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(health.clone())
            .route("/healthz", web::get().to(async || "ok"))
            .route("/readyz", web::get().to(ready))
            .route("/metrics", web::get().to(metrics))
    })
    .workers(1)
    .max_connections(CONNECTIONS)
    .client_request_timeout(TIME)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        if let Err(error) = server.await {
            log::error!("health: {error}");
        }
    });
    Ok(RunningHealth { address, handle })
}

/// Ready where enough voters are connected, this node included, to decide a block: in the mode
/// `full-consent`, that is all of them. This being asked at all means that the store is open.
async fn ready(health: web::Data<Health>) -> HttpResponse {
    let voters = health.members.voters();
    let Ok(Ok(peers)) = tokio::time::timeout(TIME, health.peers.send(GetPeers)).await else {
        return unready("the network does not answer".into());
    };
    let connected = |voter: &Identity| {
        *voter == health.me || peers.iter().any(|peer| peer.identity == *voter && peer.state == PeerState::Connected)
    };
    let names = voters.as_slice().iter().map(|voter| &voter.identity);
    let away: Vec<String> = names.filter(|voter| !connected(voter)).map(Identity::to_string).collect();
    let (all, quorum) = (voters.as_slice().len(), voters.quorum());
    let here = all - away.len();
    if here >= quorum {
        return HttpResponse::Ok().json(json!({ "ready": true, "reasons": [] }));
    }
    let away = away.join(", ");
    unready(format!("{here} of {all} voters connected, {quorum} needed; not connected: {away}"))
}

fn unready(reason: String) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "ready": false, "reasons": [reason] }))
}

async fn metrics(health: web::Data<Health>) -> HttpResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.metrics.registry) {
        Ok(()) => {
            HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text)
        }
        Err(error) => HttpResponse::InternalServerError().body(format!("metrics do not encode: {error}")),
    }
}
