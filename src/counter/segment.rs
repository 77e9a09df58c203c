//! The end of the journal: the file that is being written.
//!
//! A sync of a file that has grown has to write its size and where its blocks are, too, which takes longer than the bytes themselves. So
//! room is made ahead, filled with zeros, and what is not used of it is cut off when the segment is closed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// So much room is made at a time.
const ROOM: u64 = 256 << 10;

/// A segment that is being written.
pub(super) struct Open {
    file: File,
    /// What is written ends here,
    at: u64,
    /// and the file here.
    end: u64,
}

impl Open {
    /// One that has so many bytes, all of which are on disk.
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file, at: size, end: size }
    }

    /// Puts these bytes on disk, behind all others.
    ///
    /// # Errors
    /// It may be there, or a part of it, or nothing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let to = self.at + bytes.len() as u64;
        if to > self.end {
            self.make_room(to);
        }
        self.file.write_all_at(bytes, self.at)?;
        self.file.sync_data()?;
        self.at = to;
        self.end = self.end.max(to);
        Ok(())
    }

    /// A disk that has no room for that may still have some for what is to be written.
    fn make_room(&mut self, to: u64) {
        let room = vec![0; usize::try_from(ROOM).unwrap_or_default()];
        if self.file.write_all_at(&room, to).is_ok() {
            self.end = to + ROOM;
        } else {
            let _ = self.file.set_len(self.at);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // What is read back ends before the zeros anyway.
        let _ = self.file.set_len(self.at);
    }
}

/// Whether that is room which was made and not used.
pub(super) fn is_room(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_stands_there_in_a_row_and_nothing_behind_it_in_the_end() {
        let path = std::env::temp_dir().join(format!("pgweir-segment-{}", std::process::id()));
        fs::write(&path, b"head").unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut open = Open::new(file, 4);
        let long = vec![b'x'; 300 << 10];
        let mut expected = b"head".to_vec();
        for bytes in [b"one".as_slice(), b"two", &long, b"three"] {
            open.write(bytes).unwrap();
            expected.extend_from_slice(bytes);
            let there = fs::read(&path).unwrap();
            assert!(there.starts_with(&expected) && is_room(&there[expected.len()..]));
            assert!(there.len() > expected.len(), "room is made");
        }
        drop(open);
        assert!(fs::read(&path).unwrap() == expected);
        fs::remove_file(&path).unwrap();
    }
}
