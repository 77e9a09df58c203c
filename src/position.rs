//! Where in the write-ahead log something stands: a position is never a time.

use std::fmt;
use std::str::FromStr;

use crate::clock::Duration;

/// A byte of the write-ahead log, printed as PostgreSQL prints it: `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

/// A position and the timeline that it is on, printed as `timeline:lsn`: `3:16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// The timeline, from 1.
    pub timeline: u32,
    /// The place.
    pub lsn: Lsn,
}

/// How much of the log a primary has on disk. A commit that was acknowledged is there within that time, and at once unless
/// `synchronous_commit` is off (PostgreSQL docs, "Asynchronous Commit": three times `wal_writer_delay`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// Up to there.
    pub lsn: Lsn,
    /// See above.
    pub within: Duration,
}

/// How far a server has come, as it says itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// What a primary has written, or a replica replayed; none where it is not known.
    pub position: Option<Lsn>,
    /// What of that a primary has on disk; none where it is not known.
    pub flushed: Option<Flushed>,
    /// What a replica has received and has on disk (`pg_last_wal_receive_lsn()`); none where it has received nothing since its start.
    pub received: Option<Lsn>,
}

/// It is not written like a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a position")]
pub struct NoPosition;

/// A page of the log, and what stands at its beginning, and at that of a segment (`XLOG_BLCKSZ`, `SizeOfXLogShortPHD`,
/// `SizeOfXLogLongPHD`).
const PAGE: u64 = 8192;
const PAGE_HEADER: u64 = 24;
const SEGMENT_HEADER: u64 = 40;

impl Lsn {
    /// An insert position as the end of what was written. On a page that nothing was written to, PostgreSQL gives the place
    /// behind the page's header, which no replica replays to before something is: so after each switch of segments. `segment` is
    /// the size of one; 0: not known.
    #[must_use]
    pub fn end_of_written(self, segment: u64) -> Lsn {
        let header = match self.0.checked_rem(segment) {
            Some(SEGMENT_HEADER) => SEGMENT_HEADER,
            _ if self.0 % PAGE == PAGE_HEADER => PAGE_HEADER,
            _ => 0,
        };
        Lsn(self.0 - header)
    }

    /// How many bytes it is behind another; 0 if it is not.
    #[must_use]
    pub fn behind(self, other: Lsn) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.timeline, self.lsn)
    }
}

impl FromStr for Lsn {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let half = |text: &str| {
            let digits = text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            u32::from_str_radix(text, 16).ok().filter(|_| digits).ok_or(NoPosition)
        };
        let (high, low) = text.split_once('/').ok_or(NoPosition)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (timeline, lsn) = text.split_once(':').ok_or(NoPosition)?;
        let digits = timeline.bytes().all(|byte| byte.is_ascii_digit());
        let timeline = timeline.parse().ok().filter(|number| digits && *number > 0).ok_or(NoPosition)?;
        Ok(Self { timeline, lsn: lsn.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_printed() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        let position: Position = "3:0/3000060".parse().unwrap();
        assert_eq!(
            (position.timeline, position.lsn, position.to_string().as_str()),
            (3, Lsn(0x300_0060), "3:0/3000060")
        );
        assert!("0/FF".parse::<Lsn>().unwrap() < "1/0".parse().unwrap());
        for text in ["", "0", "/", "0/", "0/123456789", "+1/0", "0/0x1", "x/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
        for text in ["0/1", "0:0/1", "+1:0/1", ":0/1", "1:0", "4294967296:0/0", "1:1:0/0"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_page_was_not_written() {
        let segment = 16 << 20;
        assert_eq!(Lsn(8192 + 24).end_of_written(segment), Lsn(8192));
        assert_eq!(Lsn(8192 + 40).end_of_written(segment), Lsn(8192 + 40));
        assert_eq!(Lsn(3 * segment + 40).end_of_written(segment), Lsn(3 * segment));
        assert_eq!(Lsn(3 * segment + 40).end_of_written(0), Lsn(3 * segment + 40));
        assert_eq!((Lsn(5).behind(Lsn(9)), Lsn(9).behind(Lsn(5))), (4, 0));
    }
}
