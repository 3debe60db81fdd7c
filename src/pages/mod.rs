//! Pages for people: sign in, register, change the password, sessions, errors.
//!
//! Input: `[pages]` once, then plain values, some of them typed by a client a moment ago. Output: whole pages with the headers
//! that keep them harmless. They work without script and load only the logo and the icon; one small built-in script, named by
//! its hash, adds comfort. Invariants: no value becomes markup or script, no cache keeps a page, and no page says more than
//! it was given.

mod custom;
mod logo;
mod operator;
mod page;
mod palette;
mod relative_time;
mod templates;
#[cfg(test)]
mod tests;
mod user_agent;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use minijinja::context;
use minijinja::value::Value;

use crate::clock::UnixSeconds;
use crate::config::Problems;
use crate::config::raw::RawPages;
use crate::http::reply::{ErrorPage, ErrorPages, Visitor};

use custom::Custom;
use logo::Logo;
use page::Page;
use palette::Palette;
use templates::Templates;

pub(crate) use operator::{IssuerItem, Item, Overview, Reason, Refused, Total, UpstreamItem};
pub(crate) use templates::BUILT_IN;

/// The longest of anything that is shown, in bytes; what is longer is cut. Nothing valid is.
const LONGEST_TEXT: usize = 1_024;
/// The longest id or network address of a session, in bytes.
const LONGEST_ID: usize = 64;
/// The longest name of a provider and address at one, in a list, in bytes.
const LONGEST_LABEL: usize = 256;
/// The longest return address, in bytes; a longer one is left out.
const LONGEST_ADDRESS: usize = 2_560;
/// The longest address of the sign-in page elsewhere, in bytes: a return address in it is percent-encoded.
const LONGEST_LINK: usize = 8_192;
/// How many sessions are listed.
const MOST_SESSIONS: usize = 100;

/// All pages, ready to be filled in. A page takes some tens of microseconds, and waits for nothing.
#[derive(Debug)]
pub struct Pages {
    site: String,
    prefix: String,
    registration: bool,
    min_length: u64,
    /// A page has it as it is: it is our own text, which has no way out of its element.
    style: Value,
    palette: Palette,
    policy: HeaderValue,
    /// Of the pages whose form is answered by a redirect to an app.
    policy_of_forms: HeaderValue,
    logo: Option<Logo>,
    icon: Logo,
    /// `[pages] help`
    help: Option<String>,
    templates: Templates,
}

/// What is wrong with a form that is shown again.
#[derive(Clone, Copy, Debug)]
pub struct FormError<'a> {
    /// In plain words.
    pub message: &'a str,
    /// The name of the field that is wrong, where it is one of them.
    pub field: Option<&'a str>,
}

/// What the sign-in page shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignInForm<'a> {
    /// As typed before.
    pub email: &'a str,
    /// The address to go to after signing in.
    pub return_to: Option<&'a str>,
    /// Of the host that sent the browser here.
    pub attempt: Option<&'a str>,
    /// What has just been done ("You are signed out.").
    pub notice: Option<&'a str>,
    /// The person who is signed in already.
    pub person: Option<&'a Person>,
    /// The providers to sign in with.
    pub providers: &'a [ProviderLink],
    /// Whether there are only these, and no form.
    pub providers_only: bool,
    /// Whether the page after it asks for another sign-in than that of the session.
    pub again: bool,
}

/// What the page says on which a sign-in ends that leads nowhere.
#[derive(Clone, Copy, Debug)]
pub struct StopPage<'a> {
    /// Of the answer.
    pub status: StatusCode,
    /// The cause, and what to do.
    pub detail: &'a str,
    /// The id that the log line has.
    pub request_id: &'a str,
    /// The address that was asked for at first; `None`: not known.
    pub again: Option<&'a str>,
    /// The sign-in page that leads there.
    pub sign_in: &'a str,
}

/// A provider on the sign-in page.
#[derive(Clone, Debug)]
pub struct ProviderLink {
    /// The text of its button.
    pub label: String,
    /// A path of ours, with the return address in its query.
    pub url: String,
}

/// What the page to create an account shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegisterForm<'a> {
    /// As typed before.
    pub email: &'a str,
    /// As typed before.
    pub name: &'a str,
    /// The one-time token of the first-run link, which goes into a hidden field.
    pub setup: Option<&'a str>,
}

/// The values that all pages for a signed-in person show.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// Of the account.
    pub email: String,
    /// Of the account, where it has one.
    pub name: Option<String>,
}

