//! Files of a hub on this machine.
#![allow(clippy::unwrap_used)]

mod server;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use mediant_hub::{Address, Error, Fetched, Hub, Settings, Wanted};
use ring::digest::{SHA256, digest};

use server::{COMMITS, Server};

/// More than one piece of a connection.
fn large() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn server() -> Server {
    let large = large();
    Server::new(
        "owner/name",
        &[("config.json", b"{}"), ("a/params.npz", &large), ("a/README.md", b"text"), ("b/c.txt", b"c")],
    )
}

fn settings(server: &Server, cache: &Path) -> Settings {
    Settings { endpoint: server.endpoint.clone(), token: None, cache: cache.to_owned(), offline: false }
}

fn fetch(settings: &Settings, address: &str, wanted: Wanted<'_>) -> Result<Fetched, Error> {
    Hub::new(settings.clone(), None).fetch(&address.parse::<Address>().unwrap(), wanted)
}

#[test]
fn files_come_once_into_the_layout_of_huggingface_hub() {
    let (server, dir) = (server(), tempfile::tempdir().unwrap());
    let settings = settings(&server, dir.path());
    let fetched = fetch(&settings, "hf://owner/name/a", Wanted::FileOrFolder(&["*.npz"])).unwrap();
    assert_eq!(fetched.address.to_string(), format!("hf://owner/name@{}/a", COMMITS[0]));
    let snapshot = dir.path().join("models--owner--name/snapshots").join(COMMITS[0]);
    assert_eq!(fetched.path, snapshot.join("a"));
    assert!(fs::read(snapshot.join("a/params.npz")).unwrap() == large());
    assert!(!snapshot.join("a/README.md").exists() && !snapshot.join("config.json").exists());
    let link = fs::read_link(snapshot.join("a/params.npz")).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("../../../blobs/{}", sha256(&large())));
    let reference = dir.path().join("models--owner--name/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMITS[0]);

    // One more file of the commit: the list of files is known, nothing is fetched twice.
    server.asked();
    let address = format!("hf://owner/name@{}", COMMITS[0]);
    fetch(&settings, &address, Wanted::Folder(&["*.json"])).unwrap();
    fetch(&settings, &format!("{address}/a/params.npz"), Wanted::File).unwrap();
    let asked = server.asked();
    assert_eq!(asked, ["HEAD", "GET"].map(|method| format!("{method} /owner/name/resolve/{}/config.json", COMMITS[0])));
}

#[test]
fn a_cut_connection_goes_on_where_it_ended_and_a_bad_day_is_waited_for() {
    let (server, dir) = (server(), tempfile::tempdir().unwrap());
    server.state().cuts = vec![500_000, 300_000];
    server.state().failures = 2;
    static DONE: AtomicU64 = AtomicU64::new(0);
    let mut hub = Hub::new(settings(&server, dir.path()), Some(|_, done, _| DONE.store(done, Ordering::Relaxed)));
    let fetched = hub.fetch(&"hf://owner/name/a/params.npz".parse().unwrap(), Wanted::File).unwrap();
    assert!(fs::read(fetched.path).unwrap() == large());
    assert_eq!(DONE.load(Ordering::Relaxed), large().len() as u64);
    let ranges: Vec<String> = server.asked().into_iter().filter(|line| line.starts_with("GET /store/")).collect();
    let starts: Vec<u64> =
        ranges.iter().filter_map(|line| line.split_once(" bytes=")?.1.trim_end_matches('-').parse().ok()).collect();
    // What had come was kept, up to what the system still held back.
    assert_eq!((ranges.len(), starts.len()), (3, 2));
    assert!(starts[0] <= 300_000 && starts[1] <= starts[0] + 500_000 && starts[1] > starts[0], "{starts:?}");
}

#[test]
fn a_draft_of_an_earlier_process_is_gone_on_with() {
    let (server, dir) = (server(), tempfile::tempdir().unwrap());
    let blobs = dir.path().join("models--owner--name/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", sha256(&large()))), &large()[..1234]).unwrap();
    let fetched = fetch(&settings(&server, dir.path()), "hf://owner/name/a/params.npz", Wanted::File).unwrap();
    assert!(fs::read(fetched.path).unwrap() == large());
    assert!(server.asked().iter().any(|line| line.ends_with(" bytes=1234-")));
    assert_eq!(fs::read_dir(blobs).unwrap().count(), 1);
}

