//! What pools keep open must not stand in the way of statements about whole databases.

use super::session::Session;
use super::unit::Piece;

impl Session {
    /// DROP, ALTER or CREATE DATABASE: connections that only the pools keep open must not stand in its way. A text that
    /// says so elsewhere costs no more than some idle connections.
    #[cold]
    pub(super) fn make_way(&self, piece: &Piece) {
        let Some(window) = &self.window else { return };
        let text = window.bytes().get(..piece.size).unwrap_or_default().to_ascii_lowercase();
        let says = |word: &[u8]| memchr::memmem::find(&text, word).is_some();
        if says(b"database") {
            let copied = says(b"create");
            self.shared
                .pools
                .let_go(|name| says(name.to_ascii_lowercase().as_bytes()) || copied && name == "template1");
        }
    }
}
