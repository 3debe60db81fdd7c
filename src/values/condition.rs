//! Conditions: expressions of the Common Expression Language (CEL), as `when` of a route has them.
//!
//! Input: the text; later what it reads of a request. Output: yes, no, or why there is no answer. Invariants: a condition names
//! nothing that no request has; its size, its depth and its loops have limits, so that what a client sends cannot make it
//! expensive; whatever is not `true` is no yes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr};
use cel::{Context, Env, IdedExpr, ParseErrors, Program, Value};
use serde_json::Value as Json;

use super::BadValue;
use super::suggest::did_you_mean;

/// The longest text, in bytes.
const MAX_BYTES: usize = 1000;
/// The most brackets within each other, and the most expressions. The library reads and evaluates by recursion.
const MAX_BRACKETS: usize = 16;
const MAX_DEPTH: usize = 48;

/// What a condition can read of a request, and how.
const VARIABLES: &[&str] = &[
    "claims", "host", "issuer", "method", "path", "roles", "scopes", "subject",
];

/// The functions of the language's standard library that are here. `matches` is not: a regular expression would be compiled
/// with every request.
const FUNCTIONS: &[&str] = &[
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "size",
    "startsWith",
    "string",
    "uint",
];

static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A condition that is ready to be evaluated.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Box<str>,
    program: Arc<Program>,
    /// The variables that it reads.
    variables: BTreeSet<&'static str>,
    /// The fields of `claims` and of `path` that it reads.
    claims: Fields,
    path: Fields,
}

/// The fields that are read of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// These, by name.
    named: BTreeSet<Box<str>>,
    /// And perhaps others: the map stands there as a whole.
    all: bool,
}

/// What there is of a request.
#[derive(Debug)]
pub(crate) struct Variables<'v> {
    /// The claims of the token that [`Condition::claims`] names.
    pub(crate) claims: BTreeMap<&'v str, &'v Json>,
    /// The host that was asked for, without a port.
    pub(crate) host: &'v str,
    /// The issuer's name in the file.
    pub(crate) issuer: &'v str,
    /// The method.
    pub(crate) method: &'v str,
    /// The parameters of the route's path, decoded.
    pub(crate) path: BTreeMap<&'v str, Cow<'v, str>>,
    /// The roles of the caller.
    pub(crate) roles: &'v [String],
    /// The scopes of the token.
    pub(crate) scopes: &'v [String],
    /// The subject.
    pub(crate) subject: &'v str,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// More than [`MAX_BYTES`].
    #[error("a condition has {MAX_BYTES} bytes at most, and this one has {0}")]
    TooLong(usize),
    /// Deeper than the limits.
    #[error("the condition is nested too deeply")]
    TooDeep,
    /// No expression: where, counted in characters from 1, and what is wrong.
    #[error("the condition is not valid CEL: {1}, at character {0}")]
    Syntax(isize, String),
    /// A name that no request has.
    #[error("a condition cannot read `{0}`")]
    Variable(String),
    /// A function that is not there.
    #[error("a condition has no function `{0}`")]
    Function(String),
    /// A loop within a loop.
    #[error("a condition has no `{0}` within another one")]
    NestedLoop(&'static str),
    /// It is the same for every request.
    #[error("the condition reads nothing of the request")]
    Constant,
}

impl ConditionError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::TooLong(_) | Self::TooDeep => "split it: write a route for each case".to_owned(),
            Self::Syntax(..) => "write an expression like `claims.tenant == path.tenant`; text is in quotes".to_owned(),
            Self::Variable(name) => did_you_mean(name, VARIABLES.iter().copied())
                .unwrap_or_else(|| format!("it reads {}", listed(VARIABLES))),
            Self::Function(name) if name == "matches" => {
                "regular expressions are left out: use `startsWith`, `endsWith` or `contains`, or a pattern in `path`".to_owned()
            }
            Self::Function(name) => did_you_mean(name, FUNCTIONS.iter().copied())
                .unwrap_or_else(|| format!("there are {}, and the operators", listed(FUNCTIONS))),
            Self::NestedLoop(_) => "loops within each other take too long for a token with long lists".to_owned(),
            Self::Constant => format!("remove it, or compare something of {}", listed(VARIABLES)),
        }
    }
}

impl From<ConditionError> for BadValue {
    fn from(error: ConditionError) -> Self {
        Self::new(format!("`when`: {error}"), error.hint())
    }
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

impl Fields {
    /// Whether `name` may be read.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all || self.named.contains(name)
    }

