//! The bytes of a journal. Pure.
//!
//! A segment begins with [`Header`]; records follow, each with its length and its CRC-32. Numbers are little-endian.

use super::definition::Definition;
use super::merge::Key;

/// The first bytes of a segment.
const MAGIC: &[u8; 8] = b"pgweirJ1";

/// A header's size: magic, journal, number, size of the segment before it, checksum.
pub(super) const HEADER: usize = 8 + 16 + 8 + 8 + 4;

/// Longest record. What claims to be longer is none.
const LONGEST: usize = 1 << 20;

/// What a segment begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Of which journal it is.
    pub(super) journal: [u8; 16],
    /// Its place in it.
    pub(super) number: u64,
    /// How many bytes of the one before it count.
    pub(super) before: u64,
}

impl Header {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&self.journal);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// None: that is no segment of a journal.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (covered, checksum) = bytes.get(..HEADER)?.split_last_chunk::<4>()?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let rest = covered.strip_prefix(MAGIC)?;
        let (journal, rest) = rest.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (before, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            journal: *journal,
            number: u64::from_le_bytes(*number),
            before: u64::from_le_bytes(*before),
        })
    }
}

/// What is written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// From here on an account has that number.
    Account(u32, Definition),
    /// An increment: its account, its number there, its row, and what that gets.
    Increment(u32, u64, Vec<Key>, Vec<i64>),
    /// Up to that number an account's increments are committed.
    Applied(u32, u64),
    /// The numbers of an account above the one, up to the other, are nobody's.
    Void(u32, u64, u64),
    /// What stands before it is on disk.
    Synced,
}

/// The size of [`Record::Synced`].
pub(super) const SYNCED: usize = 8 + 1 + 8;

/// What it says: nothing else looks like it by chance.
const MARK: &[u8; 9] = b"M\x8bpgweir\xf5";

/// Whether what stands behind `at` shows that it was on disk before that was written: then it was whole once.
pub(super) fn is_synced_behind(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    memchr::memmem::find_iter(rest, MARK)
        .filter_map(|place| rest.get(place.checked_sub(8)?..))
        .any(|rest| matches!(Record::read(rest), Ok(Some((Record::Synced, _)))))
}

/// There is no whole record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

impl Record {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Account(account, definition) => frame(out, |out| {
                out.push(b'S');
                out.extend_from_slice(&account.to_le_bytes());
                out.extend_from_slice(&serde_json::to_vec(definition).unwrap_or_default());
            }),
            Self::Increment(account, number, key, amounts) => increment(out, *account, *number, key, amounts),
            Self::Applied(account, number) => frame(out, |out| {
                out.push(b'A');
                out.extend_from_slice(&account.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
            }),
            Self::Void(account, from, to) => frame(out, |out| {
                out.push(b'V');
                out.extend_from_slice(&account.to_le_bytes());
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&to.to_le_bytes());
            }),
            Self::Synced => frame(out, |out| out.extend_from_slice(MARK)),
        }
    }

    /// The record at the front, and its size; none: there are no more bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, Broken> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or(Broken)?;
        let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(Broken)?;
        let size = u32::from_le_bytes(*size) as usize;
        let payload = rest.get(..size).filter(|_| size <= LONGEST).ok_or(Broken)?;
        if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
            return Err(Broken);
        }
        let record = Self::parse(payload).ok_or(Broken)?;
        Ok(Some((record, 8 + size)))
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        if payload == MARK {
            return Some(Self::Synced);
        }
        let (kind, rest) = payload.split_first()?;
        let (account, mut rest) = rest.split_first_chunk::<4>()?;
        let account = u32::from_le_bytes(*account);
        match kind {
            b'S' => Some(Self::Account(account, serde_json::from_slice(rest).ok()?)),
            b'A' => Some(Self::Applied(account, u64::from_le_bytes(*rest.first_chunk::<8>()?))),
            b'V' => {
                let from = u64::from_le_bytes(*take(&mut rest)?);
                Some(Self::Void(account, from, u64::from_le_bytes(*take(&mut rest)?)))
            }
            b'I' => {
                let number = u64::from_le_bytes(*take(&mut rest)?);
                let [keys, amounts] = *take::<2>(&mut rest)?;
                let mut key = Vec::with_capacity(keys.into());
                for _ in 0..keys {
                    key.push(match take::<1>(&mut rest)? {
                        [0] => Key::Number(i64::from_le_bytes(*take(&mut rest)?)),
                        [1] => {
                            let size = u32::from_le_bytes(*take(&mut rest)?) as usize;
                            let (text, after) = rest.split_at_checked(size)?;
                            rest = after;
                            Key::Text(str::from_utf8(text).ok()?.into())
                        }
                        _ => return None,
                    });
                }
                let mut all = Vec::with_capacity(amounts.into());
                for _ in 0..amounts {
                    all.push(i64::from_le_bytes(*take(&mut rest)?));
                }
                rest.is_empty().then_some(Self::Increment(account, number, key, all))
            }
            _ => None,
        }
    }
}

