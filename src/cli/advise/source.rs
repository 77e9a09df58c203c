//! What `pg_stat_statements` says of one database, of versions 13 to 18: read once, within bounds, and only what clients sent.

use super::text::printable;
use crate::monitor::{LinkError, Visit};
use crate::route::{Reason, Target};

/// Most shapes that are read, those that took most time first.
pub(super) const MOST: usize = 5_000;

/// Longest text that is read; what is longer goes to the primary by its length alone.
const LONGEST: usize = 64 << 10;

/// Most bytes of texts: further ones count as too long.
const MOST_BYTES: usize = 64 << 20;

/// What stands in the place of a text that the role may not see.
const HIDDEN: &str = "<insufficient privilege>";

/// Why there is nothing to read, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSource {
    #[error(
        "the database {database} has no extension pg_stat_statements\n\
         hint: {preload}CREATE EXTENSION pg_stat_statements in this database; then let the load run for a while"
    )]
    NotInstalled { database: String, preload: &'static str },
    #[error(
        "pg_stat_statements is not loaded: the server counts nothing\n\
         hint: add it to shared_preload_libraries and restart the server; then let the load run for a while"
    )]
    NotLoaded,
    #[error("the role {user} may not read pg_stat_statements\nhint: GRANT pg_read_all_stats TO {user}")]
    Denied { user: String },
    #[error(
        "pg_stat_statements has no column of that name: {column}\nhint: ALTER EXTENSION pg_stat_statements UPDATE"
    )]
    Unknown { column: &'static str },
    #[error(
        "this is a pgweir, and its console lets {user} not in\n\
         hint: name that user in stats_users, or connect to the server itself, which has pg_stat_statements"
    )]
    NoConsole { user: String },
    #[error("this is a pgweir before several databases\nhint: say which with --database, or in the URL")]
    Several,
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Who has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub(super) enum By {
    /// The server, in `pg_stat_statements`.
    #[default]
    #[serde(rename = "pg_stat_statements")]
    Server,
    /// A pgweir, in SHOW ROUTES.
    #[serde(rename = "pgweir")]
    Pgweir,
}

/// Who is asked.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) by: By,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) is_replica: bool,
    /// When counting began, if that is known.
    pub(super) since: Option<String>,
    /// How often the server has forgotten what was seldom called, to make room.
    pub(super) forgotten: u64,
}

/// A statement as the server counts it: its text without constants.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    /// None: it is too long to be looked at.
    pub(super) text: Option<String>,
    pub(super) calls: u64,
    /// In milliseconds.
    pub(super) time: f64,
    /// The fastest call, in milliseconds; 0 where that is not known.
    pub(super) least: f64,
    pub(super) rows: u64,
    /// Where it goes, and why, if pgweir has judged it: by what it really was.
    pub(super) judged: Option<(Target, Reason)>,
    /// Its shape as rules name it, if that is known without its text.
    pub(super) shape: Option<String>,
}

/// A sum over statements.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Sum {
    pub(super) statements: u64,
    pub(super) calls: u64,
    #[serde(rename = "time_ms")]
    pub(super) time: f64,
    /// Read or written.
    pub(super) rows: u64,
}

impl Sum {
    pub(super) fn add(&mut self, counted: &Counted) {
        let Counted { calls, time, rows, .. } = *counted;
        self.join(Self { statements: 1, calls, time, rows });
    }

    pub(super) fn join(&mut self, other: Self) {
        self.statements += other.statements;
        self.calls += other.calls;
        self.time += other.time;
        self.rows += other.rows;
    }
}

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) place: Place,
    /// All that the server has counted for the database, read or not.
    pub(super) all: Sum,
    /// Those whose texts the role may not see.
    pub(super) hidden: Sum,
    /// Those that are not told apart.
    pub(super) others: Sum,
    pub(super) statements: Vec<Counted>,
}

/// Reads it.
pub(super) async fn read(visit: &mut Visit) -> Result<Source, NoSource> {
    visit.rows("BEGIN READ ONLY").await?;
    // So that names mean what they say.
    visit.rows("SET LOCAL search_path = pg_catalog").await?;
    let (mut place, schema) = place(visit).await?;
    let columns = columns(visit, &schema).await?;
    let rows = visit.rows(&question(&schema, &columns)?).await;
    let rows = rows.map_err(|error| match error.code() {
        Some("55000") => NoSource::NotLoaded,
        Some("42501") => NoSource::Denied { user: printable(&place.user, 64) },
        _ => error.into(),
    })?;
    if columns.iter().any(|column| column == "stats_reset") {
        let info = format!("SELECT stats_reset, dealloc FROM {schema}.pg_stat_statements_info");
        let info = visit.rows(&info).await?;
        let row = info.first().map(Vec::as_slice).unwrap_or_default();
        (place.since, place.forgotten) = (cell(row, 0).map(str::to_owned), number(row, 1));
    }
    visit.rows("COMMIT").await?;
    let mut source = Source { place, ..Source::default() };
    for row in &rows {
        source.take(row);
    }
    Ok(source)
}

