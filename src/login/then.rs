//! The redirect after a sign-in, and how the session gets to another host.

use http::HeaderValue;
use zeroize::Zeroizing;

use super::sites::{ReturnTo, Sites};
use crate::refusal::Refusal;
use crate::session::{Destination, Sessions};
use crate::state::TokenHash;

/// The parameter with the one-time code.
pub(super) const CODE: &str = "code";

/// Where a browser goes from the sign-in page.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// To a page: on this host; or on another one, which begins an attempt of its own.
    Page(String),
    /// Back to the host that sent it, with a one-time code. `landing` is where it presents the code, up to the code itself.
    Host {
        landing: String,
        destination: Destination,
    },
}

impl Then {
    /// To the start page.
    pub(super) fn start() -> Self {
        Self::Page("/".to_owned())
    }

    /// To an address that is fine, by the attempt that came with it.
    pub(super) fn new(
        sites: &Sites,
        prefix: &str,
        return_to: Option<ReturnTo<'_>>,
        attempt: Option<TokenHash>,
    ) -> Self {
        match (return_to, attempt) {
            (None, _) => Self::start(),
            (Some(ReturnTo::Here(path) | ReturnTo::Home(path)), _) => Self::Page(path.to_owned()),
            (Some(ReturnTo::Named { authority, path }), None) => Self::Page(sites.url(&authority, path)),
            (Some(ReturnTo::Named { authority, path }), Some(nonce)) => Self::Host {
                landing: sites.url(&authority, &format!("{prefix}/continue?{}=", CODE)),
                destination: Destination {
                    host: authority,
                    nonce,
                    return_to: path.to_owned(),
                },
            },
        }
    }

    /// Whether a browser that is signed in needs no page in between.
    pub(super) fn passes_through(&self) -> bool {
        matches!(self, Self::Host { .. })
    }

    /// The address, with a code for this session where it takes one. Blocks.
    ///
    /// # Errors
    /// `CredentialMissing` where the session is over; the state cannot be used.
    pub(super) fn location(
        self,
        sessions: &Sessions,
        session_id: &str,
        account_id: &str,
    ) -> Result<HeaderValue, Refusal> {
        let address = match self {
            Self::Page(address) => Zeroizing::new(address),
            Self::Host { landing, destination } => {
                let code = sessions.issue_code(session_id, account_id, &destination)?;
                let code = code.ok_or(Refusal::CredentialMissing)?;
                Zeroizing::new(landing + &code)
            }
        };
        let Ok(mut location) = HeaderValue::from_str(&address) else {
            return Ok(HeaderValue::from_static("/"));
        };
        location.set_sensitive(true);
        Ok(location)
    }
}
