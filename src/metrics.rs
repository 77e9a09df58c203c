//! Every metric: name, unit, labels, help.
