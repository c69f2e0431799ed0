//! Opening a ledger, or making one at genesis. Nothing here reads more than a few entries, so a
//! long chain opens as fast as a short one; `verify` reads it all.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use minidlt_protocol::{
    block::Head,
    genesis::Genesis,
    registry::Registry,
    state::{self, StateError, genesis_head},
    types::{Hash, Height, Identity},
    vote::ConsensusMode,
};
use rocksdb::{DB, ErrorKind};
use thiserror::Error;
use tokio::sync::watch;

use super::{
    database::{Database, handle},
    manifest,
    mark::{self, Mark},
    reader::Reader,
    schema::{self, Family, SCHEMA, height_key, meta, seal, unseal},
    wal,
    writer::{Writer, put_state, synced},
};
use crate::members::Members;

/// Where the ledger is and whose it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Made where it is not there.
    pub directory: PathBuf,
    /// Checked already; its id is the network's.
    pub genesis: Arc<Genesis>,
    pub node: Identity,
}

/// Why a ledger was not opened; one line each.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("{}: not a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("{}: there is no ledger here", .0.display())]
    Missing(PathBuf),
    #[error("{}: another process is using this ledger", .0.display())]
    Locked(PathBuf),
    #[error("{}: the ledger of network {found}; the genesis file's is {expected}", path.display())]
    OtherNetwork { path: PathBuf, found: Hash, expected: Hash },
    #[error(
        "{}: the ledger of network {found}, which the genesis file's carries on. 'minidlt restore DIR --from {}' keeps \
         it, and the node begins anew",
        path.display(), path.display()
    )]
    NetworkBefore { path: PathBuf, found: Hash },
    #[error(
        "{}: the ledger of node {found}; this is {expected}. 'minidlt restore' makes a copy of it this node's",
        path.display()
    )]
    OtherNode { path: PathBuf, found: Identity, expected: Identity },
    #[error("{}: written by a newer version of this program ({found}; this one knows schema {SCHEMA})", path.display())]
    NewerSchema { path: PathBuf, found: String },
    #[error(
        "{}: written by an older version of this program (schema {found}; this one knows schema {SCHEMA}): read it with \
         that version, or begin with an empty directory",
        path.display()
    )]
    OlderSchema { path: PathBuf, found: u32 },
    #[error("{}: cannot be read: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "{}: damaged: {reason}. Where other nodes hold its chain, move this directory away, but not the signer's log \
         beside it, and start again",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("{}: cannot be made: {reason}", path.display())]
    CannotMake { path: PathBuf, reason: String },
    #[error("the genesis state cannot be computed: {0}")]
    Genesis(StateError),
}

/// The file whose lock says that a process is using the ledger.
pub(super) const LOCK_FILE: &str = "in-use.lock";
/// RocksDB's pointer to its manifest: where it is missing, RocksDB starts from nothing.
const CURRENT_FILE: &str = "CURRENT";

/// Opens the ledger, made at genesis where there is none. One process at a time can.
pub fn open(settings: Settings) -> Result<(Writer, Reader), OpenError> {
    let Settings { directory, genesis, node } = settings;
    let lock = prepare(&directory)?;
    check_families(&directory)?;
    let mark = heal(&directory)?;
    let mark = mark.map_or_else(|| make_mark(&directory), Ok)?;
    let db = DB::open_cf_descriptors(&schema::database_options(), &directory, schema::families())
        .map_err(|error| refused(&directory, &error))?;
    let (network, mode) = (genesis.id(), genesis.consensus);
    let database = Database { db, mark: Some(mark), genesis, network, node, _lock: Some(lock) };
    let head = match stored_schema(&directory, &database.db)? {
        Some(()) => stored_head(&directory, &database)?,
        None => make_genesis(&directory, &database)?,
    };
    let (tips, tip) = watch::channel(registry_at(&directory, &database, &head, mode)?);
    let (heads, head) = watch::channel(head);
    let database = Arc::new(database);
    Ok((Writer::new(database.clone(), heads, tips), Reader::new(database, Members::new(head, tip))))
}

