//! Conversations that keep their caches between turns.

/// How a request goes on from a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionUse {
    pub id: u64,
    /// The prompt is the whole conversation, of which the session may hold the beginning; otherwise it
    /// stands behind what the session holds.
    pub whole: bool,
}
