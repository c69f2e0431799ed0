//! The node file as it is written, before anything in it is believed.

use serde::{Deserialize, Serialize};

/// `nodeN/config.yaml` with all layers merged. Paths in the file are relative to its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    pub identity: RawIdentity,
    pub genesis: String,
    pub key: String,
    pub data_dir: String,
    pub peers_listen: String,
    pub api_listen: String,
    pub health_listen: String,
    pub tls: RawTls,
    pub log_level: String,
    pub endorse: RawEndorse,
    pub limits: RawLimits,
}

/// One word, or a list of types of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "neither a word nor a list of types of records")]
pub enum RawEndorse {
    Word(String),
    Types(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIdentity {
    pub name: String,
    pub organisation: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTls {
    pub certificate: String,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLimits {
    pub sessions: u64,
    pub requests: u64,
    pub subscribers: u64,
    pub mempool: RawMempool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMempool {
    pub transactions: u64,
    pub bytes: u64,
}

/// The lowest layer: every key but `identity`, which nobody else can know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Defaults {
    genesis: &'static str,
    key: &'static str,
    data_dir: &'static str,
    peers_listen: &'static str,
    api_listen: &'static str,
    health_listen: &'static str,
    tls: RawTls,
    log_level: &'static str,
    endorse: &'static str,
    limits: RawLimits,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            genesis: "../genesis.yaml",
            key: "node.key",
            data_dir: "data",
            api_listen: "127.0.0.1:3401",
            peers_listen: "127.0.0.1:3402",
            health_listen: "127.0.0.1:3403",
            tls: RawTls { certificate: "tls.crt".into(), key: "tls.key".into() },
            log_level: "info",
            endorse: "everything",
            limits: RawLimits::default(),
        }
    }
}
