//! What the text of a statement says.
