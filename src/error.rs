//! The one error type. Its kind becomes the status code at the C boundary, its text the message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Everything that can go wrong, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An argument is NULL, out of range or malformed.
    #[error("{0}")]
    BadArgument(String),
    /// A file or folder does not exist.
    #[error("{0}")]
    NotFound(String),
    /// A file of the model is broken: the message names the file, the key and what was expected.
    #[error("{0}")]
    BadModel(String),
    /// The model is sound, but not of a kind that this library runs.
    #[error("{0}")]
    Unsupported(String),
    /// The prompt and what is to be generated do not fit the context.
    #[error("{0}")]
    ContextFull(String),
    /// MLX could not allocate.
    #[error("{0}")]
    OutOfMemory(String),
    /// The caller's cancel handle was triggered.
    #[error("cancelled")]
    Cancelled,
    /// The model was freed while the call was under way.
    #[error("the model was freed while the call was under way")]
    Closed,
    /// More requests wait than may, or the object is in use by another call.
    #[error("{0}")]
    Busy(String),
    /// The caller's buffer is too small.
    #[error("{0}")]
    BufferTooSmall(String),
    /// The system refused to write or read a file that is no part of a model.
    #[error("{0}")]
    Io(String),
    /// A download failed: the message says what the other side answered.
    #[error("{0}")]
    Network(String),
    /// MLX failed.
    #[error("MLX: {0}")]
    Mlx(String),
    /// A defect of this library.
    #[error("internal error: {0}")]
    Internal(String),
}

/// What every fallible function of this library returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs what may panic; a panic becomes [`Error::Internal`] with its message.
pub fn without_panic<T>(run: impl FnOnce() -> T) -> Result<T> {
    // Asserting is sound: everything that is shared sits in locks that do not poison and are released by
    // unwinding.
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| Error::from_panic(&*payload))
}

impl Error {
    /// A [`Error::BadModel`] that names the file.
    pub fn bad_file(file: &Path, what: impl std::fmt::Display) -> Self {
        Error::BadModel(format!("{}: {what}", file.display()))
    }

    /// What a caught panic becomes.
    pub fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Error::Internal(format!("panic: {}", text.unwrap_or("without a message")))
    }
}
