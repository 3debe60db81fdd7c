//! "Did you mean": the nearest of a list of names.

/// The candidate that `typed` was most likely meant to be, or `None` where nothing is near.
#[must_use]
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
