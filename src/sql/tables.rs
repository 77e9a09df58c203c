//! Which names of a query stand where only a table or view can: behind FROM and JOIN, between the commas of a FROM list,
//! and not the name of a CTE that is visible there.
//!
//! The clauses are followed by depth of parentheses, one bit each. Where a depth has no bit any more, every name behind a
//! comma is taken for a table, which only costs needless trips.

use super::lex::Token;

/// Most CTEs remembered; the names of others are taken for those of tables.
const MAX_CTES: usize = 64;

/// A depth as a bit of a mask; none for depths that a mask cannot hold.
pub(super) fn bit(depth: usize) -> u64 {
    if depth < 63 { 1 << depth } else { 0 }
}

/// A CTE that names at its depth and deeper can mean.
#[derive(Clone, Copy, Debug)]
struct Cte {
    name: Token,
    depth: usize,
}

/// Follows the clauses.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// Depths that have a SELECT.
    select: u64,
    /// Depths that are in a FROM list.
    from: u64,
    /// Depths whose WITH is RECURSIVE: a CTE sees itself.
    recursive: u64,
    /// Depths whose WITH has something else behind a CTE (SEARCH, CYCLE): what follows may be no CTE.
    odd: u64,
    ctes: Vec<Cte>,
    /// CTEs that are being defined, and not visible yet; each inside the body of the one before.
    pending: Vec<Cte>,
}

impl Tables {
    /// SELECT, VALUES or TABLE.
    pub(super) fn query(&mut self, depth: usize) {
        self.define(depth);
        self.select |= bit(depth);
        self.from &= !bit(depth);
    }

    /// FROM: of a query if there is one at this depth, else of EXTRACT and its like. Whether it is of a query.
    pub(super) fn from(&mut self, depth: usize) -> bool {
        let of_query = bit(depth) == 0 || self.select & bit(depth) != 0;
        if of_query {
            self.from |= bit(depth);
        }
        of_query
    }

    /// A word that ends a FROM list.
    pub(super) fn clause(&mut self, depth: usize) {
        self.from &= !bit(depth);
    }

    /// Whether this depth is in a FROM list.
    pub(super) fn is_list(&self, depth: usize) -> bool {
        bit(depth) == 0 || self.from & bit(depth) != 0
    }

    /// A parenthesis opened, to this depth; `joined`: in a FROM list, where a table could have stood.
    pub(super) fn open(&mut self, depth: usize, joined: bool) {
        if joined {
            self.from |= bit(depth);
        }
    }

    /// A parenthesis closed, which had this depth inside.
    pub(super) fn close(&mut self, depth: usize) {
        for mask in [&mut self.select, &mut self.from, &mut self.recursive, &mut self.odd] {
            *mask &= !bit(depth);
        }
        self.ctes.retain(|cte| cte.depth < depth);
        self.pending.retain(|cte| cte.depth < depth);
    }

    /// WITH RECURSIVE.
    pub(super) fn recursive(&mut self, depth: usize) {
        self.recursive |= bit(depth);
    }

    /// The name of a CTE, where one is defined.
    pub(super) fn cte(&mut self, name: Token, depth: usize) {
        self.define(depth);
        if self.odd & bit(depth) != 0 {
            return;
        }
        if self.pending.len() < MAX_CTES {
            self.pending.push(Cte { name, depth });
        }
        if self.recursive & bit(depth) != 0 {
            self.define(depth);
        }
    }

    /// A word that is none of the grammar's stands behind a CTE's body.
    pub(super) fn odd(&mut self, depth: usize) {
        self.odd |= bit(depth);
    }

    /// The definition of a CTE is over: from here on it is visible.
    pub(super) fn define(&mut self, depth: usize) {
        if let Some(cte) = self.pending.pop_if(|cte| cte.depth == depth)
            && self.ctes.len() < MAX_CTES
        {
            self.ctes.push(cte);
        }
    }

    /// The names that hide tables here.
    pub(super) fn ctes(&self) -> impl Iterator<Item = Token> + '_ {
        self.ctes.iter().map(|cte| cte.name)
    }
}
