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

    /// Whether it holds as many bytes as it may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= WINDOW
    }

    /// Drops `n` bytes from the front.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Drops `n` bytes that stand at `at`.
    pub fn cut_out(&mut self, at: usize, n: usize) {
        if at == 0 {
            return self.consume(n);
        }
        let from = (self.start + at).min(self.end);
        let to = (from + n).min(self.end);
        self.data.copy_within(to..self.end, from);
        self.end -= to - from;
    }

    /// Puts another byte at `at`.
    pub fn replace(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.data.get_mut(self.start..self.end).and_then(|bytes| bytes.get_mut(at)) {
            *place = byte;
        }
    }

    /// Puts bytes back before all others. It may hold more than [`WINDOW`] then, until they are consumed.
    pub fn prepend(&mut self, bytes: &[u8]) {
        let (had, more) = (self.len(), bytes.len());
        if had + more > self.data.len() {
            let mut data = vec![0; had + more].into_boxed_slice();
            if let Some(place) = data.get_mut(more..) {
                place.copy_from_slice(self.bytes());
            }
            self.data = data;
        } else {
            self.data.copy_within(self.start..self.end, more);
        }
        (self.start, self.end) = (0, had + more);
        if let Some(place) = self.data.get_mut(..more) {
            place.copy_from_slice(bytes);
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
        // One that had to grow is not worth keeping.
        if window.data.len() != WINDOW {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(window.data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_cut_out_and_put_back() {
        let buffers = Buffers::new(1);
        let mut window = buffers.take();
        window.prepend(b"one two three");
        window.cut_out(4, 4);
        assert_eq!(window.bytes(), b"one three");
        window.consume(4);
        window.prepend(b"zero ");
        assert_eq!(window.bytes(), b"zero three");
        window.cut_out(0, 5);
        assert_eq!(window.bytes(), b"three");
        assert!(!window.is_full());
        window.prepend(&[b'x'; WINDOW]);
        assert_eq!((window.len(), window.bytes().last()), (WINDOW + 5, Some(&b'e')));
        assert!(window.is_full());
        buffers.give(window);
        assert_eq!(buffers.take().data.len(), WINDOW);
    }
}
