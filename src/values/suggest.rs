//! What messages repeat of the text of a file, and the nearest name to a misspelt one.

/// The candidate that `typed` was most likely meant to be, or `None` where nothing is near.
#[must_use]
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = typed.chars().count();
    let allowed = (length / 3).clamp(1, 3);
    let typed = typed.to_lowercase();
    candidates
        .into_iter()
        // Each edit changes the length by one at most, so most candidates need no comparison.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= allowed)
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&typed, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint with the candidate that `typed` was most likely meant to be.
#[must_use]
pub(crate) fn did_you_mean<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(typed, candidates).map(|near| format!("did you mean `{near}`?"))
}

/// `text` as it may stand in a message: short, one line, nothing that a terminal would obey, and no password of a URL.
#[must_use]
pub(crate) fn echo(text: &str) -> String {
    let tame: String = match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}<hidden>{}", &text[..scheme + 3], &text[at..]),
        _ => text.chars().take(61).collect(),
    };
    let mut shown: String = tame.chars().take(60).collect();
    if shown.len() < tame.len() {
        shown.pop();
        shown.push('…');
    }
    shown
        .chars()
        .flat_map(|char| {
            if char.is_control() {
                char.escape_default().collect()
            } else {
                vec![char]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_finds_its_name_and_another_word_finds_nothing() {
        let keys = ["listen", "public_url", "workers"];
        assert_eq!(nearest("lisen", keys), Some("listen"));
        assert_eq!(nearest("Listen", keys), Some("listen"));
        assert_eq!(nearest("wrokers", keys), Some("workers"));
        assert_eq!(nearest("publicurl", keys), Some("public_url"));
        assert_eq!(nearest("threads", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
