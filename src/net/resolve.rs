//! From a host name to its addresses.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::lookup_host;

/// What becomes of a question.
pub type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Who knows the addresses of a name: the system, or in a test somebody else.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Fn(&str) -> Answer + Send + Sync>);

impl Resolver {
    /// One that asks that.
    pub fn new(ask: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// All addresses of a name, in order. A host that has both kinds would be there twice: of the two the kind counts that comes
    /// first.
    ///
    /// # Errors
    /// What the system says; or there is none.
    pub async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut found = (self.0)(name).await?;
        let first = found.first().copied().ok_or(io::ErrorKind::NotFound)?;
        found.retain(|ip| ip.is_ipv4() == first.is_ipv4());
        found.sort();
        found.dedup();
        Ok(found)
    }
}

impl Default for Resolver {
    /// The system.
    fn default() -> Self {
        Self::new(|name| {
            let name = name.to_owned();
            Box::pin(async move { Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resolver").finish()
    }
}
