//! A client that speaks the protocol byte by byte, so that a test can stop anywhere.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that a client waits for anything: beyond it pgweir hangs, and the test fails.
const HANGS: Duration = Duration::from_secs(30);

/// A connection that has logged in.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    pub(crate) key: (i32, i32),
    pub(crate) parameters: Vec<(String, String)>,
}

/// An ErrorResponse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refusal {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: String,
}

/// All that came up to a ReadyForQuery.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The tags of the messages.
    pub(crate) tags: String,
    pub(crate) rows: Vec<Vec<Option<String>>>,
    pub(crate) errors: Vec<Refusal>,
    /// `I`, `T` or `E`.
    pub(crate) status: char,
}

impl Answer {
    /// The first column of the first row, of an answer without errors.
    pub(crate) fn value(&self) -> &str {
        assert_eq!(self.errors, [], "{self:?}");
        self.rows[0][0].as_deref().unwrap_or_default()
    }

    /// The SQLSTATE of the one error; empty if there is none.
    pub(crate) fn code(&self) -> &str {
        assert!(self.errors.len() <= 1, "{self:?}");
        self.errors.first().map_or("", |error| &error.code)
    }
}

impl Raw {
    /// Connects to the database `postgres` as `postgres`, unless `parameters` say otherwise.
    pub(crate) async fn login(address: SocketAddr, parameters: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut raw = Self::connect(address).await?;
        let given = |name: &str| parameters.iter().any(|(known, _)| *known == name);
        let usual = [("user", "postgres"), ("database", "postgres")];
        let all = usual.into_iter().filter(|(name, _)| !given(name)).chain(parameters.iter().copied());
        let mut out = BytesMut::new();
        frontend::startup_message(all, &mut out)?;
        raw.send(&out).await?;
        loop {
            let (tag, body) = raw.message().await?;
            match tag {
                b'R' => anyhow::ensure!(body == [0; 4], "a password is asked for"),
                b'S' => {
                    let mut texts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
                    let mut text = || texts.next().unwrap_or_default().into_owned();
                    raw.parameters.push((text(), text()));
                }
                b'K' => {
                    let number =
                        |at: usize| Ok::<_, anyhow::Error>(i32::from_be_bytes(body[at..at + 4].try_into()?));
                    raw.key = (number(0)?, number(4)?);
                }
                b'Z' => return Ok(raw),
                b'E' => {
                    let refusal = refusal(&body);
                    bail!("{} {} {}", refusal.severity, refusal.code, refusal.message);
                }
                tag => bail!("{} during login", char::from(tag)),
            }
        }
    }

    /// Connects, and says nothing yet.
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, key: (0, 0), parameters: Vec::new() })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(timeout(HANGS, self.stream.write_all(bytes)).await.context("pgweir does not read")??)
    }

    /// The next message: its tag and its body.
    pub(crate) async fn message(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        timeout(HANGS, async {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).await?;
            let size = u32::from_be_bytes(head[1..].try_into()?) as usize;
            let mut body = vec![0; size - 4];
            self.stream.read_exact(&mut body).await?;
            Ok((head[0], body))
        })
        .await
        .context("pgweir is silent")?
    }

    /// Reads up to the next ReadyForQuery, or to a request for COPY data.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let (tag, body) = match self.message().await {
                Ok(message) => message,
                Err(error) => return Err(error.context(format!("after {answer:?}"))),
            };
            answer.tags.push(char::from(tag));
            match tag {
                b'D' => answer.rows.push(row(&body)),
                b'E' => answer.errors.push(refusal(&body)),
                b'Z' => answer.status = char::from(body[0]),
                _ => {}
            }
            if matches!(tag, b'Z' | b'G') {
                return Ok(answer);
            }
        }
    }

    /// One simple query.
    pub(crate) async fn query(&mut self, text: &str) -> anyhow::Result<Answer> {
        self.send(&query(text)).await?;
        self.answer().await
    }

    /// One simple query that must succeed.
    pub(crate) async fn ok(&mut self, text: &str) -> Answer {
        let answer = self.query(text).await.unwrap();
        assert_eq!(answer.errors, [], "{text}");
        answer
    }

    /// The first column of the first row.
    pub(crate) async fn value(&mut self, text: &str) -> String {
        self.ok(text).await.value().to_owned()
    }

    /// The number of the backend that serves it, on the primary.
    pub(crate) async fn backend(&mut self) -> String {
        self.value("SELECT pg_backend_pid() FROM (SELECT txid_current()) t").await
    }

    /// A cancel request as libpq sends it; returns when pgweir has closed the connection.
    pub(crate) async fn cancel(address: SocketAddr, key: (i32, i32)) -> anyhow::Result<()> {
        let mut raw = Self::connect(address).await?;
        let mut out = BytesMut::new();
        frontend::cancel_request(key.0, key.1, &mut out);
        raw.send(&out).await?;
        raw.closed().await
    }

    /// Waits until pgweir closes.
    pub(crate) async fn closed(&mut self) -> anyhow::Result<()> {
        let mut byte = [0];
        match timeout(HANGS, self.stream.read(&mut byte)).await.context("pgweir does not close")? {
            Ok(0) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            other => bail!("{other:?} instead of the end"),
        }
    }

    /// Gone without a word, as when the machine dies: the peer sees RST.
    pub(crate) fn vanish(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// A small receive buffer: a slow reader is slow at once.
    pub(crate) fn reads_little(&self) {
        SockRef::from(&self.stream).set_recv_buffer_size(64 * 1024).unwrap();
    }
}

