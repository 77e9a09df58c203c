//! A client that speaks bytes: it sends what it is told, also what no driver would send, and reads whole messages.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

/// Longest wait for what must come.
const DEADLINE: Duration = Duration::from_secs(20);

/// A message from the server; or its end, or silence: see the constants.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) const CLOSED: Self = Self { tag: 0, body: Vec::new() };

    /// What was waited for did not come in time.
    pub(crate) const SILENCE: Self = Self { tag: 1, body: Vec::new() };

    /// Whether nothing can come after it.
    pub(crate) fn is_end(&self) -> bool {
        self.tag <= 1
    }

    /// The value of a field of an ErrorResponse or NoticeResponse.
    pub(crate) fn field(&self, wanted: u8) -> Option<String> {
        let fields = self.body.split(|byte| *byte == 0);
        let found = fields.filter_map(|field| field.split_first()).find(|(kind, _)| **kind == wanted);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tag == 0 {
            return f.write_str("closed");
        }
        if self.tag == 1 {
            return f.write_str("silence");
        }
        let shown = &self.body[..self.body.len().min(160)];
        write!(f, "{} {} \"{}\"", self.tag as char, self.body.len(), shown.escape_ascii())
    }
}

/// What is waited for after sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// So many messages with that tag.
    Tags(u8, usize),
    /// The end of the connection.
    Closed,
    /// Nothing.
    Sent,
}

impl Until {
    fn is_reached(self, heard: &[Message]) -> bool {
        match self {
            Self::Tags(tag, count) => heard.iter().filter(|message| message.tag == tag).count() >= count,
            Self::Closed => false,
            Self::Sent => true,
        }
    }
}

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// One byte without a frame: the answer to an encryption request.
    pub(crate) async fn byte(&mut self) -> u8 {
        timeout(DEADLINE, self.stream.read_u8()).await.expect("no byte came").unwrap()
    }

    /// Sends the pieces, each in a write of its own, and meanwhile reads until what is waited for has come. The end of
    /// the connection ends it in any case.
    pub(crate) async fn exchange(&mut self, pieces: &[&[u8]], until: Until) -> Vec<Message> {
        let mut heard = Vec::new();
        let Self { stream, unread } = self;
        let (read, write) = stream.split();
        let work = async { tokio::join!(send(write, pieces), listen(read, unread, until, &mut heard)) };
        if timeout(DEADLINE, work).await.is_err() {
            heard.push(Message::SILENCE);
        }
        heard
    }
}

/// The peer may close at any time: what it said then is what counts.
async fn send(mut stream: WriteHalf<'_>, pieces: &[&[u8]]) {
    for piece in pieces {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn listen(mut stream: ReadHalf<'_>, unread: &mut Vec<u8>, until: Until, heard: &mut Vec<Message>) {
    loop {
        while let Some(message) = take(unread) {
            heard.push(message);
        }
        if until.is_reached(heard) {
            return;
        }
        match read_more(&mut stream, unread).await {
            Ok(0) | Err(_) => return heard.push(Message::CLOSED),
            Ok(_) => {}
        }
    }
}

async fn read_more(stream: &mut ReadHalf<'_>, unread: &mut Vec<u8>) -> io::Result<usize> {
    unread.reserve(64 * 1024);
    stream.read_buf(unread).await
}

fn take(unread: &mut Vec<u8>) -> Option<Message> {
    let length = u32::from_be_bytes(*unread.get(1..)?.first_chunk()?) as usize;
    if unread.len() <= length {
        return None;
    }
    let rest = unread.split_off(length + 1);
    let message = std::mem::replace(unread, rest);
    Some(Message { tag: message[0], body: message[5..].to_vec() })
}

/// A message with its tag and length.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A packet without a tag.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A startup packet.
pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> =
        parameters.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()).collect();
    body.push(0);
    packet(version, &body)
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub(crate) fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

/// A Bind with values as text.
pub(crate) fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
    bind_as(portal, statement, 0, &values, 0)
}

/// A Bind with one format for all values, and one for all columns of the result.
pub(crate) fn bind_as(
    portal: &str,
    statement: &str,
    format: u16,
    values: &[Option<&[u8]>],
    result: u16,
) -> Vec<u8> {
    bind_each(portal, statement, format, values, &[result])
}

/// A Bind with one format for all values, and one for each column of the result.
pub(crate) fn bind_each(
    portal: &str,
    statement: &str,
    format: u16,
    values: &[Option<&[u8]>],
    results: &[u16],
) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0").into_bytes();
    body.extend([0, 1]);
    body.extend(format.to_be_bytes());
    body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(*value);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend(u16::try_from(results.len()).unwrap().to_be_bytes());
    results.iter().for_each(|result| body.extend(result.to_be_bytes()));
    message(b'B', &body)
}

/// `what` is `S` for a statement, `P` for a portal.
pub(crate) fn describe(what: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{what}{name}\0").as_bytes())
}

/// `what` is `S` for a statement, `P` for a portal.
pub(crate) fn close(what: char, name: &str) -> Vec<u8> {
    message(b'C', format!("{what}{name}\0").as_bytes())
}

/// At most `rows` rows; zero: all.
pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend(rows.to_be_bytes());
    message(b'E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub(crate) fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

pub(crate) fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

pub(crate) fn copy_fail(why: &str) -> Vec<u8> {
    message(b'f', format!("{why}\0").as_bytes())
}

pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

/// A FunctionCall with arguments and result in binary.
pub(crate) fn function(oid: u32, arguments: &[&[u8]]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1]);
    body.extend(u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend(*argument);
    }
    body.extend([0, 1]);
    message(b'F', &body)
}

/// Parse, Bind, Describe, Execute without a name, as most drivers do it; no Sync.
pub(crate) fn run(text: &str, values: &[&str]) -> Vec<u8> {
    [parse("", text), bind("", "", values), describe('P', ""), execute("", 0)].concat()
}
