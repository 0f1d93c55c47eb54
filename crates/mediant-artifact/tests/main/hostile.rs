//! Damaged and lying files give errors or the right rows, never a panic.

use std::path::Path;
use std::sync::LazyLock;

use mediant_artifact::{Artifact, DType, Digest, Kind, Manifest, read_prompts};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::effects;
use crate::prompts;
use crate::support::{files, write_rows, write_vectors};

/// The files of an artifact, written once for all cases.
struct Original {
    files: Vec<(String, Vec<u8>)>,
    part: String,
}

impl Original {
    /// An artifact of which the first part of a table will be damaged.
    fn new(table: &str, write: impl FnOnce(&Path) -> Manifest) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write(dir.path());
        Self::of(table, &manifest, dir.path())
    }

    fn of(table: &str, manifest: &Manifest, dir: &Path) -> Self {
        Self { files: files(dir), part: manifest.tables[table].parts[0].file.clone() }
    }

    /// A copy with a damaged part. With `lies`, the manifest has its size and digest.
    fn damaged(&self, damage: &[Damage], lies: bool) -> (TempDir, Artifact) {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = None;
        for (name, bytes) in &self.files {
            let mut bytes = bytes.clone();
            if *name == self.part {
                damage.iter().for_each(|damage| damage.apply(&mut bytes));
                manifest = Some((bytes.len() as u64, Digest::of(&bytes)));
            }
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        if let (Some((size, digest)), true) = (manifest, lies) {
            let mut manifest = Manifest::read(dir.path()).unwrap();
            let parts = manifest.tables.values_mut().flat_map(|table| &mut table.parts);
            for part in parts.filter(|part| part.file == self.part) {
                (part.bytes, part.blake3) = (size, digest);
            }
            std::fs::write(dir.path().join("manifest.json"), manifest.to_json().unwrap()).unwrap();
        }
        let artifact = Artifact::open(dir.path()).unwrap();
        (dir, artifact)
    }
}

static VECTORS: LazyLock<Original> = LazyLock::new(|| {
    Original::new("v", |dir| write_vectors(dir, 90, &[1_000], DType::F32, 90, 1 << 16).manifest().clone())
});
static ROWS: LazyLock<Original> = LazyLock::new(|| Original::new("rows", |dir| write_rows(dir, 300, 300, 1 << 16)));

/// Every table of prompts and of effects.
static KINDS: LazyLock<Vec<Original>> = LazyLock::new(|| {
    let all = [prompts::written(40), effects::written(5, 40)];
    let originals = all.iter().flat_map(|(dir, artifact)| {
        artifact.table_names().map(|table| Original::of(table, artifact.manifest(), dir.path()))
    });
    originals.collect()
});

/// A change to a file.
#[derive(Clone, Debug)]
enum Damage {
    Flip { from_end: usize, bits: u8 },
    Truncate { bytes: usize },
    Fill { from_end: usize, count: usize, with: u8 },
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match *self {
            Self::Flip { from_end, bits } => bytes[length - 1 - from_end % length] ^= bits,
            Self::Truncate { bytes: cut } => bytes.truncate(length - cut % length),
            Self::Fill { from_end, count, with } => {
                let start = length - 1 - from_end % length;
                let end = length.min(start + count);
                bytes[start..end].fill(with);
            }
        }
    }
}

/// Mostly in the last thousand bytes, where footer and page index are.
fn damage() -> impl Strategy<Value = Damage> {
    let place = || prop_oneof![4 => 0..1_000usize, 1 => any::<usize>()];
    prop_oneof![
        4 => (place(), 1u8..).prop_map(|(from_end, bits)| Damage::Flip { from_end, bits }),
        1 => place().prop_map(|bytes| Damage::Truncate { bytes }),
        1 => (place(), 1..16usize, prop::sample::select(vec![0u8, 0x7f, 0xff]))
            .prop_map(|(from_end, count, with)| Damage::Fill { from_end, count, with }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn damaged_vectors_are_found(damage in prop::collection::vec(damage(), 1..3)) {
        let (_dir, artifact) = VECTORS.damaged(&damage, false);
        if let Err(error) = artifact.verify() {
            prop_assert!(error.to_string().contains("v-00000.parquet"), "{error}");
        } else {
            prop_assert!(harmless(&VECTORS, &damage), "the digest of the file does not see it");
        }
        // An error, or rows, some of which may differ, within the file.
        let (_dir, artifact) = VECTORS.damaged(&damage, true);
        if let Ok(vectors) = artifact.vectors("v") {
            let mut out = vec![0.0; 90 * 1_000];
            vectors.range_f32(0..90, &mut out).unwrap();
            (0..90).for_each(|row| assert_eq!(vectors.row(row).unwrap().len(), 4_000));
        }
    }

    #[test]
    fn damaged_tables_are_found(damage in prop::collection::vec(damage(), 1..3)) {
        let (_dir, artifact) = ROWS.damaged(&damage, false);
        prop_assert!(artifact.verify().is_err() || harmless(&ROWS, &damage));
        let (_dir, artifact) = ROWS.damaged(&damage, true);
        let _either = artifact.read("rows");
    }

    #[test]
    fn damaged_kinds_do_not_panic(damage in prop::collection::vec(damage(), 1..3), which in 0..7usize) {
        let (_dir, artifact) = KINDS[which].damaged(&damage, true);
        let _either = match artifact.kind() {
            Kind::Prompts => read_prompts(&artifact).map(drop),
            _ => effects::read(&artifact).map(drop),
        };
    }
}

/// Damage that undoes itself.
fn harmless(original: &Original, damage: &[Damage]) -> bool {
    let (_, whole) = original.files.iter().find(|(name, _)| *name == original.part).unwrap();
    let mut bytes = whole.clone();
    damage.iter().for_each(|damage| damage.apply(&mut bytes));
    bytes == *whole
}