/// [`Record::Increment`], without owning what it is made of.
pub(super) fn increment(out: &mut Vec<u8>, account: u32, number: u64, key: &[Key], amounts: &[i64]) {
    frame(out, |out| {
        out.push(b'I');
        out.extend_from_slice(&account.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
        out.push(u8::try_from(amounts.len()).unwrap_or(u8::MAX));
        for key in key {
            match key {
                Key::Number(number) => {
                    out.push(0);
                    out.extend_from_slice(&number.to_le_bytes());
                }
                Key::Text(text) => {
                    out.push(1);
                    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        amounts.iter().for_each(|amount| out.extend_from_slice(&amount.to_le_bytes()));
    });
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(taken)
}

/// Puts length and checksum before what is written.
fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    payload(out);
    let written = out.get(start + 8..).unwrap_or_default();
    let size = u32::try_from(written.len()).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = crc32fast::hash(written).to_le_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&size);
    }
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&checksum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> Vec<Record> {
        let definition = Definition {
            entry: "app".into(),
            database: "app".into(),
            user: "web".into(),
            parameters: vec![("client_encoding".into(), "UTF8".into())],
            schema: "public".into(),
            table: "photos".into(),
            key: vec!["id".into(), "path".into()],
            columns: vec![("votes".into(), true)],
            touch: Vec::new(),
            upsert: false,
            ledger: "public.pgweir_ledger".into(),
        };
        vec![
            Record::Account(3, definition),
            Record::Increment(3, 17, vec![Key::Number(-7), Key::Text("it's".into())], vec![1, i64::MIN]),
            Record::Increment(3, 18, Vec::new(), Vec::new()),
            Record::Synced,
            Record::Void(3, 18, 20),
            Record::Applied(3, 17),
        ]
    }

    fn written() -> Vec<u8> {
        let mut out = Vec::new();
        records().iter().for_each(|record| record.write(&mut out));
        out
    }

    fn read(mut bytes: &[u8]) -> (Vec<Record>, Result<(), Broken>) {
        let mut all = Vec::new();
        loop {
            match Record::read(bytes) {
                Ok(None) => return (all, Ok(())),
                Ok(Some((record, size))) => {
                    all.push(record);
                    bytes = &bytes[size..];
                }
                Err(broken) => return (all, Err(broken)),
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&written()), (records(), Ok(())));
        let header = Header { journal: [7; 16], number: 3, before: 99 };
        assert_eq!(Header::read(&header.write()), Some(header));
        assert_eq!(header.write().len(), HEADER);
    }

    #[test]
    fn what_was_on_disk_is_known() {
        let whole = written();
        let mut mark = Vec::new();
        Record::Synced.write(&mut mark);
        assert_eq!(mark.len(), SYNCED);
        let at = memchr::memmem::find(&whole, &mark).unwrap();
        assert!(is_synced_behind(&whole, 0) && is_synced_behind(&whole, at));
        assert!(!is_synced_behind(&whole, at + 1));
    }

    #[test]
    fn a_torn_tail_is_seen_at_each_byte() {
        let whole = written();
        let ends: Vec<usize> = (0..=records().len())
            .map(|count| {
                let mut out = Vec::new();
                records().iter().take(count).for_each(|record| record.write(&mut out));
                out.len()
            })
            .collect();
        for end in 0..whole.len() {
            let (all, outcome) = read(&whole[..end]);
            assert_eq!(all.len(), ends.iter().filter(|known| **known <= end).count() - 1);
            assert_eq!(outcome.is_ok(), ends.contains(&end), "{end}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_seen(at in 0..written().len(), bit in 0..8_u32) {
            let mut bytes = written();
            bytes[at] ^= 1 << bit;
            let (all, outcome) = read(&bytes);
            prop_assert!(outcome.is_err());
            prop_assert_eq!(&all[..], &records()[..all.len()]);
        }

        #[test]
        fn garbage_is_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::read(&bytes);
            prop_assert_eq!(Header::read(&bytes), None);
        }
    }
}
