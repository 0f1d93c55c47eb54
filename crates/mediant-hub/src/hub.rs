//! The hub: which commit a revision is, which files it has, and those files in the cache.

use std::collections::BTreeMap;
use std::path::PathBuf;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use crate::address::{is_commit, is_inside};
use crate::cache::Cache;
use crate::download::Client;
use crate::{Address, Error, Result, Settings};

/// The hub, as far as it was asked.
pub struct Hub {
    settings: Settings,
    /// Made when it is needed: most pipelines have no file of the hub.
    client: Option<Client>,
    /// Commits by what was asked for.
    commits: BTreeMap<String, String>,
    progress: Option<Progress>,
}

/// Told of a file that is being fetched: its address, bytes done, bytes in all.
pub type Progress = fn(&str, u64, Option<u64>);

/// Which files of an address are wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The one that it names.
    File,
    /// Of the folder that it names, those that match one of these globs.
    Folder(&'a [&'a str]),
    /// Whichever it names.
    FileOrFolder(&'a [&'a str]),
}

/// Files in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The address at its commit.
    pub address: Address,
    /// The file or folder.
    pub path: PathBuf,
}

impl Hub {
    /// The hub and cache that the settings name.
    pub fn new(settings: Settings, progress: Option<Progress>) -> Self {
        Self { settings, client: None, commits: BTreeMap::new(), progress }
    }

    /// Takes a commit for what was asked for, as a lock file has it.
    pub fn pin(&mut self, asked: &str, commit: &str) {
        if is_commit(commit) {
            self.commits.insert(asked.to_owned(), commit.to_owned());
        }
    }

    /// The files of an address, fetched where they are not in the cache.
    ///
    /// # Errors
    /// If the hub does not have them or does not give them, it cannot be reached, or is not to be asked.
    pub fn fetch(&mut self, address: &Address, wanted: Wanted<'_>) -> Result<Fetched> {
        let cache = Cache::of(&self.settings.cache, address);
        let (commit, list) = self.files(address, &cache)?;
        let address = address.at(&commit);
        let (paths, is_file) = choose(&address, &list, wanted)?;
        for path in &paths {
            if cache.snapshot(&commit).join(path).exists() {
                continue;
            }
            if self.settings.offline {
                return Err(offline(format!("{path} of {address} is not in the cache, and HF_HUB_OFFLINE is set")));
            }
            let progress = self.progress;
            self.client()?.file(&cache, &address, path, progress)?;
        }
        let folder = cache.snapshot(&commit);
        let path = if address.path.is_empty() { folder } else { folder.join(&address.path) };
        debug_assert!(is_file || path.is_dir());
        Ok(Fetched { address, path })
    }

    /// The commit, and the paths of its files.
    fn files(&mut self, address: &Address, cache: &Cache) -> Result<(String, Vec<String>)> {
        let asked = address.asked();
        let known = address.commit().map(str::to_owned).or_else(|| self.commits.get(&asked).cloned());
        if let Some(commit) = &known
            && let Some(list) = cache.list(commit)
        {
            return Ok((commit.clone(), list));
        }
        if self.settings.offline {
            let Some(commit) = known else {
                let commits = cache.commits();
                let have = match &commits[..] {
                    [] => "the cache has none of it".to_owned(),
                    commits => format!("the cache has {}", commits.join(", ")),
                };
                let why = format!(
                    "HF_HUB_OFFLINE is set, and `{asked}` is no commit that is pinned, by itself or in the lock file"
                );
                return Err(Error::Refused {
                    why,
                    help: format!("write {}@COMMIT; {have}", address.asked().split('@').next().unwrap_or_default()),
                });
            };
            // What Python's library fetched, which keeps no list.
            let present = cache.present(&commit);
            if present.is_empty() {
                return Err(offline(format!(
                    "{} is not in the cache, and HF_HUB_OFFLINE is set",
                    address.at(&commit).asked()
                )));
            }
            return Ok((commit, present));
        }
        let revision = known.as_deref().unwrap_or_else(|| address.revision());
        let path = format!("/api/models/{}/revision/{revision}", address.repository);
        let text = self.client()?.text(&path, address)?;
        let wrong = |why: String| Error::Refused {
            why: format!("the hub's answer about {asked} is not understood: {why}"),
            help: "if HF_ENDPOINT is set, look whether it names a hub".to_owned(),
        };
        let answer: Answer = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if !is_commit(&answer.sha) || known.as_ref().is_some_and(|known| *known != answer.sha) {
            return Err(wrong(format!("it names the commit `{}`", answer.sha.escape_debug())));
        }
        let list: Vec<String> = answer.siblings.into_iter().map(|file| file.rfilename).collect();
        if let Some(path) = list.iter().find(|path| !is_inside(path)) {
            return Err(wrong(format!("it has a file `{}`", path.escape_debug())));
        }
        cache.remember_list(&answer.sha, &list)?;
        if known.is_none() {
            cache.remember_revision(address.revision(), &answer.sha)?;
            self.commits.insert(asked, answer.sha.clone());
        }
        Ok((answer.sha, list))
    }

