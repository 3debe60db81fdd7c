//! How long the parts of an account may be.

/// The longest display name, in characters.
pub(super) const MAX_NAME: usize = 128;
/// The longest role, in bytes.
pub(super) const MAX_ROLE_BYTES: usize = 64;
/// The most roles of one account.
pub(super) const MAX_ROLES: usize = 64;
/// The longest list of roles, in bytes with a comma between each two: it travels in a cookie with the rest of a token,
/// as JSON, in which `"` and `\` take two bytes.
pub(super) const MAX_ROLES_BYTES: usize = 1024;
/// The longest id, in bytes, for the same reason.
pub(super) const MAX_ID_BYTES: usize = 128;
/// The longest password that is looked at, in bytes.
pub(crate) const MAX_PASSWORD_BYTES: usize = 4096;
