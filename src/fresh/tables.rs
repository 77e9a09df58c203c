//! Sets of tables in 64 bits, and who wrote to which of them last. A table has one bit of 63, by its name: two tables of one
//! bit are taken for one, which can only make a read stricter.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::track::Ticket;

/// A set of tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tables(u64);

impl Tables {
    /// No table.
    pub const NONE: Tables = Tables(0);
    /// What names mean: every read depends on it, and only what may reach any table changes it.
    pub const DEFINITIONS: Tables = Tables(1);
    /// Any table: it is not known which.
    pub const ALL: Tables = Tables(u64::MAX);

    /// The table of that name, in whichever schema.
    #[must_use]
    pub fn named(name: &[u8]) -> Tables {
        // FNV-1a: the same in each process.
        let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Tables(2 << ((hash >> 32) % 63))
    }

    /// The tables of both.
    #[must_use]
    pub fn and(self, other: Tables) -> Tables {
        Tables(self.0 | other.0)
    }

    /// Whether a table may be in both.
    #[must_use]
    pub fn meets(self, other: Tables) -> bool {
        self.0 & other.0 & !Self::DEFINITIONS.0 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// When tables were written last, as far as it was through this pgweir.
#[derive(Debug)]
pub struct Writes {
    /// By bit: one more than the ticket; 0: never.
    last: [AtomicU64; 64],
}

impl Default for Writes {
    fn default() -> Self {
        Self { last: [const { AtomicU64::new(0) }; 64] }
    }
}

impl Writes {
    /// These were written, and it was acknowledged by then.
    pub fn note(&self, tables: Tables, by: Ticket) {
        for (place, last) in self.last.iter().enumerate() {
            if tables.0 & (1 << place) != 0 {
                last.fetch_max(by.0 + 1, SeqCst);
            }
        }
    }

    /// By when the last write to one of these was acknowledged; none: there was none.
    #[must_use]
    pub fn last(&self, tables: Tables) -> Option<Ticket> {
        let (mut bits, mut last) = (tables.0, 0);
        while let Some(slot) = self.last.get(bits.trailing_zeros() as usize) {
            last = slot.load(SeqCst).max(last);
            bits &= bits - 1;
        }
        last.checked_sub(1).map(Ticket)
    }
}
