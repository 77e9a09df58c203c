//! What the hostile tests need: a PostgreSQL that speaks just enough and lies on request, a client that speaks raw
//! bytes, and a pgweir between them whose panics are counted.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use pgweir::app::Pgweir;

/// Longest that anything here may take to be answered.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What the server does for connections other than the monitor's.
#[derive(Clone, Debug, Default)]
pub(crate) enum Plan {
    /// Answers as PostgreSQL would.
    #[default]
    Behave,
    /// Answers a login with these bytes.
    Greet(Vec<u8>, Then),
    /// Answers a query that begins with SELECT with these bytes.
    Reply(Vec<u8>, Then),
    /// Answers a query that begins with SELECT with rows, until a cancel request comes.
    Flood,
    /// Answers probes, too, with these bytes.
    Probe(Vec<u8>),
    /// Cancels each BEGIN, and skips as PostgreSQL does what follows one in the extended protocol.
    CancelBegin,
}

/// What the server does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Wait,
    /// Serves the connection as before.
    GoOn,
}

#[derive(Default)]
struct State {
    plan: Mutex<Plan>,
    flooded: AtomicU64,
    cancelled: AtomicBool,
    replica: bool,
    ran: Mutex<Vec<String>>,
}

/// The server.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Fake {
    /// A primary.
    pub(crate) fn start() -> Self {
        Self::start_as(State::default())
    }

    /// A server that says that it is a replica of the other one.
    pub(crate) fn replica() -> Self {
        Self::start_as(State { replica: true, ..State::default() })
    }

    fn start_as(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(state);
        let shared = state.clone();
        // Its threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), shared.clone());
                // Whatever the peer does, the connection merely ends.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn plan(&self, plan: Plan) {
        *self.state.plan.lock().unwrap() = plan;
    }

    /// The texts of all that was carried out but for the monitor, since this was asked last.
    pub(crate) fn ran(&self) -> Vec<String> {
        std::mem::take(&mut self.state.ran.lock().unwrap())
    }

    /// Bytes that [`Plan::Flood`] got rid of so far.
    pub(crate) fn flooded(&self) -> u64 {
        self.state.flooded.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let startup = body(&mut stream, u32::from_be_bytes(length))?;
    if startup.starts_with(&80_877_102_u32.to_be_bytes()) {
        state.cancelled.store(true, Ordering::Relaxed);
        return Ok(());
    }
    let monitor = startup.windows(14).any(|part| part == b"pgweir monitor");
    match state.plan.lock().unwrap().clone() {
        Plan::Greet(bytes, then) if !monitor => return say(&mut stream, &bytes, then),
        _ => stream.write_all(&greeting())?,
    }
    let mut skips = false;
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        let text = body(&mut stream, u32::from_be_bytes([head[1], head[2], head[3], head[4]]))?;
        let plan = state.plan.lock().unwrap().clone();
        skips &= head[0] != b'S';
        if skips && head[0] != b'X' {
            continue;
        }
        let begins = text.strip_prefix(b"\0").unwrap_or(&text).starts_with(b"BEGIN");
        if begins && matches!((head[0], &plan), (b'P' | b'Q', Plan::CancelBegin)) {
            stream.write_all(&error("57014"))?;
            skips = head[0] == b'P';
            if !skips {
                stream.write_all(&message(b'Z', b"I"))?;
            }
            continue;
        }
        if matches!(head[0], b'P' | b'Q') && !monitor {
            let text = String::from_utf8_lossy(&text);
            state.ran.lock().unwrap().push(text.trim_matches('\0').to_owned());
        }
        match (head[0], plan) {
            (b'X', _) => return Ok(()),
            (b'Q', Plan::Probe(bytes)) if monitor => return say(&mut stream, &bytes, Then::Close),
            (b'Q', _) if monitor => {
                let (in_recovery, timeline) = if state.replica { ("t", "1") } else { ("f", "00000001") };
                let who = [in_recovery, "150006", "7000000000000000001", timeline, "0/3000060"];
                let short = [in_recovery, "0/3000060"];
                let full = text.windows(18).any(|part| part == b"server_version_num");
                stream.write_all(&rows(if full { &who } else { &short }))?;
            }
            (b'Q', Plan::Reply(bytes, Then::GoOn)) if text.starts_with(b"SELECT") => {
                stream.write_all(&bytes)?;
            }
            (b'Q', Plan::Reply(bytes, then)) if text.starts_with(b"SELECT") => {
                return say(&mut stream, &bytes, then);
            }
            (b'Q', Plan::Flood) if text.starts_with(b"SELECT") => flood(&mut stream, state)?,
            (b'Q', _) if text.starts_with(b"SELECT") => stream.write_all(&rows(&["1"]))?,
            (b'Q', _) => {
                stream.write_all(&[message(b'C', b"OK\0"), message(b'Z', b"I")].concat())?;
            }
            (b'P', _) => stream.write_all(&message(b'1', b""))?,
            (b'B', _) => stream.write_all(&message(b'2', b""))?,
            (b'C', _) => stream.write_all(&message(b'3', b""))?,
            (b'D', _) => stream.write_all(&message(b'n', b""))?,
            (b'E', _) => stream.write_all(&message(b'C', b"SELECT 0\0"))?,
            (b'F', _) => stream.write_all(&[message(b'V', &[255; 4]), message(b'Z', b"I")].concat())?,
            (b'S', _) => stream.write_all(&message(b'Z', b"I"))?,
            _ => {}
        }
    }
}

