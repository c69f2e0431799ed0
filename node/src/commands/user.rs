//! `minidlt user`: users of the ledger, and changes of them.

use minidlt_protocol::{
    crypto::PublicKey,
    governance::{Change, ChangeUser, EnrolUser},
    registry::{EntryKey, Role, Standing},
    types::Identity,
};

use super::{
    Failure,
    change::{How, make, make_of, user_role},
    look::{Kind, Look},
};
use crate::client::{changes::public_key, connect::ConnectNode};

/// Enrol users and change them; list them
#[derive(Debug, clap::Args)]
pub struct UserCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Enrol(Enrol),
    Change(ChangeCommand),
    RotateKey(RotateKey),
    /// Suspend a user: nothing it signs is taken until it is resumed
    Suspend(OfOne),
    /// Resume a user that was suspended
    Resume(OfOne),
    /// Revoke a user, for ever: neither it nor another of its name can be enrolled again
    Revoke(OfOne),
    #[command(flatten)]
    Look(Look),
}

/// Enrol a new user
#[derive(Debug, clap::Args)]
struct Enrol {
    #[command(flatten)]
    of: OfOne,
    /// Its public signing key, in hexadecimal, or in a PEM file; of a private key the public part is taken
    #[arg(long, value_name = "FILE|HEX")]
    key: String,
    /// What it may do: admin, contractinvoker, userinvoker, nodeinvoker, policyinvoker, submitter, auditor
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', value_parser = user_role, required = true)]
    roles: Vec<Role>,
    /// The nodes it may submit through
    #[arg(long, value_name = "NODE@ORGANISATION,…", value_delimiter = ',')]
    gateways: Vec<Identity>,
}

/// Give a user other roles or gateways; what is left out stays as it is
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["roles", "gateways"])))]
struct ChangeCommand {
    #[command(flatten)]
    of: OfOne,
    /// All that it may do from now on
    #[arg(long, value_name = "ROLE,…", value_delimiter = ',', value_parser = user_role)]
    roles: Option<Vec<Role>>,
    /// All nodes it may submit through from now on
    #[arg(long, value_name = "NODE@ORGANISATION,…", value_delimiter = ',')]
    gateways: Option<Vec<Identity>>,
}

/// Give a user another signing key; what it signed with the one before and is not committed yet is refused
#[derive(Debug, clap::Args)]
struct RotateKey {
    #[command(flatten)]
    of: OfOne,
    /// The new public key, in hexadecimal, or in a PEM file; of a private key the public part is taken
    #[arg(long, value_name = "FILE|HEX")]
    key: String,
}

#[derive(Debug, clap::Args)]
struct OfOne {
    #[command(flatten)]
    connect: ConnectNode,
    #[command(flatten)]
    how: How,
    /// The user that it is about
    #[arg(value_name = "NAME@ORGANISATION")]
    member: Identity,
}

impl UserCommand {
    pub fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Enrol(enrol) => enrol.run(),
            Action::Change(ChangeCommand { of, roles, gateways }) => {
                let roles = roles.map(|roles| roles.into_iter().collect());
                let gateways = gateways.map(|gateways| gateways.into_iter().collect());
                of.change(|change| ChangeUser { roles, gateways, ..change })
            }
            Action::RotateKey(RotateKey { of, key }) => {
                let key: PublicKey = public_key(&key)?;
                of.change(|change| ChangeUser { public_key: Some(key), ..change })
            }
            Action::Suspend(of) => of.stand(Standing::Suspended),
            Action::Resume(of) => of.stand(Standing::Active),
            Action::Revoke(of) => of.stand(Standing::Revoked),
            Action::Look(look) => look.run(Kind::User),
        }
    }
}

impl Enrol {
    fn run(self) -> Result<(), Failure> {
        let enrol = EnrolUser {
            user: self.of.member,
            public_key: public_key(&self.key)?,
            roles: self.roles.into_iter().collect(),
            gateways: self.gateways.into_iter().collect(),
        };
        make(&self.of.connect, &self.of.how, async |_| Ok(Change::EnrolUser(enrol)))
    }
}

impl OfOne {
    fn stand(self, standing: Standing) -> Result<(), Failure> {
        self.change(|change| ChangeUser { standing: Some(standing), ..change })
    }

    /// Makes the change that `with` makes of one that changes nothing.
    fn change(self, with: impl FnOnce(ChangeUser) -> ChangeUser) -> Result<(), Failure> {
        let Self { connect, how, member: user } = self;
        make_of(&connect, &how, EntryKey::User(user.clone()), |revision| {
            let nothing = ChangeUser { user, revision, public_key: None, roles: None, gateways: None, standing: None };
            Change::ChangeUser(with(nothing))
        })
    }
}
