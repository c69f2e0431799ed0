//! The commands, one a file.

pub mod bench;
pub mod blocks;
pub mod compare;
pub mod receipt;
pub mod status;
pub mod submit;
pub mod verify_receipt;
pub mod watch;
