//! Accounts of another system: one JSON object a line, as database exports and `mongoexport` write them.
//!
//! Input: lines. Output: accounts ready to be added, and the names of unknown fields, each once. Invariants: no password in
//! the clear is taken, and no error repeats a value of a line, since any might be a hash.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::{AccountError, HashError};
use super::{NewAccount, email};
use super::{hash, policy};

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// The most names of unknown fields that are reported.
const MAX_REPORTED: usize = 100;

const ID: &[&str] = &["id", "_id"];
const EMAIL: &[&str] = &["email"];
const NAME: &[&str] = &["name", "displayName", "username"];
const ROLES: &[&str] = &["roles", "role"];
const HASH: &[&str] = &["password_hash", "passwordHash", "hash", "password"];
const DISABLED: &[&str] = &["disabled"];

/// Reads the lines of one import.
#[derive(Debug, Default)]
pub(crate) struct Import {
    reported: BTreeSet<String>,
}

/// What a line came to.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The account, without a look at those that are there already.
    pub account: NewAccount,
    /// Whether the line says anything about roles; where not, the account has none.
    pub says_roles: bool,
    /// Whether it says anything about being disabled; where not, the account is not.
    pub says_disabled: bool,
    /// Fields that were passed over and that no line before had.
    pub ignored: Vec<String>,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ImportError {
    /// Not JSON.
    #[error(
        "this is not JSON (see column {column}); each line is one object, `{{\"email\": …, \"password_hash\": …}}`"
    )]
    NotJson {
        /// Where, from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("this is no JSON object; each line is one, `{{\"email\": …, \"password_hash\": …}}`")]
    NotObject,
    /// Longer than [`MAX_LINE`].
    #[error("the line has more than {MAX_LINE} bytes; each line is one account")]
    TooLong,
    /// Without it there is no account.
    #[error("`{field}` is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A value of a type that the field cannot have.
    #[error("`{field}` must be {what}")]
    Type {
        /// The name that the line has for it.
        field: &'static str,
        /// What it can be.
        what: &'static str,
    },
    /// Two fields that mean the same and do not say the same.
    #[error("`{one}` and `{other}` are both given and differ; leave one out")]
    Ambiguous {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A password, or a hash of an unknown format; who knows.
    #[error(
        "`password` is no hash that is known here, and a password itself is not imported: leave the field out, and set a new \
         password with `passgate user password`"
    )]
    PlainPassword,
    /// A value that no account can have.
    #[error("`{field}`: {fault}")]
    Value {
        /// The name that the line has for it.
        field: &'static str,
        /// What is wrong with it.
        fault: AccountError,
    },
}

impl Import {
    /// Nothing read yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Reads one line; `None` where it is blank.
    ///
    /// # Errors
    /// What is wrong with which field; never what the line says there.
    pub(crate) fn line(&mut self, line: &str) -> Result<Option<Imported>, ImportError> {
        // Some exports begin with a byte order mark.
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() > MAX_LINE {
            return Err(ImportError::TooLong);
        }
        let fields: Map<String, Value> = match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err(ImportError::NotObject),
            Err(error) => {
                return Err(ImportError::NotJson {
                    column: error.column(),
                });
            }
        };
        let account = account(&fields)?;
        Ok(Some(Imported {
            account,
            says_roles: first(&fields, ROLES).is_some(),
            says_disabled: first(&fields, DISABLED).is_some(),
            ignored: self.note_ignored(&fields),
        }))
    }

    fn note_ignored(&mut self, fields: &Map<String, Value>) -> Vec<String> {
        let known = [ID, EMAIL, NAME, ROLES, HASH, DISABLED].concat();
        let mut ignored = Vec::new();
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            if self.reported.len() < MAX_REPORTED && self.reported.insert(name.clone()) {
                ignored.push(name);
            }
        }
        ignored
    }
}

