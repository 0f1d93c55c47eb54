//! Zip archives, as far as NumPy and PyTorch write them: stored or deflated entries, with or without 64-bit sizes.
//!
//! Nothing is unpacked to disk; still, names that lead elsewhere are refused. Layout: PKWARE's APPNOTE 6.3.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::input::Input;
use crate::Result;

/// An entry of an archive.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Where its bytes begin in the file.
    start: u64,
    /// Bytes there.
    stored: u64,
    /// Bytes unpacked.
    size: u64,
    deflated: bool,
    crc: u32,
}

impl Entry {
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// Largest list of entries that is read; NumPy and PyTorch need about a hundred bytes a tensor.
const LARGEST_DIRECTORY: u64 = 1 << 20;

/// Deflate cannot pack tighter than this.
const TIGHTEST: u64 = 1032;

/// Whether a file begins as an archive does.
pub(super) fn is_zip(input: &Input) -> bool {
    input.len() >= 4 && input.bytes(0, 4).is_ok_and(|bytes| bytes == *b"PK\x03\x04")
}

/// The entries of an archive by name.
///
/// # Errors
/// If it is damaged, cut off, encrypted, packed in another way, or an entry has a name that leads out of a folder.
pub(super) fn entries(input: &Input) -> Result<BTreeMap<String, Entry>> {
    let (start, bytes) = directory(input)?;
    if bytes > LARGEST_DIRECTORY {
        return Err(input.error(format!("claims a list of entries of {bytes} bytes")));
    }
    let list = input.bytes(start, bytes)?;
    let mut rest = &list[..];
    let mut entries = BTreeMap::new();
    while !rest.is_empty() {
        let (name, entry, length) = listed(rest).map_err(|why| input.error(why))?;
        let start = local(input, &entry, &name)?;
        if !input.holds(start, entry.stored) {
            return Err(input.error(format!("entry `{}` reaches beyond the end of the file", name.escape_debug())));
        }
        let shown = name.escape_debug().to_string();
        if entries.insert(name, Entry { start, ..entry }).is_some() {
            return Err(input.error(format!("the entry `{shown}` is there twice")));
        }
        rest = &rest[length..];
    }
    Ok(entries)
}

/// Where the list of entries is: start and length.
fn directory(input: &Input) -> Result<(u64, u64)> {
    const END: usize = 22;
    let tail_start = input.len().saturating_sub(END as u64 + u64::from(u16::MAX));
    let tail = input.bytes(tail_start, input.len() - tail_start)?;
    let found = (0..tail.len().saturating_sub(END - 1)).rev().find(|&at| {
        tail[at..].starts_with(b"PK\x05\x06")
            && u16_at(&tail, at + 20).is_some_and(|n| at + END + n as usize == tail.len())
    });
    let Some(at) = found else {
        return Err(input.error("is no zip archive, or is cut off: the list of entries at its end is missing"));
    };
    let damaged = || input.error("the end of the archive is damaged");
    let (bytes, start) = (u32_at(&tail, at + 12), u32_at(&tail, at + 16));
    let (bytes, start) = bytes.zip(start).ok_or_else(damaged)?;
    let end = tail_start + at as u64;
    let locator = end.checked_sub(20).map(|start| input.bytes(start, 20)).transpose()?.unwrap_or_default();
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok((start.into(), bytes.into()));
    }
    let record = u64_at(&locator, 8).ok_or_else(damaged)?;
    let record = input.bytes(record, 56)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(damaged());
    }
    let (bytes, start) = (u64_at(&record, 40), u64_at(&record, 48));
    bytes.zip(start).map(|(bytes, start)| (start, bytes)).ok_or_else(damaged)
}

/// The next entry of the list, where `start` is still that of its own header; and the length of what the list says.
fn listed(list: &[u8]) -> Result<(String, Entry, usize), String> {
    let damaged = "the list of entries is damaged";
    if !list.starts_with(b"PK\x01\x02") || list.len() < 46 {
        return Err(damaged.to_owned());
    }
    let short = |at| u16_at(list, at).unwrap_or_default();
    let word = |at| u32_at(list, at).unwrap_or_default();
    let (flags, method) = (short(8), short(10));
    let [name, extra, comment] = [short(28), short(30), short(32)].map(usize::from);
    let length = 46 + name + extra + comment;
    let (Some(name), Some(extra)) = (list.get(46..46 + name), list.get(46 + name..46 + name + extra)) else {
        return Err(damaged.to_owned());
    };
    if list.len() < length {
        return Err(damaged.to_owned());
    }
    let name = std::str::from_utf8(name).map_err(|_| "the name of an entry is not UTF-8".to_owned())?;
    let shown = name.escape_debug();
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !name.split('/').all(plain) || name.contains(['\\', '\0', ':']) {
        return Err(format!("the entry `{shown}` has a name that leads elsewhere"));
    }
    if flags & 1 != 0 {
        return Err(format!("the entry `{shown}` is encrypted"));
    }
    if method != 0 && method != 8 {
        return Err(format!("the entry `{shown}` is packed by method {method}; only stored and deflated are read"));
    }
    // Sizes and offset of more than 32 bits stand in the extra field, in this order, those that are needed.
    let mut wide = extra_field(extra, 1).unwrap_or_default();
    let mut number = |narrow: u32| -> Result<u64, String> {
        if narrow != u32::MAX {
            return Ok(narrow.into());
        }
        let (first, rest) = wide.split_first_chunk::<8>().ok_or_else(|| damaged.to_owned())?;
        wide = rest;
        Ok(u64::from_le_bytes(*first))
    };
    let (size, stored) = (number(word(24))?, number(word(20))?);
    let start = number(word(42))?;
    let deflated = method == 8;
    let possible = if deflated { size <= stored.saturating_mul(TIGHTEST) } else { size == stored };
    if !possible {
        return Err(format!("the entry `{shown}` claims {size} bytes out of {stored}"));
    }
    Ok((name.to_owned(), Entry { start, stored, size, deflated, crc: word(16) }, length))
}

