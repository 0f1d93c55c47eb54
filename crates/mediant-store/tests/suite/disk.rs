//! Disks that are full or cannot be written. Real ones, where the system lets us have them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mediant_store::{Error, Id, ObjectState, StatIndex, Store};

use super::common::{Place, check, finish, key, names, output, publish, try_publish};

/// A file system in memory of one megabyte; `None` where only root may mount, or not even root.
struct SmallDisk {
    path: PathBuf,
    _place: Place,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let place = Place::new();
        let path = place.path().join("disk");
        fs::create_dir(&path).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &path);
        if !mounted {
            eprintln!("skipped: mounting a small tmpfs is not permitted here");
        }
        mounted.then_some(Self { path, _place: place })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    Command::new("mount").args(arguments).arg(path).output().is_ok_and(|output| output.status.success())
}

/// In a process of its own: a file removed here keeps its space for as long as a process that another test is just
/// starting holds a copy of its descriptor.
#[test]
fn a_full_disk_is_said_in_words_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let store = Store::open(&disk.path.join("store")).unwrap();
    let status = super::child::start("fill", &store).wait().unwrap();
    assert!(status.success(), "see above what the child said");
}

/// What the child does with a disk of one megabyte, to which its store belongs.
pub(crate) fn fill(store: &Store) {
    let disk = store.root().parent().unwrap();
    let record = finish(store, key(0), "a");
    fs::write(disk.join("ballast"), vec![0; 900 << 10]).unwrap();

    // In the middle of a checkpoint.
    let checkpoints = store.checkpoints(key(1), "cpu");
    let error = checkpoints.save(|dir| fs::write(dir.join("state"), vec![0; 1 << 20])).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("nothing finished was lost"), "{error}");
    assert_eq!(checkpoints.latest().unwrap(), None);
    let tmp = store.root().join("tmp");
    let staged: Vec<String> = names(&tmp).iter().flat_map(|process| names(&tmp.join(process))).collect();
    assert_eq!(staged, ["lock"]);

    // To the last byte: everything that writes says so.
    let mut rest = fs::File::create(disk.join("rest")).unwrap();
    while std::io::Write::write_all(&mut rest, &[0; 512]).is_ok() {}
    let full = |error: Error| assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    full(store.pin(key(0), "pin").unwrap_err());
    full(store.replace_action(key(2), &record).unwrap_err());
    full(store.saw_lock_file(Path::new("x.lock"), &[key(0)]).unwrap_err());
    full(store.create_run("p").and_then(|run| run.keep(&[key(0)])).unwrap_err());
    let stats = StatIndex::load(store);
    stats.digest_file(&disk.join("ballast")).unwrap();
    full(stats.save().unwrap_err());

    // What was finished is as it was, and with room the work goes on.
    assert_eq!(store.read_action(key(0)).unwrap(), Some(record.clone()));
    assert_eq!(check(store, output(&record), &stats), ObjectState::Intact);
    drop(rest);
    fs::remove_file(disk.join("rest")).unwrap();
    fs::remove_file(disk.join("ballast")).unwrap();
    finish(store, key(1), "b");
    stats.save().unwrap();
}

#[test]
fn a_store_on_a_read_only_disk_reads_and_refuses_to_write_in_words() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let root = disk.path.join("store");
    let record = finish(&Store::open(&root).unwrap(), key(0), "a");
    assert!(mount(&["-o", "remount,ro"], &disk.path));
    let store = Store::open(&root).unwrap();
    assert!(store.is_read_only());
    reads(&store, &record);

    let refused = |error: Error| {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("--store DIR"), "{error}");
    };
    refused(store.stage_dir("x").unwrap_err());
    refused(try_publish(&store, "b").unwrap_err());
    refused(store.write_action(key(1), &record).unwrap_err());
    refused(store.lock_action(key(1), || ()).unwrap_err());
    refused(store.create_run("p").unwrap_err());
    refused(store.pin(key(0), "x").unwrap_err());
    refused(store.exclusive_lock(|| ()).unwrap_err());
    refused(store.checkpoints(key(0), "cpu").save(|_| Ok(())).unwrap_err());
    refused(Store::open(&disk.path.join("another")).unwrap_err());
}

/// Everything that a look at finished work needs.
fn reads(store: &Store, record: &mediant_store::ActionRecord) {
    let _run = store.shared_lock(|| ()).unwrap();
    assert_eq!(store.read_action(key(0)).unwrap().as_ref(), Some(record));
    let stats = StatIndex::load(store);
    assert_eq!(check(store, output(record), &stats), ObjectState::Intact);
    stats.save().unwrap();
    assert!(store.runs().unwrap().is_empty());
    assert!(store.plan_gc(&super::common::no_grace()).is_ok());
    assert_eq!(store.checkpoints(key(0), "cpu").latest().unwrap(), None);
    // Damage is said, not moved.
    let damaged = Id::of(b"no such object");
    assert_eq!(store.quarantine(damaged, "a test").unwrap(), None);
}

/// Root may write anywhere, so the store is used by a user who may not.
#[test]
fn a_store_of_somebody_else_refuses_to_be_written_in_words() {
    let place = Place::new();
    let store = place.store();
    publish(&store, "b");
    let root = store.root().to_owned();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in names(&root).iter().map(|name| root.join(name)).filter(|path| path.is_dir()).chain([root.clone()]) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let mut command = super::child::command("write", &store);
    if rustix::process::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: another user may not run this test's program");
        return;
    };
    let said = super::child::hear(&mut child, "REFUSED");
    assert!(said.contains("the store is read-only") && said.contains("MEDIANT_STORE"), "{said}");
    child.wait().unwrap();
}
