//! What clients are still to hear: each has an inbox, which keeps so much of what it does not read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

/// How much of what a client has not read yet is kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Notifications.
    pub count: usize,
    /// Bytes of these.
    pub bytes: usize,
}

/// Why a client has missed notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The connection that listened was lost.
    Lost,
    /// It did not read them.
    Full,
}

/// What a message is to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    /// Somebody else's.
    Others,
    /// One of its own, which it waits for.
    Own,
    /// A place between the others, which it waits for and is not told.
    Mark,
}

#[derive(Debug, Default)]
struct Mail {
    queue: VecDeque<(Bytes, Letter)>,
    bytes: usize,
    /// So many were taken out.
    taken: u64,
    /// What the client has said and waits for, and was heard where it does not listen itself.
    receipts: Vec<Bytes>,
    missed: Option<Missed>,
    waker: Option<Waker>,
}

/// What one client is still to hear.
#[derive(Debug)]
pub struct Inbox {
    limits: InboxLimits,
    mail: Mutex<Mail>,
}

impl Inbox {
    /// An empty one.
    #[must_use]
    pub fn new(limits: InboxLimits) -> Arc<Self> {
        Arc::new(Self { limits, mail: Mutex::default() })
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, message: &Bytes, own: bool) {
        let mut mail = self.mail();
        let full = mail.queue.len() >= self.limits.count || mail.bytes + message.len() > self.limits.bytes;
        if mail.missed.is_none() && full {
            mail.miss(Missed::Full);
        } else if mail.missed.is_none() {
            mail.bytes += message.len();
            let letter = if own { Letter::Own } else { Letter::Others };
            mail.queue.push_back((message.clone(), letter));
            mail.wake();
        }
    }

    /// All that was said before is there.
    pub(super) fn mark(&self, message: Bytes) {
        let mut mail = self.mail();
        mail.bytes += message.len();
        mail.queue.push_back((message, Letter::Mark));
        mail.wake();
    }

    /// Nothing more comes.
    pub(super) fn miss(&self, why: Missed) {
        self.mail().miss(why);
    }

    /// The client does not listen there, and waits for others to have that message.
    pub(super) fn receipt(&self, message: Bytes) {
        let mut mail = self.mail();
        mail.receipts.push(message);
        mail.wake();
    }

    /// The number of the last message that is there, of all that ever were; none: it is empty.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        let mail = self.mail();
        (!mail.queue.is_empty()).then(|| mail.taken + mail.queue.len() as u64)
    }

    /// Whether the message of that number was taken out.
    #[must_use]
    pub fn has_given(&self, number: u64) -> bool {
        self.mail().taken >= number
    }

    /// Takes up to so many bytes out, at least one message, and shows those that are the client's own, also what it said where it
    /// does not listen. If there is none the task is woken when there is.
    ///
    /// # Errors
    /// Some were missed, and all before them was taken.
    pub fn take(
        &self,
        cx: &Context<'_>,
        out: &mut BytesMut,
        most: usize,
        mut shown: impl FnMut(&[u8]),
    ) -> Result<bool, Missed> {
        let mut mail = self.mail();
        mail.waker = Some(cx.waker().clone());
        for message in mail.receipts.drain(..) {
            shown(&message);
        }
        let before = out.len();
        while out.len() - before < most
            && let Some((message, letter)) = mail.queue.pop_front()
        {
            mail.bytes -= message.len();
            mail.taken += 1;
            if letter != Letter::Others {
                shown(&message);
            }
            if letter != Letter::Mark {
                out.extend_from_slice(&message);
            }
        }
        match mail.missed {
            Some(missed) if out.len() == before && mail.queue.is_empty() => Err(missed),
            _ => Ok(out.len() > before),
        }
    }
}

impl Mail {
    fn miss(&mut self, why: Missed) {
        self.missed.get_or_insert(why);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_keeps_so_much_and_says_what_it_does_not() {
        let inbox = Inbox::new(InboxLimits { count: 3, bytes: 10 });
        let cx = Context::from_waker(Waker::noop());
        let (mut out, mut own) = (BytesMut::new(), Vec::new());
        let mut take =
            |out: &mut BytesMut, most| inbox.take(&cx, out, most, |message| own.push(message.to_vec()));
        assert_eq!(take(&mut out, 100), Ok(false));
        for (message, own) in [("one", false), ("two", true), ("six", false)] {
            inbox.put(&Bytes::from_static(message.as_bytes()), own);
        }
        assert_eq!((take(&mut out, 4), &out[..]), (Ok(true), &b"onetwo"[..]));
        for message in ["seven", "too much", "8"] {
            inbox.put(&Bytes::from_static(message.as_bytes()), true);
        }
        out.clear();
        // What it has comes first.
        assert_eq!((take(&mut out, 100), &out[..]), (Ok(true), &b"sixseven"[..]));
        assert_eq!(take(&mut out, 100), Err(Missed::Full));
        assert_eq!(own, [&b"two"[..], b"seven"]);
    }

    #[test]
    fn a_receipt_is_no_message() {
        let inbox = Inbox::new(InboxLimits { count: 1, bytes: 10 });
        let cx = Context::from_waker(Waker::noop());
        let (mut out, mut shown) = (BytesMut::new(), Vec::new());
        assert_eq!((inbox.last(), inbox.has_given(0), inbox.has_given(1)), (None, true, false));
        inbox.put(&Bytes::from_static(b"message"), false);
        for receipt in ["one", "a long one, and there is no limit"] {
            inbox.receipt(Bytes::from_static(receipt.as_bytes()));
        }
        assert_eq!(inbox.last(), Some(1));
        // Also while nothing can be told.
        assert_eq!(inbox.take(&cx, &mut out, 0, |message| shown.push(message.len())), Ok(false));
        assert_eq!((shown, inbox.has_given(1)), (vec![3, 33], false));
        inbox.miss(Missed::Lost);
        assert_eq!(inbox.take(&cx, &mut out, 0, |_| {}), Ok(false), "there is something before that");
        assert_eq!(inbox.take(&cx, &mut out, 9, |_| {}), Ok(true));
        assert_eq!((&out[..], inbox.last(), inbox.has_given(1)), (&b"message"[..], None, true));
        assert_eq!(inbox.take(&cx, &mut out, 0, |_| {}), Err(Missed::Lost));
    }
}
