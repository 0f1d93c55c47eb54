//! One safetensors file, mapped or in memory. Nothing in it is believed before it is checked against the file's size.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use mediant_artifact::DType;
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError};

use crate::json::{self, Limits};
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    content: Content,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Content {
    Mapped(Mmap),
    Held(Vec<u8>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct Entry {
    format: Dtype,
    shape: Vec<usize>,
    /// In the file.
    range: Range<usize>,
}

/// A tensor in a file.
pub(crate) struct Stored<'a> {
    pub(crate) format: Dtype,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a [u8],
}

impl Stored<'_> {
    /// The format, if it is one that weights may have.
    pub(crate) fn dtype(&self) -> Option<DType> {
        match self.format {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }
}

impl Shard {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        #[expect(unsafe_code, reason = "a file can only be mapped so")]
        // SAFETY: the map is only read. Should another process cut the file meanwhile, this process ends with SIGBUS, as any
        // reader of a map does; stages run in worker processes, so that it ends the stage alone.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        Self::read(path, Content::Mapped(map))
    }

    /// A file that is in memory, with a name for messages.
    pub(crate) fn held(name: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::read(name, Content::Held(bytes))
    }

    fn read(path: &Path, content: Content) -> Result<Self> {
        let tensors = read_header(&content).map_err(|why| Error::safetensors(path, why))?;
        Ok(Self { path: path.to_owned(), content, tensors })
    }

    pub(crate) fn error(&self, why: String) -> Error {
        Error::safetensors(&self.path, why)
    }

    /// Names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<Stored<'_>> {
        let entry = self.tensors.get(name)?;
        Some(Stored { format: entry.format, shape: &entry.shape, bytes: self.content.get(entry.range.clone())? })
    }

    /// Gives the pages of a mapped tensor back; they are read again when they are needed.
    pub(crate) fn release(&self, name: &str) {
        let (Content::Mapped(map), Some(entry)) = (&self.content, self.tensors.get(name)) else { return };
        #[expect(unsafe_code, reason = "advice that drops pages is unsafe for maps that are written to")]
        // SAFETY: the map is of a file and only read, so that dropped pages come back with the same bytes.
        let advised =
            unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, entry.range.start, entry.range.len()) };
        // It is advice: where it is not taken, memory is all that is lost.
        advised.unwrap_or_default();
    }
}

/// The tensors of a file, all of which lie inside it.
fn read_header(file: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    // Before the library makes anything of the header; what has none, it refuses.
    let claimed = file.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let header = usize::try_from(claimed).ok().and_then(|length| file.get(size_of::<u64>()..)?.get(..length));
    if let Some(header) = header {
        json::check(header, Limits::HEADER).map_err(|error| format!("the header is damaged: {error}"))?;
    }
    let (length, header) = SafeTensors::read_metadata(file).map_err(|error| explain(&error, file))?;
    let start = length + size_of::<u64>();
    let place = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        // The library adds sizes up without looking for overflow, so the range is checked here again.
        let (from, to) = info.data_offsets;
        let range = start.checked_add(from).zip(start.checked_add(to)).map(|(from, to)| from..to);
        match range.filter(|range| file.get(range.clone()).is_some()) {
            Some(range) => Ok((name, Entry { format: info.dtype, shape: info.shape.clone(), range })),
            None => Err(format!("the header places tensor `{name}` outside the file")),
        }
    };
    header.tensors().into_iter().map(place).collect()
}

/// What the library found, in words that say where to look.
fn explain(error: &SafeTensorError, file: &[u8]) -> String {
    let claimed = file.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    match error {
        SafeTensorError::HeaderTooSmall => "is too short to be a safetensors file".to_owned(),
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            format!("claims a header of {claimed} bytes in a file of {}", file.len())
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("has {} bytes, which is not what its header adds up to; it may be cut off", file.len())
        }
        SafeTensorError::InvalidOffset(name) => format!("the header leaves a gap or an overlap before tensor `{name}`"),
        SafeTensorError::TensorInvalidInfo => {
            "the header gives a tensor other offsets than its shape and format need".to_owned()
        }
        other => format!("the header is damaged: {other}"),
    }
}