fn registry_at(
    directory: &Path,
    database: &Database,
    head: &Head,
    mode: ConsensusMode,
) -> Result<Arc<Registry>, OpenError> {
    let registry = state::registry(database, head.state_version, mode);
    let damaged = |error: StateError| OpenError::Damaged { path: directory.to_owned(), reason: error.to_string() };
    registry.map(Arc::new).map_err(damaged)
}

/// Opens the ledger of any node of this network, which is not running, or a backup, to be read; not a byte of it is
/// changed.
pub fn open_copy(directory: &Path, genesis: Arc<Genesis>) -> Result<Reader, OpenError> {
    let (db, lock) = open_read_only(directory)?;
    let node = read_meta(directory, &db, meta::NODE)?.ok_or_else(|| missing(directory, meta::NODE))?;
    let (network, mode) = (genesis.id(), genesis.consensus);
    let database = Database { db, mark: None, genesis, network, node, _lock: lock };
    let head = stored_head(directory, &database)?;
    let (_, tip) = watch::channel(registry_at(directory, &database, &head, mode)?);
    let (_, head) = watch::channel(head);
    Ok(Reader::new(database.into(), Members::new(head, tip)))
}

/// The network that a ledger which no node is using, or a backup, says it is of.
pub fn network_of(directory: &Path) -> Result<Hash, OpenError> {
    let (db, _lock) = open_read_only(directory)?;
    read_meta(directory, &db, meta::NETWORK)?.ok_or_else(|| missing(directory, meta::NETWORK))
}

fn missing(directory: &Path, key: &[u8]) -> OpenError {
    let reason = format!("its entry '{}' is missing", String::from_utf8_lossy(key));
    OpenError::Damaged { path: directory.to_owned(), reason }
}

/// Opens a ledger that no node is using, for reading alone; not a byte of it is changed.
pub(super) fn open_read_only(directory: &Path) -> Result<(DB, Option<File>), OpenError> {
    let lock = lock_to_read(directory)?;
    check_begins(directory)?;
    check_families(directory)?;
    check_log(directory, read_mark(directory)?.as_ref())?;
    let mut options = schema::database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let db = DB::open_cf_descriptors_read_only(&options, directory, schema::families(), false)
        .map_err(|error| refused(directory, &error))?;
    stored_schema(directory, &db)?.ok_or_else(|| OpenError::Missing(directory.to_owned()))?;
    Ok((db, lock))
}

/// Keeps nodes from a ledger that is there; a backup has no lock file, and needs none.
pub(super) fn lock_to_read(directory: &Path) -> Result<Option<File>, OpenError> {
    if !directory.exists() {
        return Err(OpenError::Missing(directory.to_owned()));
    }
    if !directory.is_dir() {
        return Err(OpenError::NotADirectory(directory.to_owned()));
    }
    let lock = File::open(directory.join(LOCK_FILE)).ok();
    match lock.as_ref().map(File::try_lock_shared) {
        Some(Err(TryLockError::WouldBlock)) => Err(OpenError::Locked(directory.to_owned())),
        _ => Ok(lock),
    }
}

/// There is a ledger, and RocksDB will find its beginning.
pub(super) fn check_begins(directory: &Path) -> Result<(), OpenError> {
    check_current(directory)?;
    match directory.join(CURRENT_FILE).exists() {
        true => Ok(()),
        false => Err(OpenError::Missing(directory.to_owned())),
    }
}

/// Opens a whole ledger to write to it, whosever it is; [`heal`] has seen its log.
pub(super) fn open_to_write(directory: &Path) -> Result<DB, OpenError> {
    check_families(directory)?;
    let mut options = schema::database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    let db =
        DB::open_cf_descriptors(&options, directory, schema::families()).map_err(|error| refused(directory, &error))?;
    stored_schema(directory, &db)?.ok_or_else(|| OpenError::Missing(directory.to_owned()))?;
    Ok(db)
}

/// What RocksDB said: the files are not what was written, or something is wrong that may pass.
pub(super) fn refused(directory: &Path, error: &rocksdb::Error) -> OpenError {
    let (path, reason) = (directory.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::Corruption => OpenError::Damaged { path, reason },
        _ => OpenError::Unreadable { path, reason },
    }
}

