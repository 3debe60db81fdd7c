//! What is kept about where somebody signed in from, for the list of their sessions.
//!
//! Enters: what a client says about itself, and its address. Leaves: short text that can be shown anywhere.

use std::net::IpAddr;

/// Bytes of `User-Agent` that are kept.
const USER_AGENT_BYTES: usize = 256;

/// Where somebody signs in from.
#[derive(Clone, Debug)]
pub struct Device {
    /// As sent, or empty.
    pub user_agent: String,
    /// The client's.
    pub address: IpAddr,
}

/// IPv4 within IPv6 as IPv4, as the access log has it.
pub(super) fn address_text(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// What is kept of `User-Agent`: nothing that moves a terminal's cursor or turns the direction of the text around it, and
/// no more than has a place in a list.
pub(super) fn shorten(user_agent: &str) -> String {
    let is_unseen = |letter: &char| {
        letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut kept = String::new();
    for letter in user_agent.trim().chars().filter(|letter| !is_unseen(letter)) {
        if kept.len() + letter.len_utf8() > USER_AGENT_BYTES {
            break;
        }
        kept.push(letter);
    }
    kept
}
