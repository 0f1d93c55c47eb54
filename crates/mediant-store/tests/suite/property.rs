//! Any sequence of work, damage and gc, against a model that fits in a few maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use mediant_store::{Id, ObjectState, OutputRecord, StatIndex, Store, Written};
use proptest::prelude::*;

use super::common::{MANIFEST, PART, Place, check, finish, key, names, no_grace, output, part_path, publish, record};

const KEYS: usize = 4;
const VALUES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A stage that gives this value: a hit, or work.
    Run {
        key: usize,
        value: usize,
    },
    /// The same, though there is a result.
    Force {
        key: usize,
        value: usize,
    },
    Damage {
        value: usize,
        how: How,
    },
    DamageRecord {
        key: usize,
    },
    Pin {
        key: usize,
    },
    Unpin {
        key: usize,
    },
    Gc,
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Flip,
    Truncate,
    LoseManifest,
    LosePart,
    LoseAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        Just(How::Flip),
        Just(How::Truncate),
        Just(How::LoseManifest),
        Just(How::LosePart),
        Just(How::LoseAll)
    ];
    let step = prop_oneof![
        6 => (0..KEYS, 0..VALUES).prop_map(|(key, value)| Step::Run { key, value }),
        2 => (0..KEYS, 0..VALUES).prop_map(|(key, value)| Step::Force { key, value }),
        2 => (0..VALUES, how).prop_map(|(value, how)| Step::Damage { value, how }),
        1 => (0..KEYS).prop_map(|key| Step::DamageRecord { key }),
        2 => (0..KEYS).prop_map(|key| Step::Pin { key }),
        1 => (0..KEYS).prop_map(|key| Step::Unpin { key }),
        2 => Just(Step::Gc),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    records: BTreeMap<usize, usize>,
    divergent: BTreeMap<usize, BTreeSet<usize>>,
    pins: BTreeSet<usize>,
    whole: BTreeSet<usize>,
    damaged: BTreeSet<usize>,
}

impl Model {
    fn is_present(&self, value: usize) -> bool {
        self.whole.contains(&value) || self.damaged.contains(&value)
    }

    fn publish(&mut self, value: usize) {
        self.damaged.remove(&value);
        self.whole.insert(value);
    }

    fn collect(&mut self) {
        let kept: Vec<usize> = self.pins.iter().copied().collect();
        let present: BTreeSet<usize> = self.whole.union(&self.damaged).copied().collect();
        self.records.retain(|key, value| kept.contains(key) && present.contains(value));
        self.divergent.retain(|key, _| self.records.contains_key(key));
        let live: BTreeSet<usize> =
            self.records.values().copied().chain(self.divergent.values().flatten().copied()).collect();
        self.whole.retain(|value| live.contains(value));
        self.damaged.retain(|value| live.contains(value));
    }
}

