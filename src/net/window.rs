//! A fixed piece of memory that a socket is read into, and the free list that windows come from.
//!
//! Invariants: `start <= end <= WINDOW`; a connection holds at most one window for each direction, and none while it is
//! idle. Bytes are judged and forwarded in place; what is left over is moved to the front only when room is needed.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use super::Stream;

/// Size of a window in bytes. Two of them, one for each direction, and the small queues beside them keep an active
/// connection under 256 KiB; larger ones did not move large results faster.
pub const WINDOW: usize = 64 * 1024;

/// Unread bytes from a peer.
#[derive(Debug)]
pub struct Window {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Window {
    /// The bytes that are there.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes are there.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no bytes are there.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether it holds as many bytes as it can.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.data.len()
    }

    /// Drops `n` bytes from the front.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// One read into the free room; zero bytes: the peer has closed. A full window reads nothing: ask [`Self::is_full`].
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<usize>> {
        // A small gap at the end makes for small reads: move what is left to the front first.
        if self.start > 0 && self.data.len() - self.end < self.data.len() / 4 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.data.get_mut(self.end..).unwrap_or_default();
        let n = ready!(stream.poll_read(cx, room))?;
        self.end += n;
        Poll::Ready(Ok(n))
    }
}

/// Windows that nobody uses at the moment, last in first out, so that a warm one is handed out again.
#[derive(Debug)]
pub struct Buffers {
    free: Mutex<Vec<Box<[u8]>>>,
    keep: usize,
}

impl Buffers {
    /// A free list that keeps at most `keep` windows.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { free: Mutex::new(Vec::new()), keep }
    }

    /// An empty window.
    #[must_use]
    pub fn take(&self) -> Window {
        let data = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let data = data.unwrap_or_else(|| vec![0; WINDOW].into_boxed_slice());
        Window { data, start: 0, end: 0 }
    }

    /// Takes a window back. Its bytes are not wiped: nobody reads beyond what was read into it.
    pub fn give(&self, window: Window) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(window.data);
        }
    }
}
