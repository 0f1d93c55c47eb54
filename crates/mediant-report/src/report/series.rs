//! Series that look alike: what is drawn several times and differs in its seed alone.

/// Values that a sentence lists.
const LISTED: usize = 8;

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
