//! HTTP: the hub's API, and files by ranges.
//!
//! A file is at `/{repository}/resolve/{commit}/{path}`, which answers itself or sends on to a store of large files. The
//! first answer names the digest: `X-Linked-ETag` or `ETag`, the SHA-256 of a large file or the SHA-1 that git gives a small
//! one. The token goes to the hub alone, not to where it sends on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use ring::digest;
use tokio::runtime::Runtime;

use crate::cache::{Cache, make_parent};
use crate::hub::Progress;
use crate::{Address, Error, Result, Settings};

/// How often a request is tried.
const TRIES: u32 = 5;
/// Pause after the first try; it doubles after each.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause that the hub may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often an answer may send on.
const MOST_REDIRECTS: usize = 10;
/// Largest answer of the API.
const LARGEST_ANSWER: usize = 64 << 20;

pub(crate) struct Client {
    runtime: Runtime,
    http: reqwest::Client,
    endpoint: Url,
    token: Option<String>,
}

/// Why a try failed, and whether another may succeed.
enum Failure {
    Final(Error),
    Passing { why: String, wait: Option<Duration> },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The causes say more than the error: "connection refused", not "error sending request".
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            why = inner.to_string();
            cause = inner.source();
        }
        Self::Passing { why, wait: None }
    }
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let failed = |why: String| Error::Network { url: settings.endpoint.clone(), why };
        let endpoint = Url::parse(&settings.endpoint).map_err(|error| failed(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let http = reqwest::Client::builder()
            .user_agent(concat!("mediant/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(Duration::from_secs(60))
            .build();
        Ok(Self {
            runtime: runtime.map_err(|error| failed(error.to_string()))?,
            http: http.map_err(|error| failed(error.to_string()))?,
            endpoint,
            token: settings.token.clone(),
        })
    }

    fn url(&self, path: &str) -> Result<Url> {
        let wrong = |_| Error::Network { url: format!("{}{path}", self.endpoint), why: "it is no address".to_owned() };
        // The path's own characters, such as `#`, are escaped.
        let mut url = self.endpoint.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.path_segments_mut()
            .map_err(wrong)?
            .clear()
            .extend(base.split('/').chain(path.split('/')).filter(|part| !part.is_empty()));
        Ok(url)
    }

    /// An answer of the API.
    pub(crate) fn text(&mut self, path: &str, address: &Address) -> Result<Vec<u8>> {
        let url = self.url(path)?;
        self.tries(&url, |this| {
            this.runtime.block_on(async {
                let (_, mut response) = this.send(Method::GET, url.clone(), None, address).await?;
                let mut text = Vec::new();
                while let Some(piece) = response.chunk().await? {
                    text.extend_from_slice(&piece);
                    if text.len() > LARGEST_ANSWER {
                        return Err(
                            Error::Network { url: url.to_string(), why: "its answer has no end".to_owned() }.into()
                        );
                    }
                }
                Ok(text)
            })
        })
    }

    /// Fetches a file into the cache and links it.
    pub(crate) fn file(
        &mut self,
        cache: &Cache,
        address: &Address,
        path: &str,
        progress: Option<Progress>,
    ) -> Result<()> {
        let commit = address.revision().to_owned();
        let url = self.url(&format!("/{}/resolve/{commit}/{path}", address.repository))?;
        let about = self.tries(&url, |this| {
            this.runtime.block_on(async {
                let (first, _) = this.send(Method::HEAD, url.clone(), None, address).await?;
                About::of(&first, &commit).map_err(|why| Error::Damaged { url: url.to_string(), why }.into())
            })
        })?;
        let blob = cache.blob(&about.etag);
        let _lock = cache.lock(&about.etag)?;
        if !blob.exists() {
            let draft = blob.with_file_name(format!("{}.incomplete", about.etag));
            make_parent(&draft)?;
            let shown = Address { path: path.to_owned(), ..address.clone() }.to_string();
            let report = |done: u64| progress.map_or((), |progress| progress(&shown, done, about.size));
            report(draft.metadata().map_or(0, |metadata| metadata.len()));
            self.tries(&url, |this| this.runtime.block_on(this.body(&url, address, &about, &draft, &report)))?;
            if let Err(why) = about.check(&draft) {
                fs::remove_file(&draft).map_err(Error::io(&draft))?;
                return Err(Error::Damaged { url: url.to_string(), why });
            }
            File::open(&draft).and_then(|file| file.sync_all()).map_err(Error::io(&draft))?;
            fs::rename(&draft, &blob).map_err(Error::io(&blob))?;
        }
        cache.link(&commit, path, &about.etag)
    }

    /// Appends what is missing of a file to its draft.
    async fn body(
        &self,
        url: &Url,
        address: &Address,
        about: &About,
        draft: &Path,
        report: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let mut file = OpenOptions::new().create(true).append(true).open(draft).map_err(Error::io(draft))?;
        let mut done = file.metadata().map_err(Error::io(draft))?.len();
        if about.size.is_some_and(|size| done >= size) {
            // Complete, or too long; the digest tells.
            return Ok(());
        }
        let range = (done > 0).then(|| format!("bytes={done}-"));
        let (_, mut response) = self.send(Method::GET, url.clone(), range, address).await?;
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT
            && text(response.headers(), CONTENT_RANGE.as_str())
                .is_some_and(|range| range.starts_with(&format!("bytes {done}-")));
        if !resumed {
            // All of it comes, or another part than was asked for.
            if response.status() == StatusCode::PARTIAL_CONTENT {
                return Err(Failure::Passing { why: "another range came than was asked for".to_owned(), wait: None });
            }
            file.set_len(0).map_err(Error::io(draft))?;
            done = 0;
        }
        while let Some(piece) = response.chunk().await? {
            done += piece.len() as u64;
            if about.size.is_some_and(|size| done > size) {
                return Err(Error::Damaged { url: url.to_string(), why: format!("more than {done} bytes come") }.into());
            }
            file.write_all(&piece).map_err(Error::io(draft))?;
            report(done);
        }
        match about.size {
            Some(size) if done < size => {
                Err(Failure::Passing { why: format!("the connection ended after {done} of {size} bytes"), wait: None })
            }
            _ => Ok(()),
        }
    }

    /// Sends a request on to where it is answered. Gives the headers of the hub's own answer, and the last answer.
    async fn send(
        &self,
        method: Method,
        mut url: Url,
        range: Option<String>,
        address: &Address,
    ) -> Result<(HeaderMap, Response), Failure> {
        let mut first = None;
        for _ in 0..MOST_REDIRECTS {
            let at_home = url.origin() == self.endpoint.origin();
            let mut request = self.http.request(method.clone(), url.clone());
            if let Some(token) = self.token.as_ref().filter(|_| at_home) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(range) = &range {
                request = request.header(RANGE, range);
            }
            let response = request.send().await?;
            let status = response.status();
            let location = text(response.headers(), LOCATION.as_str()).filter(|_| status.is_redirection());
            if let Some(location) = location {
                let next = url.join(location);
                let next = next.map_err(|error| Error::Network {
                    url: url.to_string(),
                    why: format!("it sends on to nowhere: {error}"),
                })?;
                // A renamed repository is answered for at its new name, a large file elsewhere.
                let renamed = at_home && next.origin() == url.origin() && etag(response.headers()).is_none();
                if !renamed && first.is_none() {
                    first = Some(response.headers().clone());
                    if method == Method::HEAD {
                        return Ok((response.headers().clone(), response));
                    }
                }
                url = next;
                continue;
            }
            if status.is_success() {
                let first = first.unwrap_or_else(|| response.headers().clone());
                return Ok((first, response));
            }
            return Err(self.refused(&response, at_home, address));
        }
        Err(Error::Network { url: url.to_string(), why: "it sends on and on".to_owned() }.into())
    }

    /// What an answer that is no success means.
    fn refused(&self, response: &Response, at_home: bool, address: &Address) -> Failure {
        let (status, headers) = (response.status(), response.headers());
        if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
            let seconds = text(headers, RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok());
            let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
            return Failure::Passing { why: format!("it answers {status}"), wait };
        }
        // An address in a store of large files ends after a while.
        if !at_home {
            return Failure::Passing { why: format!("it answers {status}"), wait: None };
        }
        let asked = address.asked();
        let token = if self.token.is_some() {
            "the token that is set has no access to it"
        } else {
            "if it is private or gated, set HF_TOKEN"
        };
        let gated = "accept its terms on its page, and set HF_TOKEN to a token of yours";
        let (why, help) = match (status, text(headers, "x-error-code")) {
            (_, Some("GatedRepo")) => (format!("{asked} is gated"), gated),
            (_, Some("RevisionNotFound")) => (
                format!("{asked} is no revision of this repository"),
                "look at its page for branches, tags and commits",
            ),
            (_, Some("EntryNotFound")) => {
                (format!("there is no {address}"), "look at its page for the files that it has")
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _) => {
                (format!("the hub does not give {asked}: it answers {status}"), token)
            }
            _ => (format!("the hub does not give {}: it answers {status}", response.url()), "look at its page"),
        };
        Failure::Final(Error::Refused { why, help: help.to_owned() })
    }

    /// Tries until it succeeds, fails for good, or has been tried often enough.
    fn tries<T>(&mut self, url: &Url, mut request: impl FnMut(&Self) -> Result<T, Failure>) -> Result<T> {
        let mut tried = 1;
        loop {
            match request(self) {
                Ok(found) => return Ok(found),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { why, .. }) if tried == TRIES => {
                    return Err(Error::Network { url: url.to_string(), why: format!("{why}, {TRIES} times") });
                }
                Err(Failure::Passing { why, wait }) => {
                    tracing::info!(%url, why, "tried again");
                    std::thread::sleep(wait.unwrap_or(PAUSE * 2u32.pow(tried - 1)));
                    tried += 1;
                }
            }
        }
    }
}

