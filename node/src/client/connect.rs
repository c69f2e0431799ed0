//! The flags that say who asks which nodes, shared by all commands that talk to a network.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use minidlt_config::user::{self, UserSettings};
use minidlt_protocol::types::Hash;

use super::{
    answers::Status,
    api::{NodeClient, NodeUrl, http_client},
    error::ClientError,
    tls::{Tls, Verdict},
};
use crate::say;

#[derive(Debug, Clone, clap::Args)]
pub struct Connect {
    /// Directory of the user who asks
    #[arg(long = "as", value_name = "DIR/users/NAME")]
    pub user: PathBuf,
    /// PEM file of authorities, any of which may vouch for any node [default: those of the user's genesis, each for its
    /// own organisation's nodes]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct ConnectNode {
    #[command(flatten)]
    pub connect: Connect,
    /// The node to ask, https://HOST:PORT [default: the first of the user's own that answers]
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
}

/// A user, and the nodes it talks to.
pub struct Session {
    pub user: UserSettings,
    pub nodes: Vec<NodeClient>,
}

impl Connect {
    /// With just these nodes, or with the user's own where none are given.
    pub fn session(&self, urls: &[String]) -> Result<Session, ClientError> {
        open(&self.user, self.ca.as_deref(), urls)
    }
}

impl ConnectNode {
    pub fn session(&self) -> Result<Session, ClientError> {
        self.connect.session(self.node.as_slice())
    }

    /// The node given, or the first of the user's own that answers.
    pub async fn node(&self) -> Result<NodeClient, ClientError> {
        self.session()?.first_alive().await.map(|(node, _)| node)
    }
}

impl Session {
    /// The first node that answers, and where it stands. What may be one node's fault is no reason to
    /// give up, all else is told at once.
    pub async fn first_alive(&self) -> Result<(NodeClient, Status), ClientError> {
        let mut last = ClientError::Usage("no node to talk to; give one with --node https://HOST:PORT".into());
        for node in &self.nodes {
            match node.status().await {
                Ok(status) => {
                    check_network(node, &status.network.id, &self.user)?;
                    return Ok((node.clone(), status));
                }
                Err(error) if error.may_be_this_nodes() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(ClientError::none_answers(self.nodes.len(), last))
    }
}

/// Opens a session as the user of a directory.
pub fn open(directory: &Path, ca: Option<&Path>, urls: &[String]) -> Result<Session, ClientError> {
    let user = user::load(directory)?;
    user.warnings.iter().for_each(say::warn);
    let urls = if urls.is_empty() { &user.nodes } else { urls };
    let urls: Vec<NodeUrl> = urls.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
    let tls = Rc::new(Tls::new(&user, ca)?);
    let nodes = urls.into_iter().map(|url| connect(&tls, url)).collect();
    Ok(Session { user, nodes })
}

/// A client of its own for each node, so that a refused certificate is told of the right one.
fn connect(tls: &Rc<Tls>, url: NodeUrl) -> NodeClient {
    let verdict = Verdict::default();
    let (tls, told) = (tls.clone(), verdict.clone());
    NodeClient::new(url, move || tls.connector(told).map(http_client)).with_verdict(verdict)
}

fn check_network(node: &NodeClient, theirs: &Hash, user: &UserSettings) -> Result<(), ClientError> {
    if *theirs == user.network {
        return Ok(());
    }
    let (theirs, ours) = (theirs.to_string(), user.network.to_string());
    Err(ClientError::OtherNetwork { url: node.url().to_string(), theirs, ours })
}
