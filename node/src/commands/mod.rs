//! The commands, each a file: arguments as a `clap::Args` with a `run` that says how it went. A new
//! one is its file, its `mod` line, and its line in [`commands!`].

mod bench;
mod blocks;
mod change;
mod check_config;
mod compare;
mod endorse;
mod failure;
mod flags;
mod init;
mod keygen;
mod look;
mod node;
mod organisation;
mod policy;
mod receipt;
mod record_type;
mod renew;
mod restore;
mod revive;
mod send;
mod start;
mod state_proof;
mod status;
mod submit;
mod user;
mod verify;
mod verify_receipt;
mod watch;

pub use self::failure::{EXIT_CODES, Failure, Misuse};

/// Declares the enum that clap reads and the call of each variant's `run`.
macro_rules! commands {
    ($($variant:ident($arguments:ty),)+) => {
        #[derive(Debug, clap::Subcommand)]
        pub enum Command {
            $($variant($arguments),)+
        }

        impl Command {
            pub fn run(self) -> Result<(), Failure> {
                match self {
                    $(Self::$variant(command) => command.run(),)+
                }
            }
        }
    };
}

commands! {
    Init(init::Init),
    Start(start::Start),
    Keygen(keygen::Keygen),
    CheckConfig(check_config::CheckConfig),
    Renew(renew::Renew),
    Restore(restore::Restore),
    Revive(revive::Revive),
    Submit(submit::Submit),
    User(user::UserCommand),
    Node(node::NodeCommand),
    Organisation(organisation::OrganisationCommand),
    Policy(policy::PolicyCommand),
    RecordType(record_type::RecordTypeCommand),
    Endorse(endorse::Endorse),
    Send(send::Send),
    Status(status::StatusCommand),
    Blocks(blocks::Blocks),
    Watch(watch::Watch),
    Compare(compare::Compare),
    Receipt(receipt::ReceiptCommand),
    StateProof(state_proof::StateProofCommand),
    Verify(verify::Verify),
    VerifyReceipt(verify_receipt::VerifyReceipt),
    Bench(bench::Bench),
}
