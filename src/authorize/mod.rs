//! Whether a caller may use a route.
//!
//! Input: a route's rules when the configuration is compiled; the verified caller, if there is one, with every request.
//! Output: a [`Permit`], which `forward` requires and which only this room makes, or a [`Denial`] with the rule that
//! refused. Invariants: a rule that cannot be read lets no request through; `explain` and requests get the same decision.
//!
//! Rules require `auth = "required"`. With `none` there is no caller to apply them to; with `optional` a caller who fails
//! them would pass by leaving the credential out. Both are errors in the file. The rules on networks, `from` and `none_from`,
//! go with every `auth`: they are about the client, and come first.

mod check;
mod compile;
mod facts;
mod network;
mod rule_name;
mod step_up;
#[cfg(test)]
mod tests;
mod when;
mod who;

use std::sync::Arc;

use crate::identity::Caller;
use crate::refusal::Refusal;

pub(crate) use crate::values::Auth;
use check::Check;
pub use facts::RequestFacts;
pub(crate) use rule_name::RuleName;
pub(crate) use step_up::{SignInClaims, StepUp};
pub(crate) use who::Who;

/// The rules of one route, ready to be asked.
#[derive(Clone, Debug)]
pub struct Rules {
    auth: Auth,
    /// The rule `auth` itself.
    name: Arc<RuleName>,
    /// The rules on the client's network, which come before the others.
    networks: Vec<Rule>,
    rules: Vec<Rule>,
    /// `enforce = "log"`
    only_logged: bool,
    /// The rules on the sign-in, taken together.
    step_up: Option<StepUp>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: Arc<RuleName>,
    check: Check,
}

/// Proof that the rules of a route let a request through, and for whom. Only [`Rules::decide`] makes one.
#[derive(Debug)]
#[must_use = "an unused permit permits nothing"]
pub struct Permit {
    caller: Option<Arc<Caller>>,
    only_logged: Option<Arc<RuleName>>,
}

impl Permit {
    /// An anonymous permit, so that `forward` can be tested by itself.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(None)
    }

    fn new(caller: Option<Arc<Caller>>) -> Self {
        Self {
            caller,
            only_logged: None,
        }
    }

    /// The first rule that said no and is only logged (`enforce = "log"`).
    #[must_use]
    pub fn only_logged(&self) -> Option<&Arc<RuleName>> {
        self.only_logged.as_ref()
    }

    /// The caller; `None` for an anonymous request, and always on a route with `auth = "none"`.
    #[must_use]
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.caller.as_ref()
    }
}

/// Why a caller may not use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What the client is told.
    pub refusal: Refusal,
    /// The rule that said no, for the log.
    pub rule: Arc<RuleName>,
}

/// One rule and what it said, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: Arc<RuleName>,
    /// `None`: it said yes.
    pub refusal: Option<Refusal>,
    /// What the caller has of it.
    pub detail: String,
}

impl Step {
    /// Whether the rule said yes.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.refusal.is_none()
    }
}

impl Rules {
    /// The rule because of which a credential is read; it is the one that an invalid credential is refused by.
    #[must_use]
    pub fn name(&self) -> &Arc<RuleName> {
        &self.name
    }

    /// Whether a caller is needed.
    #[must_use]
    pub fn auth(&self) -> Auth {
        self.auth
    }

    /// What is asked of the sign-in.
    #[must_use]
    pub fn step_up(&self) -> Option<&StepUp> {
        self.step_up.as_ref()
    }

    /// Whether a request without a caller is never let in.
    #[must_use]
    pub fn needs_caller(&self) -> bool {
        let admits_anonymous = |rule: &Rule| rule.check.admits_anonymous();
        self.auth == Auth::Required && (self.rules.is_empty() || !self.rules.iter().all(admits_anonymous))
    }

    /// Whether the decision depends on the address of the client.
    #[must_use]
    pub fn read_address(&self) -> bool {
        !self.networks.is_empty() || self.rules.iter().any(|rule| rule.check.reads_address())
    }

    /// Whether these ask for everything that `other` asks for: every request that passes here passes there. Rules
    /// are compared as they are written: of two that mean the same in other words, neither is the other.
    #[must_use]
    pub fn cover(&self, other: &Self) -> bool {
        fn enforced(rules: &Rules) -> impl Iterator<Item = &Rule> {
            let of_callers = rules.rules.iter().filter(|rule| rules.is_enforced(rule));
            rules.networks.iter().chain(of_callers)
        }
        let is_asked = |rule: &Rule| enforced(self).any(|ours| ours.name.text == rule.name.text);
        (self.needs_caller() || !other.needs_caller()) && enforced(other).all(is_asked)
    }

    /// Whether the client's network may use the route, with or without a credential. [`Rules::decide`] asks the same; before a credential is
    /// read, this saves the reading.
    ///
    /// # Errors
    /// `NetworkRefused`
    pub fn admit(&self, facts: &RequestFacts<'_>) -> Result<(), Denial> {
        match self.networks.iter().find(|rule| !rule.check.passes(None, facts)) {
            Some(rule) => Err(rule.denial()),
            None => Ok(()),
        }
    }

