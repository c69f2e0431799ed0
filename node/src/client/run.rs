//! Running a command's asynchronous part.

use std::future::Future;

/// On one thread, with its own runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    actix_rt::System::new().block_on(future)
}
