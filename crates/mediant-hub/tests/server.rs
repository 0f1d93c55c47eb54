//! A server on this machine that speaks the hub's API, and misbehaves when it is told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// The commit that its repository is at first, and the one after it.
pub(crate) const COMMITS: [&str; 2] =
    ["1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"];

/// What the server has and does.
#[derive(Default)]
pub(crate) struct State {
    /// `owner/name`.
    pub(crate) repository: String,
    /// By commit, then by path.
    pub(crate) files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The commit of `main`.
    pub(crate) main: String,
    /// The token without which nothing is given.
    pub(crate) token: Option<String>,
    /// Bytes after which a large file's connection ends, once for each number.
    pub(crate) cuts: Vec<usize>,
    /// Answers of 503 before any other.
    pub(crate) failures: usize,
    /// Whether large files come with a byte changed.
    pub(crate) corrupt: bool,
    /// Method, path, and what was said of range and token, of every request.
    pub(crate) log: Vec<String>,
}

/// A server that ends with the test's process.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves a repository whose `main` is the first commit.
    pub(crate) fn new(repository: &str, files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let state = State {
            repository: repository.to_owned(),
            files: BTreeMap::from([(COMMITS[0].to_owned(), files)]),
            main: COMMITS[0].to_owned(),
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A client that hangs up is no concern of the server's.
                std::thread::spawn(move || answer(stream, &shared).unwrap_or_default());
            }
        });
        Self { endpoint, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Files of more bytes are kept elsewhere, by their SHA-256.
const LARGE: usize = 1000;

fn answer(mut stream: TcpStream, shared: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut state = shared.lock().unwrap();
    let [method, path] = first.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let said = |name: &str| headers.get(name).map(|value| format!(" {value}")).unwrap_or_default();
    state.log.push(format!("{method} {path}{}{}", said("range"), said("authorization")));
    if state.failures > 0 {
        state.failures -= 1;
        return reply(&mut stream, "503 Service Unavailable", &[], b"");
    }
    // The store of large files, which wants no token.
    if let Some(wanted) = path.strip_prefix("/store/") {
        assert!(!headers.contains_key("authorization") || state.token.is_none());
        let all: Vec<Vec<u8>> = state.files.values().flat_map(|files| files.values().cloned()).collect();
        let mut bytes = all.into_iter().find(|bytes| hex(digest(&SHA256, bytes).as_ref()) == wanted).unwrap();
        if state.corrupt {
            bytes[7] ^= 1;
        }
        let from = headers.get("range").map(|range| range["bytes=".len()..range.len() - 1].parse::<usize>().unwrap());
        let cut = state.cuts.pop().unwrap_or(usize::MAX);
        drop(state);
        let total = bytes.len();
        let part = &bytes[from.unwrap_or(0)..];
        let length = part.len().to_string();
        let range = format!("bytes {}-{}/{total}", from.unwrap_or(0), total - 1);
        let mut said = vec![("Content-Length", length.as_str())];
        let status = if from.is_some() {
            said.push(("Content-Range", &range));
            "206 Partial Content"
        } else {
            "200 OK"
        };
        return reply(&mut stream, status, &said, &part[..cut.min(part.len())]);
    }
    if let Some(token) = &state.token
        && headers.get("authorization") != Some(&format!("Bearer {token}"))
    {
        return reply(&mut stream, "401 Unauthorized", &[("X-Error-Code", "GatedRepo")], b"");
    }
    let api = format!("/api/models/{}/revision/", state.repository);
    let resolve = format!("/{}/resolve/", state.repository);
    if let Some(revision) = path.strip_prefix(&api) {
        let commit = if revision == "main" { state.main.clone() } else { revision.to_owned() };
        let Some(files) = state.files.get(&commit) else {
            return reply(&mut stream, "404 Not Found", &[("X-Error-Code", "RevisionNotFound")], b"");
        };
        let siblings: Vec<String> = files.keys().map(|path| format!("{{\"rfilename\": \"{path}\"}}")).collect();
        let text = format!("{{\"id\": \"x\", \"sha\": \"{commit}\", \"siblings\": [{}]}}", siblings.join(", "));
        return reply(&mut stream, "200 OK", &[], text.as_bytes());
    }
    let found = path.strip_prefix(&resolve).and_then(|rest| rest.split_once('/'));
    let found = found.and_then(|(commit, file)| Some((commit, state.files.get(commit)?.get(file)?)));
    let Some((commit, bytes)) = found else {
        return reply(&mut stream, "404 Not Found", &[("X-Error-Code", "RepoNotFound")], b"");
    };
    if bytes.len() > LARGE {
        let sha256 = hex(digest(&SHA256, bytes).as_ref());
        let (etag, size) = (format!("\"{sha256}\""), bytes.len().to_string());
        // Another host by name, as the hub's store is.
        let port = stream.local_addr()?.port();
        let location = format!("http://localhost:{port}/store/{sha256}");
        let said = [
            ("Location", location.as_str()),
            ("X-Linked-ETag", &etag),
            ("X-Linked-Size", &size),
            ("X-Repo-Commit", commit),
        ];
        return reply(&mut stream, "302 Found", &said, b"");
    }
    let git = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    let etag = format!("W/\"{}\"", hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &git).as_ref()));
    let length = bytes.len().to_string();
    let said = [("ETag", etag.as_str()), ("X-Repo-Commit", commit), ("Content-Length", &length)];
    let body = if method == "HEAD" { Vec::new() } else { bytes.clone() };
    reply(&mut stream, "200 OK", &said, &body)
}

fn reply(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)
}
