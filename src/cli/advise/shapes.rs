//! What a pgweir says of the statements that went through it: the shapes of SHOW ROUTES.

use super::source::{By, Counted, MOST, NoSource, Place, Source, Sum, cell, float, number};
use super::text::printable;
use crate::client::CONSOLE;
use crate::monitor::{LinkError, Visit, ask_once, named};
use crate::route::{Reason, Target};
use crate::sql::{Kind, Lexer};

/// What a shape's text ends with where it is cut.
const CUT: char = '…';

/// The database that `connection` is about, if a pgweir stands there: the one that is wanted, the one that it names, or else the only
/// one that is configured. None: it is a server.
pub(super) async fn behind(connection: &str, wanted: Option<&str>) -> Result<Option<String>, NoSource> {
    let (database, user) = named(connection)?;
    let user = || printable(user.as_deref().unwrap_or_default(), 64);
    if database.as_deref() != Some(CONSOLE) {
        let database = database.or_else(|| named(connection).ok()?.1).unwrap_or_default();
        // A server knows no such setting; what else is wrong is found out later.
        let is_pgweir = ask_once(connection, &database, "SHOW pgweir.route").await.is_ok();
        return Ok(is_pgweir.then_some(database));
    }
    let rows = match ask_once(connection, CONSOLE, "SHOW DATABASES").await {
        Err(error) if error.code() == Some("42501") => return Err(NoSource::NoConsole { user: user() }),
        // A server may have a database of that name.
        Err(error) if error.code() == Some("42704") => return Ok(None),
        rows => rows?,
    };
    match (wanted, rows.as_slice()) {
        (Some(wanted), _) => Ok(Some(wanted.to_owned())),
        (None, [only]) => {
            Ok(cell(only, 0).map(|name| if name == "*" { "postgres" } else { name }.to_owned()))
        }
        _ => Err(NoSource::Several),
    }
}

/// Reads its shapes, of all databases: they are not told apart there.
pub(super) async fn read(connection: &str, database: String, visit: &mut Visit) -> Result<Source, NoSource> {
    let user = visit.rows("SELECT current_user").await?;
    let user = user.first().and_then(|row| cell(row, 0)).unwrap_or_default().to_owned();
    let rows = match ask_once(connection, CONSOLE, &format!("SHOW ROUTES LIMIT {MOST}")).await {
        Err(error) if error.code() == Some("42501") => {
            return Err(NoSource::NoConsole { user: printable(&user, 64) });
        }
        rows => rows?,
    };
    let mut source =
        Source { place: Place { by: By::Pgweir, database, user, ..Place::default() }, ..Source::default() };
    for row in &rows {
        source.take_shape(row).ok_or(NoSource::Link(LinkError::Nonsense))?;
    }
    source.statements.sort_by(|one, other| other.time.total_cmp(&one.time));
    Ok(source)
}

impl Source {
    /// A row of SHOW ROUTES; none: it is none.
    fn take_shape(&mut self, row: &[Option<String>]) -> Option<()> {
        let [_, _, _, _, target, reason, _, _, shape, text] = row else { return None };
        let calls = number(row, 0);
        #[expect(clippy::cast_precision_loss, reason = "a sum for people")]
        let time = float(row, 3) * calls as f64;
        let mut counted = Counted { calls, time, ..Counted::default() };
        if shape.is_none() {
            self.others.join(Sum { statements: u64::from(calls > 0), calls, time, rows: 0 });
            self.all.join(self.others);
            return Some(());
        }
        let reason = Reason::ALL.iter().find(|known| Some(known.code()) == reason.as_deref()).copied()?;
        let targets = [Target::Primary, Target::Replica];
        let target = targets.into_iter().find(|known| Some(known.code()) == target.as_deref())?;
        counted.judged = Some((target, reason));
        (counted.text, counted.shape) = (text.clone(), shape.clone());
        self.all.add(&counted);
        self.statements.push(counted);
        Some(())
    }
}

/// The text of a shape with parameters for its constants; none: the end of it is missing.
pub(super) fn with_parameters(text: &str) -> Option<String> {
    if text.ends_with(CUT) {
        return None;
    }
    let of = |token: &crate::sql::Token| text.get(token.start..token.end).unwrap_or_default();
    let tokens: Vec<_> = Lexer::new(text.as_bytes()).collect();
    let params = tokens.iter().filter(|token| token.kind == Kind::Param);
    let mut last = params.filter_map(|token| of(token).get(1..)?.parse::<u32>().ok()).max().unwrap_or(0);
    let mut out = String::with_capacity(text.len());
    for token in &tokens {
        match (token.kind, of(token)) {
            (Kind::Operator, "?") => {
                last = last.saturating_add(1);
                out.push_str(&format!("${last}"));
            }
            (_, raw) => out.push_str(raw),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [Option<&str>; 10]) -> Vec<Option<String>> {
        cells.map(|cell| cell.map(str::to_owned)).to_vec()
    }

    #[test]
    fn a_row_is_a_shape_or_all_others() {
        let mut source = Source::default();
        let shape = |target, reason, text| {
            let counts = [Some("4"), Some("1"), Some("3"), Some("0.5"), Some(target), Some(reason)];
            let [a, b, c, d, e, f] = counts;
            row([a, b, c, d, e, f, Some("write"), None, Some("00ff"), Some(text)])
        };
        source.take_shape(&shape("replica", "read", "SELECT ?")).unwrap();
        source.take_shape(&shape("primary", "user_function", "SELECT f(?)")).unwrap();
        let others =
            row([Some("2"), None, None, None, None, None, Some("write"), None, None, Some("(all others)")]);
        source.take_shape(&others).unwrap();
        assert_eq!((source.all.calls, source.others.calls, source.statements.len()), (10, 2, 2));
        assert!((source.all.time - 4.0).abs() < 0.001, "{}", source.all.time);
        assert_eq!(source.statements[1].judged, Some((Target::Primary, Reason::UserFunction)));
        assert!(source.take_shape(&shape("nowhere", "read", "")).is_none());
        assert!(source.take_shape(&[]).is_none());
    }

    #[test]
    fn constants_become_parameters() {
        for (text, expected) in [
            ("UPDATE t SET n = n + ? WHERE id = ?", Some("UPDATE t SET n = n + $1 WHERE id = $2")),
            ("UPDATE t SET n = n + ? WHERE id = $2", Some("UPDATE t SET n = n + $3 WHERE id = $2")),
            ("SELECT ? …", None),
            ("", Some("")),
        ] {
            assert_eq!(with_parameters(text).as_deref(), expected);
        }
    }
}
