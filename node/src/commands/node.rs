//! `minidlt node`: nodes of the ledger, and changes of them.

use std::time::Duration;

use minidlt_protocol::{
    governance::{Change, ChangeNode, EnrolNode, FormerKeyFor},
    registry::{EntryKey, NodeRole, Standing},
    types::Identity,
};

use super::{
    Failure,
    change::{How, make, make_of, node_role},
    look::{Kind, Look},
};
use crate::client::{
    changes::public_key,
    connect::ConnectNode,
    time::{now, parse_duration},
};

/// Enrol nodes and change them; list them
#[derive(Debug, clap::Args)]
pub struct NodeCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Enrol(Enrol),
    Change(ChangeCommand),
    RotateKey(RotateKey),
    /// Suspend a node: no other node takes what it signs, until it is resumed
    Suspend(OfOne),
    /// Resume a node that was suspended
    Resume(OfOne),
    /// Revoke a node, for ever: neither it nor another of its name can be enrolled again
    Revoke(OfOne),
    #[command(flatten)]
    Look(Look),
}

/// Enrol a new node; as an orderer it votes from the second block after this one on
#[derive(Debug, clap::Args)]
struct Enrol {
    #[command(flatten)]
    of: OfOne,
    /// Its public signing key, in hexadecimal, or in a PEM file; of a private key the public part is taken
    #[arg(long, value_name = "FILE|HEX")]
    key: String,
    /// Where its peers reach it
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// What it does: peer, orderer
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', value_parser = node_role, required = true)]
    roles: Vec<NodeRole>,
}

/// Give a node another address or other roles; what is left out stays as it is
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["address", "roles"])))]
struct ChangeCommand {
    #[command(flatten)]
    of: OfOne,
    /// Where its peers reach it from now on
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// All that it does from now on
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', value_parser = node_role)]
    roles: Option<Vec<NodeRole>>,
}

/// Give a node another signing key: put it beside the one in use, as node.key.next, then run this; the node takes
/// it up by itself
#[derive(Debug, clap::Args)]
struct RotateKey {
    #[command(flatten)]
    of: OfOne,
    /// The new public key, in hexadecimal, or in a PEM file; of a private key the public part is taken
    #[arg(long, value_name = "FILE|HEX")]
    key: String,
    /// How long the key before is still good for messages to peers, who may be behind; not for votes. 0s where it
    /// has become known to others
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    former_key_for: Duration,
}

#[derive(Debug, clap::Args)]
struct OfOne {
    #[command(flatten)]
    connect: ConnectNode,
    #[command(flatten)]
    how: How,
    /// The node that it is about
    #[arg(value_name = "NAME@ORGANISATION")]
    member: Identity,
}

impl NodeCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Enrol(enrol) => enrol.run(),
            Action::Change(ChangeCommand { of, address, roles }) => {
                let roles = roles.map(|roles| roles.into_iter().collect());
                of.change(|change| ChangeNode { address, roles, ..change })
            }
            Action::RotateKey(RotateKey { of, key, former_key_for }) => {
                let public_key = Some(public_key(&key)?);
                let millis = u64::try_from(former_key_for.as_millis()).unwrap_or(u64::MAX);
                let former_key = (millis > 0).then(|| FormerKeyFor { until: now().plus_millis(millis) });
                of.change(|change| ChangeNode { public_key, former_key, ..change })
            }
            Action::Suspend(of) => of.stand(Standing::Suspended),
            Action::Resume(of) => of.stand(Standing::Active),
            Action::Revoke(of) => of.stand(Standing::Revoked),
            Action::Look(look) => look.run(Kind::Node),
        }
    }
}

impl Enrol {
    fn run(self) -> Result<(), Failure> {
        let enrol = EnrolNode {
            node: self.of.member,
            public_key: public_key(&self.key)?,
            roles: self.roles.into_iter().collect(),
            address: self.address,
        };
        make(&self.of.connect, &self.of.how, async |_| Ok(Change::EnrolNode(enrol)))
    }
}

impl OfOne {
    fn stand(self, standing: Standing) -> Result<(), Failure> {
        self.change(|change| ChangeNode { standing: Some(standing), ..change })
    }

    /// Makes the change that `with` makes of one that changes nothing.
    fn change(self, with: impl FnOnce(ChangeNode) -> ChangeNode) -> Result<(), Failure> {
        let Self { connect, how, member: node } = self;
        make_of(&connect, &how, EntryKey::Node(node.clone()), |revision| {
            let nothing = ChangeNode {
                node,
                revision,
                public_key: None,
                former_key: None,
                roles: None,
                address: None,
                standing: None,
            };
            Change::ChangeNode(with(nothing))
        })
    }
}
