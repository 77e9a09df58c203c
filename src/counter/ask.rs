//! A statement of pgweir's own on a connection that it has leased.

use std::future::poll_fn;

use bytes::BytesMut;

use crate::pool::Lease;
use crate::server::{Server, settings};
use crate::wire::backend;
use crate::wire::frame::{self, HEADER, Side};

/// Longest answer to a statement of its own.
const MOST_ANSWER: usize = 8 * 1024 * 1024;

/// Why a statement of its own was not carried out.
pub(super) enum Failed {
    /// The server said no: nothing has changed.
    Refused(Refusal),
    /// Nobody knows.
    Lost,
}

/// What the server said.
pub(super) struct Refusal {
    /// The SQLSTATE.
    pub(super) code: [u8; 5],
    /// In words.
    pub(super) message: String,
}

/// Takes back the settings of the client before.
pub(super) async fn plain(lease: &mut Lease) -> Result<(), Failed> {
    if lease.settings.is_some() {
        let sql = settings::difference(lease.settings.as_deref(), None, None);
        ask(lease, &sql).await?;
        lease.settings = None;
    }
    Ok(())
}

/// One simple query: the rows of its results.
pub(super) async fn ask(lease: &mut Lease, text: &str) -> Result<Vec<Vec<Option<String>>>, Failed> {
    let mut out = BytesMut::new();
    lease.query(&mut out, text);
    let buffers = lease.pool().buffers();
    let Server { stream, window, owed, .. } = &mut **lease;
    stream.write_all(&out).await.map_err(|_| Failed::Lost)?;
    let window = window.get_or_insert_with(|| buffers.take());
    let (mut rows, mut refused, mut size) = (Vec::new(), None, 0);
    loop {
        while let Some(head) = frame::header(window.bytes(), Side::Backend).map_err(|_| Failed::Lost)? {
            let Some(message) = window.bytes().get(..head.size) else { break };
            let body = message.get(HEADER..).unwrap_or_default();
            owed.reply(head.tag, body).map_err(|_| Failed::Lost)?;
            size += head.size;
            match head.tag {
                b'D' => rows.push(backend::row(body)),
                b'E' => {
                    let fields = backend::fields(body);
                    refused = Some(Refusal {
                        code: fields.code.first_chunk().copied().unwrap_or(*b"XX000"),
                        message: String::from_utf8_lossy(fields.message).into_owned(),
                    });
                }
                b'Z' => {
                    window.consume(head.size);
                    return refused.map_or(Ok(rows), |refusal| Err(Failed::Refused(refusal)));
                }
                _ => {}
            }
            window.consume(head.size);
        }
        if window.is_full() || size > MOST_ANSWER {
            return Err(Failed::Lost);
        }
        match poll_fn(|cx| window.poll_fill(cx, stream)).await {
            Ok(0) | Err(_) => return Err(Failed::Lost),
            Ok(_) => {}
        }
    }
}
