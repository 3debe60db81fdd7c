//! Accounts that another program made, from lines of JSON.
//!
//! Enters: lines. Leaves: accounts, or what is wrong with each line. All lines are judged, against each other and against
//! what is there, before the first account is written. What must never happen here: a hash in a text, or half an import
//! because of a line that could have been known to be bad.

use std::collections::HashMap;
use std::io::BufRead;

use super::{Directory, failed};
use crate::account::import::{self, Line};
use crate::account::{Fault, NewAccount, fold};
use crate::app::Failure;
use crate::state::{AccountChange, AccountRow};

/// How an import deals with what is not as it should be.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportMode {
    /// Accounts that exist are changed to what their lines say, instead of being a problem.
    pub update: bool,
    /// The good lines are imported although there are bad ones.
    pub skip_bad: bool,
    /// Nothing is written.
    pub dry_run: bool,
}

/// What an import came to.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// How many accounts were made, or would have been.
    pub added: usize,
    /// How many were changed.
    pub updated: usize,
    /// How many were like their lines already.
    pub unchanged: usize,
    /// What is wrong with which line, from 1, in the order of the lines.
    pub problems: Vec<(usize, String)>,
    /// Whether the good lines were looked at no further because of the bad ones.
    pub refused: bool,
}

/// What a good line leads to.
enum Step {
    Add(NewAccount),
    Change(AccountRow, AccountChange),
    Nothing,
}