/// An identity at a provider, for the list of them.
#[derive(Clone, Debug)]
pub struct LinkItem {
    /// What `{prefix}/links/{id}/end` needs.
    pub id: String,
    /// What the provider is called.
    pub label: String,
    /// The address that the provider names.
    pub email: Option<String>,
    /// When it was last signed in with.
    pub seen_at: UnixSeconds,
}

/// One session, for the list of them.
#[derive(Clone, Debug)]
pub struct SessionItem {
    /// What `{prefix}/sessions/{id}/end` needs.
    pub id: String,
    /// Whether it is the session of the request that asks.
    pub is_current: bool,
    /// An API client's, not a browser's.
    pub is_client: bool,
    /// As sent.
    pub user_agent: String,
    /// Where it was last seen.
    pub address: String,
    /// When it began.
    pub created_at: UnixSeconds,
    /// When it was last used.
    pub seen_at: UnixSeconds,
    /// When it ends at the latest.
    pub expires_at: UnixSeconds,
}

/// What a page shows, besides what all show. Every template gets all of it, so that a name that is not known to one is
/// a mistake in it.
#[derive(Default)]
struct Content<'a> {
    error: Option<FormError<'a>>,
    notice: Option<&'a str>,
    email: &'a str,
    name: &'a str,
    return_to: Option<&'a str>,
    attempt: Option<&'a str>,
    /// The site with the sign-in, and the address of the page there.
    elsewhere: Option<(&'a str, &'a str)>,
    setup: Option<&'a str>,
    person: Option<&'a Person>,
    /// Whether the account has a password.
    has_password: bool,
    providers: &'a [ProviderLink],
    providers_only: bool,
    again: bool,
    links: Vec<Value>,
    sessions: Vec<Value>,
    /// Sessions that are not listed.
    more: usize,
    status: StatusCode,
    title: &'a str,
    detail: &'a str,
    request_id: &'a str,
    /// The account of the visitor of an error page.
    account: Option<&'a str>,
    /// The sign-in page, with where it leads back to; a path of ours, percent-encoded.
    sign_in_again: Option<&'a str>,
    /// The page that a sign-in did not get to.
    page_again: Option<&'a str>,
}

impl ErrorPages for Pages {
    fn page(&self, page: &ErrorPage<'_>) -> Bytes {
        self.error(page)
    }

    fn policy(&self) -> &HeaderValue {
        Self::policy(self)
    }
}

impl Pages {
    /// `prefix`: `/auth`; `site`: what the site is called unless `[pages] name` says; `registration`: whether the
    /// sign-in page links to it. Reads the logo and the templates and renders each template once, so that a broken one is
    /// a problem here.
    pub fn compile(
        raw: &RawPages,
        prefix: &str,
        site: &str,
        registration: bool,
        problems: &mut Problems,
    ) -> Self {
        let custom = Custom::read(raw.templates.as_ref(), problems);
        let palette = Palette::compile(&raw.colors, problems);
        let style = palette.css() + "\n" + custom.style();
        let logo = raw.logo.as_ref().and_then(|logo| Logo::compile(logo, problems));
        let mut pages = Self {
            site: raw.name.as_ref().map_or(site, |name| name.trim()).to_owned(),
            prefix: path(prefix),
            registration,
            min_length: 8,
            policy: policy(&style, Some("'self'")),
            policy_of_forms: policy(&style, None),
            style: Value::from_safe_string(style.clone()),
            logo,
            icon: Logo::icon(palette.light.color("accent")),
            help: raw.help.as_ref().map(|help| help.value.clone()),
            palette,
            templates: Templates::compile(&Custom::default(), &[], "", problems),
        };
        pages.templates = Templates::compile(&custom, &pages.samples(), &style, problems);
        pages
    }

    /// The same pages for several hosts: the form to sign out is answered by a redirect to the sign-in page of `public_url`.
    #[must_use]
    pub fn with_forms_to(mut self, public_url: &str) -> Self {
        // A host in brackets is none to a policy, and browsers complain.
        let is_source = |byte: u8| byte.is_ascii_graphic() && !b";,'[".contains(&byte);
        if !public_url.bytes().all(is_source) {
            return self;
        }
        let style = self.style.as_str().unwrap_or_default();
        self.policy = policy(style, Some(&format!("'self' {public_url}")));
        self
    }

    /// These, saying how many characters a new password needs: `[password] min_length`, and 8 unless it is said here.
    #[must_use]
    pub fn with_min_length(mut self, characters: u64) -> Self {
        self.min_length = characters;
        self
    }

