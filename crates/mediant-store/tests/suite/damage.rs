use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mediant_store::{FileEntry, Id, ObjectState, StatIndex};

use super::common::{MANIFEST, PART, Place, check, names, part_path, publish};

fn writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    writable(path);
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn why(state: ObjectState) -> (String, String) {
    match state {
        ObjectState::Damaged { file, why } => (file, why),
        other => panic!("{other:?} is not damage"),
    }
}

#[test]
fn every_kind_of_damage_is_found() {
    let place = Place::new();
    let store = place.store();
    let stats = StatIndex::load(&store);
    let output = publish(&store, "a");
    let (object, part) = (store.object_path(output.object), part_path(&store, &output));
    let fresh = || {
        store.quarantine(output.object, "the next case").unwrap();
        assert_eq!(publish(&store, "a").object, output.object);
        assert_eq!(check(&store, &output, &stats), ObjectState::Intact);
    };

    assert_eq!(check(&store, &output, &stats), ObjectState::Intact);
    overwrite(&part, 3, b"\x00");
    assert_eq!(why(check(&store, &output, &stats)), (PART.to_owned(), "its bytes have changed".to_owned()));

    fresh();
    overwrite(&object.join(MANIFEST), 0, b" ");
    assert_eq!(why(check(&store, &output, &stats)).0, MANIFEST);

    fresh();
    writable(&part);
    File::options().write(true).open(&part).unwrap().set_len(5).unwrap();
    assert_eq!(why(check(&store, &output, &stats)).1, "it has 5 bytes instead of 13");

    fresh();
    writable(&object);
    fs::remove_file(&part).unwrap();
    assert_eq!(why(check(&store, &output, &stats)).1, "it is missing");

    fresh();
    writable(&object);
    // A link to the very bytes is still not an object's file.
    fs::write(place.path().join("copy"), fs::read(&part).unwrap()).unwrap();
    fs::remove_file(&part).unwrap();
    symlink(place.path().join("copy"), &part).unwrap();
    assert_eq!(why(check(&store, &output, &stats)).1, "it is not a plain file");

    fresh();
    writable(&object);
    fs::rename(&object, place.path().join("moved")).unwrap();
    assert_eq!(check(&store, &output, &stats), ObjectState::Missing);
    symlink(place.path().join("moved"), &object).unwrap();
    assert_eq!(why(check(&store, &output, &stats)).1, "it is not a folder");
    // Setting the link aside leaves what it points to alone.
    store.quarantine(output.object, "a link").unwrap();
    assert_eq!(names(&place.path().join("moved")).len(), 2);
    assert_eq!(check(&store, &output, &stats), ObjectState::Missing);
    assert_eq!(store.quarantine(output.object, "gone").unwrap(), None);
}

#[test]
fn damage_is_found_although_size_and_time_are_as_before() {
    let place = Place::new();
    let store = place.store();
    let output = publish(&store, "a");
    let part = part_path(&store, &output);
    // Long enough that the index trusts its entry.
    std::thread::sleep(std::time::Duration::from_millis(60));
    let stats = StatIndex::load(&store);
    assert_eq!(check(&store, &output, &stats), ObjectState::Intact);
    let times = fs::metadata(&part).unwrap();
    let times = fs::FileTimes::new().set_modified(times.modified().unwrap()).set_accessed(times.accessed().unwrap());
    overwrite(&part, 3, b"\x00");
    File::options().write(true).open(&part).unwrap().set_times(times).unwrap();
    assert_eq!(why(check(&store, &output, &stats)).0, PART);
}

#[test]
fn names_that_lead_out_of_the_object_are_damage() {
    let place = Place::new();
    let store = place.store();
    let stats = StatIndex::load(&store);
    let output = publish(&store, "a");
    fs::write(place.path().join("outside"), "x").unwrap();
    for name in ["../../../../outside", "/etc/hostname", "..", ".", "", "a/b", "a\0b"] {
        let files = [FileEntry { name: name.to_owned(), bytes: 1, blake3: Id::of(b"x") }];
        let state = store.check(output.object, MANIFEST, &files, &stats).unwrap();
        assert_eq!(why(state).1, "its name leads out of the object", "{name:?}");
        assert!(store.note_published(output.object, MANIFEST, &files, &stats).is_err(), "{name:?}");
    }
}

#[test]
fn published_digests_are_remembered_and_checked() {
    let place = Place::new();
    let store = place.store();
    let stats = StatIndex::load(&store);
    let output = publish(&store, "a");
    store.note_published(output.object, MANIFEST, &output.files, &stats).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    stats.save().unwrap();
    let stats = StatIndex::load(&store);
    assert_eq!(check(&store, &output, &stats), ObjectState::Intact);
    overwrite(&part_path(&store, &output), 3, b"\x00");
    assert_eq!(why(check(&store, &output, &stats)).0, PART);
}