/// A part of the extra field.
fn extra_field(mut extra: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (id, length) = (u16_at(extra, 0)?, u16_at(extra, 2)?);
        let data = extra.get(4..4 + length as usize)?;
        if id == wanted {
            return Some(data);
        }
        extra = &extra[4 + length as usize..];
    }
}

/// Where the bytes of an entry begin, behind its own header.
fn local(input: &Input, entry: &Entry, name: &str) -> Result<u64> {
    let header = input.bytes(entry.start, 30)?;
    let lengths = u16_at(&header, 26).zip(u16_at(&header, 28)).filter(|_| header.starts_with(b"PK\x03\x04"));
    let Some((name_length, extra_length)) = lengths else {
        return Err(input.error(format!("the header of entry `{}` is damaged", name.escape_debug())));
    };
    if input.bytes(entry.start + 30, name_length.into())? != name.as_bytes() {
        return Err(input.error(format!("entry `{}` has another name at its place", name.escape_debug())));
    }
    Ok(entry.start + 30 + u64::from(name_length) + u64::from(extra_length))
}

/// The bytes of an entry, which are what its checksum says.
///
/// # Errors
/// If they are not.
pub(super) fn read(input: &Input, entry: &Entry) -> Result<Vec<u8>> {
    let stored = input.bytes(entry.start, entry.stored)?;
    let bytes = if entry.deflated { inflate(&stored, entry.size) } else { stored };
    let mut crc = Crc::new();
    crc.update(&bytes);
    if bytes.len() as u64 != entry.size || crc.sum() != entry.crc {
        return Err(input.error("an entry of the archive is damaged: its checksum does not match"));
    }
    Ok(bytes)
}

/// The first bytes of an entry, up to `most`, unchecked.
pub(super) fn head(input: &Input, entry: &Entry, most: u64) -> Result<Vec<u8>> {
    if entry.deflated {
        // As much as could be needed, each byte taking more than one at worst.
        let stored = input.bytes(entry.start, entry.stored.min(2 * most + 1024))?;
        return Ok(inflate(&stored, most.min(entry.size)));
    }
    input.bytes(entry.start, entry.size.min(most))
}

/// Unpacks up to `most` bytes; what is damaged ends early.
fn inflate(stored: &[u8], most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut unpacked = DeflateDecoder::new(stored).take(most);
    // What could be unpacked before an error is in `bytes`; its length and checksum tell.
    let _ = unpacked.read_to_end(&mut bytes);
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes an archive of stored entries; the same entries give the same bytes. All sizes have 64 bits.
pub(super) struct Writer<W> {
    out: W,
    at: u64,
    list: Vec<u8>,
    entries: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, at: 0, list: Vec::new(), entries: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Adds an entry, given in pieces.
    pub(super) fn entry(&mut self, name: &str, pieces: &[&[u8]]) -> std::io::Result<()> {
        let size: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut crc = Crc::new();
        pieces.iter().for_each(|piece| crc.update(piece));
        // Version 4.5 for 64-bit sizes, no flags, stored, the first of January 1980.
        let mut common = [45u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat();
        common.extend(crc.sum().to_le_bytes());
        common.extend([0xff; 8]);
        common.extend((name.len() as u16).to_le_bytes());
        let start = self.at;
        let sizes = [size, size].map(u64::to_le_bytes).concat();
        self.put(
            &[&b"PK\x03\x04"[..], &common, &20u16.to_le_bytes(), name.as_bytes(), &[1, 0, 16, 0], &sizes].concat(),
        )?;
        pieces.iter().try_for_each(|piece| self.put(piece))?;
        let nothing = [0; 10];
        self.list.extend(
            [
                &b"PK\x01\x02"[..],
                &45u16.to_le_bytes(),
                &common,
                &28u16.to_le_bytes(),
                // No comment, the first disk, no attributes.
                &nothing,
                &[0xff; 4],
                name.as_bytes(),
                &[1, 0, 24, 0],
                &sizes,
                &start.to_le_bytes(),
            ]
            .concat(),
        );
        self.entries += 1;
        Ok(())
    }

    /// Writes the list of entries.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        let (start, list) = (self.at, std::mem::take(&mut self.list));
        self.put(&list)?;
        let record = self.at;
        let numbers = [self.entries, self.entries, list.len() as u64, start].map(u64::to_le_bytes).concat();
        self.put(&[&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8], &numbers].concat())?;
        self.put(&[&b"PK\x06\x07"[..], &[0; 4], &record.to_le_bytes(), &1u32.to_le_bytes()].concat())?;
        self.put(&[&b"PK\x05\x06"[..], &[0; 4], &[0xff; 12], &[0; 2]].concat())?;
        self.out.flush()
    }
}
