use std::fs;
use std::time::Duration;

use mediant_store::{Error, GcOptions, Id, ObjectState, StatIndex, Store};

use super::child::{hear, start};
use super::common::{Place, check, check_by_reading, finish, key, names, no_grace, output, publish, record};

fn collect(store: &Store, options: &GcOptions) -> Vec<Id> {
    let plan = store.plan_gc(options).unwrap();
    let planned: Vec<Id> = plan.objects.iter().map(|object| object.id).collect();
    let report = plan.execute(&store.exclusive_lock(|| ()).unwrap()).unwrap();
    assert_eq!(report.objects, planned.len());
    assert_eq!(report.bytes, plan.bytes());
    planned
}

fn run(store: &Store, pipeline: &str, actions: &[Id]) {
    store.create_run(pipeline).unwrap().keep(actions).unwrap();
    std::thread::sleep(Duration::from_millis(2));
}

#[test]
fn the_last_runs_of_each_pipeline_pins_and_lock_files_keep_their_results() {
    let place = Place::in_memory();
    let store = place.store();
    let records: Vec<_> = (0..8).map(|n| finish(&store, key(n), &n.to_string())).collect();
    run(&store, "a.yaml", &[key(0)]);
    run(&store, "b.yaml", &[key(1)]);
    run(&store, "a.yaml", &[key(2)]);
    run(&store, "a.yaml", &[key(3)]);
    store.pin(key(4), "the paper's table").unwrap();
    let lock_file = place.path().join("a.lock");
    fs::write(&lock_file, "").unwrap();
    store.saw_lock_file(&lock_file, &[key(5)]).unwrap();
    // Lately seen: perhaps on another branch.
    store.saw_lock_file(&place.path().join("gone.lock"), &[key(6)]).unwrap();

    let options = GcOptions { keep_runs: 2, ..no_grace() };
    let plan = store.plan_gc(&options).unwrap();
    let mut gone = [key(0), key(7)];
    gone.sort();
    assert_eq!(plan.actions, gone);
    assert_eq!((plan.runs.len(), plan.kept_objects, plan.contents.len()), (1, 6, 2));
    let shown = plan.to_string();
    assert!(shown.contains("demo.out"), "{shown}");
    assert!(shown.ends_with(
        "2 objects (282 B), 2 action records, 2 content records, 0 checkpoints, 1 runs, 0 damaged things set aside; 6 objects stay"
    ), "{shown}");
    // A plan alone removes nothing.
    assert!(records.iter().all(|record| check_by_reading(&store, output(record)) == ObjectState::Intact));

    collect(&store, &options);
    for (n, record) in records.iter().enumerate() {
        let kept = ![0, 7].contains(&n);
        assert_eq!(store.read_action(key(n)).unwrap().is_some(), kept, "{n}");
        assert_eq!(store.read_content(record.content).unwrap().is_some(), kept, "{n}");
        let state = check_by_reading(&store, output(record));
        assert_eq!(state, if kept { ObjectState::Intact } else { ObjectState::Missing }, "{n}");
    }
    assert!(store.plan_gc(&options).unwrap().is_empty());
    assert_eq!(store.runs().unwrap().len(), 3);

    assert_eq!(store.pins().unwrap()[0].label, "the paper's table");
    assert!(store.unpin(key(4)).unwrap());
    assert!(!store.unpin(key(4)).unwrap());
    assert_eq!(collect(&store, &options), [output(&records[4]).object]);
}

#[test]
fn young_things_stay_and_so_does_what_they_refer_to() {
    let place = Place::in_memory();
    let store = place.store();
    let old = publish(&store, "old");
    std::thread::sleep(Duration::from_millis(150));
    // A result that an early cutoff gave: the record is new, the object is not.
    store.write_action(key(0), &record(old.clone(), "cutoff")).unwrap();
    let young = publish(&store, "young");
    let options = GcOptions { grace: Duration::from_millis(100), ..no_grace() };
    assert!(collect(&store, &options).is_empty());
    std::thread::sleep(Duration::from_millis(150));
    // Used again, though not recorded: young again.
    publish(&store, "young");
    assert_eq!(collect(&store, &options), [old.object]);
    assert_eq!(check_by_reading(&store, &young), ObjectState::Intact);
}

#[test]
fn what_was_found_by_content_keeps_the_record_of_its_making() {
    let place = Place::in_memory();
    let store = place.store();
    let made = finish(&store, key(0), "a");
    // Another recipe came to the same content and made nothing.
    store.write_action(key(1), &made).unwrap();
    run(&store, "p.yaml", &[key(1)]);
    collect(&store, &no_grace());
    assert_eq!(store.read_content(made.content).unwrap().unwrap().action, key(0));
    assert!(store.read_action(key(0)).unwrap().is_some());
    fs::remove_dir_all(store.root().join("runs").join(&names(&store.root().join("runs"))[0])).unwrap();
    assert_eq!(collect(&store, &no_grace()), [output(&made).object]);
    assert!(store.read_action(key(0)).unwrap().is_none());
}

