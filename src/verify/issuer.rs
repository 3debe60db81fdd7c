//! Who may sign tokens, and what must hold for theirs.
//!
//! Enters: checked configuration and key sets, the latter again and again. Leaves: [`Issuer`]s, found by their exact
//! `iss`. An issuer's keys verify that issuer's tokens and no other's, also where two issuers use the same `kid`.

use std::collections::HashMap;
use std::sync::Arc;

use super::algorithm::{Algorithm, Family};
use super::issuer_keys::IssuerKeys;
use super::key_source::KeySource;
use super::keys::KeySet;
use super::tenant::{IssuerName, Tenants};
use super::typ::TypeRule;
use crate::config::Place;
use crate::identity::{ClaimPath, SESSION_ISSUER};
use crate::values::SigningAlgorithm;

/// The tolerance for an issuer's clock unless said, in seconds.
pub(super) const LEEWAY: i64 = 30;

/// An issuer of tokens.
pub struct Issuer {
    /// Its name in the TOML; `session` for our own tokens.
    pub name: Arc<str>,
    /// The exact `iss`, or one with `{tid}` in the place of the tenant.
    pub issuer: String,
    /// The same, to be compared.
    pub(super) iss: IssuerName,
    /// The tenants, where `issuer` has a place for one.
    pub tenants: Option<Tenants>,
    /// Whether a token without `iss` is of this issuer; one at most among all.
    pub may_lack_iss: bool,
    /// Whom its tokens may be for; one of these is enough.
    pub audiences: Vec<String>,
    /// The claim that says whom a token is for.
    pub audience_claim: ClaimPath,
    /// Whether a token may have no audience.
    pub may_lack_aud: bool,
    /// The claims that say who a token is about; the first that is there counts.
    pub subject_claims: Vec<ClaimPath>,
    /// The algorithms that its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where its tokens name roles.
    pub roles_claims: Vec<ClaimPath>,
    /// Tolerance for its clock, in seconds.
    pub leeway: i64,
    /// The greatest age of a token since `iat`, in seconds.
    pub max_age: Option<i64>,
    /// The kinds of tokens.
    pub typ: TypeRule,
    /// Where the TOML names it; nowhere for our own.
    pub place: Option<Place>,
    /// Where its keys are fetched from, if they are.
    pub source: Option<KeySource>,
    /// Its keys, which change while it is in use.
    pub keys: IssuerKeys,
}

impl Issuer {
    /// An issuer with the defaults of the TOML, which has `keys` or is to fetch them.
    pub(super) fn new(name: &str, issuer: String, keys: Option<KeySet>) -> Self {
        Self {
            name: name.into(),
            iss: IssuerName::parse(&issuer).unwrap_or_else(|| IssuerName::exact(&issuer)),
            issuer,
            tenants: None,
            may_lack_iss: false,
            audiences: Vec::new(),
            audience_claim: path("aud"),
            may_lack_aud: false,
            subject_claims: vec![path("sub")],
            algorithms: Vec::new(),
            roles_claims: vec![path("roles"), path("role")],
            leeway: LEEWAY,
            max_age: None,
            typ: TypeRule::NotAnotherKind,
            place: None,
            source: None,
            keys: IssuerKeys::new(keys),
        }
    }

    /// What revocations of its tokens are kept under: its `iss`, so that they hold whatever the TOML calls it. Our own
    /// tokens have a name that outlives a change of `public_url`.
    #[must_use]
    pub fn revocation_key(&self) -> &str {
        if &*self.name == SESSION_ISSUER {
            SESSION_ISSUER
        } else {
            &self.issuer
        }
    }

    /// Whether `iss` is its own, or that of one of its tenants.
    #[must_use]
    pub(crate) fn is_iss(&self, iss: &str) -> bool {
        self.iss.covers(iss)
    }

