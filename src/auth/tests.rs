//! The two sides against each other, and against postgres-protocol.