/// The rest of a message, of which at most a megabyte is kept.
fn body(stream: &mut TcpStream, length: u32) -> std::io::Result<Vec<u8>> {
    let mut rest = u64::from(length).saturating_sub(4);
    let mut kept = Vec::new();
    stream.take(rest.min(1 << 20)).read_to_end(&mut kept)?;
    rest -= kept.len() as u64;
    std::io::copy(&mut stream.take(rest), &mut std::io::sink())?;
    Ok(kept)
}

fn say(stream: &mut TcpStream, bytes: &[u8], then: Then) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    if then == Then::Close {
        stream.shutdown(Shutdown::Write)?;
    }
    std::io::copy(stream, &mut std::io::sink()).map(drop)
}

fn flood(stream: &mut TcpStream, state: &State) -> std::io::Result<()> {
    state.cancelled.store(false, Ordering::Relaxed);
    stream.set_write_timeout(Some(Duration::from_millis(20)))?;
    stream.write_all(&message(b'T', &description(1)))?;
    let row = message(b'D', &row(&["x".repeat(1000).as_str()]));
    let mut at = 0;
    while at > 0 || !state.cancelled.load(Ordering::Relaxed) {
        match stream.write(&row[at..]) {
            Ok(written) => {
                state.flooded.fetch_add(written as u64, Ordering::Relaxed);
                at = (at + written) % row.len();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    stream.set_write_timeout(None)?;
    stream.write_all(&[error("57014"), message(b'Z', b"I")].concat())
}

/// A message of either side.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// AuthenticationOk, settings, key, ReadyForQuery.
pub(crate) fn greeting() -> Vec<u8> {
    [
        message(b'R', &[0; 4]),
        message(b'S', b"standard_conforming_strings\0on\0"),
        message(b'S', b"client_encoding\0UTF8\0"),
        // As PostgreSQL 18 does, so that nobody has to ask.
        message(b'S', b"search_path\0public\0"),
        message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// One row of texts, whole with its description and end.
pub(crate) fn rows(values: &[&str]) -> Vec<u8> {
    [
        message(b'T', &description(values.len())),
        message(b'D', &row(values)),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

fn description(columns: usize) -> Vec<u8> {
    let mut body = (columns as u16).to_be_bytes().to_vec();
    for _ in 0..columns {
        // Name, table, column, type text, size, modifier, format.
        body.extend(b"c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
    }
    body
}

fn row(values: &[&str]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    body
}

pub(crate) fn error(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes())
}

/// A pgweir before these servers, with `more` at the top of its configuration. Nobody is asked for a password.
pub(crate) fn pgweir(servers: &[SocketAddr], more: &str) -> Pgweir {
    count_panics();
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nworkers = 2\nserver_login_retry = \"10ms\"\nserver_login_retry_max = \"10ms\"\n\
         {more}\n[metrics]\nlisten = \"off\"\n[catalog]\nenabled = false\n[monitor]\ninterval = \"50ms\"\n[databases.\"*\"]\nservers = [{}]\n",
        servers.join(", ")
    );
    let config =
        pgweir::config::parse(&text, "hostile.toml").unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    Pgweir::start(config).unwrap()
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic on a thread of pgweir's own; those of tests are the harness's affair.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("pgweir-")) {
                PANICS.lock().unwrap().push(info.to_string());
            }
            before(info);
        }));
    });
}

