//! The embedded list of headers by which other products identify the caller to an app, and of other fields that only a proxy may send.

use std::collections::BTreeMap;

/// All of them; a `*` at the end or at the start matches any characters.
pub(super) fn names() -> Vec<String> {
    let groups: BTreeMap<String, Vec<String>> =
        toml::from_str(include_str!("foreign.toml")).expect("a test reads the embedded file");
    groups.into_values().flatten().collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn the_embedded_file_is_sound() {
        let names = names();
        assert!(names.len() > 80, "{}", names.len());
        for name in &names {
            let bare = name
                .strip_suffix('*')
                .or_else(|| name.strip_prefix('*'))
                .unwrap_or(name);
            assert!(
                !bare.contains('*') && bare.len() > 3 && HeaderName::try_from(bare).is_ok(),
                "{name}"
            );
        }
    }
}