    /// The names that are written out.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|name| &**name)
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        if text.len() > MAX_BYTES {
            return Err(ConditionError::TooLong(text.len()));
        }
        if brackets(text) > MAX_BRACKETS {
            return Err(ConditionError::TooDeep);
        }
        let program = LANGUAGE.compile(text).map_err(|errors| syntax(&errors))?;
        let mut reading = Reading::default();
        reading.expression(program.expression(), MAX_DEPTH)?;
        if reading.variables.is_empty() {
            return Err(ConditionError::Constant);
        }
        let Reading {
            variables,
            claims,
            path,
            ..
        } = reading;
        Ok(Self {
            text: text.into(),
            program: Arc::new(program),
            variables,
            claims,
            path,
        })
    }
}

/// The most brackets that are open at once. Those within text count as well.
fn brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for letter in text.bytes() {
        match letter {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The first error of the library, without its list of everything that could stand there.
fn syntax(errors: &ParseErrors) -> ConditionError {
    let Some(first) = errors.errors.first() else {
        return ConditionError::Syntax(1, "it cannot be read".to_owned());
    };
    let text = first.msg.trim_start_matches("Syntax error: ");
    let text = text.split(" expecting").next().unwrap_or_default();
    let what = match text.split_once('\'').and_then(|(_, rest)| rest.rsplit_once('\'')) {
        Some(("<EOF>", _)) => "it ends too early".to_owned(),
        Some((found, _)) => format!("unexpected `{}`", found.trim()),
        None => text.to_owned(),
    };
    ConditionError::Syntax(first.pos.1, what)
}

/// What a condition reads, as far as it has been walked through.
#[derive(Default)]
struct Reading {
    variables: BTreeSet<&'static str>,
    claims: Fields,
    path: Fields,
    /// The names that a loop has given to its elements.
    bound: Vec<String>,
    is_in_loop: bool,
}

impl Reading {
    fn expression(&mut self, expression: &IdedExpr, depth: usize) -> Result<(), ConditionError> {
        let depth = depth.checked_sub(1).ok_or(ConditionError::TooDeep)?;
        match &expression.expr {
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
            Expr::Ident(name) => self.name(name, None),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) => self.name(name, Some(&select.field)),
                _ => self.expression(&select.operand, depth),
            },
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let is_operator = !name.starts_with(|letter: char| letter.is_ascii_alphabetic());
                if !is_operator && !FUNCTIONS.contains(&name) {
                    return Err(ConditionError::Function(name.to_owned()));
                }
                let mut parts = call.target.iter().map(|target| &**target).chain(&call.args);
                parts.try_for_each(|part| self.expression(part, depth))
            }
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|element| self.expression(element, depth)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, depth)?;
                    self.expression(&entry.value, depth)
                }
                EntryExpr::StructField(field) => self.expression(&field.value, depth),
            }),
            Expr::Struct(value) => Err(ConditionError::Variable(value.type_name.clone())),
            Expr::Comprehension(comprehension) => {
                if std::mem::replace(&mut self.is_in_loop, true) {
                    return Err(ConditionError::NestedLoop("all`, `exists`, `map` or `filter"));
                }
                let outside = self.bound.len();
                self.expression(&comprehension.iter_range, depth)?;
                self.expression(&comprehension.accu_init, depth)?;
                let second = comprehension.iter_var2.iter();
                let names = [&comprehension.iter_var, &comprehension.accu_var];
                self.bound.extend(names.into_iter().chain(second).cloned());
                for part in [
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.expression(part, depth)?;
                }
                self.bound.truncate(outside);
                self.is_in_loop = false;
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &str, field: Option<&str>) -> Result<(), ConditionError> {
        if self.bound.iter().any(|bound| bound == name) {
            return Ok(());
        }
        let Some(known) = VARIABLES.iter().find(|variable| **variable == name) else {
            return Err(ConditionError::Variable(name.to_owned()));
        };
        self.variables.insert(known);
        let fields = match *known {
            "claims" => &mut self.claims,
            "path" => &mut self.path,
            _ => return Ok(()),
        };
        match field {
            Some(field) => {
                fields.named.insert(field.into());
            }
            None => fields.all = true,
        }
        Ok(())
    }
}

impl Condition {
    /// As it is written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What it reads of the claims.
    pub(crate) fn claims(&self) -> &Fields {
        &self.claims
    }