pub(crate) fn refusal(mut body: &[u8]) -> Refusal {
    let mut refusal = Refusal::default();
    while let Some((&kind, rest)) = body.split_first().filter(|(kind, _)| **kind != 0) {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let value = String::from_utf8_lossy(&rest[..end]).into_owned();
        match kind {
            b'V' => refusal.severity = value,
            b'C' => refusal.code = value,
            b'M' => refusal.message = value,
            b'D' => refusal.detail = value,
            _ => {}
        }
        body = &rest[end + 1..];
    }
    refusal
}

fn row(body: &[u8]) -> Vec<Option<String>> {
    let (count, mut rest) = body.split_at(2);
    let count = u16::from_be_bytes(count.try_into().unwrap());
    (0..count)
        .map(|_| {
            let (size, tail) = rest.split_at(4);
            let size = i32::from_be_bytes(size.try_into().unwrap());
            let value =
                usize::try_from(size).ok().map(|size| String::from_utf8_lossy(&tail[..size]).into_owned());
            rest = &tail[value.as_ref().map_or(0, String::len)..];
            value
        })
        .collect()
}

/// A Query.
pub(crate) fn query(text: &str) -> BytesMut {
    let mut out = BytesMut::new();
    frontend::query(text, &mut out).unwrap();
    out
}

/// Parse, Bind, Describe and Execute of a statement without parameters, under a name; no Sync.
pub(crate) fn extended(name: &str, text: &str) -> BytesMut {
    let mut out = BytesMut::new();
    frontend::parse(name, text, [], &mut out).unwrap();
    out.unsplit(execute(name));
    out
}

/// Bind, Describe and Execute of a prepared statement; no Sync.
pub(crate) fn execute(name: &str) -> BytesMut {
    let mut out = BytesMut::new();
    frontend::bind("", name, [], [0_u8; 0], |_, _| Ok(IsNull::Yes), [0], &mut out).ok().unwrap();
    frontend::describe(b'P', "", &mut out).unwrap();
    frontend::execute("", 0, &mut out).unwrap();
    out
}

/// A Sync.
pub(crate) fn sync() -> BytesMut {
    let mut out = BytesMut::new();
    frontend::sync(&mut out);
    out
}

/// A Flush.
pub(crate) fn flush() -> BytesMut {
    BytesMut::from(&b"H\0\0\0\x04"[..])
}

/// A CopyData.
pub(crate) fn copy_data(data: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frontend::CopyData::new(data).unwrap().write(&mut out);
    out
}

/// A CopyDone.
pub(crate) fn copy_done() -> BytesMut {
    let mut out = BytesMut::new();
    frontend::copy_done(&mut out);
    out
}
