//! Several processes on one store.

use mediant_store::{ObjectState, Written};

use super::child::{ACTIONS, hear, start};
use super::common::{Place, check_by_reading, key, names, output, publish, record};

#[test]
fn two_runs_do_each_action_once_and_both_succeed() {
    let place = Place::new();
    let store = place.store();
    let mut children = [start("work", &store), start("work", &store)];
    let first: usize = children.iter_mut().map(|child| hear(child, "FIRST").parse::<usize>().unwrap()).sum();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(first, ACTIONS);
    assert!(names(&store.root().join("locks")).is_empty());
    assert!(names(&store.root().join("tmp")).is_empty());
}

/// On a file system without locks: correctness rests on rename alone.
#[test]
fn without_locks_a_race_has_one_result() {
    let place = Place::in_memory();
    let store = place.store();
    for n in 0..50 {
        let barrier = std::sync::Barrier::new(4);
        let outcomes: Vec<Written> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4)
                .map(|racer| {
                    let (store, barrier) = (place.store(), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let record = record(publish(&store, &n.to_string()), &racer.to_string());
                        store.write_action(key(n), &record).unwrap()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|&outcome| *outcome == Written::First).count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|&outcome| *outcome == Written::Agrees).count(), 3, "{outcomes:?}");
        let record = store.read_action(key(n)).unwrap().unwrap();
        assert_eq!(check_by_reading(&store, output(&record)), ObjectState::Intact);
    }
    assert!(names(&store.root().join("quarantine")).is_empty());
}
