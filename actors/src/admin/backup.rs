//! A copy of the ledger, made while the node runs: a snapshot of the database, whose files are shared
//! with it where the file system can link them.
//!
//! The record of this node's votes is not copied: an old one would be taken for all that it signed.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use actix_web::{HttpRequest, HttpResponse, web};
use minidlt_protocol::{
    registry::Role,
    types::{Height, Name},
};
use serde::Deserialize;
use serde_json::json;

use super::{Ledger, State, auth::By, blocking, body, problem::Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Into {
    directory: Name,
}

pub async fn post(
    state: web::Data<State>,
    By(caller): By,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    caller.require(Role::Admin)?;
    let Into { directory } = body::json(&state, &caller.identity, &request, payload).await?;
    let alone = state.backing_up.clone().try_acquire_owned();
    let alone = alone.map_err(|_| Problem::busy("a backup is being made already"))?;
    log::info!("{} has the ledger copied to backups/{directory}", caller.identity);
    let (ledger, backups) = (state.api.ledger.clone(), state.api.backups.clone());
    let (path, height) = blocking(move || {
        // Not kept by the caller, who may hang up: the work goes on all the same.
        let _alone = alone;
        copy(&*ledger, &backups, &directory)
    })
    .await?;
    Ok(HttpResponse::Ok().json(json!({ "path": path.display().to_string(), "height": height })))
}

/// The copy is there whole or not at all, and on disk once this answers.
fn copy(ledger: &dyn Ledger, backups: &Path, name: &Name) -> Result<(PathBuf, Height), Problem> {
    let path = backups.join(name.as_str());
    if path.exists() {
        return Err(Problem::backup_exists(&path));
    }
    let failed = |error: io::Error| Problem::internal(format!("{}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(backups).map_err(failed)?;
    // A name that no backup can have.
    let unfinished = backups.join(format!(".{name}.unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    let height = ledger.head().height;
    ledger.backup(&unfinished)?;
    fs::rename(&unfinished, &path).and_then(|()| File::open(backups)?.sync_all()).map_err(failed)?;
    Ok((path, height))
}