pub(crate) fn assert_nothing_panicked() {
    let panics = PANICS.lock().unwrap();
    assert!(panics.is_empty(), "pgweir panicked: {panics:?}");
}

/// A client that says what it is told to.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// What came back, up to ReadyForQuery or the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The tags of all messages.
    pub(crate) tags: String,
    /// The SQLSTATEs of the errors.
    pub(crate) errors: Vec<String>,
    /// Whether the connection was closed.
    pub(crate) closed: bool,
}

pub(crate) fn startup() -> Vec<u8> {
    let parameters = b"\0\x03\0\0user\0ann\0database\0app\0application_name\0hostile\0\0";
    [&(parameters.len() as u32 + 4).to_be_bytes()[..], parameters].concat()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

impl Client {
    pub(crate) fn connect(pgweir: &Pgweir) -> Self {
        let stream = TcpStream::connect(pgweir.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A client that has logged in.
    pub(crate) fn login(pgweir: &Pgweir) -> Self {
        let mut client = Self::connect(pgweir);
        client.say(&startup());
        let answer = client.answer();
        assert!(answer.tags.starts_with('R') && answer.tags.ends_with("KZ"), "{answer:?}");
        client
    }

    /// Writes, unless pgweir has already closed.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// One message; none at the end. Panics if nothing comes in time.
    pub(crate) fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.read(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = Vec::new();
        let wanted = u64::from(length).saturating_sub(4);
        match (&self.stream).take(wanted).read_to_end(&mut body) {
            Ok(_) if body.len() as u64 == wanted => Some((head[0], body)),
            Ok(_) => None,
            Err(error) => self.broken(&error),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) => self.broken(&error),
        }
    }

    fn broken<T>(&self, error: &std::io::Error) -> Option<T> {
        let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!late, "neither an answer nor the end within {SOON:?}");
        None
    }

    /// All that comes, up to ReadyForQuery or the end.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = Answer { tags: String::new(), errors: Vec::new(), closed: false };
        loop {
            let Some((tag, body)) = self.message() else {
                answer.closed = true;
                return answer;
            };
            answer.tags.push(char::from(tag));
            if tag == b'E' {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                answer.errors.push(String::from_utf8_lossy(code.unwrap_or(b"none")).into_owned());
            }
            if tag == b'Z' {
                return answer;
            }
        }
    }

    pub(crate) fn ask(&mut self, sql: &str) -> Answer {
        self.say(&query(sql));
        self.answer()
    }
}

/// A client that does everything right gets a right answer.
pub(crate) fn assert_serves(pgweir: &Pgweir) {
    let answer = Client::login(pgweir).ask("SELECT 1");
    assert_eq!(answer, Answer { tags: "TDCZ".into(), errors: Vec::new(), closed: false });
    assert_nothing_panicked();
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.roll(most + 1)).map(|_| self.roll(256) as u8).collect()
    }
}
