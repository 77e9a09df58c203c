//! `/metrics` for Prometheus and `/healthz` for whoever asks whether to send clients here.
//!
//! Nothing a stranger does there costs more than one of 64 connections for ten seconds.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// Connections at once; the next one waits in the listener's queue. Prometheus needs one.
const MAX_CONNECTIONS: usize = 64;

/// From accepting a connection until the request's head is there.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// From accepting a connection until the answer is sent: a reader that does not read must not hold a place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What Prometheus' text format is called.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

/// Everything else is plain text.
const PLAIN: &str = "text/plain; charset=utf-8";

/// What is said of anything else.
const HINT: &str = "pgweir answers GET /metrics (Prometheus) and GET /healthz.\n";

/// Whether one database can be used, in the words of `/healthz`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseHealth {
    /// The database.
    pub name: String,
    /// Whether a primary or a replica of it is usable.
    pub usable: bool,
    /// What the operator should know: which servers are up, and as what.
    pub detail: String,
}

/// Answers until `stop` is ready. `health` is asked once per `/healthz`.
///
/// # Errors
/// Never for what a client does; only if the listener itself is broken.
pub async fn serve<H>(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: H,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    H: Fn() -> Vec<DatabaseHealth> + Send + Sync + 'static,
{
    let health = Arc::new(health);
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&metrics), Arc::clone(&health)));
                }
                // Out of descriptors, or a client that left early: neither is for ever.
                Err(error) => {
                    warn!(%error, "could not accept a connection for /metrics");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// One request, one answer: Prometheus comes every 15 seconds, which is no reason to keep a connection.
async fn connection<H>(stream: TcpStream, metrics: Arc<Metrics>, health: Arc<H>)
where
    H: Fn() -> Vec<DatabaseHealth>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &metrics, &*health);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a connection for /metrics failed"),
        Err(_) => debug!("a connection for /metrics took too long"),
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    health: impl Fn() -> Vec<DatabaseHealth>,
) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, HINT.to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => text(StatusCode::OK, PROMETHEUS, metrics.render()),
        "/healthz" => healthz(&health()),
        _ => text(StatusCode::NOT_FOUND, PLAIN, HINT.to_owned()),
    }
}

/// 200 when every database can at least be read.
fn healthz(databases: &[DatabaseHealth]) -> Response<Full<Bytes>> {
    let all = databases.iter().all(|database| database.usable);
    let line = |database: &DatabaseHealth| {
        let word = if database.usable { "ok" } else { "unusable" };
        format!("{}: {word}: {}\n", database.name, database.detail)
    };
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, PLAIN, databases.iter().map(line).collect())
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Runs `ask` against a server whose databases are as told.
    async fn with_server<T>(usable: bool, ask: impl AsyncFnOnce(std::net::SocketAddr) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health =
            move || vec![DatabaseHealth { name: "app".into(), usable, detail: "a:1 is down".into() }];
        let served = serve(listener, Metrics::new(), health, std::future::pending());
        tokio::select! {
            end = served => panic!("{end:?}"),
            answer = ask(address) => answer,
        }
    }

    async fn say(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_what_it_should_and_nothing_else() {
        with_server(true, async |address| {
            let metrics = say(address, "GET /metrics?x=1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
            assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"), "{metrics}");
            assert!(metrics.contains("\npgweir_build_info{"), "{metrics}");
            let health = say(address, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(health.ends_with("\r\n\r\napp: ok: a:1 is down\n"), "{health}");
            let head = say(address, "HEAD /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
            let post = say(address, "POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
            assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
            let other = say(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            assert!(other.starts_with("HTTP/1.1 404 ") && other.ends_with(HINT), "{other}");
            let nonsense = say(address, "\x16\x03\x01 hello\r\n\r\n").await;
            assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
        })
        .await;
    }

    #[tokio::test]
    async fn an_unusable_database_is_503() {
        let health = with_server(false, async |address| {
            say(address, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await
        })
        .await;
        assert!(health.starts_with("HTTP/1.1 503 "), "{health}");
        assert!(health.ends_with("app: unusable: a:1 is down\n"), "{health}");
    }

    #[tokio::test]
    async fn silent_connections_make_room() {
        timeout(
            Duration::from_secs(30),
            with_server(true, async |address| {
                let mut silent = Vec::new();
                for _ in 0..MAX_CONNECTIONS {
                    silent.push(TcpStream::connect(address).await.unwrap());
                }
                let health = say(address, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
                assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
            }),
        )
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn stops_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        serve(listener, Metrics::new(), Vec::new, std::future::ready(())).await.unwrap();
    }
}