    /// What it reads of the parameters of the path.
    pub(crate) fn path(&self) -> &Fields {
        &self.path
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// It has no answer, or one that is neither yes nor no: a claim is missing, or is of another type. The text says which.
    pub(crate) fn evaluate(&self, variables: &Variables<'_>) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        for name in &self.variables {
            context.add_variable_from_value(*name, variables.value(name));
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(other) => Err(format!("it is of the type `{}`, not `bool`", other.type_of())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Variables<'_> {
    fn value(&self, name: &str) -> Value {
        let text = |text: &str| Value::String(Arc::new(text.to_owned()));
        let texts = |list: &[String]| Value::List(Arc::new(list.iter().map(|item| text(item)).collect()));
        match name {
            "claims" => map(self.claims.iter().map(|(name, claim)| (*name, value(claim)))),
            "path" => map(self.path.iter().map(|(name, segment)| (*name, text(segment)))),
            "host" => text(self.host),
            "issuer" => text(self.issuer),
            "method" => text(self.method),
            "roles" => texts(self.roles),
            "scopes" => texts(self.scopes),
            "subject" => text(self.subject),
            _ => Value::Null,
        }
    }
}

fn map<'m>(entries: impl Iterator<Item = (&'m str, Value)>) -> Value {
    let map: std::collections::HashMap<String, Value> =
        entries.map(|(name, value)| (name.to_owned(), value)).collect();
    Value::Map(map.into())
}

/// A claim. Whole numbers are `int`, as an expression writes them.
fn value(claim: &Json) -> Value {
    match claim {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(list) => Value::List(Arc::new(list.iter().map(value).collect())),
        Json::Object(members) => map(members
            .iter()
            .map(|(name, member)| (name.as_str(), value(member)))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn condition(text: &str) -> Condition {
        text.parse().unwrap()
    }

    fn answer(text: &str, claims: &Json) -> Result<bool, String> {
        let condition = condition(text);
        let read = |(name, _): &(&String, _)| condition.claims().has(name);
        let claims = claims.as_object().unwrap();
        let roles = ["admin".to_owned(), "team-red".to_owned()];
        condition.evaluate(&Variables {
            claims: claims
                .iter()
                .filter(read)
                .map(|(name, claim)| (name.as_str(), claim))
                .collect(),
            host: "app.example.com",
            issuer: "corp",
            method: "GET",
            path: BTreeMap::from([("tenant", Cow::Borrowed("acme"))]),
            roles: &roles,
            scopes: &["read".to_owned()],
            subject: "u1",
        })
    }

    #[test]
    fn condition_reads_claims_path_and_caller() {
        let claims = json!({
            "tenant": "acme", "level": 3, "half": 0.5, "big": u64::MAX, "groups": ["a", "team-red"], "on": true,
            "address": { "country": "IS" }, "nothing": null, "my-claim": "x",
        });
        for (text, expected) in [
            ("claims.tenant == path.tenant", true),
            ("claims.tenant != path.tenant", false),
            ("claims['tenant'] == 'acme' && 'admin' in roles", true),
            ("claims['my-claim'] == \"x\"", true),
            ("claims.level >= 3 && claims.level + 1 == 4", true),
            ("claims.level < 3", false),
            ("claims.half < 1.0 && claims.big > 1", true),
            ("claims.on", true),
            ("claims.address.country in ['IS', 'NO']", true),
            ("claims.nothing == null", true),
            ("has(claims.tenant) && !has(claims.other)", true),
            ("!has(claims.other) || claims.other == 1", true),
            ("claims.groups.exists(group, group.startsWith('team-'))", true),
            ("claims.groups.all(group, group in roles)", false),
            ("size(claims.groups.filter(g, g.endsWith('red'))) == 1", true),
            ("roles.exists_one(r, r.contains('red')) && 'read' in scopes", true),
            ("method == 'GET' && host == 'app.example.com'", true),
            ("issuer == 'corp' && subject == 'u1' && size(subject) == 2", true),
            ("string(claims.level) == '3' && int('4') > claims.level", true),
            (
                "method in ['GET', 'HEAD'] ? 'read' in scopes : 'write' in scopes",
                true,
            ),
            // By value and type, as rules on claims: text is no number.
            ("claims.level == '3'", false),
            ("claims.groups == 'a'", false),
        ] {
            assert_eq!(answer(text, &claims), Ok(expected), "{text}");
        }
    }

    #[test]
    fn condition_without_an_answer_is_an_error() {
        let claims = json!({ "level": "3", "list": [1] });
        for (text, expected) in [
            ("claims.tenant == path.tenant", "No such key: tenant"),
            ("claims.level > 3", "no matching overload"),
            ("!claims.level", "no matching overload"),
            ("path.other == 'a'", "No such key: other"),
            ("claims.list[7] == 1", "out of bounds"),
            ("int(subject) == 1", "error"),
            ("1 / 0 == size(roles)", "ivi"),
            ("claims.level", "it is of the type `string`"),
            ("roles", "it is of the type `list`"),
            ("claims.list.exists(x, x.y)", ""),
        ] {
            let error = answer(text, &claims).unwrap_err();
            assert!(
                error.to_lowercase().contains(&expected.to_lowercase()),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn what_is_read_of_the_claims_is_known() {
        for (text, named, others) in [
            ("claims.a.b == path.x", vec!["a"], false),
            ("has(claims.a) || claims.b == 'x'", vec!["a", "b"], false),
            ("claims['a'] == 1", vec![], true),
            ("size(claims) > 1", vec![], true),
            ("roles.exists(claims, claims == 'a')", vec![], false),
            ("claims.list.exists(x, x == claims.y)", vec!["list", "y"], false),
        ] {
            let condition = condition(text);
            assert_eq!(condition.claims().names().collect::<Vec<_>>(), named, "{text}");
            assert_eq!(condition.claims().has("other"), others, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_condition_is_an_error_with_a_hint() {
        let deep = format!("{}subject == 'a'{}", "(".repeat(17), ")".repeat(17));
        let long = format!("subject == '{}'", "a".repeat(MAX_BYTES));
        let chain = format!("subject{} == ''", " + 'a'".repeat(100));
        for (text, problem, hint) in [
            (
                "",
                "it ends too early, at character 1",
                "claims.tenant == path.tenant",
            ),
            (
                "claims.tenant ==",
                "it ends too early, at character 17",
                "text is in quotes",
            ),
            (
                "claims.tenant = path.tenant",
                "unexpected `=`, at character 15",
                "text",
            ),
            ("claims.tenant == acme", "cannot read `acme`", "it reads `claims`"),
            (
                "claim.tenant == 'a'",
                "cannot read `claim`",
                "did you mean `claims`",
            ),
            ("request.path == '/'", "cannot read `request`", "`path`"),
            ("claims.a.matches('^a')", "no function `matches`", "startsWith"),
            (
                "subject.startWith('a')",
                "no function `startWith`",
                "did you mean `startsWith`",
            ),
            ("true", "reads nothing of the request", "remove it"),
            ("1 == 1", "reads nothing of the request", "remove it"),
            (
                "roles.all(a, scopes.all(b, a == b))",
                "within another one",
                "long lists",
            ),
            ("roles.exists(r, r == x)", "cannot read `x`", "it reads"),
            (&deep, "nested too deeply", "split it"),
            (&chain, "nested too deeply", "split it"),
            (&long, "1000 bytes at most", "split it"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.to_string().contains(problem), "{text}: {error}");
            assert!(error.hint().contains(hint), "{text}: {}", error.hint());
        }
    }

    #[test]
    fn function_that_is_listed_is_there() {
        let claims = json!({ "x": "1" });
        let calls = [
            "claims.x.contains('1')",
            "double(claims.x) == 1.0",
            "dyn(claims.x) == '1'",
            "claims.x.endsWith('1')",
            "int(claims.x) == 1",
            "size(claims.x) == 1",
            "claims.x.startsWith('1')",
            "string(claims.x) == '1'",
            "uint(claims.x) == 1u",
        ];
        assert_eq!(calls.len(), FUNCTIONS.len());
        for (name, call) in FUNCTIONS.iter().zip(calls) {
            assert!(call.contains(name), "{name}");
            assert_eq!(answer(call, &claims), Ok(true), "{call}");
        }
    }

    #[test]
    fn longest_and_deepest_texts_fit_a_small_stack() {
        let fill = |start: &str, part: &str, end: &str| {
            let times = (MAX_BYTES - start.len() - end.len()) / (part.len());
            format!("{start}{}{end}", part.repeat(times))
        };
        let nested = |open: &str, close: &str| {
            format!(
                "{}subject == ''{}",
                open.repeat(MAX_BRACKETS),
                close.repeat(MAX_BRACKETS)
            )
        };
        let texts = [
            fill("subject == ''", "+''", ""),
            fill("claims", ".a", " == 1"),
            fill("", "!", "claims.a"),
            fill("", "-", "claims.a == 1"),
            fill("true", "&&true", "&&claims.a"),
            fill("", "claims.a?true:", "true"),
            fill("claims", "[0]", " == 1"),
            nested("(", ")"),
            nested("[", "]"),
            nested("size(", ")"),
            nested("!(", ")"),
            "!!(!!!!!!(!!!!(((((!!(!!(!!!!((".repeat(8),
            format!("{}1", "!!(!!!!!!(!!!!(((((!!(!!(!!!!((".repeat(2)),
        ];
        let small = std::thread::Builder::new().stack_size(1 << 20);
        let walked = small.spawn(move || {
            for text in &texts {
                if let Ok(condition) = text.parse::<Condition>() {
                    let claims = json!({ "a": true });
                    let _ = answer(condition.text(), &claims);
                }
            }
        });
        walked.unwrap().join().unwrap();
    }
}
