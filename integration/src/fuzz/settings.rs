//! Files of operators and users, with the files they name beside them.

use std::{fs, path::Path, sync::LazyLock};

use minidlt_config::{ConfigError, Flags, NODE_FILE, load, network, user};
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    // In memory, where there is such a place: a disk that others use would take most of the time.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.expect("a temporary directory");
    // So that what is read leads on to the genesis and no further: keys and certificates are not text
    // of ours.
    let genesis = serde_yaml::to_string(&super::fixture::NETWORK.genesis).expect("a genesis is YAML");
    fs::write(directory.path().join("genesis.yaml"), genesis).expect("it can be written");
    directory
});

pub fn run(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else { return };
    let directory = DIRECTORY.path();
    match mode % 3 {
        0 => {
            let path = written(directory, "network.yaml", bytes);
            if let Some(network) = told(network::Network::load(&path, None, network::DEFAULT_BASE_PORT)) {
                assert!(!network.nodes.is_empty() && !network.organisations.is_empty());
                let gateways = network.users.iter().flat_map(|user| &user.gateways);
                assert!(gateways.copied().all(|at| at < network.nodes.len()), "gateways are nodes");
                assert!(network.nodes.iter().all(|node| node.health_port() > node.port));
            }
        }
        1 => {
            written(directory, NODE_FILE, bytes);
            told(load(directory, Flags::default()));
        }
        _ => {
            written(directory, user::USER_FILE, bytes);
            told(user::load(directory));
        }
    }
}

fn written(directory: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = directory.join(name);
    fs::write(&path, bytes).expect("a file can be written");
    path
}

/// What is wrong is one line.
fn told<T>(read: Result<T, ConfigError>) -> Option<T> {
    if let Err(error) = &read {
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.is_empty(), "an error is one line: {text:?}");
    }
    read.ok()
}
