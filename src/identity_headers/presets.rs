//! The embedded table of presets: sets of header names that existing apps know.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One preset, as `presets.toml` writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preset {
    pub(super) user: String,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) roles: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) assertion: String,
    /// `percent` unless said.
    pub(super) encoding: Option<String>,
    /// Header name and claim path.
    #[serde(default)]
    pub(super) claims: BTreeMap<String, String>,
}

impl Preset {
    /// All names that it sets.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &str> {
        [
            Some(&self.user),
            self.email.as_ref(),
            self.name.as_ref(),
            self.roles.as_ref(),
            self.issuer.as_ref(),
        ]
        .into_iter()
        .flatten()
        .chain([&self.assertion])
        .chain(self.claims.keys())
        .map(String::as_str)
    }
}

/// All presets by name.
pub(super) fn all() -> BTreeMap<String, Preset> {
    toml::from_str(include_str!("presets.toml")).expect("a test reads the embedded file")
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::value::Encoding;
    use super::*;
    use crate::identity::ClaimPath;

    #[test]
    fn the_embedded_file_is_sound() {
        let presets = all();
        assert!(presets.contains_key("passgate"), "the default");
        for preset in presets.values() {
            assert!(
                preset
                    .header_names()
                    .all(|name| HeaderName::try_from(name).is_ok())
            );
            assert!(
                preset
                    .claims
                    .values()
                    .all(|path| ClaimPath::parse(path).is_some())
            );
            assert!(
                preset
                    .encoding
                    .as_deref()
                    .is_none_or(|name| Encoding::named(name).is_some())
            );
        }
    }
}
