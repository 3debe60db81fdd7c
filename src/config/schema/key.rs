//! What an entry of the schema says: a key, its kind of value, its table.
//!
//! Input: the constant tables beside this file. Output: [`Key`], [`Kind`], [`Table`].

/// What a key can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// The path of a file or directory, relative to the TOML file.
    Path,
    /// `true` or `false`.
    Boolean,
    /// A whole number from the first to the second.
    Integer(u64, u64),
    /// `"30s"`
    Duration,
    /// `"32KiB"`
    Size,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An array.
    List(&'static Kind),
    /// A value, or an array of them.
    OneOrMore(&'static Kind),
    /// A value of one of these kinds.
    Either(&'static [Kind]),
    /// The table of this path.
    Table(&'static str),
    /// An array of such tables.
    Tables(&'static str),
    /// Such tables, each under a name that the operator chooses.
    Named(&'static str),
    /// A table whose keys the operator chooses.
    Map(&'static Kind),
}

/// The place of a secret: `{ file = "…" }`, `{ env = "…" }` or `{ credential = "…" }`.
pub(super) const SECRET: Kind = Kind::Table("secret");

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it can hold.
    pub kind: Kind,
    /// Its default, as TOML; empty: none.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
    /// A value as TOML, where the default is none.
    pub example: &'static str,
    /// Whether a change takes a restart.
    pub restart: bool,
}

impl Key {
    pub(super) const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    pub(super) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }
}

/// A key without an example that takes effect at a reload.
pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
        example: "",
        restart: false,
    }
}

/// A table and its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// The path; `*` is a name that the operator chooses, and the empty path is the file itself.
    pub path: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// Words that other programs use for a key of it, with that key.
    pub synonyms: &'static [(&'static str, &'static str)],
}
