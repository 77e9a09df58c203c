//! The fixture itself.
