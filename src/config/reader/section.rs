//! A table of the parsed file while it is read: keys are taken out one by one, and what is left at the end is unknown.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::config::schema;

/// One key and its value, or one element of an array.
#[derive(Clone, Debug)]
pub(super) struct Item<'i> {
    /// The key; for an element, the key of its array.
    pub key: Cow<'i, str>,
    pub key_span: Range<usize>,
    pub span: Range<usize>,
    pub value: DeValue<'i>,
}

impl<'i> Item<'i> {
    /// The value as serde reads it; `None` where it is of another kind.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        schema::leaf(&self.value, self.span.clone())
    }

    /// What was found, for a message: never the value itself, which may be a secret.
    pub(super) fn found(&self) -> &'static str {
        match &self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Whether this is an array of tables, and nothing else in it.
    pub(super) fn is_tables(&self) -> bool {
        self.value
            .as_array()
            .is_some_and(|array| !array.is_empty() && array.iter().all(|item| item.get_ref().is_table()))
    }

    /// The elements of an array; the item itself if it is none.
    pub(super) fn into_elements(self) -> Result<Vec<Item<'i>>, Self> {
        match self.value {
            DeValue::Array(array) => Ok(array
                .into_iter()
                .map(|element| Item {
                    key: self.key.clone(),
                    key_span: self.key_span.clone(),
                    span: element.span(),
                    value: element.into_inner(),
                })
                .collect()),
            value => Err(Self { value, ..self }),
        }
    }
}

/// A table under way.
pub(super) struct Section<'i> {
    /// The path of the table in the schema.
    pub kind: &'static str,
    /// How messages name it: `[issuers.corp]`.
    pub title: String,
    /// Its header, or its braces.
    pub span: Range<usize>,
    items: Vec<Option<Item<'i>>>,
    /// How many errors there were before this table was looked at.
    pub errors: usize,
    /// A bit for each key of the schema that was asked for.
    asked: u32,
    /// The keys that were there, each with the bytes of its value.
    pub taken: Vec<(&'static str, Range<usize>)>,
}

impl<'i> Section<'i> {
    pub(super) fn new(
        kind: &'static str,
        title: impl Into<String>,
        span: Range<usize>,
        table: DeTable<'i>,
        errors: usize,
    ) -> Self {
        let mut items: Vec<Item<'i>> = table
            .into_iter()
            .map(|(key, value)| Item {
                key_span: key.span(),
                key: key.into_inner(),
                span: value.span(),
                value: value.into_inner(),
            })
            .collect();
        // The parser sorts by name; people read in the order of the file.
        items.sort_by_key(|item| item.key_span.start);
        Self {
            kind,
            title: title.into(),
            span,
            items: items.into_iter().map(Some).collect(),
            errors,
            asked: 0,
            taken: Vec::new(),
        }
    }

    /// Whether `key` is there and not yet taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.items.iter().flatten().any(|item| item.key == key)
    }

    /// Whether `key` was there and was taken.
    pub(super) fn took(&self, key: &str) -> bool {
        self.taken.iter().any(|(taken, _)| *taken == key)
    }

    /// The place of the value of `key`; that of the table where it is not there.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        let item = self.items.iter().flatten().find(|item| item.key == key);
        item.map_or_else(|| self.span.clone(), |item| item.span.clone())
    }

    /// The value of `key`.
    pub(super) fn peek(&self, key: &str) -> Option<DeValue<'i>> {
        let item = self.items.iter().flatten().find(|item| item.key == key)?;
        Some(item.value.clone())
    }

    /// Takes `key` out.
    pub(super) fn take(&mut self, key: &str) -> Option<Item<'i>> {
        let known = schema::keys(self.kind);
        let place = known.iter().position(|known| known.name == key);
        debug_assert!(place.is_some(), "`{key}` of `{}` is not in the schema", self.kind);
        let place = place?;
        self.asked |= 1 << place;
        let item = self
            .items
            .iter_mut()
            .find(|item| item.as_ref().is_some_and(|item| item.key == key))?
            .take()?;
        self.taken.push((known[place].name, item.span.clone()));
        Some(item)
    }

    /// Keys that are not yet taken and that no table of this kind has.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.items
            .iter()
            .flatten()
            .map(|item| &*item.key)
            .filter(|key| schema::find(self.kind, key).is_none())
    }

    /// All entries, of a table whose keys are free.
    pub(super) fn items(&mut self) -> impl Iterator<Item = Item<'i>> + use<'i> {
        std::mem::take(&mut self.items).into_iter().flatten()
    }

    /// The entries that were not taken.
    pub(super) fn rest(&mut self) -> impl Iterator<Item = Item<'i>> + use<'i> {
        debug_assert_eq!(
            self.asked.count_ones() as usize,
            schema::keys(self.kind).len(),
            "a key of `{}` is in the schema and the reader does not ask for it",
            self.kind
        );
        self.items()
    }
}