struct World {
    place: Place,
    store: Store,
    stats: StatIndex,
    outputs: Vec<OutputRecord>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let place = Place::in_memory();
        let (store, elsewhere) = (place.store(), Place::in_memory());
        let outputs = (0..VALUES).map(|value| publish(&elsewhere.store(), &value.to_string())).collect();
        Self { stats: StatIndex::load(&store), place, store, outputs, model: Model::default() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Run { key: k, value } => match self.hit(k) {
                Some(found) => assert_eq!(Some(&found), self.model.records.get(&k)),
                None => self.work(k, value),
            },
            Step::Force { key: k, value } => self.work(k, value),
            Step::Damage { value, how } => self.damage(value, how),
            Step::DamageRecord { key: k } => {
                let hex = key(k).to_string();
                let path = self.store.root().join(format!("actions/{}/{}.json", &hex[..2], &hex[2..]));
                if path.exists() {
                    fs::write(path, "{}").unwrap();
                    self.model.records.remove(&k);
                }
            }
            Step::Pin { key: k } => {
                self.store.pin(key(k), "kept").unwrap();
                self.model.pins.insert(k);
            }
            Step::Unpin { key: k } => assert_eq!(self.store.unpin(key(k)).unwrap(), self.model.pins.remove(&k)),
            Step::Gc => {
                let plan = self.store.plan_gc(&no_grace()).unwrap();
                plan.execute(&self.store.exclusive_lock(|| ()).unwrap()).unwrap();
                self.model.collect();
            }
            Step::Reopen => {
                self.stats.save().unwrap();
                self.store = self.place.store();
                self.stats = StatIndex::load(&self.store);
            }
        }
    }

    /// As the engine judges a hit: the record, and objects that are intact; what is damaged is set aside.
    fn hit(&mut self, k: usize) -> Option<usize> {
        let record = self.store.read_action(key(k)).unwrap();
        assert_eq!(record.is_some(), self.model.records.contains_key(&k));
        let found = output(&record?).clone();
        let value = self.value(found.object);
        match check(&self.store, &found, &self.stats) {
            ObjectState::Intact => {
                assert!(self.model.whole.contains(&value));
                Some(value)
            }
            ObjectState::Missing => {
                assert!(!self.model.is_present(value));
                None
            }
            ObjectState::Damaged { why, .. } => {
                assert!(self.model.damaged.remove(&value));
                self.store.quarantine(found.object, &why).unwrap();
                None
            }
        }
    }

    fn work(&mut self, k: usize, value: usize) {
        let record = record(publish(&self.store, &value.to_string()), "worker");
        self.model.publish(value);
        let written = self.store.write_action(key(k), &record).unwrap();
        match self.model.records.get(&k).copied() {
            None => assert_eq!(written, Written::First),
            Some(old) if !self.model.is_present(old) => assert_eq!(written, Written::Replaced),
            Some(old) if old == value => assert_eq!(written, Written::Agrees),
            Some(_) => {
                assert!(matches!(written, Written::Divergent(_)), "{written:?}");
                self.model.divergent.entry(k).or_default().insert(value);
                return;
            }
        }
        self.model.records.insert(k, value);
    }

    fn damage(&mut self, value: usize, how: How) {
        if !self.model.is_present(value) {
            return;
        }
        let out = &self.outputs[value];
        let (object, part) = (self.store.object_path(out.object), part_path(&self.store, out));
        for path in [&object, &part] {
            if path.exists() {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let manifest = object.join(MANIFEST);
        match how {
            How::Flip if part.exists() => fs::write(&part, format!("THE rows of {value}")).unwrap(),
            How::Truncate if part.exists() => fs::write(&part, "").unwrap(),
            How::LoseManifest if manifest.exists() => fs::remove_file(manifest).unwrap(),
            How::LosePart if part.exists() => fs::remove_file(&part).unwrap(),
            How::LoseAll => {
                fs::remove_dir_all(&object).unwrap();
                self.model.whole.remove(&value);
                self.model.damaged.remove(&value);
                return;
            }
            _ => return,
        }
        self.model.whole.remove(&value);
        self.model.damaged.insert(value);
    }

    fn value(&self, object: Id) -> usize {
        self.outputs.iter().position(|output| output.object == object).unwrap()
    }

    /// What must hold after every step.
    fn inspect(&self) {
        for (value, out) in self.outputs.iter().enumerate() {
            let state = check(&self.store, out, &self.stats);
            match state {
                ObjectState::Intact => assert!(self.model.whole.contains(&value), "{value}"),
                ObjectState::Missing => assert!(!self.model.is_present(value), "{value}"),
                ObjectState::Damaged { .. } => {
                    assert!(self.model.damaged.contains(&value), "{value}");
                }
            }
        }
        assert!(names(&self.store.root().join("locks")).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_as_its_model(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.inspect();
        }
        // Whatever happened, work can be done and is then there.
        let last = finish(&world.store, key(KEYS), "last");
        prop_assert_eq!(check(&world.store, output(&last), &world.stats), ObjectState::Intact);
        prop_assert!(part_path(&world.store, output(&last)).ends_with(PART));
    }
}
