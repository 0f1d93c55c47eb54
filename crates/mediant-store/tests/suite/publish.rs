use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use mediant_store::{Error, Id, ObjectState};

use super::common::{MANIFEST, PART, Place, check_by_reading, names, publish, write_files};

#[test]
fn an_object_is_named_by_its_manifest_and_read_only() {
    let place = Place::new();
    let store = place.store();
    let output = publish(&store, "a");
    let path = store.object_path(output.object);
    assert_eq!(Id::of(&fs::read(path.join(MANIFEST)).unwrap()), output.object);
    assert_eq!(
        path,
        store.root().join(format!("objects/{}/{}", &output.object.to_string()[..2], &output.object.to_string()[2..]))
    );
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.clone()), mode(path.join(PART)), mode(path.join(MANIFEST))), (0o555, 0o444, 0o444));
    assert_eq!(check_by_reading(&store, &output), ObjectState::Intact);
}

#[test]
fn an_equal_object_stays_and_the_new_one_goes() {
    let place = Place::new();
    let store = place.store();
    let first = publish(&store, "a");
    let inode = |id| std::os::unix::fs::MetadataExt::ino(&fs::metadata(store.object_path(id).join(PART)).unwrap());
    let before = inode(first.object);
    let second = publish(&store, "a");
    assert_eq!((second.object, inode(second.object)), (first.object, before));
    assert!(names(&store.root().join("quarantine")).is_empty());
}

#[test]
fn a_damaged_equal_object_is_set_aside() {
    let place = Place::new();
    let store = place.store();
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 6] = [
        ("flip", |path| fs::write(path.join(PART), "the rows of b").unwrap()),
        ("truncate", |path| fs::write(path.join(PART), "").unwrap()),
        ("lose a file", |path| fs::remove_file(path.join(PART)).unwrap()),
        ("add a file", |path| fs::write(path.join("more"), "").unwrap()),
        ("a link for a file", |path| {
            fs::remove_file(path.join(PART)).unwrap();
            symlink("/etc/hostname", path.join(PART)).unwrap();
        }),
        ("a file for the folder", |path| {
            fs::remove_dir_all(path).unwrap();
            fs::write(path, "x").unwrap();
        }),
    ];
    for (count, (name, damage)) in damages.into_iter().enumerate() {
        let path = store.object_path(publish(&store, "a").object);
        for changed in [path.clone(), path.join(PART)] {
            fs::set_permissions(changed, fs::Permissions::from_mode(0o755)).unwrap();
        }
        damage(&path);
        let again = publish(&store, "a");
        assert_eq!(check_by_reading(&store, &again), ObjectState::Intact, "{name}");
        assert_eq!(names(&store.root().join("quarantine")).len(), count + 1, "{name}");
    }
}

#[test]
fn only_plain_files_make_an_object() {
    let place = Place::new();
    let store = place.store();
    let staging = store.stage_dir("x").unwrap();
    let dir = staging.path().join("out");
    write_files(&dir, "a");
    symlink("/etc/hostname", dir.join("link")).unwrap();
    assert!(matches!(store.publish(&dir, MANIFEST), Err(Error::NotAFile { .. })));
    fs::remove_file(dir.join("link")).unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    assert!(matches!(store.publish(&dir, MANIFEST), Err(Error::NotAFile { .. })));
    fs::remove_dir(dir.join("folder")).unwrap();
    fs::remove_file(dir.join(MANIFEST)).unwrap();
    assert!(matches!(store.publish(&dir, MANIFEST), Err(Error::Io { doing: "read", .. })));
    assert!(names(&store.root().join("objects")).is_empty());
}

#[test]
fn staging_goes_when_it_is_dropped() {
    let place = Place::new();
    let store = place.store();
    let staging = store.stage_dir("../../sae[name=topk16]").unwrap();
    assert!(staging.path().starts_with(store.root().join("tmp")));
    fs::create_dir(staging.path().join("locked")).unwrap();
    fs::write(staging.path().join("locked/file"), "x").unwrap();
    fs::set_permissions(staging.path().join("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    let path = staging.path().to_owned();
    drop(staging);
    assert!(!path.exists());
    drop(store);
    assert!(names(&place.path().join("store/tmp")).is_empty());
}
