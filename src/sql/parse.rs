//! The second opinion, and the names of tables: the only file that knows `sqlparser`.
//!
//! It is asked about what the scan takes for a read, and may only object. Texts above [`PARSE_LIMIT`] are kept from it:
//! its tree is dropped recursively, and some 33,000 chained terms overflow a thread's stack, which ends the process.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CommentObject, CopySource, CopyTarget, Expr, Function, FunctionArguments, Grant, GrantObjects, Ident,
    ObjectName, ObjectNamePart, ObjectType, Query, Revoke, Select, SetExpr, Statement, TableFactor, Visit,
    Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::outline::{Effect, Name, Names};
use super::words::is_construct;

/// The longest text that is parsed: a quarter of what could overflow the stack of a thread of tokio's.
pub const PARSE_LIMIT: usize = 16 << 10;

/// What the parser makes of a text that the scan takes for a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opinion {
    /// A read as well.
    Read,
    /// Not a read: the scan has a hole.
    Objection,
    /// It does not know this syntax, or the text is too long for it: the scan's word stands.
    None,
}

/// What the parser makes of a text.
#[must_use]
pub fn opinion<F: Names>(text: &[u8], names: &F) -> Opinion {
    let Some(statements) = parse(text) else { return Opinion::None };
    let mut walk = Walk { names, ctes: ctes(&statements) };
    match statements.iter().try_for_each(|statement| statement.visit(&mut walk)) {
        ControlFlow::Continue(()) => Opinion::Read,
        ControlFlow::Break(()) => Opinion::Objection,
    }
}

/// The tables and views that a text names, each as its parts, folded unless quoted; names of CTEs are left out. None if
/// the parser does not know the syntax, or misreads it.
#[must_use]
pub fn tables(text: &[u8]) -> Option<Vec<Vec<String>>> {
    let statements = parse(text)?;
    let (mut tables, ctes) = (Vec::new(), ctes(&statements));
    let mut add = |name: &ObjectName| {
        let parts: Vec<String> = name.0.iter().filter_map(part).collect();
        let is_cte = matches!(parts.as_slice(), [name] if ctes.contains(name));
        if !is_cte && !tables.contains(&parts) {
            tables.push(parts);
        }
    };
    statements.iter().flat_map(unvisited).for_each(&mut add);
    let walk = sqlparser::ast::visit_relations(&statements, |name: &ObjectName| {
        if is_only(name) {
            return ControlFlow::Break(());
        }
        add(name);
        ControlFlow::Continue(())
    });
    walk.is_continue().then_some(tables)
}