#[test]
fn gc_waits_for_runs_and_leaves_their_work_alone() {
    let place = Place::new();
    let store = place.store();
    let plan = store.plan_gc(&no_grace()).unwrap();
    let mut child = start("hold", &store);
    let staging = hear(&mut child, "HELD");
    assert!(store.try_exclusive_lock().unwrap().is_none());
    std::thread::scope(|scope| {
        let gc = scope.spawn(|| plan.execute(&store.exclusive_lock(|| ()).unwrap()).unwrap());
        std::thread::sleep(Duration::from_millis(30));
        assert!(!gc.is_finished() && fs::exists(&staging).unwrap());
        drop(child.stdin.take());
        gc.join().unwrap();
    });
    child.wait().unwrap();
}

#[test]
fn a_run_between_the_plan_and_the_lock_keeps_its_results() {
    let place = Place::in_memory();
    let store = place.store();
    let a = finish(&store, key(0), "a");
    let b = finish(&store, key(1), "b");
    let plan = store.plan_gc(&no_grace()).unwrap();
    assert_eq!(plan.objects.len(), 2);
    run(&store, "p.yaml", &[key(1)]);
    let c = finish(&store, key(2), "c");
    let report = plan.execute(&store.exclusive_lock(|| ()).unwrap()).unwrap();
    assert_eq!((report.objects, report.actions), (1, 1));
    assert_eq!(check_by_reading(&store, output(&a)), ObjectState::Missing);
    assert_eq!(check_by_reading(&store, output(&b)), ObjectState::Intact);
    // Not in the plan that the user saw.
    assert_eq!(check_by_reading(&store, output(&c)), ObjectState::Intact);
}

#[test]
fn gc_does_not_guess_what_it_cannot_read() {
    let place = Place::in_memory();
    let store = place.store();
    finish(&store, key(0), "a");
    run(&store, "p.yaml", &[key(0)]);
    store.pin(key(0), "x").unwrap();
    store.saw_lock_file(&place.path().join("x.lock"), &[key(0)]).unwrap();
    let roots = [
        store.runs().unwrap()[0].path.join("roots.json"),
        store.root().join(format!("pins/{}.json", key(0))),
        store.root().join("lockfiles").join(&names(&store.root().join("lockfiles"))[0]),
    ];
    for path in roots {
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = store.plan_gc(&no_grace()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("remove it if"), "{error}");
        fs::write(&path, &whole).unwrap();
    }
    assert!(collect(&store, &no_grace()).is_empty());
}

#[test]
fn everything_that_is_left_over_goes() {
    let place = Place::in_memory();
    let store = place.store();
    let finished = finish(&store, key(0), "a");
    run(&store, "p.yaml", &[key(0)]);
    // Checkpoints of a finished and of an abandoned action; a damaged object; divergent records without a first.
    store.checkpoints(finished.content, "cpu").save(|dir| fs::write(dir.join("x"), "x")).unwrap();
    store.checkpoints(key(9), "cpu").save(|dir| fs::write(dir.join("x"), "x")).unwrap();
    let lost = finish(&store, key(1), "b");
    store.quarantine(output(&lost).object, "a test").unwrap();
    finish(&store, key(2), "c");
    store.write_action(key(2), &record(publish(&store, "d"), "d")).unwrap();
    let hex = key(2).to_string();
    fs::write(store.root().join(format!("actions/{}/{}.json", &hex[..2], &hex[2..])), "garbage").unwrap();
    fs::write(store.root().join("locks/stale.lock"), "").unwrap();
    // Strangers are left alone.
    fs::write(store.root().join("objects/README"), "").unwrap();
    fs::create_dir_all(store.root().join("objects/zz/notes")).unwrap();

    let keeping = GcOptions { checkpoint_age: Duration::from_secs(3600), ..no_grace() };
    assert_eq!(store.plan_gc(&keeping).unwrap().checkpoints.len(), 1);
    collect(&store, &no_grace());
    // The record that was found damaged meanwhile goes the next time.
    collect(&store, &no_grace());
    for folder in ["checkpoints", "quarantine", "locks"] {
        assert!(names(&store.root().join(folder)).is_empty(), "{folder}");
    }
    let records = |folder: &str| -> usize {
        let folder = store.root().join(folder);
        names(&folder).iter().map(|shard| names(&folder.join(shard)).len()).sum()
    };
    assert_eq!((records("actions"), records("contents")), (1, 1));
    assert!(store.root().join("objects/README").exists() && store.root().join("objects/zz/notes").exists());
    assert_eq!(check_by_reading(&store, output(&finished)), ObjectState::Intact);
}

#[test]
fn the_stat_index_forgets_objects_that_are_gone() {
    let place = Place::in_memory();
    let store = place.store();
    let (a, b) = (finish(&store, key(0), "a"), finish(&store, key(1), "b"));
    let stats = StatIndex::load(&store);
    let source = place.path().join("source");
    fs::write(&source, "x").unwrap();
    stats.digest_file(&source).unwrap();
    check(&store, output(&a), &stats);
    check(&store, output(&b), &stats);
    stats.save().unwrap();
    let length = || fs::metadata(store.root().join("index/stat")).unwrap().len();
    let before = length();
    run(&store, "p.yaml", &[key(0)]);
    collect(&store, &no_grace());
    assert_eq!(before - length(), 2 * 96);
}
