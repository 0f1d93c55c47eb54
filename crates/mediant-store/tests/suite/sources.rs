//! Digests of files outside the store.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::time::Duration;

use mediant_store::{Error, Id, StatIndex};

use super::common::Place;

/// Long enough for an entry to be trusted.
const TICKS: Duration = Duration::from_millis(60);

#[test]
fn a_change_within_one_tick_of_the_clock_is_seen() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    let path = place.path().join("source.txt");
    let mut same_stat = 0;
    for _ in 0..300 {
        fs::write(&path, "one").unwrap();
        let stat = |path| {
            let data = fs::metadata(path).unwrap();
            (data.modified().unwrap(), data.len())
        };
        let before = stat(&path);
        assert_eq!(stats.digest_file(&path).unwrap().blake3, Id::of(b"one"));
        File::options().write(true).open(&path).unwrap().write_all(b"two").unwrap();
        same_stat += usize::from(stat(&path) == before);
        assert_eq!(stats.digest_file(&path).unwrap().blake3, Id::of(b"two"));
    }
    eprintln!("{same_stat} of 300 changes did not show in the stat");
}

#[test]
fn digests_are_remembered_across_processes() {
    let place = Place::new();
    let store = place.store();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    std::thread::sleep(TICKS);
    // Two processes that learn at once: neither loses what the other learnt.
    let (one, two) = (StatIndex::load(&store), StatIndex::load(&store));
    one.digest_file(&a).unwrap();
    two.digest_file(&b).unwrap();
    one.save().unwrap();
    let after_one = fs::metadata(store.root().join("index/stat")).unwrap().len();
    two.save().unwrap();
    let after_two = fs::metadata(store.root().join("index/stat")).unwrap();
    assert_eq!(after_two.len() - after_one, 96);
    // Nothing new, nothing written.
    let three = StatIndex::load(&store);
    assert_eq!(three.digest_file(&a).unwrap().blake3, Id::of(b"a"));
    three.save().unwrap();
    let inode = |data: &fs::Metadata| std::os::unix::fs::MetadataExt::ino(data);
    assert_eq!(inode(&fs::metadata(store.root().join("index/stat")).unwrap()), inode(&after_two));
}

/// Shown by an index that lies: an entry that is trusted gives the lie, one that is not makes the file be read.
#[test]
fn a_file_is_read_again_only_if_its_stat_or_its_age_asks_for_it() {
    let place = Place::new();
    let store = place.store();
    let path = place.path().join("a");
    let lie = |stats: &StatIndex| {
        stats.digest_file(&path).unwrap();
        stats.save().unwrap();
        let index = store.root().join("index/stat");
        let mut bytes = fs::read(&index).unwrap();
        let end = bytes.len() - 32;
        bytes[end - 32..end].copy_from_slice(Id::of(b"lie").as_bytes());
        let digest = Id::of(&bytes[..end]);
        bytes[end..].copy_from_slice(digest.as_bytes());
        fs::write(&index, bytes).unwrap();
        StatIndex::load(&store).digest_file(&path).unwrap().blake3
    };
    fs::write(&path, "a").unwrap();
    assert_eq!(lie(&StatIndex::load(&store)), Id::of(b"a"), "too young to be trusted");
    std::thread::sleep(TICKS);
    assert_eq!(lie(&StatIndex::load(&store)), Id::of(b"lie"), "old enough to be trusted");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "b").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    std::thread::sleep(TICKS);
    assert_eq!(StatIndex::load(&store).digest_file(&path).unwrap().blake3, Id::of(b"b"), "changed");
    // A time in the future cannot vouch for anything.
    let later = std::time::SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    std::thread::sleep(TICKS);
    assert_eq!(lie(&StatIndex::load(&store)), Id::of(b"b"), "from the future");
}

#[test]
fn a_damaged_index_is_forgotten() {
    let place = Place::new();
    let store = place.store();
    let source = place.path().join("a");
    fs::write(&source, "a").unwrap();
    let stats = StatIndex::load(&store);
    stats.digest_file(&source).unwrap();
    stats.save().unwrap();
    let path = store.root().join("index/stat");
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    for damage in [Vec::new(), whole[..50].to_vec(), flipped, vec![7; 1000]] {
        fs::write(&path, damage).unwrap();
        let stats = StatIndex::load(&store);
        assert_eq!(stats.digest_file(&source).unwrap().blake3, Id::of(b"a"));
        stats.save().unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), whole.len());
    }
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    StatIndex::load(&store);
}