    /// The sign-in page.
    #[must_use]
    pub fn sign_in(
        &self,
        status: StatusCode,
        form: SignInForm<'_>,
        error: Option<FormError<'_>>,
    ) -> Response<Bytes> {
        let SignInForm {
            email,
            return_to,
            attempt,
            notice,
            person,
            providers,
            providers_only,
            again,
        } = form;
        let content = Content {
            email,
            return_to,
            attempt,
            notice,
            person,
            providers,
            providers_only,
            again,
            error,
            ..Content::default()
        };
        self.answer(status, Page::SignIn, content)
    }

    /// The page without a form, for a host that has no sign-in: `site` has it, at `url`.
    #[must_use]
    pub fn elsewhere(&self, status: StatusCode, site: &str, url: &str) -> Response<Bytes> {
        self.answer(
            status,
            Page::Elsewhere,
            Content {
                elsewhere: Some((site, url)),
                ..Content::default()
            },
        )
    }

    /// The page to create an account.
    #[must_use]
    pub fn register(
        &self,
        status: StatusCode,
        form: RegisterForm<'_>,
        error: Option<FormError<'_>>,
    ) -> Response<Bytes> {
        let RegisterForm { email, name, setup } = form;
        self.answer(
            status,
            Page::Register,
            Content {
                email,
                name,
                setup,
                error,
                ..Content::default()
            },
        )
    }

    /// The page for a setup link that is used or expired.
    #[must_use]
    pub fn setup_over(&self, status: StatusCode) -> Response<Bytes> {
        self.answer(status, Page::SetupOver, Content::default())
    }

    /// The page for an account without a password, which has nothing to change.
    #[must_use]
    pub fn no_password(&self, person: &Person) -> Response<Bytes> {
        let content = Content {
            person: Some(person),
            ..Content::default()
        };
        self.answer(StatusCode::OK, Page::Password, content)
    }

    /// The page to change the password.
    #[must_use]
    pub fn password(
        &self,
        status: StatusCode,
        person: &Person,
        error: Option<FormError<'_>>,
    ) -> Response<Bytes> {
        self.answer(
            status,
            Page::Password,
            Content {
                person: Some(person),
                has_password: true,
                error,
                ..Content::default()
            },
        )
    }

    /// The page that asks whether to sign out; `None`: no session.
    #[must_use]
    pub fn sign_out(&self, person: Option<&Person>) -> Response<Bytes> {
        self.answer(
            StatusCode::OK,
            Page::SignOut,
            Content {
                person,
                ..Content::default()
            },
        )
    }

    /// The list of the person's sessions, in the order given. `notice`: what has just been done ("Password changed.").
    #[must_use]
    pub fn sessions(
        &self,
        person: &Person,
        sessions: &[SessionItem],
        now: UnixSeconds,
        notice: Option<&str>,
    ) -> Response<Bytes> {
        let content = Content {
            person: Some(person),
            sessions: sessions
                .iter()
                .take(MOST_SESSIONS)
                .map(|session| self.session(session, now))
                .collect(),
            more: sessions.len().saturating_sub(MOST_SESSIONS),
            notice,
            ..Content::default()
        };
        self.answer(StatusCode::OK, Page::Sessions, content)
    }

    /// The ways to sign in to an account: its identities at providers, whether it has a password, and the providers that it
    /// can be linked with, each with the address that its form posts to.
    #[must_use]
    pub fn links(
        &self,
        person: &Person,
        (links, has_password): (&[LinkItem], bool),
        providers: &[ProviderLink],
        now: UnixSeconds,
        notice: Option<&str>,
    ) -> Response<Bytes> {
        let content = Content {
            person: Some(person),
            links: links.iter().map(|link| self.link(link, now)).collect(),
            has_password,
            providers,
            notice,
            ..Content::default()
        };
        self.answer(StatusCode::OK, Page::Links, content)
    }

    /// The page on which a sign-in ends that leads nowhere.
    #[must_use]
    pub fn sign_in_stopped(&self, page: &StopPage<'_>) -> Response<Bytes> {
        let content = Content {
            status: page.status,
            title: "Not signed in",
            detail: page.detail,
            request_id: page.request_id,
            page_again: page.again,
            sign_in_again: Some(page.sign_in),
            ..Content::default()
        };
        self.answer(page.status, Page::Error, content)
    }

