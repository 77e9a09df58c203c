//! A stub, to be dropped in the merge: a naive splitter, so that `pgweir demo` has something to show.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::config::Config;

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

/// Stub.
#[derive(Debug)]
pub struct Pgweir {
    address: SocketAddr,
    metrics: SocketAddr,
    tasks: JoinSet<()>,
}

impl Pgweir {
    /// Stub.
    ///
    /// # Errors
    /// No listener.
    pub async fn start(config: Config) -> std::io::Result<Self> {
        let (listener, metrics) =
            (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let (address, metrics_address) = (listener.local_addr()?, metrics.local_addr()?);
        let mut tasks = JoinSet::new();
        let counts = Counts::default();
        for (index, server) in config.servers.iter().enumerate() {
            let role = if index == 0 { "primary" } else { "replica" };
            bump(&counts, format!("pgweir_server_up{{server=\"{server}\"}}"));
            bump(&counts, format!("pgweir_server_role{{server=\"{server}\",role=\"{role}\"}}"));
        }
        tasks.spawn(scrapes(metrics, Arc::clone(&counts)));
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                let serving = serve(client, config.servers.clone(), Arc::clone(&counts));
                clients.spawn(serving);
            }
        });
        Ok(Self { address, metrics: metrics_address, tasks })
    }

    /// Stub.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    /// Stub.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        Some(self.metrics)
    }

    /// Stub.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

fn bump(counts: &Counts, key: String) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
}

async fn scrapes(listener: TcpListener, counts: Counts) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.read(&mut [0; 1024]).await;
        let body: String = counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(key, value)| format!("{key} {value}\n"))
            .collect();
        let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes()).await;
    }
}

async fn message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let tag = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut whole = vec![tag];
    whole.extend(length.to_be_bytes());
    whole.resize(length as usize + 1, 0);
    stream.read_exact(&mut whole[5..]).await?;
    Ok((tag, whole))
}

async fn serve(mut client: TcpStream, servers: Vec<String>, counts: Counts) -> Option<()> {
    let startup = loop {
        let length = client.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body).await.ok()?;
        if body == 80_877_103_u32.to_be_bytes() {
            client.write_all(b"N").await.ok()?;
        } else {
            break [&length.to_be_bytes()[..], &body].concat();
        }
    };
    let mut links = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let mut link = TcpStream::connect(server).await.ok()?;
        let _ = link.set_nodelay(true);
        link.write_all(&startup).await.ok()?;
        loop {
            let (tag, bytes) = message(&mut link).await.ok()?;
            if index == 0 {
                client.write_all(&bytes).await.ok()?;
            }
            if tag == b'Z' {
                break;
            }
        }
        links.push(link);
    }
    let (mut stuck, mut turn) = (None, rand::random_range(0..servers.len()));
    loop {
        let mut unit = Vec::new();
        loop {
            let (tag, bytes) = message(&mut client).await.ok()?;
            unit.extend(bytes);
            if matches!(tag, b'Q' | b'S') {
                break;
            }
        }
        let text = String::from_utf8_lossy(unit.get(..40.min(unit.len()))?).to_uppercase();
        let reads = text.contains("SELECT") || text.contains("READ ONLY");
        let target = stuck.unwrap_or_else(|| {
            turn = turn % (servers.len() - 1) + 1;
            if reads { turn } else { 0 }
        });
        let name = if target == 0 { "primary\",reason=\"write" } else { "replica\",reason=\"read" };
        bump(&counts, format!("pgweir_units_total{{database=\"photos\",target=\"{name}\"}}"));
        bump(&counts, format!("pgweir_server_units_total{{server=\"{}\"}}", servers[target]));
        links[target].write_all(&unit).await.ok()?;
        loop {
            let (tag, bytes) = message(&mut links[target]).await.ok()?;
            client.write_all(&bytes).await.ok()?;
            if tag == b'Z' {
                stuck = (bytes[5] != b'I').then_some(target);
                break;
            }
        }
    }
}