    /// Whether its tokens are of more than one tenant.
    pub(super) fn has_many_tenants(&self) -> bool {
        self.tenants.as_ref().is_some_and(Tenants::are_many)
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// A claim path that is known to be one.
pub(super) fn path(text: &'static str) -> ClaimPath {
    ClaimPath::parse(text).expect("a name without dots is a claim path")
}

/// The gateway itself as an issuer: no leeway, because its clock is ours.
fn own(name: &str, issuer: &str, audience: &str, keys: KeySet, typ: &'static str) -> Issuer {
    let mut own = Issuer::new(name, issuer.to_owned(), Some(keys));
    own.audiences = vec![audience.to_owned()];
    // A key of ours is published with its algorithm, and verifies no other one.
    own.algorithms = SigningAlgorithm::ALL.into_iter().map(Algorithm::from).collect();
    own.roles_claims = vec![path("roles")];
    own.leeway = 0;
    own.typ = TypeRule::Exactly(typ);
    own
}

/// All issuers, found by the `iss` of their tokens.
#[derive(Clone, Debug, Default)]
pub struct Issuers {
    list: Vec<Arc<Issuer>>,
    by_iss: HashMap<String, usize>,
    /// Those of many tenants.
    templates: Vec<usize>,
    without_iss: Option<usize>,
}

impl Issuers {
    /// The issuer whose tokens have exactly this `iss`, or one that is made of it with a tenant.
    #[must_use]
    pub fn by_iss(&self, iss: &str) -> Option<&Arc<Issuer>> {
        if let Some(index) = self.by_iss.get(iss) {
            return Some(&self.list[*index]);
        }
        self.templates
            .iter()
            .map(|index| &self.list[*index])
            .find(|issuer| issuer.iss.tenant(iss).is_some())
    }

    /// The issuer whose tokens may lack `iss`.
    #[must_use]
    pub fn without_iss(&self) -> Option<&Arc<Issuer>> {
        self.without_iss.map(|index| &self.list[index])
    }

    /// The issuer of a token with this `iss`, or with none at all. A token that has one is never taken for one that
    /// lacks it.
    pub(super) fn of(&self, iss: Option<&str>) -> Option<&Arc<Issuer>> {
        iss.map_or_else(|| self.without_iss(), |iss| self.by_iss(iss))
    }

    /// The issuer of this name in the TOML.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Issuer>> {
        self.list.iter().find(|issuer| &*issuer.name == name)
    }

    /// All of them, in the order of the file; our own stands last.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.list.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none, so that no token can be good.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds the gateway itself, the issuer `name`: access tokens (`typ` `at+jwt`) for `audience`, which get no leeway.
    ///
    /// # Errors
    /// Another issuer of this name or `iss`.
    pub fn add_own(
        &mut self,
        name: &str,
        issuer: &str,
        audience: &str,
        keys: KeySet,
    ) -> Result<Arc<Issuer>, String> {
        self.add(own(name, issuer, audience, keys, "at+jwt"))
    }

    /// The gateway itself as the issuer of what session cookies hold (`typ` `session+jwt`), and of nothing else. These tokens
    /// are no access tokens and have a verifier of their own, so that neither is ever taken in the other's place.
    #[must_use]
    pub fn of_own_sessions(name: &str, issuer: &str, audience: &str, keys: KeySet) -> (Self, Arc<Issuer>) {
        let own = Arc::new(own(name, issuer, audience, keys, "session+jwt"));
        let by_iss = HashMap::from([(issuer.to_owned(), 0)]);
        (
            Self {
                list: vec![own.clone()],
                by_iss,
                templates: Vec::new(),
                without_iss: None,
            },
            own,
        )
    }

    /// A provider as the issuer of the ID tokens (OpenID Connect Core 1.0 section 2) of its client `client_id`, signed with
    /// any algorithm of public keys. Its keys are put in place as they are fetched. These tokens have a verifier of their
    /// own: an ID token is no access token, although another table may accept access tokens of the same `iss`.
    ///
    /// # Errors
    /// What is wrong with `iss`.
    pub fn of_id_tokens(
        name: &str,
        iss: &str,
        client_id: &str,
        tenants: Option<Tenants>,
    ) -> Result<(Self, Arc<Issuer>), String> {
        let mut issuer = Issuer::new(name, iss.to_owned(), None);
        issuer.audiences = vec![client_id.to_owned()];
        issuer.algorithms = Algorithm::ALL
            .iter()
            .copied()
            .filter(|algorithm| algorithm.family() != Family::Hmac)
            .collect();
        issuer.roles_claims = Vec::new();
        issuer.tenants = tenants;
        issuer.typ = TypeRule::IdToken;
        let mut issuers = Self::default();
        let issuer = issuers.add(issuer)?;
        Ok((issuers, issuer))
    }

    pub(super) fn add(&mut self, issuer: Issuer) -> Result<Arc<Issuer>, String> {
        if let Some(other) = self.list.iter().find(|other| other.iss.meets(&issuer.iss)) {
            return Err(format!(
                "`{}` and `{}` have the same `iss`",
                other.name, issuer.name
            ));
        }
        if self.by_name(&issuer.name).is_some() {
            return Err(format!("there are two issuers of the name `{}`", issuer.name));
        }
        if issuer.may_lack_iss {
            if let Some(other) = self.without_iss() {
                return Err(format!(
                    "`{}` and `{}` both take tokens without `iss`",
                    other.name, issuer.name
                ));
            }
            self.without_iss = Some(self.list.len());
        }
        if issuer.iss.is_template() {
            self.templates.push(self.list.len());
        } else {
            self.by_iss.insert(issuer.issuer.clone(), self.list.len());
        }
        let issuer = Arc::new(issuer);
        self.list.push(issuer.clone());
        Ok(issuer)
    }

    /// Takes over the keys that `previous` has fetched, for issuers that still fetch them from the same place, so that
    /// no request waits after a reload.
    pub fn inherit(&self, previous: &Self) {
        for issuer in &self.list {
            let Some(before) = previous.list.iter().find(|before| before.issuer == issuer.issuer) else {
                continue;
            };
            let (Some(source), Some(source_before)) = (&issuer.source, &before.source) else {
                continue;
            };
            if source.location() != source_before.location() || issuer.keys.generation() != 0 {
                continue;
            }
            if let Some(set) = &before.keys.now().set {
                issuer.keys.replace(set.clone());
                source.note_keys(set.len());
            }
        }
    }
}
