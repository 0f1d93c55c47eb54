//! What series and rows of a picture are called, and which look alike: what differs in its seed alone.

use std::collections::HashSet;

/// Values that a sentence lists.
const LISTED: usize = 8;

/// `blocks.3.attn.hook_z[2]` as `3.attn.z[2]`: what every name of a hook point has says nothing.
pub(crate) fn short(name: &str) -> String {
    name.replace("blocks.", "").replace("hook_", "")
}

/// Names of several words each, `edges, edges, eap` as `edges, eap` where that leaves those different that were.
pub(crate) fn short_names(all: &[Vec<String>]) -> Vec<String> {
    let once = |words: &Vec<String>| {
        let kept = words.iter().enumerate().filter(|(place, word)| !words[..*place].contains(word));
        kept.map(|(_, word)| word.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (whole, short): (Vec<String>, Vec<String>) = all.iter().map(|words| (words.join(", "), once(words))).unzip();
    let different = |names: &[String]| names.iter().collect::<HashSet<_>>().len();
    if different(&short) == different(&whole) { short } else { whole }
}

/// The different names among many, in the order of their first.
pub(crate) struct Groups<'a> {
    names: Vec<&'a str>,
}

impl<'a> Groups<'a> {
    /// Collects names.
    pub(crate) fn of(all: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = Vec::new();
        for name in all {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self { names }
    }

    /// The names.
    pub(crate) fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// The place of a name.
    pub(crate) fn index(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or(0)
    }
}

/// `k=4: 0.90; k=8: 0.93; and 3 more`; the value alone where there is nothing to tell apart.
pub(crate) fn listed<'a>(all: impl Iterator<Item = (&'a str, String)>) -> String {
    let entry = |(name, value): (&str, String)| if name.is_empty() { value } else { format!("{name}: {value}") };
    let all: Vec<String> = all.map(entry).collect();
    let rest = all.len().saturating_sub(LISTED);
    let shown = all[..all.len() - rest].join("; ");
    if rest == 0 { shown } else { format!("{shown}; and {rest} more") }
}
