//! "Did you mean …?"

/// The candidate most like `word`, if one is close: at most a third of the letters differ (swapped neighbours count once).
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let distance = |candidate: &'a str| {
        let other = candidate.chars().count();
        let longer = length.max(other);
        // The distance takes time in the product of the lengths, and is never less than their difference.
        if longer > 100 || length.abs_diff(other) > longer.div_ceil(3) {
            return None;
        }
        let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
        (distance <= longer.div_ceil(3) && distance < longer).then_some((distance, candidate))
    };
    candidates.into_iter().filter_map(distance).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// A line of help for an unknown name: "did you mean `x`?", or else what there is: "the outputs are `a`, `b`".
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone, what: &str) -> String {
    match did_you_mean(word, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => list(candidates, what),
    }
}

/// "the outputs are `a`, `b`".
pub(crate) fn list<'a>(candidates: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => format!("there are no {what}"),
        count => {
            names.truncate(SHOWN);
            let more = if count > SHOWN { format!(" and {} more", count - SHOWN) } else { String::new() };
            format!("the {what} are {}{more}", names.join(", "))
        }
    }
}
