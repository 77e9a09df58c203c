//! Where a unit goes, and why: a pure function.