/// The tables and views of a statement that `visit_relations` passes by.
fn unvisited(statement: &Statement) -> Vec<&ObjectName> {
    match statement {
        Statement::Copy { source: CopySource::Table { table_name, .. }, .. } => vec![table_name],
        Statement::Drop {
            object_type: ObjectType::Table | ObjectType::View | ObjectType::MaterializedView,
            names,
            ..
        } => names.iter().collect(),
        Statement::Comment {
            object_type: CommentObject::Table | CommentObject::View | CommentObject::MaterializedView,
            object_name,
            ..
        } => vec![object_name],
        Statement::Vacuum(vacuum) => vacuum.table_name.iter().collect(),
        Statement::Grant(Grant { objects: Some(GrantObjects::Tables(names)), .. })
        | Statement::Revoke(Revoke { objects: Some(GrantObjects::Tables(names)), .. }) => {
            names.iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The parser takes the ONLY of `FROM ONLY t` for a table, and `t` for its alias. No table has that name without quotes.
fn is_only(name: &ObjectName) -> bool {
    matches!(
        name.0.as_slice(),
        [ObjectNamePart::Identifier(ident)]
            if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only")
    )
}

/// The names of all CTEs.
fn ctes(statements: &[Statement]) -> Vec<String> {
    struct Ctes(Vec<String>);
    impl Visitor for Ctes {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.0.extend(tables.map(|cte| fold(&cte.alias.name)));
            ControlFlow::Continue(())
        }
    }
    let mut ctes = Ctes(Vec::new());
    for statement in statements {
        // Never breaks.
        let _ = statement.visit(&mut ctes);
    }
    ctes.0
}

fn parse(text: &[u8]) -> Option<Vec<Statement>> {
    if text.len() > PARSE_LIMIT {
        return None;
    }
    Parser::parse_sql(&PostgreSqlDialect {}, std::str::from_utf8(text).ok()?).ok()
}

fn part(part: &ObjectNamePart) -> Option<String> {
    match part {
        ObjectNamePart::Identifier(ident) => Some(fold(ident)),
        ObjectNamePart::Function(_) => None,
    }
}

fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// The walk: breaks at the first thing that is not a read.
struct Walk<'f, F> {
    names: &'f F,
    /// Names that hide tables somewhere in the text.
    ctes: Vec<String>,
}

impl<F: Names> Walk<'_, F> {
    fn call(&self, name: &ObjectName) -> ControlFlow<()> {
        let Some(parts) = name.0.iter().map(part).collect::<Option<Vec<String>>>() else {
            return ControlFlow::Break(());
        };
        let quoted = matches!(
            name.0.last(), Some(ObjectNamePart::Identifier(ident)) if ident.quote_style.is_some()
        );
        let effect = match parts.as_slice() {
            [last] if !quoted && is_construct(last.as_bytes()) => Effect::Safe,
            [last] => self.names.function(Name { schema: None, last: last.as_bytes() }),
            [schema, last] => {
                self.names.function(Name { schema: Some(schema.as_bytes()), last: last.as_bytes() })
            }
            _ => Effect::Unknown,
        };
        if effect == Effect::Safe { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn table(&self, name: &ObjectName) -> ControlFlow<()> {
        let Some(parts) = name.0.iter().map(part).collect::<Option<Vec<String>>>() else {
            return ControlFlow::Break(());
        };
        let effect = match parts.as_slice() {
            [last] if self.ctes.contains(last) => Effect::Safe,
            [last] => self.names.relation(Name { schema: None, last: last.as_bytes() }),
            [schema, last] => {
                self.names.relation(Name { schema: Some(schema.as_bytes()), last: last.as_bytes() })
            }
            _ => Effect::NoRelation,
        };
        if effect == Effect::Safe { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl<F: Names> Visitor for Walk<'_, F> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        let reads = match statement {
            Statement::Query(_) | Statement::Explain { .. } => true,
            Statement::Copy { to, target, .. } => *to && matches!(target, CopyTarget::Stdout),
            // SHOW of any setting; some names have a variant of their own in other dialects.
            Statement::ShowVariable { .. }
            | Statement::ShowVariables { .. }
            | Statement::ShowStatus { .. }
            | Statement::ShowTables { .. }
            | Statement::ShowViews { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowFunctions { .. }
            | Statement::ShowCollation { .. }
            | Statement::ShowDatabases { .. }
            | Statement::ShowSchemas { .. } => true,
            _ => false,
        };
        if reads { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let writes = matches!(
            query.body.as_ref(),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        );
        if writes || !query.locks.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if select.into.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            // CURRENT_DATE and its like: without parentheses there is no call.
            Expr::Function(Function { args: FunctionArguments::None, .. }) => ControlFlow::Continue(()),
            Expr::Function(function) => self.call(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.call(name)
            }
            TableFactor::Table { name, args: None, alias: Some(alias), .. } if is_only(name) => {
                self.table(&ObjectName::from(vec![alias.name.clone()]))
            }
            TableFactor::Table { name, args: None, .. } => self.table(name),
            _ => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A catalog that has one table, `t`.
    struct OneTable;

    impl Names for OneTable {
        fn function(&self, _: Name<'_>) -> Effect {
            Effect::Safe
        }

        fn relation(&self, name: Name<'_>) -> Effect {
            if name.last == b"t" { Effect::Safe } else { Effect::NoRelation }
        }
    }

    #[test]
    fn only_is_no_table() {
        for (text, expected) in [
            ("SELECT * FROM ONLY t", Opinion::Read),
            ("SELECT * FROM t a, only t", Opinion::Read),
            ("SELECT * FROM ONLY u", Opinion::Objection),
            ("SELECT * FROM \"only\" t", Opinion::Objection),
        ] {
            assert_eq!(opinion(text.as_bytes(), &OneTable), expected, "{text}");
        }
    }
}
