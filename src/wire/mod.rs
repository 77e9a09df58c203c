//! The PostgreSQL wire protocol 3.0 (docs, chapter 53): bytes to headers and views, and the messages pgweir itself speaks.
