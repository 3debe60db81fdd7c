//! Imports accounts of another program from lines of JSON.
//!
//! Input: lines. Output: accounts, or what is wrong with each line. All lines are checked, against each other and against the
//! present accounts, before the first account is written. Invariants: no text has a hash; a line that a check finds bad
//! leaves no half import.

use std::collections::HashMap;
use std::io::{BufRead, Read as _};

use super::{Directory, failed, refused};
use crate::account::import::{Import, Imported as Read, MAX_LINE};
use crate::account::{AccountError, NewAccount, fold_email, look_of_email};
use crate::app::{Failure, chain_text};
use crate::state::{AccountChange, AccountRow, StateError};

/// How an import deals with what is not as it should be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ImportMode {
    /// Accounts that exist are changed to what their lines say, instead of being a problem.
    pub update: bool,
    /// The good lines are imported although there are bad ones.
    pub skip_bad: bool,
    /// Nothing is written.
    pub dry_run: bool,
}

/// What an import came to, or would.
#[derive(Clone, Debug, Default)]
pub(crate) struct Imported {
    /// How many accounts are new.
    pub added: usize,
    /// How many are changed.
    pub updated: usize,
    /// How many were like their lines already.
    pub unchanged: usize,
    /// What is wrong with which line, from 1, in the order of the lines. Unless bad lines were to be left out, nothing
    /// was imported where there is one.
    pub problems: Vec<(usize, String)>,
    /// Fields that were not understood, each once.
    pub ignored: Vec<String>,
}

/// What a good line leads to.
enum Step {
    Add(NewAccount),
    Change(AccountRow, AccountChange),
    Nothing,
}

impl Directory {
    /// Imports accounts from `lines`, one JSON object each.
    ///
    /// # Errors
    /// The lines cannot be read, or the state cannot be read or written. Bad lines are no error here.
    pub(crate) fn import(&self, lines: impl BufRead, mode: ImportMode) -> Result<Imported, Failure> {
        let mut imported = Imported::default();
        let steps = self.judge(lines, mode, &mut imported)?;
        let is_refused = !mode.skip_bad && !imported.problems.is_empty();
        for (line, step) in steps {
            let before = imported.added + imported.updated;
            match step {
                Step::Add(_) if mode.dry_run || is_refused => imported.added += 1,
                Step::Add(new) => {
                    match self.accounts.add(new, None) {
                        Ok(_) => imported.added += 1,
                        Err(AccountError::State(error)) => return Err(stopped(failed(error), line, before)),
                        // Another process added the same account meanwhile.
                        Err(error) => imported.problems.push((line, error.to_string())),
                    }
                }
                Step::Change(row, change) => {
                    if !mode.dry_run && !is_refused {
                        self.accounts
                            .change(&row.id, change, &self.ending())
                            .map_err(|error| stopped(refused(error, &row.email), line, before))?;
                    }
                    imported.updated += 1;
                }
                Step::Nothing => imported.unchanged += 1,
            }
        }
        Ok(imported)
    }

    fn judge(
        &self,
        mut lines: impl BufRead,
        mode: ImportMode,
        imported: &mut Imported,
    ) -> Result<Vec<(usize, Step)>, Failure> {
        let mut reader = Import::new();
        let mut steps = Vec::new();
        let mut seen = Seen::default();
        let mut bytes = Vec::new();
        for line in 1.. {
            let is_there = next_line(&mut lines, &mut bytes).map_err(|error| {
                Failure::Runtime(anyhow::anyhow!(
                    "cannot read line {line} of the import: {error}; nothing was imported"
                ))
            })?;
            if !is_there {
                break;
            }
            let read = match std::str::from_utf8(&bytes) {
                Ok(text) => reader.line(text).map_err(|fault| fault.to_string()),
                Err(_) => Err("this is not UTF-8 text".to_owned()),
            };
            let read = match read {
                Ok(Some(read)) => read,
                Ok(None) => continue,
                Err(problem) => {
                    imported.problems.push((line, problem));
                    continue;
                }
            };
            imported.ignored.extend(read.ignored.iter().cloned());
            match seen.note(&read.account, line).map(|()| self.step(read, mode)) {
                Ok(Ok(step)) => steps.push((line, step)),
                Ok(Err(Bad::State(error))) => return Err(failed(error)),
                Ok(Err(Bad::Line(problem))) | Err(problem) => imported.problems.push((line, problem)),
            }
        }
        Ok(steps)
    }