    /// The page of a refusal: the body alone.
    #[must_use]
    pub fn error(&self, page: &ErrorPage<'_>) -> Bytes {
        let ErrorPage {
            status,
            title,
            detail,
            request_id,
            visitor,
        } = *page;
        let content = Content {
            status,
            title,
            detail,
            request_id,
            ..Content::default()
        };
        let (template, content) = match visitor {
            None => (Page::Error, content),
            Some(Visitor::NoAccess { account, sign_in }) => (
                Page::Forbidden,
                Content {
                    account: Some(account),
                    sign_in_again: sign_in,
                    ..content
                },
            ),
            Some(Visitor::SessionEnded { sign_in }) => (
                Page::SessionEnded,
                Content {
                    sign_in_again: Some(sign_in),
                    ..content
                },
            ),
            Some(Visitor::NotSignedIn { sign_in }) => (
                Page::Error,
                Content {
                    title: "Not signed in",
                    sign_in_again: Some(sign_in),
                    ..content
                },
            ),
        };
        self.templates.render(template, &self.values(&content)).into()
    }

    /// The Content-Security-Policy of every page, [`Pages::error`] too, except those whose form is answered by a redirect to
    /// an app.
    #[must_use]
    pub fn policy(&self) -> &HeaderValue {
        &self.policy
    }

    /// The logo at `{prefix}/logo`, where there is one.
    #[must_use]
    pub fn logo(&self) -> Option<Response<Bytes>> {
        self.logo.as_ref().map(Logo::answer)
    }

    /// The icon at `{prefix}/favicon`: the logo, else the built-in one.
    #[must_use]
    pub fn icon(&self) -> Response<Bytes> {
        self.logo.as_ref().unwrap_or(&self.icon).answer()
    }

