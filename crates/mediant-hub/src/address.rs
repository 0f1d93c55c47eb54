//! `hf://owner/name[@revision][/path]`.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// A repository of models, a revision of it, and a file or folder in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// `owner/name`.
    pub repository: String,
    /// A branch, a tag or a commit; `main` if there is none.
    pub revision: Option<String>,
    /// A file or folder, empty for the whole repository; no `.` or `..`, no slash at its ends.
    pub path: String,
}

/// How addresses begin.
pub(crate) const SCHEME: &str = "hf://";

impl Address {
    /// Whether a text is meant as one.
    pub fn is(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The revision that is asked for.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The revision, if it is a commit, which always means the same files.
    pub fn commit(&self) -> Option<&str> {
        self.revision.as_deref().filter(|revision| is_commit(revision))
    }

    /// Without the path: what a commit is remembered for.
    pub fn asked(&self) -> String {
        Self { path: String::new(), ..self.clone() }.to_string()
    }

    /// The same at a commit.
    #[must_use]
    pub fn at(&self, commit: &str) -> Self {
        Self { revision: Some(commit.to_owned()), ..self.clone() }
    }
}

/// Whether a revision is the whole name of a commit.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::Address { why, help: "write hf://owner/name@revision/path".to_owned() };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with hf://".to_owned()))?;
        if let Some(kind @ ("datasets" | "spaces")) = rest.split('/').next() {
            return Err(wrong(format!("`{text}` is one of the {kind}; repositories of models are fetched")));
        }
        let (owner, rest) = rest
            .split_once('/')
            .ok_or_else(|| wrong(format!("`{text}` names no repository: it has an owner and a name")))?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        for part in [owner, name] {
            let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if part.is_empty() || !plain || part.starts_with(['.', '-']) || part.contains("..") || part.contains("--") {
                return Err(wrong(format!("`{}` is no owner or name of a repository", part.escape_debug())));
            }
        }
        let (revision, path) = match rest.strip_prefix('@') {
            None => (None, rest),
            Some(rest) => {
                let (revision, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let plain = revision.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte));
                if revision.is_empty() || !plain || revision.starts_with('.') {
                    return Err(wrong(format!("`{}` is no revision", revision.escape_debug())));
                }
                (Some(revision.to_owned()), path)
            }
        };
        let path = path.trim_matches('/');
        if !path.is_empty() && !is_inside(path) {
            return Err(wrong(format!("`{}` is no path in a repository", path.escape_debug())));
        }
        Ok(Self { repository: format!("{owner}/{name}"), revision, path: path.to_owned() })
    }
}

/// Whether a path stays inside the folder that it is joined to.
pub(crate) fn is_inside(path: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(plain) && !path.contains(['\\', '\0', '\n', '\r'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Address;

    #[test]
    fn addresses() {
        for (text, repository, revision, path) in [
            ("hf://google/gemma-scope-2b-pt-res", "google/gemma-scope-2b-pt-res", None, ""),
            ("hf://o/n@main/a/b.npz", "o/n", Some("main"), "a/b.npz"),
            ("hf://o/n/blocks.1@x/", "o/n", None, "blocks.1@x"),
            ("hf://o/n@v1.0", "o/n", Some("v1.0"), ""),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (&*address.repository, address.revision.as_deref(), &*address.path),
                (repository, revision, path)
            );
            assert_eq!(address.to_string(), text.trim_end_matches('/'));
        }
        for wrong in [
            "hf://gpt2",
            "hf://datasets/o/n",
            "hf:///n",
            "hf://o/",
            "hf://o/n@",
            "hf://o/n@a b",
            "hf://o/n/../x",
            "hf://../n",
            "hf://o/n/a//b",
            "x",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn commits_are_forty_digits() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let address: Address = format!("hf://o/n@{commit}/x").parse().unwrap();
        assert_eq!((address.commit(), address.asked()), (Some(commit), format!("hf://o/n@{commit}")));
        assert_eq!("hf://o/n@0123456".parse::<Address>().unwrap().commit(), None);
    }
}