    fn client(&mut self) -> Result<&mut Client> {
        if self.client.is_none() {
            self.client = Some(Client::new(&self.settings)?);
        }
        self.client
            .as_mut()
            .ok_or_else(|| Error::Network { url: self.settings.endpoint.clone(), why: "no client".to_owned() })
    }
}

/// Of what the hub says about a revision, what is needed.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

fn offline(why: String) -> Error {
    Error::Refused { why, help: "run once with HF_HUB_OFFLINE unset".to_owned() }
}

/// The paths that are wanted, and whether the address is that of a file.
fn choose(address: &Address, list: &[String], wanted: Wanted<'_>) -> Result<(Vec<String>, bool)> {
    let refused = |why: String, help: String| Error::Refused { why, help };
    let is_file = !address.path.is_empty() && list.contains(&address.path);
    let prefix = if address.path.is_empty() { String::new() } else { format!("{}/", address.path) };
    let is_folder = list.iter().any(|path| path.starts_with(&prefix));
    let globs = match (wanted, is_file, is_folder) {
        (Wanted::File | Wanted::FileOrFolder(_), true, _) => return Ok((vec![address.path.clone()], true)),
        (Wanted::Folder(globs) | Wanted::FileOrFolder(globs), false, true) => globs,
        (Wanted::Folder(_), true, _) => {
            return Err(refused(format!("{address} is a file; a folder is needed"), "leave its name out".to_owned()));
        }
        (Wanted::File, _, true) => {
            return Err(refused(format!("{address} is a folder; a file is needed"), files(list, &prefix)));
        }
        (_, false, false) => {
            let folder = address.path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            return Err(refused(format!("there is no {address}"), files(list, &folder)));
        }
    };
    let globs = compile(globs).map_err(|why| refused(why, String::new()))?;
    let inside = |path: &&String| path.strip_prefix(&prefix).is_some_and(|rest| globs.is_match(rest));
    let paths: Vec<String> = list.iter().filter(inside).cloned().collect();
    if paths.is_empty() {
        return Err(refused(format!("{address} has none of the files that are read here"), files(list, &prefix)));
    }
    Ok((paths, false))
}

/// What there is in a folder, for people.
fn files(list: &[String], prefix: &str) -> String {
    const SHOWN: usize = 8;
    let mut inside: Vec<&str> = list.iter().filter_map(|path| path.strip_prefix(prefix)?.split('/').next()).collect();
    inside.sort_unstable();
    inside.dedup();
    let more = if inside.len() > SHOWN { ", …" } else { "" };
    match &inside[..inside.len().min(SHOWN)] {
        [] => "nothing is there".to_owned(),
        some => format!("there are {}{more}", some.join(", ")),
    }
}

/// Globs as the store takes them: `*` stops at `/`.
fn compile(globs: &[&str]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).literal_separator(true).build().map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}