/// A last write of which only parts are there is cut off: nothing had been told of it. Answers the log's mark.
pub(super) fn heal(directory: &Path) -> Result<Option<Mark>, OpenError> {
    let unfit = |trouble| unfit_log(directory, trouble);
    let mark = read_mark(directory)?;
    if let Some((path, at)) = wal::torn_end(directory, mark.as_ref()).map_err(unfit)? {
        log::warn!("{}: the last write, at byte {at}, was torn; nothing had been told of it", path.display());
        wal::cut(&path, at).map_err(unfit)?;
    }
    Ok(mark)
}

/// As [`heal`] for who may not change a byte.
fn check_log(directory: &Path, mark: Option<&Mark>) -> Result<(), OpenError> {
    match wal::torn_end(directory, mark).map_err(|trouble| unfit_log(directory, trouble))? {
        None => Ok(()),
        Some((file, at)) => Err(OpenError::Unreadable {
            path: directory.to_owned(),
            reason: format!(
                "the last write to {}, at byte {at}, was torn; its node cuts it off when started",
                name(&file)
            ),
        }),
    }
}

fn unfit_log(directory: &Path, trouble: wal::Trouble) -> OpenError {
    let path = directory.to_owned();
    match trouble {
        wal::Trouble::Io(file, error) => OpenError::Unreadable { path, reason: format!("{}: {error}", name(&file)) },
        wal::Trouble::Damaged(file, at) => OpenError::Damaged {
            path,
            reason: format!("its log {}, at byte {at}, in what had been synced", name(&file)),
        },
    }
}

fn name(file: &Path) -> std::path::Display<'_> {
    file.file_name().map_or(file, Path::new).display()
}

fn read_mark(directory: &Path) -> Result<Option<Mark>, OpenError> {
    let path = || directory.to_owned();
    Mark::read(directory).map_err(|trouble| match trouble {
        mark::Trouble::Io(reason) => OpenError::Unreadable { path: path(), reason },
        mark::Trouble::Damaged(reason) => OpenError::Damaged { path: path(), reason },
    })
}

fn make_mark(directory: &Path) -> Result<Mark, OpenError> {
    let cannot = |error: io::Error| OpenError::CannotMake { path: directory.to_owned(), reason: error.to_string() };
    Mark::make(directory).map_err(cannot)
}