    fn answer(&self, status: StatusCode, page: Page, content: Content<'_>) -> Response<Bytes> {
        let html = self
            .templates
            .render(page, &self.values(&Content { status, ..content }));
        let mut response = Response::new(Bytes::from(html));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        let policy = if page.leads_on() {
            &self.policy_of_forms
        } else {
            &self.policy
        };
        headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// What templates see. The addresses are safe in a quoted attribute: nothing but a path is left of them.
    fn values(&self, content: &Content<'_>) -> Value {
        let own = |end: &str| Value::from_safe_string(format!("{}{end}", self.prefix));
        let text = |text: &str| Value::from(cut(text, LONGEST_TEXT));
        let optional = |given: Option<&str>| given.filter(|given| !given.is_empty()).map(text);
        let code = content.status.as_u16();
        context! {
            site => text(&self.site),
            style => self.style.clone(),
            theme => context! {
                light => self.palette.light.color("background").map(|color| color.to_string()),
                dark => self.palette.dark.color("background").map(|color| color.to_string()),
            },
            logo => self.logo.as_ref().map(|_| own("/logo")),
            icon => own("/favicon"),
            // Our own text, which has no way out of its element.
            script => Value::from_safe_string(SCRIPT.to_owned()),
            help => optional(self.help.as_deref()),
            registration => self.registration,
            min_length => self.min_length,
            urls => context! {
                home => Value::from_safe_string("/".to_owned()),
                login => own("/login"),
                register => own("/register"),
                password => own("/password"),
                sessions => own("/sessions"),
                links => own("/links"),
                logout => own("/logout"),
                logout_all => own("/logout?all=true"),
            },
            message => optional(content.error.map(|error| error.message)),
            // Of ours alone, so that it can be compared with the names of fields.
            invalid => optional(content.error.and_then(|error| error.field)),
            notice => optional(content.notice),
            email => text(content.email),
            name => text(content.name),
            // Cut, it would be another address.
            return_to => content.return_to.filter(|address| !address.is_empty() && address.len() <= LONGEST_ADDRESS),
            attempt => optional(content.attempt),
            continue_url => content.return_to.filter(|path| path.starts_with('/') && !path.starts_with("//")).unwrap_or("/"),
            // Cut, it would be another address; the site itself is one that is fine.
            elsewhere => content.elsewhere.map(|(site, url)| context! {
                site => text(site),
                url => if url.len() <= LONGEST_LINK { Value::from(url) } else { text(site) },
            }),
            setup => optional(content.setup),
            person => content.person.map(|person| context! {
                email => text(&person.email),
                name => optional(person.name.as_deref()),
            }),
            has_password => content.has_password,
            providers => content.providers.iter().map(|provider| context! {
                label => text(&provider.label),
                mark => mark(&provider.label),
                url => provider.url.as_str(),
            }).collect::<Vec<_>>(),
            providers_only => content.providers_only,
            again => content.again,
            links => content.links.clone(),
            sessions => content.sessions.clone(),
            more => content.more,
            account => optional(content.account),
            sign_in_again => content.sign_in_again,
            page_again => content.page_again.filter(|address| address.len() <= LONGEST_ADDRESS),
            status => code,
            title => text(content.title),
            detail => text(content.detail),
            request_id => text(content.request_id),
            // What may be better in a moment.
            retry => matches!(code, 408 | 502..=504),
        }
    }

    fn link(&self, link: &LinkItem, now: UnixSeconds) -> Value {
        let end_url = format!("{}/links/{}/end", self.prefix, path(cut(&link.id, LONGEST_ID)));
        context! {
            label => cut(&link.label, LONGEST_LABEL),
            email => link.email.as_deref().map(|email| cut(email, LONGEST_LABEL)),
            seen => context! {
                words => relative_time::ago(link.seen_at, now),
                exact => relative_time::exact(link.seen_at),
                machine => relative_time::machine(link.seen_at),
            },
            end_url => Value::from_safe_string(end_url),
        }
    }

    fn session(&self, session: &SessionItem, now: UnixSeconds) -> Value {
        let (device, form) = user_agent::describe(&session.user_agent, session.is_client);
        let moment = |at, words| context! { words => words, exact => relative_time::exact(at), machine => relative_time::machine(at) };
        // Its own session ends by the way that takes the cookie with it.
        let end_url = if session.is_current {
            format!("{}/logout", self.prefix)
        } else {
            format!(
                "{}/sessions/{}/end",
                self.prefix,
                path(cut(&session.id, LONGEST_ID))
            )
        };
        context! {
            id => cut(&session.id, LONGEST_ID),
            is_current => session.is_current,
            is_client => session.is_client,
            device => device,
            form => form.as_str(),
            address => cut(&session.address, LONGEST_ID),
            created => moment(session.created_at, relative_time::ago(session.created_at, now)),
            seen => moment(session.seen_at, relative_time::ago(session.seen_at, now)),
            expires => moment(session.expires_at, relative_time::ahead(session.expires_at, now)),
            end_url => Value::from_safe_string(end_url),
        }
    }

    /// Each page with little and with everything there can be.
    fn samples(&self) -> Vec<(Page, Value)> {
        let now = 1_795_310_280;
        let person = Person {
            email: "ann@example.com".to_owned(),
            name: Some("Ann".to_owned()),
        };
        let nameless = Person {
            name: None,
            ..person.clone()
        };
        let session = |is_current, is_client| SessionItem {
            id: "0197".to_owned(),
            is_current,
            is_client,
            user_agent: String::new(),
            address: "192.0.2.1".to_owned(),
            created_at: now - 86_400,
            seen_at: now,
            expires_at: now + 86_400,
        };
        let sessions = [session(true, false), session(false, true)]
            .map(|session| self.session(&session, now))
            .to_vec();
        let link = LinkItem {
            id: "0197".to_owned(),
            label: "Example".to_owned(),
            email: Some("ann@example.com".to_owned()),
            seen_at: now,
        };
        let links = vec![self.link(&link, now)];
        let page = |status, request_id| Content {
            status,
            title: "Title",
            detail: "A sentence.",
            request_id,
            ..Content::default()
        };
        let providers = [ProviderLink {
            label: "Example".to_owned(),
            url: "/auth/login/example".to_owned(),
        }];
        let elsewhere = Some(("https://app.example.com", "https://app.example.com/auth/login"));
        let notice = Some("A message.");
        let error = |field| {
            Some(FormError {
                message: "A message.",
                field: Some(field),
            })
        };
        let (email, name) = ("ann@example.com", "Ann");
        [
            (Page::SignIn, Content::default()),
            (
                Page::SignIn,
                Content {
                    providers: &providers,
                    providers_only: true,
                    again: true,
                    ..Content::default()
                },
            ),
            (
                Page::SignIn,
                Content {
                    email,
                    return_to: Some("/"),
                    attempt: Some("hash"),
                    error: error("password"),
                    notice,
                    person: Some(&person),
                    ..Content::default()
                },
            ),
            (Page::Register, Content::default()),
            (
                Page::Register,
                Content {
                    email,
                    name,
                    setup: Some("token"),
                    error: error("email"),
                    ..Content::default()
                },
            ),
            (Page::SetupOver, Content::default()),
            (
                Page::Password,
                Content {
                    person: Some(&nameless),
                    ..Content::default()
                },
            ),
            (
                Page::Password,
                Content {
                    person: Some(&person),
                    has_password: true,
                    error: error("new_password"),
                    ..Content::default()
                },
            ),
            (
                Page::Sessions,
                Content {
                    person: Some(&nameless),
                    ..Content::default()
                },
            ),
            (
                Page::Sessions,
                Content {
                    person: Some(&person),
                    sessions,
                    more: 1,
                    notice,
                    ..Content::default()
                },
            ),
            (
                Page::Links,
                Content {
                    person: Some(&nameless),
                    ..Content::default()
                },
            ),
            (
                Page::Links,
                Content {
                    person: Some(&person),
                    links,
                    has_password: true,
                    providers: &providers,
                    notice,
                    ..Content::default()
                },
            ),
            (Page::SignOut, Content::default()),
            (
                Page::SignOut,
                Content {
                    person: Some(&person),
                    ..Content::default()
                },
            ),
            (
                Page::Forbidden,
                Content {
                    account: Some(email),
                    ..page(StatusCode::FORBIDDEN, "")
                },
            ),
            (
                Page::Forbidden,
                Content {
                    account: Some(email),
                    sign_in_again: Some("/auth/login"),
                    ..page(StatusCode::FORBIDDEN, "0197")
                },
            ),
            (
                Page::Elsewhere,
                Content {
                    elsewhere,
                    ..Content::default()
                },
            ),
            (
                Page::SessionEnded,
                Content {
                    sign_in_again: Some("/auth/login"),
                    ..page(StatusCode::UNAUTHORIZED, "0197")
                },
            ),
            (Page::Error, page(StatusCode::NOT_FOUND, "")),
            (Page::Error, page(StatusCode::BAD_GATEWAY, "0197")),
            (
                Page::Error,
                Content {
                    sign_in_again: Some("/auth/login"),
                    ..page(StatusCode::BAD_GATEWAY, "0197")
                },
            ),
            (
                Page::Error,
                Content {
                    page_again: Some("/"),
                    sign_in_again: Some("/auth/login"),
                    ..page(StatusCode::BAD_REQUEST, "0197")
                },
            ),
        ]
        .into_iter()
        .map(|(page, content)| (page, self.values(&content)))
        .collect()
    }
}

/// What `user_agent` says it is, in words: `Firefox on Linux`; itself where it is of no known kind. `is_client`: it signed in
/// as a program does.
#[must_use]
pub(crate) fn device(user_agent: &str, is_client: bool) -> String {
    match user_agent::describe(user_agent, is_client).0 {
        words if user_agent.is_empty() || !user_agent::UNKNOWN.contains(&words.as_str()) => words,
        _ => cut(user_agent, LONGEST_TEXT).to_owned(),
    }
}

/// Besides the type and the policy.
const HEADERS: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    // Not `no-referrer`: by that a browser sends `Origin: null` with a form (Fetch, "append a request Origin header"), and
    // one that has no `Sec-Fetch-Site` would be taken for another site. A path or a query is not sent by this either.
    (REFERRER_POLICY, "strict-origin"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// What every page may run: shows a password, keeps the fragment of an address through signing in, goes back.
const SCRIPT: &str = include_str!("templates/script.js");

/// Nothing runs but our script, and nothing is loaded but the logo and the icon; script and style sheet are named by their
/// hashes (CSP Level 3). `form_action`: where forms may lead, redirects included; `None` is anywhere.
fn policy(style: &str, form_action: Option<&str>) -> HeaderValue {
    let forms = form_action
        .map(|sources| format!(" form-action {sources};"))
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src 'self';{forms} base-uri 'none'; \
         frame-ancestors 'none'",
        sha256(style),
        sha256(SCRIPT)
    );
    HeaderValue::try_from(policy).expect("base64 and our own words are visible ASCII")
}

/// The hash of an element's content as a policy names it.
fn sha256(text: &str) -> String {
    BASE64.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// The first letter or digit of the label of a provider, as a capital; empty without one.
fn mark(label: &str) -> String {
    let first = label.chars().find(|character| character.is_alphanumeric());
    first.into_iter().flat_map(char::to_uppercase).collect()
}

/// The beginning of `text`, of at most `longest` bytes and without half a character.
fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// `text` as part of a path (RFC 3986 section 3.3), everything but unreserved characters and `/` percent-encoded.
fn path(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut path, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    path.push(char::from(byte))
                }
                _ => {
                    path.push('%');
                    path.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
                    path.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
                }
            }
            path
        })
}
