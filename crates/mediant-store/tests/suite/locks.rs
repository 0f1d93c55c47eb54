use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mediant_store::Store;

use super::child::{hear, start};
use super::common::{Place, key, names};

fn lock_files(store: &Store) -> Vec<String> {
    names(&store.root().join("locks"))
}

#[test]
fn a_lock_is_exclusive_and_leaves_nothing() {
    let place = Place::new();
    let store = place.store();
    let lock = store.lock_action(key(0), || panic!("nobody to wait for")).unwrap();
    assert!(store.try_lock_action(key(0)).unwrap().is_none());
    assert!(store.try_lock_action(key(1)).unwrap().is_some());
    assert_eq!(lock_files(&store), [format!("{}.lock", key(0))]);
    drop(lock);
    assert!(lock_files(&store).is_empty());
}

#[test]
fn a_second_process_waits_says_so_once_and_gets_it() {
    let place = Place::new();
    let store = place.store();
    let mut child = start("hold", &store);
    hear(&mut child, "HELD");
    let waited = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            store
                .lock_action(key(0), || {
                    waited.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap()
        });
        while waited.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        drop(child.stdin.take());
        drop(waiter.join().unwrap());
    });
    child.wait().unwrap();
    assert_eq!(waited.load(Ordering::SeqCst), 1);
    assert!(lock_files(&store).is_empty());
}

/// Every release removes the file, so that a waiter often wakes with a lock on a removed file.
#[test]
fn a_lock_keeps_many_processes_apart() {
    let place = Place::new();
    let store = place.store();
    let children: Vec<_> = (0..4).map(|_| start("count", &store)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fs::read_to_string(store.root().join("count")).unwrap(), "200");
    assert!(lock_files(&store).is_empty());
}

#[test]
fn the_lock_of_a_killed_process_is_free() {
    let place = Place::new();
    let store = place.store();
    let mut child = start("hold", &store);
    let staging = hear(&mut child, "HELD");
    // While it lives, nothing of it is taken, however often the store is opened.
    place.store();
    assert!(store.try_lock_action(key(0)).unwrap().is_none());
    assert!(fs::exists(&staging).unwrap());
    assert!(store.try_exclusive_lock().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(lock_files(&store).len(), 1);
    drop(store.lock_action(key(0), || panic!("nobody to wait for")).unwrap());
    assert!(lock_files(&store).is_empty());
    assert!(store.try_exclusive_lock().unwrap().is_some());
    assert!(fs::exists(&staging).unwrap());
    place.store();
    assert!(!fs::exists(&staging).unwrap());
}

#[test]
fn opening_a_store_removes_stale_locks_only() {
    let place = Place::new();
    let store = place.store();
    let held = store.lock_action(key(0), || ()).unwrap();
    fs::write(store.root().join(format!("locks/{}.lock", key(1))), "").unwrap();
    fs::write(store.root().join("locks/index.lock"), "").unwrap();
    place.store();
    assert_eq!(lock_files(&store), [format!("{}.lock", key(0))]);
    drop(held);
}

#[test]
fn a_link_for_a_lock_is_an_error_not_an_endless_wait() {
    let place = Place::new();
    let store = place.store();
    fs::write(place.path().join("elsewhere"), "").unwrap();
    let path = store.root().join(format!("locks/{}.lock", key(0)));
    std::os::unix::fs::symlink(place.path().join("elsewhere"), path).unwrap();
    assert!(store.lock_action(key(0), || ()).is_err());
}

#[test]
fn runs_share_the_store_and_gc_has_it_alone() {
    let place = Place::new();
    let store = place.store();
    let one = store.shared_lock(|| panic!("runs do not wait for each other")).unwrap();
    let two = place.store().shared_lock(|| panic!("runs do not wait for each other")).unwrap();
    drop(one);
    assert!(store.try_exclusive_lock().unwrap().is_none());
    drop(two);
    let gc = store.try_exclusive_lock().unwrap().unwrap();
    let waited = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            store
                .shared_lock(|| {
                    waited.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap()
        });
        while waited.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(gc);
        run.join().unwrap();
    });
    assert!(lock_files(&store).is_empty());
}