    /// Whether a request of the verified `caller`, or an anonymous one, may pass. Allocates nothing but for a
    /// condition (`when`).
    ///
    /// # Errors
    /// The first rule that says no: `NetworkRefused`, `CredentialMissing`, `RoleRefused`, `ClaimRefused`, `ScopeRefused`,
    /// `AnyRefused`, `ConditionFalse` or `AuthenticationInsufficient`.
    pub fn decide(&self, caller: Option<Arc<Caller>>, facts: &RequestFacts<'_>) -> Result<Permit, Denial> {
        self.admit(facts)?;
        if self.auth == Auth::None {
            return Ok(Permit::new(None));
        }
        let Some(caller) = caller else {
            return self.decide_anonymous(facts);
        };
        let mut permit = Permit::new(None);
        for rule in &self.rules {
            if rule.check.passes(Some(&caller.identity), facts) {
                continue;
            }
            if self.is_enforced(rule) {
                return Err(rule.denial());
            }
            permit.only_logged.get_or_insert_with(|| rule.name.clone());
        }
        permit.caller = Some(caller);
        Ok(permit)
    }

    /// Whether a rule refuses callers.
    fn is_enforced(&self, rule: &Rule) -> bool {
        !(self.only_logged && rule.check.can_be_logged_only())
    }

    fn decide_anonymous(&self, facts: &RequestFacts<'_>) -> Result<Permit, Denial> {
        // Rules beside `optional` do not get past `compile`; they would not be skipped here either.
        let is_admitted =
            !self.needs_caller() && self.rules.iter().all(|rule| rule.check.passes(None, facts));
        if !is_admitted {
            return Err(Denial {
                refusal: Refusal::CredentialMissing,
                rule: self.name.clone(),
            });
        }
        Ok(Permit::new(None))
    }

    /// The rules on the client's network, and what they say.
    #[must_use]
    pub fn network_steps(&self, facts: &RequestFacts<'_>) -> Vec<Step> {
        self.networks.iter().map(|rule| rule.step(None, facts)).collect()
    }

    /// Every other rule and what it says about `caller`, by the checks that [`Rules::decide`] goes by. Without a caller the
    /// only steps are `auth` and what can admit a request without one.
    #[must_use]
    pub fn steps(&self, caller: Option<&Caller>, facts: &RequestFacts<'_>) -> Vec<Step> {
        let detail = match (self.auth, caller) {
            (Auth::None, _) => "nothing is read".to_owned(),
            (_, None) => "there is no caller".to_owned(),
            (_, Some(caller)) => format!("the caller is `{}`", caller.identity.subject),
        };
        let denial = if caller.is_none() && self.auth != Auth::None {
            self.decide_anonymous(facts).err()
        } else {
            None
        };
        let asked = self.auth != Auth::None && denial.is_none();
        let detail = match denial {
            // What would have let the request in without a caller.
            Some(_) if !self.needs_caller() => format!("{detail}; {}", network::detail(facts.client)),
            _ => detail,
        };
        let mut steps = vec![Step {
            rule: self.name.clone(),
            refusal: denial.map(|denial| denial.refusal),
            detail,
        }];
        if asked {
            steps.extend(self.rules.iter().map(|rule| {
                let mut step = rule.step(caller, facts);
                if !self.is_enforced(rule)
                    && let Some(refusal) = step.refusal.take()
                {
                    step.detail
                        .push_str(&format!("; only logged: it would refuse ({refusal})"));
                }
                step
            }));
        }
        steps
    }

    /// Why a request without a caller, or one of any caller that rules would refuse, gets to the app; `None`: it does not.
    #[must_use]
    pub fn public_because(&self) -> Option<String> {
        let names = |rules: &[Rule]| {
            let texts: Vec<&str> = rules.iter().map(|rule| &*rule.name.text).collect();
            texts.join(", and ")
        };
        let why = match self.auth {
            Auth::None => "no credential is read".to_owned(),
            Auth::Optional => "a credential is optional".to_owned(),
            Auth::Required if !self.needs_caller() => {
                format!("no credential is needed with {}", names(&self.rules))
            }
            Auth::Required if self.only_logged => "any caller: the rules are only logged".to_owned(),
            Auth::Required => return None,
        };
        Some(match self.networks.as_slice() {
            [] => why,
            networks => format!("{why}, for {}", names(networks)),
        })
    }

    /// The names of all roles that a rule mentions, for `check` to compare with the roles of `[[tests]]`.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().flat_map(|rule| rule.check.roles())
    }
}

impl Rule {
    fn denial(&self) -> Denial {
        Denial {
            refusal: self.check.refusal(),
            rule: self.name.clone(),
        }
    }

    fn step(&self, caller: Option<&Caller>, facts: &RequestFacts<'_>) -> Step {
        let identity = caller.map(|caller| &caller.identity);
        Step {
            rule: self.name.clone(),
            refusal: (!self.check.passes(identity, facts)).then(|| self.check.refusal()),
            detail: self.check.detail(identity, facts),
        }
    }
}

impl std::fmt::Display for Rules {
    /// Who may, in one line, as `check` prints it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = match self.auth {
            Auth::None => Some("everyone (no credential is read)"),
            Auth::Optional => Some("everyone (a credential is optional)"),
            Auth::Required if self.rules.is_empty() => Some("any caller"),
            // Rules on callers say by themselves that there is one.
            Auth::Required => None,
        };
        let rules = self.networks.iter().chain(&self.rules);
        for (number, text) in first
            .into_iter()
            .chain(rules.map(|rule| &*rule.name.text))
            .enumerate()
        {
            let separator = if number == 0 { "" } else { ", and " };
            write!(f, "{separator}{text}")?;
        }
        if self.only_logged {
            f.write_str("; rules on callers are only logged")?;
        }
        Ok(())
    }
}
