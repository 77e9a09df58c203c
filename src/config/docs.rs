//! The settings as documentation.
