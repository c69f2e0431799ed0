//! Putting a message into a mailbox without asking for an answer, so that no thread is woken to give
//! one. It waits only where the mailbox is full.

use actix::{MailboxError, Message, Recipient, dev::SendError};
use futures_executor::block_on;
use tokio::task::unconstrained;

pub async fn post<M>(to: &Recipient<M>, message: M) -> Result<(), MailboxError>
where
    M: Message<Result = ()> + Send + 'static,
{
    match to.try_send(message) {
        Ok(()) => Ok(()),
        Err(SendError::Full(message)) => to.send(message).await,
        Err(SendError::Closed(_)) => Err(MailboxError::Closed),
    }
}

/// As [`post`], for who may hold up its thread: the other end waits for nobody on it.
pub fn post_blocking<M>(to: &Recipient<M>, message: M) -> Result<(), MailboxError>
where
    M: Message<Result = ()> + Send + 'static,
{
    wait(post(to, message))
}

/// Waits on this thread. Unconstrained: a task whose budget of the runtime is spent would put off its
/// waking to a runtime that this very wait keeps from running.
pub fn wait<F: Future>(future: F) -> F::Output {
    block_on(unconstrained(future))
}
