//! (to come)
pub const MAX_TARGET_BYTES: usize = 8192;