fn account(fields: &Map<String, Value>) -> Result<NewAccount, ImportError> {
    let address = match first(fields, EMAIL) {
        Some((_, Value::String(address))) if email::is_valid(address) => address.trim().to_owned(),
        Some((field, Value::String(_))) => {
            return Err(ImportError::Value {
                field,
                fault: AccountError::EmailInvalid,
            });
        }
        Some((field, _)) => {
            return Err(ImportError::Type {
                field,
                what: "a string",
            });
        }
        None => return Err(ImportError::Missing { field: "email" }),
    };
    Ok(NewAccount {
        id: first(fields, ID)
            .map(|(field, value)| id(field, value))
            .transpose()?,
        email: address,
        name: first(fields, NAME)
            .map(|(field, value)| name(field, value))
            .transpose()?
            .flatten(),
        roles: roles(fields)?,
        password_hash: password_hash(fields)?,
        // An operator says so.
        confirmed: true,
        disabled: match first(fields, DISABLED) {
            None => false,
            Some((_, Value::Bool(disabled))) => *disabled,
            // As databases without booleans write them.
            Some((_, value)) if value.as_u64() == Some(0) => false,
            Some((_, value)) if value.as_u64() == Some(1) => true,
            Some((field, _)) => {
                return Err(ImportError::Type {
                    field,
                    what: "`true` or `false`",
                });
            }
        },
    })
}

/// The first of `names` that the line has, and not as `null`.
fn first<'a>(fields: &'a Map<String, Value>, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
    given(fields, names).next()
}

fn given<'a>(
    fields: &'a Map<String, Value>,
    names: &[&'static str],
) -> impl Iterator<Item = (&'static str, &'a Value)> {
    names.iter().filter_map(|name| {
        fields
            .get(*name)
            .filter(|value| !value.is_null())
            .map(|value| (*name, value))
    })
}

fn id(field: &'static str, value: &Value) -> Result<String, ImportError> {
    let id = match value {
        Value::String(id) => id.clone(),
        // A fraction is not an id, and 1.0 and 1 would be two.
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        // MongoDB Extended JSON, ObjectId.
        Value::Object(object) if object.len() == 1 => match object.get("$oid") {
            Some(Value::String(id)) => id.clone(),
            _ => {
                return Err(ImportError::Type {
                    field,
                    what: "a string, a whole number or `{\"$oid\": …}`",
                });
            }
        },
        _ => {
            return Err(ImportError::Type {
                field,
                what: "a string, a whole number or `{\"$oid\": …}`",
            });
        }
    };
    policy::check_id(&id)
        .map(|()| id)
        .map_err(|fault| ImportError::Value { field, fault })
}

fn name(field: &'static str, value: &Value) -> Result<Option<String>, ImportError> {
    let text = value.as_str().ok_or(ImportError::Type {
        field,
        what: "a string",
    })?;
    policy::parse_name(text).map_err(|fault| ImportError::Value { field, fault })
}

/// The roles of all fields that name any: what `role` says beside `roles` is one more.
fn roles(fields: &Map<String, Value>) -> Result<Vec<String>, ImportError> {
    let mut roles = Vec::new();
    let mut last = ROLES[0];
    for (field, value) in given(fields, ROLES) {
        let wrong = || ImportError::Type {
            field,
            what: "an array of strings, or a string with commas between the roles",
        };
        last = field;
        match value {
            Value::String(text) => {
                roles.extend(policy::parse_roles(text).map_err(|fault| value_of_roles(field, fault))?);
            }
            Value::Array(elements) => {
                for element in elements {
                    roles.push(element.as_str().ok_or_else(wrong)?.trim().to_owned());
                }
            }
            _ => return Err(wrong()),
        }
    }
    policy::tidy_roles(roles).map_err(|fault| value_of_roles(last, fault))
}

/// Without the role: in a file with mixed-up columns it may be a hash.
fn value_of_roles(field: &'static str, fault: AccountError) -> ImportError {
    let fault = match fault {
        AccountError::RoleInvalid { .. } => AccountError::RoleInvalid {
            role: "…".to_owned()
        },
        other => other,
    };
    ImportError::Value { field, fault }
}

