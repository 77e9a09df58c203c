//! A TCP relay before a server: it can fall silent, as a machine does whose network is cut, lead elsewhere, as a virtual
//! address does, and break a connection after a certain byte of the server's replies.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A client whose bytes hold this is the one whose connection is cut: see [`Relay::cut_after`].
pub(crate) const CUT: &str = "cut here";

/// So does this, where [`Relay::cuts_at_binds`]: a Bind of what pgweir has prepared there before, whose text named that.
const BOUND: &[u8] = b"\0pgweir_";

/// What its connections say when they begin.
const MONITOR: &[u8] = b"pgweir monitor";

/// An address at which nobody answers, not even to say that nobody is there: the SYN is dropped.
pub(crate) struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    /// Who fills its queue.
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, _listener: listener, _waiting: fill(address).await }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Connects until nobody answers any more: the queue of who is to be accepted is full, and further SYNs are dropped.
async fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    while let Some(stream) = connected(address).await {
        waiting.push(stream);
        assert!(waiting.len() < 10, "it takes everybody");
    }
    waiting
}

/// None where nothing answers the SYN for a while; a refusal is an answer, and not expected.
async fn connected(address: SocketAddr) -> Option<TcpStream> {
    let attempt = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await;
    attempt.ok().map(Result::unwrap)
}

/// The relay; dropped, it accepts no more.
pub(crate) struct Relay {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    /// Who fills its queue while it has vanished.
    waiting: Mutex<Vec<TcpStream>>,
    silent: watch::Sender<bool>,
    target: Arc<Mutex<String>>,
    /// What a server may still say to who has sent [`CUT`].
    cut_after: Arc<AtomicUsize>,
    /// Whether pgweir's monitor gets through.
    probes: Arc<AtomicBool>,
    binds: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn before(target: &str) -> Self {
        Self::at("127.0.0.1:0", target).await
    }

    /// The same on an address of its own.
    pub(crate) async fn at(own: &str, target: &str) -> Self {
        let listener = Arc::new(TcpListener::bind(own).await.unwrap());
        let address = listener.local_addr().unwrap();
        let silent = watch::Sender::new(false);
        let target = Arc::new(Mutex::new(target.to_owned()));
        let cut_after = Arc::new(AtomicUsize::new(usize::MAX));
        let (probes, cuts): (_, Arc<AtomicUsize>) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let (hush, to, limit, asks) = (silent.clone(), target.clone(), cut_after.clone(), probes.clone());
        let binds: Arc<AtomicBool> = Arc::default();
        let (count, bound) = (cuts.clone(), binds.clone());
        let accepts = listener.clone();
        let accepting = tokio::spawn(async move {
            loop {
                speaks(&mut hush.subscribe()).await;
                let (client, _) = accepts.accept().await.unwrap();
                let to = to.lock().unwrap().clone();
                let (hush, limit, asks, count) = (hush.clone(), limit.clone(), asks.clone(), count.clone());
                let bound = bound.clone();
                tokio::spawn(async move {
                    // Accepted in the moment before it fell silent: nothing may come of it.
                    speaks(&mut hush.subscribe()).await;
                    let Ok(server) = TcpStream::connect(to).await else { return };
                    client.set_nodelay(true).unwrap();
                    server.set_nodelay(true).unwrap();
                    let (client, server) = (client.into_split(), server.into_split());
                    let (there, back) = (hush.subscribe(), hush.subscribe());
                    let (left, of) = (AtomicUsize::new(usize::MAX), AtomicUsize::new(usize::MAX));
                    let asked = |bytes: &mut &[u8]| {
                        let limit = limit.load(Relaxed);
                        let has = |mark: &[u8]| bytes.windows(mark.len()).any(|part| part == mark);
                        let marked = || has(CUT.as_bytes()) || bound.load(Relaxed) && has(BOUND);
                        // What follows counts on.
                        if of.load(Relaxed) != limit && marked() {
                            of.store(limit, Relaxed);
                            left.store(limit, Relaxed);
                        }
                        asks.load(Relaxed) || !has(MONITOR)
                    };
                    let said = |bytes: &mut &[u8]| {
                        let allowed = left.load(Relaxed);
                        *bytes = &bytes[..bytes.len().min(allowed)];
                        left.store(allowed - bytes.len(), Relaxed);
                        let goes_on = allowed > bytes.len();
                        count.fetch_add(usize::from(!goes_on), Relaxed);
                        goes_on
                    };
                    tokio::select! {
                        () = forward(client.0, server.1, there, asked) => {}
                        () = forward(server.0, client.1, back, said) => {}
                    }
                });
            }
        });
        Self {
            address,
            listener,
            waiting: Mutex::default(),
            silent,
            target,
            cut_after,
            probes,
            binds,
            cuts,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Forwards nothing and accepts nothing; or goes on with what has come meanwhile.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Silent, and who connects is not even answered by the kernel: SYNs are dropped as well as data.
    pub(crate) async fn vanish(&self) {
        // A smaller queue holds for a socket that listens already.
        SockRef::from(&*self.listener).listen(1).unwrap();
        self.silence(true);
        let waiting = fill(self.address).await;
        *self.waiting.lock().unwrap() = waiting;
    }

    /// Whether a SYN gets no answer.
    pub(crate) async fn drops_syns(&self) -> bool {
        connected(self.address).await.is_none()
    }

    /// It is there again, and goes on with what has come meanwhile.
    pub(crate) fn reappear(&self) {
        SockRef::from(&*self.listener).listen(1024).unwrap();
        self.waiting.lock().unwrap().clear();
        self.silence(false);
    }

    /// From what follows the first [`CUT`] on, only so many bytes of the server's replies are passed on; then both sides see the end.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.cut_after.store(bytes, Relaxed);
    }

    /// Whether connections of pgweir's monitor that are opened from now on get through; those of clients do.
    pub(crate) fn lets_probes_through(&self, through: bool) {
        self.probes.store(through, Relaxed);
    }

    /// Binds of what was prepared count as well.
    pub(crate) fn cuts_at_binds(&self) {
        self.binds.store(true, Relaxed);
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Relaxed)
    }

    /// New connections go there; those that are open stay where they are.
    pub(crate) fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn speaks(silent: &mut watch::Receiver<bool>) {
    // The sender may be gone: then nobody can change it any more.
    let _ = silent.wait_for(|silent| !silent).await;
}

/// Passes on what comes, as far as `pass` lets it: the bytes that it leaves, and no more once it says false.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut silent: watch::Receiver<bool>,
    pass: impl Fn(&mut &[u8]) -> bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(read) = from.read(&mut bytes).await else { return };
        speaks(&mut silent).await;
        let mut heard = &bytes[..read];
        let goes_on = pass(&mut heard);
        if read == 0 || to.write_all(heard).await.is_err() || !goes_on {
            return;
        }
    }
}
