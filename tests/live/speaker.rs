//! A client that says what it is told and writes down every answer: where a driver would hide an error, or a second one.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::programs::SOON;

/// A connection, logged in.
#[derive(Debug)]
pub(crate) struct Speaker {
    stream: TcpStream,
}

/// Everything up to a ReadyForQuery, or to the end.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Severity, SQLSTATE and message of each ErrorResponse.
    pub(crate) errors: Vec<(String, String, String)>,
    /// Rows; NULL as an empty text.
    pub(crate) rows: Vec<Vec<String>>,
    /// The connection was closed.
    pub(crate) closed: bool,
}

impl Reply {
    /// The SQLSTATEs of its errors.
    pub(crate) fn codes(&self) -> Vec<&str> {
        self.errors.iter().map(|(_, code, _)| code.as_str()).collect()
    }
}

fn message(tag: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = tag.into_iter().collect();
    out.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend(body);
    out
}

impl Speaker {
    /// Logs in as postgres, whom nobody asks for a password.
    pub(crate) async fn connect(port: u16, database: &str) -> Result<Self, Reply> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut speaker = Self { stream };
        let body = format!("\0\x03\0\0user\0postgres\0database\0{database}\0\0");
        speaker.stream.write_all(&message(None, body.as_bytes())).await.unwrap();
        let reply = speaker.listen().await;
        if reply.closed || !reply.errors.is_empty() { Err(reply) } else { Ok(speaker) }
    }

    /// A simple Query.
    pub(crate) async fn simple(&mut self, text: &str) -> Reply {
        self.ask(text).await;
        self.listen().await
    }

    /// Waits until the catalog is known: after a change of definitions, names are looked up on the primary until it is.
    pub(crate) async fn knows_names(&mut self) {
        let deadline = pgweir::clock::now() + std::time::Duration::from_secs(10);
        while self.simple("SELECT pg_is_in_recovery() FROM pg_class LIMIT 1").await.rows != [["t"]] {
            assert!(pgweir::clock::now() < deadline, "the catalog does not become known");
        }
    }

    /// Sends a simple Query and does not wait.
    pub(crate) async fn ask(&mut self, text: &str) {
        // That the other side is gone shows in the answer.
        let _ = self.stream.write_all(&message(Some(b'Q'), format!("{text}\0").as_bytes())).await;
    }

    /// Parse, Bind, Execute, Sync, with NULL for each of the parameters.
    pub(crate) async fn extended(&mut self, text: &str, parameters: u16) -> Reply {
        let mut out = message(Some(b'P'), format!("\0{text}\0\0\0").as_bytes());
        let mut bind = vec![0, 0, 0, 0];
        bind.extend(parameters.to_be_bytes());
        (0..parameters).for_each(|_| bind.extend((-1i32).to_be_bytes()));
        bind.extend([0, 0]);
        out.extend(message(Some(b'B'), &bind));
        out.extend(message(Some(b'E'), b"\0\0\0\0\0"));
        out.extend(message(Some(b'S'), b""));
        let _ = self.stream.write_all(&out).await;
        self.listen().await
    }

    /// All up to the next ReadyForQuery. A COPY FROM is given up.
    pub(crate) async fn listen(&mut self) -> Reply {
        let mut reply = Reply::default();
        let all = tokio::time::timeout(SOON, async {
            while let Some((tag, body)) = self.hear().await {
                match tag {
                    b'E' => reply.errors.push(fields(&body)),
                    b'D' => reply.rows.push(columns(&body)),
                    // CopyFail, and Sync: in the extended protocol the one that was sent before is thrown away.
                    b'G' => {
                        let out = [message(Some(b'f'), b"no\0"), message(Some(b'S'), b"")].concat();
                        let _ = self.stream.write_all(&out).await;
                    }
                    b'Z' => return,
                    _ => {}
                }
            }
            reply.closed = true;
        });
        assert!(all.await.is_ok(), "no ReadyForQuery after {reply:?}");
        reply
    }

    /// Waits until there is something to hear.
    pub(crate) async fn wait(&mut self) {
        let waited = tokio::time::timeout(SOON, self.stream.peek(&mut [0])).await;
        assert!(waited.is_ok(), "nothing is heard");
    }

    /// Channel and payload of the notification that comes next.
    pub(crate) async fn notification(&mut self) -> String {
        let heard = tokio::time::timeout(SOON, self.hear()).await;
        let Ok(Some((b'A', body))) = heard else { panic!("no notification, but {heard:?}") };
        let mut texts = body[4..].split(|&byte| byte == 0).map(String::from_utf8_lossy);
        format!("{} {}", texts.next().unwrap_or_default(), texts.next().unwrap_or_default())
    }

    async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let tag = self.stream.read_u8().await.ok()?;
        let size = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; size as usize - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((tag, body))
    }
}

fn fields(body: &[u8]) -> (String, String, String) {
    let field = |wanted: u8| {
        let found = body.split(|&byte| byte == 0).find(|field| field.first() == Some(&wanted));
        found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
    };
    (field(b'V'), field(b'C'), field(b'M'))
}

fn columns(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut all = Vec::new();
    while let Some((size, tail)) = rest.split_first_chunk() {
        let size = usize::try_from(i32::from_be_bytes(*size)).unwrap_or(0);
        all.push(String::from_utf8_lossy(&tail[..size]).into_owned());
        rest = &tail[size..];
    }
    all
}