/// The one hash of the line.
fn password_hash(fields: &Map<String, Value>) -> Result<Option<String>, ImportError> {
    let mut found: Option<(&'static str, &str)> = None;
    for (field, value) in given(fields, HASH) {
        let text = value.as_str().ok_or(ImportError::Type {
            field,
            what: "a string",
        })?;
        match hash::check_hash(text) {
            Ok(()) => {}
            Err(HashError::Unknown) if field == "password" => return Err(ImportError::PlainPassword),
            Err(fault) => {
                return Err(ImportError::Value {
                    field,
                    fault: fault.into(),
                });
            }
        }
        match found {
            Some((one, before)) if before != text => {
                return Err(ImportError::Ambiguous { one, other: field });
            }
            _ => found = Some((field, text)),
        }
    }
    Ok(found.map(|(_, text)| text.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BCRYPT: &str = "$2b$10$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    const ARGON2: &str =
        "$argon2id$v=19$m=64,p=2,t=2$MDEyMzQ1Njc4OWFiY2RlZg$ehqGRlXhNY90u1mXokuaGpor9OaG4WSZVb4jCfev4ys";

    fn read(line: &str) -> NewAccount {
        Import::new().line(line).unwrap().unwrap().account
    }

    fn fault(line: &str) -> String {
        Import::new().line(line).unwrap_err().to_string()
    }

    #[test]
    fn a_line_of_our_own_spelling_is_read() {
        let account = read(&format!(
            r#"{{"id":"u-1","email":" Ann@Example.com ","name":" Ann ","roles":["user","admin","user"],"password_hash":"{BCRYPT}","disabled":true}}"#
        ));
        assert_eq!(account.id.as_deref(), Some("u-1"));
        assert_eq!(account.email, "Ann@Example.com");
        assert_eq!(account.name.as_deref(), Some("Ann"));
        assert_eq!(account.roles, ["admin", "user"]);
        assert_eq!(account.password_hash.as_deref(), Some(BCRYPT));
        assert!(account.disabled);
    }

    #[test]
    fn a_document_of_mongoexport_is_read() {
        let mut import = Import::new();
        let line = format!(
            r#"{{"_id":{{"$oid":"507f1f77bcf86cd799439011"}},"email":"ann@b","username":"ann","role":"admin","password":"{BCRYPT}","createdAt":{{"$date":"2024-01-01"}},"__v":0}}"#
        );
        let imported = import.line(&line).unwrap().unwrap();
        assert_eq!(imported.account.id.as_deref(), Some("507f1f77bcf86cd799439011"));
        assert_eq!(imported.account.name.as_deref(), Some("ann"));
        assert_eq!(imported.account.roles, ["admin"]);
        assert_eq!(imported.account.password_hash.as_deref(), Some(BCRYPT));
        assert_eq!(imported.ignored, ["__v", "createdAt"]);
        assert_eq!(import.line(&line).unwrap().unwrap().ignored, [""; 0], "each once");
    }

    #[test]
    fn only_the_address_is_needed() {
        let account = read(r#"{"email":"ann@b","name":null,"roles":"","password":null,"disabled":0}"#);
        assert_eq!(
            (account.id, account.name, account.password_hash),
            (None, None, None)
        );
        assert!(account.roles.is_empty() && !account.disabled);
        assert_eq!(
            read(r#"{"_id":42,"email":"ann@b","roles":"ops, admin"}"#)
                .id
                .as_deref(),
            Some("42")
        );
        assert_eq!(
            read(r#"{"email":"ann@b","roles":"ops, admin"}"#).roles,
            ["admin", "ops"]
        );
        assert!(read(r#"{"email":"ann@b","disabled":1}"#).disabled);
        assert!(Import::new().line(" \r\n").unwrap().is_none());
        assert_eq!(read("\u{feff}{\"email\":\"ann@b\"}\r\n").email, "ann@b");
    }

    #[test]
    fn what_a_line_does_not_say_is_told_from_what_it_denies() {
        let says = |line: &str| {
            let imported = Import::new().line(line).unwrap().unwrap();
            (imported.says_roles, imported.says_disabled)
        };
        assert_eq!(says(r#"{"email":"ann@b","roles":null}"#), (false, false));
        assert_eq!(
            says(r#"{"email":"ann@b","roles":[],"disabled":false}"#),
            (true, true)
        );
    }

    #[test]
    fn every_name_of_a_hash_is_known() {
        for field in ["password_hash", "passwordHash", "hash", "password"] {
            for hash in [BCRYPT, ARGON2] {
                let account = read(&format!(r#"{{"email":"ann@b","{field}":"{hash}"}}"#));
                assert_eq!(account.password_hash.as_deref(), Some(hash));
            }
        }
    }

    #[test]
    fn a_password_as_such_is_refused_and_not_repeated() {
        let of = fault(r#"{"email":"ann@b","password":"hunter2hunter2"}"#);
        assert!(of.contains("`password`") && !of.contains("hunter2"), "{of}");
        let of = fault(&format!(
            r#"{{"email":"ann@b","hash":"{BCRYPT}","password":"hunter2hunter2"}}"#
        ));
        assert!(of.contains("`password`") && !of.contains("hunter2"), "{of}");
    }

    #[test]
    fn an_error_names_the_field_and_no_value() {
        let dear = BCRYPT.replace("$10$", "$20$");
        for (line, expected) in [
            (r#"{"email":"ann@b""#.to_owned(), "column 16"),
            ("[1]".to_owned(), "no JSON object"),
            (format!(r#""{BCRYPT}""#), "no JSON object"),
            (format!(r#"{{"email":"ann@b","hash":{BCRYPT}}}"#), "column 25"),
            (r#"{"name":"Ann"}"#.to_owned(), "`email` is missing"),
            (r#"{"email":null}"#.to_owned(), "`email` is missing"),
            (
                format!(r#"{{"email":"{BCRYPT}"}}"#),
                "`email`: not an email address",
            ),
            (r#"{"email":5}"#.to_owned(), "`email` must be a string"),
            (
                format!(r#"{{"email":"ann@b","hash":"{}"}}"#, &BCRYPT[..50]),
                "`hash`: the password hash cannot be used",
            ),
            (
                format!(r#"{{"email":"ann@b","password":"{dear}"}}"#),
                "`password`: the password hash cannot be used: `cost` is 20",
            ),
            (
                r#"{"email":"ann@b","hash":"5f4dcc3b5aa765d61d8327deb882cf99"}"#.to_owned(),
                "its format is none of",
            ),
            (
                r#"{"email":"ann@b","hash":{"a":1}}"#.to_owned(),
                "`hash` must be a string",
            ),
            (
                format!(r#"{{"email":"ann@b","hash":"{BCRYPT}","password":"{ARGON2}"}}"#),
                "`hash` and `password` are both given",
            ),
            (r#"{"email":"ann@b","_id":1.5}"#.to_owned(), "`_id` must be"),
            (
                r#"{"email":"ann@b","_id":{"$date":"x"}}"#.to_owned(),
                "`_id` must be",
            ),
            (r#"{"email":"ann@b","id":""}"#.to_owned(), "`id`: an id has"),
            (
                r#"{"email":"ann@b","username":7}"#.to_owned(),
                "`username` must be a string",
            ),
            (
                r#"{"email":"ann@b","name":"a\nb"}"#.to_owned(),
                "`name`: a name has",
            ),
            (
                r#"{"email":"ann@b","roles":{"admin":true}}"#.to_owned(),
                "`roles` must be an array",
            ),
            (
                r#"{"email":"ann@b","roles":[1]}"#.to_owned(),
                "`roles` must be an array",
            ),
            (
                r#"{"email":"ann@b","roles":[""]}"#.to_owned(),
                "`roles`: `…` is not a role",
            ),
            (
                format!(r#"{{"email":"ann@b","roles":["a"],"role":"{ARGON2}{BCRYPT}"}}"#),
                "`role`: `…` is not a role",
            ),
            (
                r#"{"email":"ann@b","disabled":"false"}"#.to_owned(),
                "`disabled` must be",
            ),
            (
                format!(r#"{{"email":"ann@b","note":"{}"}}"#, "x".repeat(MAX_LINE)),
                "more than 65536 bytes",
            ),
        ] {
            let of = fault(&line);
            assert!(of.contains(expected), "{line}: {of}");
            assert!(
                !of.contains("qrstuu") && !of.contains("ehqGRl") && !of.contains("5f4dcc"),
                "{of}"
            );
        }
    }

    #[test]
    fn the_same_hash_under_two_names_is_one() {
        let line = format!(r#"{{"email":"ann@b","hash":"{BCRYPT}","password":"{BCRYPT}"}}"#);
        assert_eq!(read(&line).password_hash.as_deref(), Some(BCRYPT));
    }

    #[test]
    fn no_more_than_a_hundred_unknown_fields_are_kept_in_mind() {
        let mut import = Import::new();
        let fields: String = (0..500).map(|n| format!(r#","x{n}":0"#)).collect();
        let imported = import
            .line(&format!(r#"{{"email":"ann@b"{fields}}}"#))
            .unwrap()
            .unwrap();
        assert_eq!(
            (imported.ignored.len(), import.reported.len()),
            (MAX_REPORTED, MAX_REPORTED)
        );
    }
}
