//! What became of a transaction, and its receipt.

use actix_web::{HttpResponse, http::header, web};
use minidlt_protocol::{
    transaction::{Refusal, TransactionBytes},
    types::{Hash, Identity, Timestamp},
    view::TransactionView,
};
use serde_json::{Value, json};

use super::{State, blocking, problem::Problem};
use crate::{
    messages::{
        consensus::GetConsensusStatus,
        mempool::{Cause, FindPending, Waiting},
    },
    store::reader::Located,
};

fn id_in(path: &str) -> Result<Hash, Problem> {
    path.parse().map_err(|error| Problem::bad_request(format!("{path:?} is not a transaction's id: {error}")))
}

/// The place of a committed transaction, as every answer shows it.
pub fn committed(id: &Hash, Located { height, position, outcome }: &Located) -> Value {
    json!({ "id": id, "status": "committed", "height": height, "position": position, "result": outcome })
}

/// A transaction that can no longer be committed, as every answer shows it.
pub fn dumped(id: &Hash, expires: Timestamp, cause: &Cause) -> Value {
    let nobody: &[Identity] = &[];
    let (reason, missing, because) = match cause {
        Cause::Missing(missing) => {
            let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
            let because = format!("when it expired, the agreement waited for {}", names.join(", "));
            ("acceptance-missing", &**missing, because)
        }
        Cause::NobodyMissing => {
            let because = "nobody's acceptance was missing: its life was too short for what was waiting before it";
            ("nobody-missing", nobody, because.to_owned())
        }
        Cause::NotSeen => {
            let because = "this node took no part in the agreement of that time and cannot tell who was missing";
            ("not-seen", nobody, because.to_owned())
        }
    };
    let detail = format!("no block created up to {expires} ms held it, so none ever will; {because}");
    json!({ "id": id, "status": "dumped", "expires": expires, "reason": reason, "missing": missing, "detail": detail })
}

/// A transaction that waited until no block could hold it any more, as every answer shows it.
pub fn rejected(id: &Hash, reason: &Refusal) -> Value {
    json!({ "id": id, "status": "rejected", "kind": reason.kind(), "reason": reason.to_string() })
}

pub async fn get(state: web::Data<State>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = id_in(&path)?;
    if let Some(answer) = on_ledger(&state, id).await? {
        return Ok(HttpResponse::Ok().json(answer));
    }
    match state.ask("the mempool", &state.api.mempool.find, FindPending(id)).await? {
        Waiting::Pending(transaction) => {
            let consensus = state.ask("consensus", &state.api.consensus, GetConsensusStatus).await?;
            let transaction = view(&state.network, &transaction.bytes)?;
            let missing = consensus.missing;
            let answer = json!({ "id": id, "status": "pending", "missing": missing, "transaction": transaction });
            Ok(HttpResponse::Ok().json(answer))
        }
        Waiting::Dumped { expires, cause } => Ok(HttpResponse::Ok().json(dumped(&id, expires, &cause))),
        Waiting::Rejected(reason) => Ok(HttpResponse::Ok().json(rejected(&id, &reason))),
        // It may have been committed between the two looks.
        Waiting::Unknown => match on_ledger(&state, id).await? {
            Some(answer) => Ok(HttpResponse::Ok().json(answer)),
            None => Err(Problem::unknown_transaction(&id)),
        },
    }
}

async fn on_ledger(state: &web::Data<State>, id: Hash) -> Result<Option<Value>, Problem> {
    let state = state.clone();
    blocking(move || {
        let Some((located, bytes)) = state.api.ledger.transaction(&id)? else { return Ok(None) };
        let mut answer = committed(&id, &located);
        answer["transaction"] = json!(view(&state.network, &bytes)?);
        Ok(Some(answer))
    })
    .await
}

fn view(network: &Hash, bytes: &TransactionBytes) -> Result<TransactionView, Problem> {
    TransactionView::of(network, bytes).map_err(|error| {
        log::error!("a transaction that was taken does not read: {error}");
        Problem::internal("the transaction does not read")
    })
}

pub async fn receipt(state: web::Data<State>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = id_in(&path)?;
    let text = blocking(move || {
        let ledger = &state.api.ledger;
        if let Some(receipt) = ledger.receipt(&id)? {
            return Ok(receipt.to_text());
        }
        Err(match ledger.locate(&id)? {
            Some(located) => Problem::receipt_not_ready(located.height),
            None => Problem::not_found(format!("transaction {id} is not on the ledger")),
        })
    })
    .await?;
    // Its bytes are its spelling: a client writes them to a file as they come.
    let name = format!("attachment; filename=\"{id}.receipt.json\"");
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header::CONTENT_DISPOSITION, name))
        .body(text))
}
