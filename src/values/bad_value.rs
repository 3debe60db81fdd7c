//! What is wrong with a text, where that takes more than a hint.

/// A problem and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// The problem.
    pub message: String,
    /// What to write.
    pub hint: String,
    /// Whether the text may hold a password.
    pub is_secret: bool,
}

impl BadValue {
    /// A problem with a text that may be shown.
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            is_secret: false,
        }
    }
}
