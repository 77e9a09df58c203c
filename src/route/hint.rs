//! What a client says itself of where its reads should go: by a comment, by `SET pgweir.route`, or when it connects.

/// Where reads should go. It can only narrow: what is not proven to read stays on the primary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Wish {
    /// To the primary.
    Primary,
    /// To a replica: moves a read where `mode = "opt_in"`, and changes nothing where reads go to replicas anyway.
    Replica,
}

impl Wish {
    /// From its word, in any case; none: there is no such wish.
    #[must_use]
    pub fn parse(word: &str) -> Option<Wish> {
        match word.to_ascii_lowercase().as_str() {
            "primary" => Some(Wish::Primary),
            "replica" => Some(Wish::Replica),
            _ => None,
        }
    }
}
