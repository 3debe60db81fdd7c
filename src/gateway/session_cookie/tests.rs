//! The session cookie on its way in, with the clock in our hands.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::pin::pin;
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::Poll;

use arc_swap::ArcSwap;
use http::header::COOKIE;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::identity::SESSION_ISSUER;
use crate::rate_limit::RateLimits;
use crate::revocation::Target;
use crate::route::NamedHosts;
use crate::session::{Device, Settings};
use crate::signing::SigningKeys;
use crate::state::sqlite::Sqlite;
use crate::state::{AccountChange, AccountRow, EndSessions, State};
use crate::verify::{Issuers, KeySet, LocalCache, Origin, Revocations};

const NOW: UnixSeconds = 1_800_000_000;
const URL: &str = "https://app.example.com";
const HOST: &str = "app.example.com";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Sessions whose tokens live for `token_lifetime`, and one thread for the state.
struct House {
    runtime: Runtime,
    state: Arc<dyn State>,
    clock: Clock,
    sign_in: SignIn,
    cache: Mutex<LocalCache>,
    headers: HeaderMap,
}

impl House {
    fn new(token_lifetime: UnixSeconds) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (state, clock): (Arc<dyn State>, _) = (Arc::new(Sqlite::in_memory().unwrap()), Clock::fixed(NOW));
        let signing =
            SigningKeys::load_or_create(&*state, crate::values::SigningAlgorithm::default(), NOW).unwrap();
        let keys = KeySet::from_jwks(signing.jwks(NOW).to_string().as_bytes(), Origin::File)
            .unwrap()
            .0;
        let (issuers, _) = Issuers::of_own_sessions(SESSION_ISSUER, URL, URL, keys);
        let revocations = Arc::new(Revocations::new());
        let settings = Settings {
            cookie: "__Host-session".to_owned(),
            secure: true,
            token_lifetime,
            idle_timeout: 86_400,
            lifetime: 7 * 86_400,
            public_url: URL.to_owned(),
            trust_unconfirmed_email: false,
            authorities: Default::default(),
            same_site_none: false,
        };
        let signing = Arc::new(ArcSwap::from_pointee(signing));
        let sessions = Sessions::new(
            settings,
            Arc::clone(&state),
            signing,
            Arc::clone(&revocations),
            clock.clone(),
        )
        .unwrap();
        let ann = AccountRow {
            id: "ann".to_owned(),
            email: "ann@example.com".to_owned(),
            email_key: "ann@example.com".to_owned(),
            name: None,
            roles: Vec::new(),
            password_hash: None,
            disabled: false,
            confirmed: true,
            created_at: NOW,
            granted_roles: Vec::new(),
            password_version: 0,
            revision: 0,
        };
        state.add_account(&ann, None).unwrap();
        let cookie = sessions
            .open_browser(
                &ann,
                crate::state::Authentication::default(),
                &Device {
                    user_agent: String::new(),
                    address: HERE,
                },
                HOST,
            )
            .unwrap();
        let blocking = Arc::new(Blocking::new(
            runtime.handle().clone(),
            8,
            Duration::from_secs(60),
        ));
        let sign_in = SignIn {
            cookie: "__Host-session".to_owned(),
            same_site_none: false,
            sites: Arc::new(Sites::new(&URL.parse().unwrap(), NamedHosts::default())),
            verifier: Verifier::new(issuers, revocations),
            renewal: Some(Renewal::new(Arc::new(sessions), blocking)),
            bounces: Arc::default(),
        };
        let cookie = format!("__Host-session={}", cookie.token).parse().unwrap();
        let headers = HeaderMap::from_iter([(COOKIE, cookie)]);
        Self {
            runtime,
            state,
            clock,
            sign_in,
            cache: Mutex::new(LocalCache::new()),
            headers,
        }
    }

    async fn present(&self) -> Result<SessionCredential, Refusal> {
        self.sign_in
            .present(
                Tokens::Cached(&self.cache),
                &self.headers,
                HOST,
                &self.clock,
                SignatureGuard {
                    rate_limits: &RateLimits::default(),
                    client: HERE,
                },
                &mut Silent,
            )
            .await
    }

    /// Gives Ann this role alone.
    fn change_role(&self, role: &str) {
        let change = AccountChange {
            roles: Some(vec![role.to_owned()]),
            ..AccountChange::default()
        };
        let end = EndSessions {
            cause: crate::state::EndCause::Command,
            now: NOW,
            revoked_until: NOW + 90_000,
            keep: None,
        };
        self.state.change_account("ann", &change, &end).unwrap().unwrap();
    }

    /// What the state says becomes known here.
    fn hear(&self) {
        let rows = self.state.revocations(NOW).unwrap();
        assert!(rows.iter().all(|row| matches!(row.target, Target::Stale { .. })));
        self.sign_in.verifier.revocations().replace(rows);
    }

    /// Ann's roles, and whether she gets another cookie.
    fn roles(&self) -> (Vec<String>, bool) {
        match self.runtime.block_on(self.present()) {
            Ok(SessionCredential::Good(verified, set_cookie)) => {
                (verified.caller.identity.roles.clone(), set_cookie.is_some())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Keeps the state busy until what is returned is dropped.
    fn keep_busy(&self) -> SyncSender<()> {
        let (release, released) = sync_channel::<()>(0);
        self.runtime.spawn_blocking(move || released.recv());
        release
    }
}

fn is_renewed(presented: &Result<SessionCredential, Refusal>) -> bool {
    matches!(presented, Ok(SessionCredential::Good(_, Some(_))))
}

#[test]
fn a_renewal_that_takes_until_the_next_second_is_good() {
    let house = House::new(900);
    house.clock.advance(1000);
    let busy = house.keep_busy();
    let presented = house.runtime.block_on(async {
        let mut asked = pin!(house.present());
        std::future::poll_fn(|cx| {
            assert!(asked.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        house.clock.advance(1);
        drop(busy);
        asked.await
    });
    assert!(is_renewed(&presented), "{presented:?}");
}

#[test]
fn a_token_that_is_shared_and_over_is_made_anew() {
    let house = House::new(1);
    for _ in 0..4 {
        house.clock.advance(2);
        let presented = house.runtime.block_on(house.present());
        assert!(is_renewed(&presented), "{presented:?}");
    }
}

#[test]
fn a_stale_token_is_renewed_and_what_is_shared_is_never_of_before_a_change() {
    let house = House::new(900);
    assert_eq!(house.roles(), (vec![], false));
    // All in one second, with an answer that was shared a moment ago each time.
    for role in ["one", "two", "three"] {
        house.change_role(role);
        house.hear();
        for _ in 0..2 {
            assert_eq!(house.roles(), (vec![role.to_owned()], true));
        }
    }
}

#[test]
fn who_is_renewed_before_a_change_is_heard_of_has_the_new_roles_all_the_same() {
    let house = House::new(900);
    house.clock.advance(1000);
    house.change_role("one");
    assert_eq!(house.roles(), (vec!["one".to_owned()], true));
    house.change_role("two");
    assert_eq!(
        house.roles(),
        (vec!["one".to_owned()], true),
        "shared, as nobody has heard of it"
    );
    house.hear();
    assert_eq!(house.roles(), (vec!["two".to_owned()], true));
}

#[test]
fn an_app_cannot_set_our_cookie_however_it_is_spelled() {
    let sign_in = House::new(900).sign_in;
    for (set, is_ours) in [
        ("__Host-session=x; Path=/", true),
        (" __Host-session = x", true),
        ("__Host-session", true),
        ("__Host-session;Path=/", true),
        ("=__Host-session=x", true),
        (" = __Host-session=x; Secure", true),
        ("==__Host-session=x", true),
        ("a=__Host-session=x", false),
        ("__Host-sessions=x", false),
        ("=", false),
        ("", false),
        ("a=b; __Host-session=x", false),
    ] {
        assert_eq!(
            sign_in.is_our_name(set_cookie::name_of(&HeaderValue::from_str(set).unwrap())),
            is_ours,
            "{set}"
        );
    }
}

#[test]
fn no_cache_may_keep_an_answer_with_a_cookie() {
    let sign_in = House::new(900).sign_in;
    for (said, kept) in [
        ("public, max-age=60", "private, no-cache"),
        ("private=\"x\", max-age=60", "private, no-cache"),
        ("Private, max-age=60", "Private, max-age=60"),
        ("no-store", "no-store"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", said.parse().unwrap());
        headers.insert("cdn-cache-control", "max-age=60".parse().unwrap());
        headers.insert("some-cdn-cache-control", "max-age=60".parse().unwrap());
        headers.insert("surrogate-control", "max-age=60".parse().unwrap());
        sign_in.set_cookie(&mut headers, HeaderValue::from_static("__Host-session=x"));
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(headers["cache-control"], kept);
    }
}

#[test]
fn a_clock_that_is_put_back_deletes_no_cookie() {
    let house = House::new(900);
    house.clock.advance(-2);
    let presented = house.runtime.block_on(house.present());
    let Ok(SessionCredential::Bad(refusal)) = presented else {
        panic!("{presented:?}")
    };
    assert_eq!(house.sign_in.clear(refusal), None);
    house.clock.advance(2);
    assert!(matches!(
        house.runtime.block_on(house.present()),
        Ok(SessionCredential::Good(_, None))
    ));
    assert!(house.sign_in.clear(Refusal::Revoked).is_some());
}