    /// What a line leads to beside what is there already.
    fn step(&self, read: Read, mode: ImportMode) -> Result<Step, Bad> {
        let new = &read.account;
        let Some(row) = self.accounts.by_email(&new.email)? else {
            if let Some(other) = self.accounts.lookalike(&new.email)? {
                return Err(Bad::Line(format!(
                    "{}: `{}`",
                    AccountError::EmailLookalike,
                    other.email
                )));
            }
            if let Some(id) = &new.id
                && let Some(other) = self.accounts.by_id(id)?
            {
                return Err(Bad::Line(format!("{}: `{}`", AccountError::IdTaken, other.email)));
            }
            return Ok(Step::Add(read.account));
        };
        if !mode.update {
            return Err(Bad::Line(format!(
                "{}; `--update` changes it",
                AccountError::EmailTaken
            )));
        }
        if new.id.as_ref().is_some_and(|id| *id != row.id) {
            return Err(Bad::Line(format!(
                "the account with this email address has the id `{}`, which cannot change",
                row.id
            )));
        }
        let change = difference(&row, read);
        let is_none = change.name.is_none()
            && change.roles.is_none()
            && change.disabled.is_none()
            && change.password_hash.is_none();
        Ok(if is_none {
            Step::Nothing
        } else {
            Step::Change(row, change)
        })
    }
}

/// Why a line leads to nothing.
enum Bad {
    Line(String),
    State(StateError),
}

impl From<StateError> for Bad {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// The first line of each address and id.
#[derive(Default)]
struct Seen {
    emails: HashMap<String, usize>,
    ids: HashMap<String, usize>,
    looks: Looks,
}

impl Seen {
    /// Notes what `account` of `line` has; an error where an earlier line has the same.
    fn note(&mut self, account: &NewAccount, line: usize) -> Result<(), String> {
        let email = fold_email(&account.email);
        let email_of = Some((&mut self.emails, email.clone(), "address"));
        let id_of = account.id.clone().map(|id| (&mut self.ids, id, "id"));
        for (seen, key, what) in email_of.into_iter().chain(id_of) {
            let first = *seen.entry(key).or_insert(line);
            if first != line {
                return Err(format!("line {first} has the same {what}"));
            }
        }
        self.looks.note(&email, line)
    }
}

/// What the addresses of earlier lines look like, with the first line of each that is ASCII, and the first that is not.
#[derive(Default)]
struct Looks(HashMap<String, [Option<usize>; 2]>);

impl Looks {
    /// Two that look alike are refused where one of them is not ASCII, as in the state.
    fn note(&mut self, key: &str, line: usize) -> Result<(), String> {
        let [ascii, other] = self.0.entry(look_of_email(key)).or_default();
        let first = if key.is_ascii() { *other } else { other.or(*ascii) };
        if let Some(first) = first {
            return Err(format!(
                "the address of line {first} looks the same in letters of another script"
            ));
        }
        (if key.is_ascii() { ascii } else { other }).get_or_insert(line);
        Ok(())
    }
}

/// How an account is to be different to be what a line says; what the line does not say stays.
fn difference(row: &AccountRow, read: Read) -> AccountChange {
    let new = read.account;
    let disabled = (read.says_disabled && new.disabled != row.disabled).then_some(new.disabled);
    let password_hash = new
        .password_hash
        .filter(|hash| row.password_hash.as_ref() != Some(hash));
    AccountChange {
        name: new.name.filter(|name| row.name.as_ref() != Some(name)).map(Some),
        roles: (read.says_roles && new.roles != row.roles).then_some(new.roles),
        disabled,
        // The address of an account that was registered is not confirmed by a line about its roles.
        password_hash,
        ..AccountChange::default()
    }
}

/// Reads a line, or of a longer one so much that it is known to be too long. Says whether there was one.
fn next_line(lines: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
    bytes.clear();
    let most = MAX_LINE as u64 + 2;
    if lines.by_ref().take(most).read_until(b'\n', bytes)? == 0 {
        return Ok(false);
    }
    let mut is_whole = bytes.len() as u64 != most || bytes.ends_with(b"\n");
    while !is_whole {
        let buffer = lines.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        is_whole = end.is_some() || buffer.is_empty();
        let read = end.map_or(buffer.len(), |end| end + 1);
        lines.consume(read);
    }
    Ok(true)
}

/// The state failed in the middle; what was written stays.
fn stopped(failure: Failure, line: usize, written: usize) -> Failure {
    match failure {
        Failure::Runtime(error) => Failure::Runtime(anyhow::anyhow!(
            "the import stopped at line {line}, after {written} accounts, which stay: {}; \
             put that right and run it again with `--update`",
            chain_text(&error)
        )),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let text = format!("a\n{}\nb\n{}", "x".repeat(3 * MAX_LINE), "y".repeat(MAX_LINE + 1));
        let mut input = std::io::BufReader::with_capacity(1000, text.as_bytes());
        let mut bytes = Vec::new();
        let mut lengths = Vec::new();
        while next_line(&mut input, &mut bytes).unwrap() {
            lengths.push(bytes.len());
        }
        assert_eq!(lengths, [2, MAX_LINE + 2, 2, MAX_LINE + 1]);
    }
}
