//! The pages that have a template, and what is common to built-in and custom templates.
//!
//! Output: for each page its file name, its built-in template and the fields that its form must have.

use minijinja::Error;

/// The longest page, in bytes; the longest built-in page, a hundred sessions, has a fifth of it.
pub(super) const LONGEST_PAGE: usize = 512 * 1024;

pub(super) const LAYOUT: &str = "layout.html";
pub(super) const STYLE: &str = "style.css";

/// A page that there is a template for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    SignIn,
    Register,
    Password,
    Sessions,
    Links,
    Elsewhere,
    SignOut,
    SetupOver,
    Forbidden,
    SessionEnded,
    Error,
}

impl Page {
    pub(super) const ALL: [Self; 11] = [
        Self::SignIn,
        Self::Register,
        Self::Password,
        Self::Sessions,
        Self::Links,
        Self::Elsewhere,
        Self::SignOut,
        Self::SetupOver,
        Self::Forbidden,
        Self::SessionEnded,
        Self::Error,
    ];

    /// The name of its template in `pages.templates`.
    pub(super) const fn file(self) -> &'static str {
        self.template().0
    }

    /// The file name and the text of its built-in template.
    pub(super) const fn template(self) -> (&'static str, &'static str) {
        match self {
            Self::SignIn => ("sign_in.html", include_str!("templates/sign_in.html")),
            Self::Register => ("register.html", include_str!("templates/register.html")),
            Self::Password => ("password.html", include_str!("templates/password.html")),
            Self::Sessions => ("sessions.html", include_str!("templates/sessions.html")),
            Self::Links => ("links.html", include_str!("templates/links.html")),
            Self::Elsewhere => ("elsewhere.html", include_str!("templates/elsewhere.html")),
            Self::SignOut => ("sign_out.html", include_str!("templates/sign_out.html")),
            Self::SetupOver => ("setup_over.html", include_str!("templates/setup_over.html")),
            Self::Forbidden => ("forbidden.html", include_str!("templates/forbidden.html")),
            Self::SessionEnded => ("session_ended.html", include_str!("templates/session_ended.html")),
            Self::Error => ("error.html", include_str!("templates/error.html")),
        }
    }

    /// Whether its form is answered by a redirect to an app or a provider, which may redirect to any origin. Chromium checks
    /// `form-action` against the whole chain of redirects and blocks the form without a message.
    pub(super) const fn leads_on(self) -> bool {
        matches!(self, Self::SignIn | Self::Register | Self::Links)
    }

    /// The fields of the endpoint that its form posts to.
    pub(super) const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::SignIn => &["email", "password", "return_to"],
            Self::Register => &["email", "password", "setup"],
            Self::Password => &["current_password", "new_password"],
            _ => &[],
        }
    }
}

/// The cause of `error`: an error in the layout is wrapped in one of the page.
pub(super) fn innermost(error: &Error) -> &Error {
    let mut innermost = error;
    while let Some(inner) =
        std::error::Error::source(innermost).and_then(|inner| inner.downcast_ref::<Error>())
    {
        innermost = inner;
    }
    innermost
}