/// Who is asked, and the schema of the extension.
async fn place(visit: &mut Visit) -> Result<(Place, String), NoSource> {
    let rows = visit
        .rows(
            "SELECT current_database(), current_user, pg_is_in_recovery(), \
             (SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
                 WHERE e.extname = 'pg_stat_statements'), \
             current_setting('pg_stat_statements.max', true) IS NOT NULL",
        )
        .await?;
    let row = rows.first().map(Vec::as_slice).unwrap_or_default();
    let text = |at| cell(row, at).unwrap_or_default().to_owned();
    let place =
        Place { database: text(0), user: text(1), is_replica: cell(row, 2) == Some("t"), ..Place::default() };
    match cell(row, 3) {
        Some(schema) => Ok((place, schema.to_owned())),
        None => {
            let loaded = cell(row, 4) == Some("t");
            let preload =
                if loaded { "" } else { "add it to shared_preload_libraries and restart the server; then " };
            Err(NoSource::NotInstalled { database: printable(&place.database, 64), preload })
        }
    }
}

/// The columns of its views.
async fn columns(visit: &mut Visit, schema: &str) -> Result<Vec<String>, LinkError> {
    let schema = crate::wire::write::quote_literal(schema);
    let rows = visit
        .rows(&format!(
            "SELECT attname FROM pg_attribute WHERE attnum > 0 AND attrelid IN (to_regclass({schema} || '.pg_stat_statements'), \
             to_regclass({schema} || '.pg_stat_statements_info'))"
        ))
        .await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// One row for each text, with the sums over all in the last columns. Versions of the extension before 1.8 had other names for
/// times, and those before 1.9 did not tell what clients sent from what functions ran.
fn question(schema: &str, columns: &[String]) -> Result<String, NoSource> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    let (time, least) = match (has("total_exec_time"), has("total_time")) {
        (true, _) => ("total_exec_time", "min_exec_time"),
        (false, true) => ("total_time", "min_time"),
        (false, false) => return Err(NoSource::Unknown { column: "total_exec_time" }),
    };
    let sent = if has("toplevel") { " AND toplevel" } else { "" };
    Ok(format!(
        "SELECT CASE WHEN octet_length(query) <= {LONGEST} AND sum(octet_length(query)) OVER (ORDER BY time DESC, query) <= {MOST_BYTES} \
            THEN query END, calls, time, least, rows, all_statements, all_calls, all_time, all_rows FROM \
         (SELECT coalesce(query, '{HIDDEN}') AS query, sum(calls) AS calls, sum({time}) AS time, min({least}) AS least, sum(rows) AS rows, \
            count(*) OVER () AS all_statements, sum(sum(calls)) OVER () AS all_calls, sum(sum({time})) OVER () AS all_time, sum(sum(rows)) OVER () AS all_rows \
            FROM {schema}.pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()){sent} \
            GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT {MOST}) s ORDER BY time DESC, query"
    ))
}

impl Source {
    fn take(&mut self, row: &[Option<String>]) {
        self.all = Sum {
            statements: number(row, 5),
            calls: number(row, 6),
            time: float(row, 7),
            rows: number(row, 8),
        };
        let counted = Counted {
            text: cell(row, 0).map(str::to_owned),
            calls: number(row, 1),
            time: float(row, 2),
            least: float(row, 3),
            rows: number(row, 4),
            judged: None,
            shape: None,
        };
        if counted.text.as_deref() == Some(HIDDEN) {
            self.hidden.add(&counted);
        } else {
            self.statements.push(counted);
        }
    }
}

pub(super) fn cell(row: &[Option<String>], at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

pub(super) fn number(row: &[Option<String>], at: usize) -> u64 {
    cell(row, at).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn float(row: &[Option<String>], at: usize) -> f64 {
    cell(row, at).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_columns() {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let old = question("public", &columns(&["query", "calls", "total_time", "min_time"])).unwrap();
        assert!(old.contains("sum(total_time)") && !old.contains("toplevel"), "{old}");
        let new = question("\"My x\"", &columns(&["total_exec_time", "min_exec_time", "toplevel"])).unwrap();
        assert!(new.contains("sum(total_exec_time)") && new.contains("AND toplevel"), "{new}");
        assert!(new.contains("FROM \"My x\".pg_stat_statements "), "{new}");
        assert!(question("public", &columns(&["query"])).is_err());
    }

    #[test]
    fn a_row_that_makes_no_sense_is_no_panic() {
        let mut source = Source::default();
        source.take(&[]);
        source.take(&[Some(HIDDEN.to_owned()), Some("x".to_owned()), None]);
        assert_eq!((source.statements.len(), source.hidden.statements), (1, 1));
    }
}
