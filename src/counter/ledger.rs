//! The statements about the ledger: up to which number the increments of an account are committed, told in the transaction that
//! commits them. Pure.

use crate::wire::write::quote_literal;

/// Whether the table is there.
pub(super) fn is_there(ledger: &str) -> String {
    format!("SELECT pg_catalog.to_regclass({}) IS NOT NULL", quote_literal(ledger))
}

/// Makes it.
pub(super) fn create(ledger: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {ledger} (journal text, account text, applied bigint NOT NULL, \
         about text, changed timestamptz NOT NULL DEFAULT pg_catalog.now(), PRIMARY KEY (journal, account))"
    )
}

/// What a role needs on it, for the operator.
pub(super) fn grants(ledger: &str, user: &str) -> String {
    let user = crate::wire::write::quote_identifier(user);
    format!("{}; GRANT SELECT, INSERT, UPDATE ON {ledger} TO {user}", create(ledger))
}

/// The row of one account of one journal.
#[derive(Debug)]
pub(super) struct Line {
    /// The table.
    pub(super) ledger: String,
    /// The journal.
    pub(super) journal: String,
    /// The account's name.
    pub(super) account: String,
}

impl Line {
    fn is(&self) -> String {
        format!("journal = {} AND account = {}", quote_literal(&self.journal), quote_literal(&self.account))
    }

    /// Opens it, if it is not there.
    pub(super) fn open(&self, about: &str) -> String {
        format!(
            "INSERT INTO {} (journal, account, applied, about) VALUES ({}, {}, 0, {}) ON CONFLICT DO NOTHING",
            self.ledger,
            quote_literal(&self.journal),
            quote_literal(&self.account),
            quote_literal(about)
        )
    }

    /// Asks it.
    pub(super) fn read(&self) -> String {
        format!("SELECT applied FROM {} WHERE {}", self.ledger, self.is())
    }

    /// Moves it on, and returns no row. It fails with 22012 if it is not where it should be, and all with it.
    pub(super) fn advance(&self, from: u64, to: u64) -> String {
        format!(
            "WITH w AS (UPDATE {} SET applied = {to}, changed = pg_catalog.now() WHERE {} AND applied = {from} RETURNING 1) \
             SELECT FROM w HAVING 1 / pg_catalog.count(*) = 0",
            self.ledger,
            self.is()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let line = Line { ledger: "public.pgweir_ledger".into(), journal: "a'b".into(), account: "s".into() };
        assert!(line.advance(3, 9).contains("SET applied = 9"), "{}", line.advance(3, 9));
        assert!(line.read().contains("journal = 'a''b' AND account = 's'"), "{}", line.read());
        assert!(grants("l", "Web").ends_with("TO \"Web\""));
    }
}
