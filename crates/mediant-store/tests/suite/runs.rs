use std::fs;
use std::io;

use mediant_store::Error;

use super::common::{Place, key, names};

#[test]
fn runs_are_listed_newest_first() {
    let place = Place::new();
    let store = place.store();
    let mut made = Vec::new();
    for pipeline in ["a.yaml", "b.yaml", "a.yaml"] {
        let run = store.create_run(pipeline).unwrap();
        run.keep(&[key(made.len())]).unwrap();
        made.push(run.id().to_owned());
        // A ULID is ordered by its millisecond.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    fs::create_dir(store.root().join("runs/not-a-run")).unwrap();
    let listed = store.runs().unwrap();
    made.reverse();
    assert_eq!(listed.iter().map(|run| run.id.clone()).collect::<Vec<_>>(), made);
    assert_eq!(listed[1].pipeline.as_deref(), Some("b.yaml"));
    assert_eq!(listed[1].actions().unwrap(), [key(1)]);
}

#[test]
fn a_checkpoint_is_whole_or_absent_and_two_are_kept() {
    let place = Place::new();
    let store = place.store();
    let checkpoints = store.checkpoints(key(0), "cpu+avx512");
    assert_eq!(checkpoints.latest().unwrap(), None);
    for step in 1..=3 {
        checkpoints.save(|dir| fs::write(dir.join("state"), format!("step {step}"))).unwrap();
    }
    let latest = checkpoints.latest().unwrap().unwrap();
    assert_eq!(fs::read_to_string(latest.join("state")).unwrap(), "step 3");
    assert_eq!(names(latest.parent().unwrap()).len(), 2);

    // A failing save leaves the earlier ones; nothing half-written stays.
    let failed = checkpoints.save(|dir| {
        fs::write(dir.join("state"), "half")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert!(matches!(failed, Err(Error::DiskFull { .. })));
    assert_eq!(checkpoints.latest().unwrap(), Some(latest));

    // Another kind of device would give other bits.
    assert_eq!(store.checkpoints(key(0), "cuda").latest().unwrap(), None);

    // A damaged one is passed over, whatever the damage.
    let damages: [fn(&std::path::Path); 3] = [
        |dir| fs::write(dir.join("state"), "step 4").unwrap(),
        |dir| fs::write(dir.join("checkpoint.json"), "{}").unwrap(),
        |dir| fs::remove_file(dir.join("state")).unwrap(),
    ];
    for damage in damages {
        checkpoints.clear().unwrap();
        checkpoints.save(|dir| fs::write(dir.join("state"), "older")).unwrap();
        let newest = checkpoints.save(|dir| fs::write(dir.join("state"), "newer")).unwrap();
        damage(&newest);
        let latest = checkpoints.latest().unwrap().unwrap();
        assert_eq!(fs::read_to_string(latest.join("state")).unwrap(), "older");
    }
    checkpoints.clear().unwrap();
    checkpoints.clear().unwrap();
    assert_eq!(checkpoints.latest().unwrap(), None);
}

#[test]
fn strange_names_among_checkpoints_are_ignored() {
    let place = Place::new();
    let store = place.store();
    let checkpoints = store.checkpoints(key(0), "cpu");
    let newest = checkpoints.save(|dir| fs::write(dir.join("state"), "x")).unwrap();
    for name in ["18446744073709551615", "latest", "-1"] {
        fs::create_dir(newest.with_file_name(name)).unwrap();
    }
    assert_eq!(checkpoints.latest().unwrap().unwrap(), newest);
    let next = checkpoints.save(|dir| fs::write(dir.join("state"), "y")).unwrap();
    assert!(next.ends_with("00000002"), "{next:?}");
}
