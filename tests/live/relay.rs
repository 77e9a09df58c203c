//! A TCP relay before a server: it can fall silent, as a machine does whose network is cut, and lead elsewhere, as a
//! virtual address does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The relay; dropped, it accepts no more.
pub(crate) struct Relay {
    address: SocketAddr,
    silent: watch::Sender<bool>,
    target: Arc<Mutex<String>>,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = watch::Sender::new(false);
        let target = Arc::new(Mutex::new(target.to_owned()));
        let (hush, to) = (silent.clone(), target.clone());
        let accepting = tokio::spawn(async move {
            loop {
                speaks(&mut hush.subscribe()).await;
                let (client, _) = listener.accept().await.unwrap();
                let to = to.lock().unwrap().clone();
                let hush = hush.clone();
                tokio::spawn(async move {
                    // Accepted in the moment before it fell silent: nothing may come of it.
                    speaks(&mut hush.subscribe()).await;
                    let Ok(server) = TcpStream::connect(to).await else { return };
                    client.set_nodelay(true).unwrap();
                    server.set_nodelay(true).unwrap();
                    let (client, server) = (client.into_split(), server.into_split());
                    let (there, back) = (hush.subscribe(), hush.subscribe());
                    tokio::select! {
                        () = forward(client.0, server.1, there) => {}
                        () = forward(server.0, client.1, back) => {}
                    }
                });
            }
        });
        Self { address, silent, target, accepting }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Forwards nothing and accepts nothing; or goes on with what has come meanwhile.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
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

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(read) = from.read(&mut bytes).await else { return };
        speaks(&mut silent).await;
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
