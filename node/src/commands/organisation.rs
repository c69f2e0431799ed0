//! `minidlt organisation`: organisations of the ledger, and changes of them.

use std::path::{Path, PathBuf};

use minidlt_protocol::{
    governance::{AddOrganisation, Change, ChangeOrganisation, FirstAdmin, RemoveOrganisation},
    registry::{EntryKey, Role},
    types::{Identity, Name},
};

use super::{
    Failure,
    change::{How, make, make_of, user_role},
    look::{Kind, Look},
};
use crate::client::{
    ClientError,
    changes::public_key,
    connect::{Connect, ConnectNode},
    files::read_text,
};

const MAX_CA_BYTES: usize = 64 << 10;

/// Add and remove organisations, change their CAs; list them
#[derive(Debug, clap::Args)]
pub struct OrganisationCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Add(Add),
    ChangeCa(ChangeCa),
    /// End the time in which an organisation's former CA is believed beside the new one
    DropFormerCa(OfOne),
    /// Remove an organisation and revoke all its members, for ever
    Remove(OfOne),
    #[command(flatten)]
    Look(Look),
}

/// Add an organisation with its first admin, who enrols its nodes and users
#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    connect: ConnectBesideCa,
    #[command(flatten)]
    how: How,
    /// The new organisation
    #[arg(value_name = "NAME")]
    organisation: Name,
    /// The certificate of its certificate authority, PEM
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Its first admin's name, without the organisation
    #[arg(long, value_name = "NAME")]
    admin: Name,
    /// The first admin's public signing key, in hexadecimal, or in a PEM file; of a private key the public part is taken
    #[arg(long, value_name = "FILE|HEX")]
    admin_key: String,
    /// What the first admin may do besides
    #[arg(
        long,
        value_name = "ROLE,…",
        value_delimiter = ',',
        value_parser = user_role,
        default_value = "userinvoker,nodeinvoker"
    )]
    admin_roles: Vec<Role>,
    /// Nodes of others that the first admin may submit through until there are its own
    #[arg(long, value_name = "NODE@ORGANISATION,…", value_delimiter = ',')]
    admin_gateways: Vec<Identity>,
}

/// Give an organisation another CA; the one before is believed, too, until it is dropped
#[derive(Debug, clap::Args)]
struct ChangeCa {
    #[command(flatten)]
    connect: ConnectBesideCa,
    #[command(flatten)]
    how: How,
    /// The organisation
    #[arg(value_name = "NAME")]
    organisation: Name,
    /// The new authority's certificate, PEM
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
}

#[derive(Debug, clap::Args)]
struct OfOne {
    #[command(flatten)]
    connect: ConnectNode,
    #[command(flatten)]
    how: How,
    /// The organisation
    #[arg(value_name = "NAME")]
    organisation: Name,
}

/// Who asks which nodes, where `--ca` means another thing.
#[derive(Debug, clap::Args)]
struct ConnectBesideCa {
    /// Directory of the user who asks
    #[arg(long = "as", value_name = "DIR/users/NAME")]
    user: PathBuf,
    /// PEM file of authorities, any of which may vouch for any node: what other commands call --ca
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The node to ask, https://HOST:PORT [default: the first of the user's own that answers]
    #[arg(long, value_name = "URL")]
    node: Option<String>,
}

impl From<ConnectBesideCa> for ConnectNode {
    fn from(ConnectBesideCa { user, trust, node }: ConnectBesideCa) -> Self {
        Self { connect: Connect { user, ca: trust }, node }
    }
}

impl OrganisationCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Add(add) => add.run(),
            Action::ChangeCa(ChangeCa { connect, how, organisation, ca }) => {
                let ca = Some(certificate(&ca)?);
                OfOne { connect: connect.into(), how, organisation }.change(|organisation, revision| {
                    Change::ChangeOrganisation(ChangeOrganisation { organisation, revision, ca })
                })
            }
            Action::DropFormerCa(of) => of.change(|organisation, revision| {
                Change::ChangeOrganisation(ChangeOrganisation { organisation, revision, ca: None })
            }),
            Action::Remove(of) => of.change(|organisation, revision| {
                Change::RemoveOrganisation(RemoveOrganisation { organisation, revision })
            }),
            Action::Look(look) => look.run(Kind::Organisation),
        }
    }
}

impl Add {
    fn run(self) -> Result<(), Failure> {
        let admin = FirstAdmin {
            name: self.admin,
            public_key: public_key(&self.admin_key)?,
            roles: self.admin_roles.into_iter().collect(),
            gateways: self.admin_gateways.into_iter().collect(),
        };
        let add = AddOrganisation { organisation: self.organisation, ca: certificate(&self.ca)?, admin };
        make(&self.connect.into(), &self.how, async |_| Ok(Change::AddOrganisation(add)))
    }
}

impl OfOne {
    fn change(self, change: impl FnOnce(Name, u64) -> Change) -> Result<(), Failure> {
        let Self { connect, how, organisation } = self;
        let key = EntryKey::Organisation(organisation.clone());
        make_of(&connect, &how, key, |revision| change(organisation, revision))
    }
}

/// A certificate as the file has it: whether it is a CA's is the nodes' to say.
fn certificate(path: &Path) -> Result<String, ClientError> {
    read_text(path, MAX_CA_BYTES)
}
