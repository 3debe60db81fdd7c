//! The device of a session, for the list of sessions.
//!
//! Input: `User-Agent` and the client's address. Output: short text that can be printed anywhere.

use std::net::IpAddr;

use crate::values::text::is_unprintable;

/// Bytes of `User-Agent` that are kept.
const USER_AGENT_BYTES: usize = 256;

/// The client that opens a session.
#[derive(Clone, Debug)]
pub struct Device {
    /// As sent, or empty.
    pub user_agent: String,
    /// The client's address.
    pub address: IpAddr,
}

/// IPv4 within IPv6 as IPv4, as the access log has it.
pub(super) fn address_text(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// The part of `User-Agent` that is kept: without unprintable characters, and no longer than a list has room for.
pub(super) fn shorten(user_agent: &str) -> String {
    let mut kept = String::new();
    for letter in user_agent
        .trim()
        .chars()
        .filter(|letter| !is_unprintable(*letter))
    {
        if kept.len() + letter.len_utf8() > USER_AGENT_BYTES {
            break;
        }
        kept.push(letter);
    }
    kept
}