fn prepare(directory: &Path) -> Result<File, OpenError> {
    if directory.exists() && !directory.is_dir() {
        return Err(OpenError::NotADirectory(directory.to_owned()));
    }
    let cannot = |error: io::Error| OpenError::CannotMake { path: directory.to_owned(), reason: error.to_string() };
    fs::create_dir_all(directory).map_err(cannot)?;
    check_current(directory)?;
    let path = directory.join(LOCK_FILE);
    let lock = File::options().create(true).truncate(false).write(true).open(path).map_err(cannot)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

/// The files that RocksDB begins with. Tables without the one that lists them are a damaged ledger,
/// which RocksDB would take for an empty one and clear away. A process killed while making a ledger leaves no tables.
fn check_current(directory: &Path) -> Result<(), OpenError> {
    let path = || directory.to_owned();
    let unreadable = |reason: String| OpenError::Unreadable { path: path(), reason };
    if directory.join(CURRENT_FILE).exists() {
        return manifest::check(directory, CURRENT_FILE).map_err(|trouble| match trouble {
            manifest::Trouble::Io(reason) => unreadable(reason),
            manifest::Trouble::Damaged(reason) => OpenError::Damaged { path: path(), reason },
        });
    }
    for entry in fs::read_dir(directory).map_err(|error| unreadable(error.to_string()))? {
        let entry = entry.map_err(|error| unreadable(error.to_string()))?;
        if entry.path().extension().is_some_and(|extension| extension == "sst") {
            return Err(OpenError::Damaged { path: path(), reason: format!("its file {CURRENT_FILE} is missing") });
        }
    }
    Ok(())
}

/// A family this version does not know was made by a newer one, and RocksDB opens all or none.
fn check_families(directory: &Path) -> Result<(), OpenError> {
    if !directory.join(CURRENT_FILE).exists() {
        return Ok(());
    }
    let names = DB::list_cf(&schema::database_options(), directory).map_err(|error| refused(directory, &error))?;
    match names.into_iter().find(|name| Family::ALL.iter().all(|family| family.name() != name)) {
        Some(name) => Err(OpenError::NewerSchema { path: directory.to_owned(), found: format!("family {name}") }),
        None => Ok(()),
    }
}

/// Whether a ledger was made here before; `None` also where a process was killed while making it.
fn stored_schema(directory: &Path, db: &DB) -> Result<Option<()>, OpenError> {
    match read_meta::<u32>(directory, db, meta::SCHEMA)? {
        Some(SCHEMA) => Ok(Some(())),
        Some(found) if found < SCHEMA => Err(OpenError::OlderSchema { path: directory.to_owned(), found }),
        Some(found) => Err(OpenError::NewerSchema { path: directory.to_owned(), found: format!("schema {found}") }),
        // Genesis is one write, so without a schema there is nothing else either.
        None if read_meta::<Head>(directory, db, meta::HEAD)?.is_none() => Ok(None),
        None => {
            Err(OpenError::Damaged { path: directory.to_owned(), reason: "its entry 'schema' is missing".to_owned() })
        }
    }
}

fn read_meta<T>(directory: &Path, db: &DB, key: &[u8]) -> Result<Option<T>, OpenError>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let found = db.get_pinned_cf(handle(db, Family::Meta), key).map_err(|error| refused(directory, &error))?;
    let named = |reason| OpenError::Damaged {
        path: directory.to_owned(),
        reason: format!("its entry '{}': {reason}", String::from_utf8_lossy(key)),
    };
    found.map(|bytes| unseal(&bytes).map_err(named)).transpose()
}

fn stored_head(directory: &Path, database: &Database) -> Result<Head, OpenError> {
    let path = directory.to_owned();
    let missing = |key: &[u8]| missing(directory, key);
    let found = read_meta(directory, &database.db, meta::NETWORK)?.ok_or_else(|| missing(meta::NETWORK))?;
    let before = database.genesis.predecessor.as_ref();
    if before.is_some_and(|before| before.genesis.id() == found) {
        return Err(OpenError::NetworkBefore { path, found });
    }
    if found != database.network {
        return Err(OpenError::OtherNetwork { path, found, expected: database.network });
    }
    let found = read_meta(directory, &database.db, meta::NODE)?.ok_or_else(|| missing(meta::NODE))?;
    if found != database.node {
        return Err(OpenError::OtherNode { path, found, expected: database.node.clone() });
    }
    let head: Head = read_meta(directory, &database.db, meta::HEAD)?.ok_or_else(|| missing(meta::HEAD))?;
    let indexed = database.get(Family::Hashes, head.hash.as_bytes());
    let indexed = indexed.map_err(|error| refused(directory, &error))?;
    if head.height != Height::GENESIS && indexed.as_deref() != Some(&height_key(head.height)[..]) {
        let reason = format!("its head {} is not indexed", head.height);
        return Err(OpenError::Damaged { path, reason });
    }
    Ok(head)
}

fn make_genesis(directory: &Path, database: &Database) -> Result<Head, OpenError> {
    let (head, update) = genesis_head(&database.genesis).map_err(OpenError::Genesis)?;
    let mut batch = database.batch();
    let meta_family = handle(&database.db, Family::Meta);
    batch.put_cf(meta_family, meta::SCHEMA, seal(&SCHEMA));
    batch.put_cf(meta_family, meta::NETWORK, seal(&database.network));
    batch.put_cf(meta_family, meta::NODE, seal(&database.node));
    batch.put_cf(meta_family, meta::HEAD, seal(&head));
    put_state(&database.db, &mut batch, &update);
    let made = database.db.write_opt(batch, &synced());
    made.map_err(|error| OpenError::CannotMake { path: directory.to_owned(), reason: error.to_string() })?;
    Ok(head)
}