/// What the hub says of a file.
struct About {
    etag: String,
    size: Option<u64>,
}

impl About {
    fn of(headers: &HeaderMap, commit: &str) -> Result<Self, String> {
        if let Some(other) = text(headers, "x-repo-commit").filter(|found| *found != commit) {
            return Err(format!("it is of commit {}, not {commit}", other.escape_debug()));
        }
        let etag = etag(headers).ok_or("the hub names no digest of it (ETag)")?;
        let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
        Ok(Self { etag, size: size.and_then(|size| size.parse().ok()) })
    }

    /// Whether a file is what the digest says.
    fn check(&self, path: &Path) -> Result<(), String> {
        let mut file = File::open(path).map_err(|error| error.to_string())?;
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        if let Some(size) = self.size.filter(|size| *size != bytes) {
            return Err(format!("{bytes} bytes came, and the hub says {size}"));
        }
        let (name, mut context) = match self.etag.len() {
            64 => ("SHA-256", digest::Context::new(&digest::SHA256)),
            // As git names a blob.
            40 => ("SHA-1", digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            _ => return Ok(()),
        };
        if self.etag.len() == 40 {
            context.update(format!("blob {bytes}\0").as_bytes());
        }
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => break,
                read => context.update(&buffer[..read]),
            }
        }
        let found: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.etag { Ok(()) } else { Err(format!("its {name} is {found}, and the hub says {}", self.etag)) }
    }
}

/// The digest that the hub names a file by; also the name of its blob, so nothing but letters and digits.
fn etag(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str()))?;
    let etag = etag.trim_start_matches("W/").trim_matches('"');
    let plain =
        !etag.is_empty() && etag.len() <= 128 && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain.then(|| etag.to_owned())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
