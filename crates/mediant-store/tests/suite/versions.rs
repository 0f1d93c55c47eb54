use std::fs;

use mediant_store::{Error, Store};

use super::common::{Place, names};

#[test]
fn a_new_store_is_tagged_as_a_cache_and_versioned_by_folder() {
    let place = Place::new();
    let root = place.path().join("deep/er/store");
    Store::open(&root).unwrap();
    assert!(
        fs::read_to_string(root.join("CACHEDIR.TAG"))
            .unwrap()
            .starts_with("Signature: 8a477f597d28d172789f06886806bc55")
    );
    assert_eq!(fs::read_to_string(root.join(".gitignore")).unwrap(), "*\n");
    for folder in names(&root).iter().filter(|name| root.join(name).is_dir()) {
        assert_eq!(fs::read_to_string(root.join(folder).join("VERSION")).unwrap(), "1\n", "{folder}");
    }
    // Opening it again changes nothing.
    let before = super::common::tree(&root);
    Store::open(&root).unwrap();
    assert_eq!(super::common::tree(&root), before);
}

#[test]
fn a_newer_store_is_refused_in_words() {
    let place = Place::new();
    let root = place.store().root().to_owned();
    for version in ["2\n", "x", "", "99999999999999999999"] {
        fs::write(root.join("actions/VERSION"), version).unwrap();
        let error = Store::open(&root).unwrap_err();
        assert!(matches!(&error, Error::NewerStore { known: 1, .. }), "{error}");
        assert!(error.to_string().contains("use the newer Mediant"), "{error}");
    }
}

#[test]
fn a_file_is_not_a_store() {
    let place = Place::new();
    let path = place.path().join("file");
    fs::write(&path, "").unwrap();
    assert!(matches!(Store::open(&path), Err(Error::NotAFolder { .. })));
    assert!(Store::open(&path.join("below")).is_err());
}

#[test]
fn two_may_create_a_store_at_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| super::common::finish(&place.store(), super::common::key(0), "a"));
        }
    });
    assert_eq!(names(&place.path().join("store/tmp")), Vec::<String>::new());
    assert!(place.store().read_action(super::common::key(0)).unwrap().is_some());
}
