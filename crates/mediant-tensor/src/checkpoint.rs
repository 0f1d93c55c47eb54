//! The state of a training in one file, bit for bit: named f32 tensors and named lists of u64 (counters, places in random
//! streams). The file is safetensors without metadata, so equal states are equal bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::{Error, Result};

/// What [`save`] writes, borrowed from where it lives, or fetched from a device.
#[derive(Default)]
pub struct State<'a> {
    tensors: BTreeMap<String, (Vec<usize>, Cow<'a, [f32]>)>,
    words: BTreeMap<String, Vec<u64>>,
}

impl<'a> State<'a> {
    /// Adds a tensor; `data` holds the product of `shape`, row-major.
    pub fn tensor(&mut self, name: impl Into<String>, shape: &[usize], data: impl Into<Cow<'a, [f32]>>) {
        let data = data.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "a tensor holds what its shape says");
        self.tensors.insert(name.into(), (shape.to_vec(), data));
    }

    /// Adds a list of numbers.
    pub fn words(&mut self, name: impl Into<String>, words: &[u64]) {
        self.words.insert(name.into(), words.to_vec());
    }
}

/// Writes the state to a file. Names of tensors and of words share one space; a name used for both is kept as a tensor.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn save(path: &Path, state: &State) -> Result<()> {
    let bytes: BTreeMap<&String, (Dtype, Vec<usize>, Vec<u8>)> = state
        .words
        .iter()
        .map(|(name, words)| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            (name, (Dtype::U64, vec![words.len()], bytes))
        })
        .chain(state.tensors.iter().map(|(name, (shape, data))| {
            let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name, (Dtype::F32, shape.clone(), bytes))
        }))
        .collect();
    let bad =
        |error: safetensors::SafeTensorError| Error::BadCheckpoint { path: path.to_owned(), reason: error.to_string() };
    let views = bytes
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(bad)?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let file = safetensors::serialize(views, None).map_err(bad)?;
    fs::write(path, file).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// A state read back. What is asked for is taken out; [`Checkpoint::finish`] makes sure that nothing is left over.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    words: BTreeMap<String, Vec<u64>>,
}

impl Checkpoint {
    /// Reads a file of [`save`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::BadCheckpoint`] when it is not such a file.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut checkpoint = Self { path: path.to_owned(), tensors: BTreeMap::new(), words: BTreeMap::new() };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| checkpoint.bad(error.to_string()))?;
        for (name, view) in file.iter() {
            let name = name.to_owned();
            match view.dtype() {
                Dtype::F32 => {
                    let (chunks, _) = view.data().as_chunks();
                    let data = chunks.iter().map(|&b| f32::from_le_bytes(b)).collect();
                    let shape = view.shape().to_vec();
                    checkpoint.tensors.insert(name, (shape, data));
                }
                Dtype::U64 => {
                    let (chunks, _) = view.data().as_chunks();
                    let words = chunks.iter().map(|&b| u64::from_le_bytes(b)).collect();
                    checkpoint.words.insert(name, words);
                }
                other => {
                    return Err(checkpoint.bad(format!("`{name}` holds {other:?}, not F32 or U64")));
                }
            }
        }
        Ok(checkpoint)
    }

    /// Takes a tensor out.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when it is not there or has another shape.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self.tensors.remove(name) {
            None => Err(self.bad(format!("tensor `{name}` is missing"))),
            Some((found, _)) if found != shape => {
                Err(self.bad(format!("tensor `{name}` has shape {found:?}, not {shape:?}")))
            }
            Some((_, data)) => Ok(data),
        }
    }

    /// Takes a list of exactly `N` numbers out.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when it is not there or has another length.
    pub fn words<const N: usize>(&mut self, name: &str) -> Result<[u64; N]> {
        let words = self.word_list(name)?;
        let found = words.len();
        words.try_into().map_err(|_| self.bad(format!("`{name}` holds {found} numbers, not {N}")))
    }

    /// Takes a list of any length out.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when it is not there.
    pub fn word_list(&mut self, name: &str) -> Result<Vec<u64>> {
        let words = self.words.remove(name);
        words.ok_or_else(|| self.bad(format!("numbers `{name}` are missing")))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when something was not taken out: the state is then not that of this training.
    pub fn finish(self) -> Result<()> {
        match self.tensors.keys().chain(self.words.keys()).next() {
            Some(name) => Err(self.bad(format!("`{name}` is not part of this training"))),
            None => Ok(()),
        }
    }

    fn bad(&self, reason: String) -> Error {
        Error::BadCheckpoint { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Checkpoint, State, save};
    use crate::Error;

    const ODD: [f32; 6] = [0.0, -0.0, f32::NAN, f32::MIN_POSITIVE / 2.0, f32::INFINITY, 0.1];

    fn written() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.safetensors");
        let mut state = State::default();
        state.tensor("w", &[2, 3], &ODD);
        state.tensor("none", &[0], Vec::new());
        state.words("cursor", &[u64::MAX, 0, 7]);
        save(&path, &state).unwrap();
        (dir, path)
    }

    #[test]
    fn state_comes_back_bit_for_bit() {
        let (_dir, path) = written();
        let mut back = Checkpoint::load(&path).unwrap();
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.tensor("w", &[2, 3]).unwrap()), bits(&ODD));
        assert!(back.tensor("none", &[0]).unwrap().is_empty());
        assert_eq!(back.words::<3>("cursor").unwrap(), [u64::MAX, 0, 7]);
        back.finish().unwrap();
    }

    #[test]
    fn what_was_not_asked_for_in_the_right_form_is_an_error() {
        let (_dir, path) = written();
        let message = |error: Error| error.to_string();
        let load = || Checkpoint::load(&path).unwrap();
        assert!(message(load().tensor("w", &[6]).unwrap_err()).contains("[2, 3]"));
        assert!(message(load().tensor("v", &[6]).unwrap_err()).contains("`v` is missing"));
        assert!(message(load().words::<2>("cursor").unwrap_err()).contains("3 numbers"));
        assert!(message(load().finish().unwrap_err()).contains("not part of"));
    }

    #[test]
    fn hostile_files_are_errors() {
        let (_dir, path) = written();
        let good = std::fs::read(&path).unwrap();
        // Every truncation, and every single byte of the header changed.
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(Checkpoint::load(&path).is_err(), "cut at {len}");
        }
        let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        for at in 0..header {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            std::fs::write(&path, &bad).unwrap();
            assert!(Checkpoint::load(&path).is_err(), "changed at {at}");
        }
        std::fs::write(&path, (1u64 << 60).to_le_bytes()).unwrap();
        assert!(Checkpoint::load(&path).is_err());
        assert!(matches!(Checkpoint::load(_dir.path()), Err(Error::Io { .. })));
    }
}
