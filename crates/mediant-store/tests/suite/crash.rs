use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mediant_store::{ObjectState, Written};

use super::child::{ACTIONS, hear, start};
use super::common::{
    MANIFEST, PART, Place, check_by_reading, finish, key, maker, names, no_grace, output, publish, record, write_files,
};

/// Whatever the moment of a kill: what is recorded is whole, stays, and is not done again; nothing else is left.
#[test]
fn work_survives_kills_at_any_moment() {
    let place = Place::new();
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    eprintln!("seed of the moments: {seed}");
    let mut makers: BTreeMap<usize, String> = BTreeMap::new();
    for _ in 0..40 {
        let mut child = start("work", &place.store());
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((seed >> 33) % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = place.store();
        assert_eq!(names(&store.root().join("locks")), Vec::<String>::new());
        assert_eq!(names(&store.root().join("tmp")), Vec::<String>::new());
        assert_eq!(names(&store.root().join("quarantine")), Vec::<String>::new());
        for n in 0..ACTIONS {
            let Some(record) = store.read_action(key(n)).unwrap() else {
                continue;
            };
            assert_eq!(check_by_reading(&store, output(&record)), ObjectState::Intact);
            let first = makers.entry(n).or_insert_with(|| maker(&record));
            assert_eq!(*first, maker(&record), "action {n} was done twice");
        }
    }
    let mut child = start("work", &place.store());
    let rest: usize = hear(&mut child, "FIRST").parse().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(makers.len() + rest, ACTIONS);
    // Killed between the record and the removal of its checkpoints: those are gc's.
    let store = place.store();
    let plan = store.plan_gc(&no_grace()).unwrap();
    plan.execute(&store.exclusive_lock(|| ()).unwrap()).unwrap();
    assert!(names(&store.root().join("checkpoints")).is_empty());
}

/// The states that a crash can leave, in the order in which publishing passes through them.
#[test]
fn every_half_finished_state_is_finished_by_the_next_run() {
    let reference = Place::new();
    let reference = finish(&reference.store(), key(0), "a");
    let object = output(&reference).object;
    let hex = key(0).to_string();
    let record_path = format!("actions/{}/{}.json", &hex[..2], &hex[2..]);

    type Leave = fn(&mediant_store::Store);
    let states: [(&str, Leave); 8] = [
        ("nothing", |_| ()),
        ("an abandoned temporary folder, half written", |store| {
            let dead = store.root().join("tmp/1-DEAD");
            fs::create_dir(&dead).unwrap();
            fs::write(dead.join("lock"), "").unwrap();
            write_files(&dead.join("out"), "a");
            fs::write(dead.join("out").join(PART), "the ro").unwrap();
        }),
        ("a temporary folder that was being removed", |store| {
            let dead = store.root().join("tmp/1-DEAD");
            fs::create_dir(&dead).unwrap();
            write_files(&dead.join("out"), "a");
        }),
        ("an object that is still writable, no record", |store| {
            let path = store.object_path(publish(store, "a").object);
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }),
        ("after a power cut: an object without its bytes, no record", |store| {
            let path = store.object_path(publish(store, "a").object);
            for file in [MANIFEST, PART] {
                let file = path.join(file);
                fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
                fs::write(file, "").unwrap();
            }
        }),
        ("after a power cut: an empty object folder", |store| {
            let object = publish(store, "a").object;
            fs::set_permissions(store.object_path(object), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .unwrap();
            fs::remove_dir_all(store.object_path(object)).unwrap();
            fs::create_dir(store.object_path(object)).unwrap();
        }),
        ("a record without its objects", |store| {
            let record = finish(store, key(0), "a");
            store.quarantine(output(&record).object, "a test").unwrap();
        }),
        ("everything but the content record", |store| {
            let record = record(publish(store, "a"), "a");
            store.write_action(key(0), &record).unwrap();
        }),
    ];
    for (name, leave) in states {
        let place = Place::new();
        leave(&place.store());
        let store = place.store();
        let hit = store
            .read_action(key(0))
            .unwrap()
            .filter(|record| check_by_reading(&store, output(record)) == ObjectState::Intact);
        assert_eq!(hit.is_some(), name == "everything but the content record", "{name}");
        let again = finish(&store, key(0), "a");
        assert_eq!(output(&again).object, object, "{name}");
        assert_eq!(check_by_reading(&store, output(&again)), ObjectState::Intact, "{name}");
        assert_eq!(store.write_action(key(0), &again).unwrap(), Written::Agrees, "{name}");
        assert!(store.root().join(&record_path).is_file(), "{name}");
        assert!(store.read_content(again.content).unwrap().is_some(), "{name}");
        drop(store);
        assert_eq!(names(&place.path().join("store/tmp")), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn an_abandoned_object_is_garbage() {
    let place = Place::new();
    let store = place.store();
    let orphan = publish(&store, "a");
    let kept = finish(&store, key(0), "b");
    store.pin(key(0), "mine").unwrap();
    let plan = store.plan_gc(&no_grace()).unwrap();
    assert_eq!(plan.objects.iter().map(|object| object.id).collect::<Vec<_>>(), [orphan.object]);
    plan.execute(&store.exclusive_lock(|| ()).unwrap()).unwrap();
    assert!(!store.object_path(orphan.object).exists());
    assert_eq!(check_by_reading(&store, output(&kept)), ObjectState::Intact);
}
