//! Views as tables of events.
