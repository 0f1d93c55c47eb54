//! Where the hub and its cache are, by the environment variables of `huggingface_hub`.

use std::path::PathBuf;

/// Where the hub and its cache are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`, by default <https://huggingface.co>.
    pub endpoint: String,
    /// `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`.
    pub token: Option<String>,
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`; `HF_HOME` is by default `~/.cache/huggingface`.
    pub cache: PathBuf,
    /// `HF_HUB_OFFLINE`: whether only the cache is asked.
    pub offline: bool,
}

impl Settings {
    /// As the environment has them.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let cache_home = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
        let home = path("HF_HOME").or_else(|| Some(cache_home?.join("huggingface"))).unwrap_or_default();
        let from_file = || std::fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"))).ok();
        let token = set("HF_TOKEN").or_else(from_file).map(|token| token.trim().to_owned());
        let yes = |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true");
        Self {
            endpoint: set("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: token.filter(|token| !token.is_empty()),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            offline: set("HF_HUB_OFFLINE").is_some_and(yes),
        }
    }
}