#[test]
fn other_bytes_than_the_digest_says_are_thrown_away() {
    let (server, dir) = (server(), tempfile::tempdir().unwrap());
    server.state().corrupt = true;
    let settings = settings(&server, dir.path());
    let error = fetch(&settings, "hf://owner/name/a/params.npz", Wanted::File).unwrap_err().to_string();
    assert!(error.contains("its SHA-256 is") && error.contains("thrown away"), "{error}");
    assert_eq!(fs::read_dir(dir.path().join("models--owner--name/blobs")).unwrap().count(), 0);
    server.state().corrupt = false;
    assert!(fetch(&settings, "hf://owner/name/a/params.npz", Wanted::File).is_ok());
}

#[test]
fn offline_needs_a_commit_and_what_is_in_the_cache() {
    let (server, dir) = (server(), tempfile::tempdir().unwrap());
    let mut settings = settings(&server, dir.path());
    fetch(&settings, "hf://owner/name/a/params.npz", Wanted::File).unwrap();
    settings.offline = true;
    server.asked();
    let commit = COMMITS[0];
    assert!(fetch(&settings, &format!("hf://owner/name@{commit}/a/params.npz"), Wanted::File).is_ok());
    // Pinned by a lock file.
    let mut hub = Hub::new(settings.clone(), None);
    hub.pin("hf://owner/name", commit);
    assert!(hub.fetch(&"hf://owner/name/a/params.npz".parse().unwrap(), Wanted::File).is_ok());
    let refused = |address: &str| {
        let error = fetch(&settings, address, Wanted::File).unwrap_err();
        format!("{error}; {}", error.help().unwrap())
    };
    let unpinned = refused("hf://owner/name/a/params.npz");
    assert!(unpinned.contains("no commit that is pinned") && unpinned.contains(commit), "{unpinned}");
    assert!(refused(&format!("hf://owner/name@{commit}/config.json")).contains("is not in the cache"));
    assert!(refused(&format!("hf://other/name@{commit}/config.json")).contains("is not in the cache"));
    assert_eq!(server.asked(), [""; 0]);
    // Python's library keeps no list of files.
    fs::remove_dir_all(dir.path().join("models--owner--name/mediant")).unwrap();
    assert!(fetch(&settings, &format!("hf://owner/name@{commit}/a"), Wanted::Folder(&["*.npz"])).is_ok());
}

#[test]
fn what_the_hub_refuses_is_said_in_words() {
    let (server, dir) = (server(), tempfile::tempdir().unwrap());
    let settings = settings(&server, dir.path());
    let refused = |settings: &Settings, address: &str, wanted: Wanted<'_>| {
        let error = fetch(settings, address, wanted).unwrap_err();
        format!("{error}; {}", error.help().unwrap_or_default())
    };
    for (address, wanted, expected) in [
        ("hf://owner/name@v9", Wanted::File, "hf://owner/name@v9 is no revision of this repository"),
        ("hf://owner/nobody", Wanted::File, "if it is private or gated, set HF_TOKEN"),
        ("hf://owner/name/a/nothing", Wanted::File, "there are README.md, params.npz"),
        ("hf://owner/name/a", Wanted::File, "is a folder; a file is needed"),
        ("hf://owner/name/config.json", Wanted::Folder(&["*"]), "is a file; a folder is needed"),
        ("hf://owner/name/b", Wanted::Folder(&["*.npz"]), "has none of the files that are read here; there are c.txt"),
    ] {
        let found = refused(&settings, address, wanted);
        assert!(found.contains(expected), "{found}");
    }
    server.state().token = Some("secret".to_owned());
    let gated = refused(&settings, "hf://owner/name", Wanted::Folder(&["*.json"]));
    assert!(gated.contains("is gated") && gated.contains("HF_TOKEN"), "{gated}");
    let with_token = Settings { token: Some("secret".to_owned()), ..settings.clone() };
    // The store of large files, which is elsewhere, does not see it: the server checks.
    assert!(fetch(&with_token, "hf://owner/name/a/params.npz", Wanted::File).is_ok());
    let nowhere = Settings { endpoint: "http://127.0.0.1:9".to_owned(), ..settings };
    let error = refused(&nowhere, "hf://other/name", Wanted::File);
    assert!(error.contains("cannot be fetched") && error.contains("5 times"), "{error}");
}
