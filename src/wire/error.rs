//! What can be wrong with the bytes of a peer.

/// Bytes that are not the protocol. All map to SQLSTATE 08P01.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A length below the size of the length field itself.
    #[error("message with tag {tag:#04x} announces an impossible length of {length}")]
    Length {
        /// The message's tag.
        tag: u8,
        /// What its length field says.
        length: u32,
    },
    /// A length over what PostgreSQL allows for that tag.
    #[error("message with tag {tag:#04x} announces {length} bytes; PostgreSQL allows {limit}")]
    TooLong {
        /// The message's tag.
        tag: u8,
        /// What its length field says.
        length: u32,
        /// What PostgreSQL allows.
        limit: u32,
    },
    /// A tag that the protocol does not have in that direction.
    #[error("invalid message type {0:#04x}")]
    Tag(u8),
    /// A body that does not have the shape its tag asks for.
    #[error("malformed message with tag {0:#04x}")]
    Body(u8),
    /// A message that is known but may not come now.
    #[error("message with tag {0:#04x} is not allowed at this point")]
    Unexpected(u8),
    /// The first packet is no startup packet.
    #[error("invalid startup packet: {0}")]
    Startup(&'static str),
    /// The major version is not 3.
    #[error("unsupported frontend protocol {major}.{minor}: pgweir speaks 3.0 and 3.2")]
    Version {
        /// Major number asked for.
        major: u16,
        /// Minor number asked for.
        minor: u16,
    },
}