#[test]
fn large_files_have_the_digest_of_their_bytes() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    let path = place.path().join("large");
    for length in [0, 1, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, (8 << 20) + (128 << 10), 20 << 20] {
        let bytes: Vec<u8> = (0..length).map(|n: usize| (n ^ (n >> 11)) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let digest = stats.digest_file(&path).unwrap();
        assert_eq!((digest.blake3, digest.bytes), (Id::of(&bytes), length as u64));
    }
}

#[test]
fn only_files_have_digests() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    let pipe = place.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    assert!(matches!(stats.digest_file(&pipe), Err(Error::NotAFile { .. })));
    assert!(matches!(stats.digest_file(place.path()), Err(Error::NotAFile { .. })));
    let error = stats.digest_file(&place.path().join("none")).unwrap_err();
    assert!(error.to_string().ends_with("/none: No such file or directory (os error 2)"), "{error}");
}

#[test]
fn many_threads_share_an_index() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    for n in 0..64 {
        fs::write(place.path().join(n.to_string()), n.to_string()).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..64 {
                    let digest = stats.digest_file(&place.path().join(n.to_string())).unwrap();
                    assert_eq!(digest.blake3, Id::of(n.to_string().as_bytes()));
                }
            });
        }
    });
}

#[test]
fn a_folder_is_digested_by_the_files_that_are_asked_for() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    let dir = place.path().join("model");
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    for (name, text) in [
        ("config.json", "{}"),
        ("b.safetensors", "b"),
        ("a.safetensors", "a"),
        ("README.md", "x"),
        ("sub/deep/c.safetensors", "c"),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    let names = |patterns: &[&str]| {
        let tree = stats.digest_tree(&dir, patterns).unwrap();
        tree.files.into_iter().map(|file| file.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&["*.safetensors", "config.json"]), ["a.safetensors", "b.safetensors", "config.json"]);
    assert_eq!(names(&["**/*.safetensors"]), ["a.safetensors", "b.safetensors", "sub/deep/c.safetensors"]);
    assert_eq!(names(&["sub/*/*"]), ["sub/deep/c.safetensors"]);
    assert_eq!(names(&["*.bin"]), Vec::<String>::new());

    let digest = |patterns: &[&str]| stats.digest_tree(&dir, patterns).unwrap().blake3;
    let before = digest(&["*.safetensors"]);
    fs::write(dir.join("README.md"), "y").unwrap();
    assert_eq!(digest(&["*.safetensors"]), before);
    assert_eq!(stats.digest_files(&dir, &["b.safetensors", "a.safetensors"]).unwrap().blake3, before);
    // A name and a content that move into each other are another folder.
    fs::rename(dir.join("a.safetensors"), dir.join("0.safetensors")).unwrap();
    assert_ne!(digest(&["*.safetensors"]), before);
    fs::rename(dir.join("0.safetensors"), dir.join("a.safetensors")).unwrap();
    assert_eq!(digest(&["*.safetensors"]), before);
    fs::write(dir.join("a.safetensors"), "A").unwrap();
    assert_ne!(digest(&["*.safetensors"]), before);
    assert!(matches!(stats.digest_tree(&dir, &["a{"]), Err(Error::BadPattern { .. })));
}

#[test]
fn links_are_followed_but_not_in_circles_or_to_nowhere() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    let dir = place.path().join("snapshot");
    fs::create_dir_all(place.path().join("blobs")).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(place.path().join("blobs/1"), "weights").unwrap();
    symlink("../blobs/1", dir.join("model.safetensors")).unwrap();
    symlink("nowhere", dir.join("unrelated")).unwrap();
    let tree = stats.digest_tree(&dir, &["*.safetensors"]).unwrap();
    assert_eq!(tree.files[0].blake3, Id::of(b"weights"));
    assert!(stats.digest_tree(&dir, &["unrelated"]).is_err());

    symlink("..", dir.join("up")).unwrap();
    assert!(stats.digest_tree(&dir, &["*.safetensors"]).is_ok());
    assert!(matches!(stats.digest_tree(&dir, &["**/*.safetensors"]), Err(Error::Loop { .. })));
}

#[test]
fn named_files_stay_inside_their_folder() {
    let place = Place::new();
    let stats = StatIndex::load(&place.store());
    let dir = place.path().join("model");
    fs::create_dir_all(dir.join("a")).unwrap();
    fs::write(dir.join("a/b"), "x").unwrap();
    assert!(stats.digest_files(&dir, &["a/b"]).is_ok());
    for name in ["../model/a/b", "/etc/hostname", "./a/b", "a//b", "a/./b", "a/b/", "", "."] {
        assert!(matches!(stats.digest_files(&dir, &[name]), Err(Error::BadName { .. })), "{name}");
    }
    assert!(stats.digest_files(&dir, &["none"]).is_err());
}
