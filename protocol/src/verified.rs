//! "Checked" as a type.

use std::ops::Deref;

/// A value whose signature has been checked against the member registry. Only this crate's
/// `verify` functions make one, so a function that takes `Verified<T>` cannot be handed raw input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) fn vouch(value: T) -> Self {
        Self(value)
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
