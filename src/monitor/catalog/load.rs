//! Reads the rows of a database's system catalogs (PostgreSQL docs, chapter 52), of versions 13 to 18.

use tokio_postgres::SimpleQueryRow;

use super::super::link::{Link, LinkError};
use crate::net::Address;
use crate::route::catalog::rows::{
    Body, CastRow, FunctionRow, Oid, OperatorRow, RelationRow, Rows, TreeRow, TypeRow,
};
use crate::server::Login;

/// What stands in the place of a fingerprint of what a catalog is made of: it differs when one of these objects was made,
/// changed or dropped. Temporary tables do not count, nor does what VACUUM and ANALYZE write.
const FINGERPRINT: &str = "SELECT md5(concat_ws(',', \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_proc WHERE oid >= 16384), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, relname, relnamespace, relkind, relpersistence, relrowsecurity, \
        relnatts, relhastriggers), 0)) FROM pg_class \
        WHERE oid >= 16384 AND relpersistence <> 't' AND relkind NOT IN ('i', 'I', 't')), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 1)) FROM pg_rewrite WHERE oid >= 16384), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 2)) FROM pg_policy), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 3)) FROM pg_operator WHERE oid >= 16384), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 4)) FROM pg_cast WHERE oid >= 16384), \
    (SELECT sum(hashtextextended(concat_ws(',', aggfnoid::oid, xmin), 5)) FROM pg_aggregate \
        WHERE aggfnoid::oid >= 16384), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 6)) FROM pg_type \
        WHERE oid >= 16384 AND typrelid = 0 AND typelem = 0), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 7)) FROM pg_constraint \
        WHERE contypid <> 0 OR contype = 'f'), \
    (SELECT sum(hashtextextended(concat_ws(',', inhrelid, inhparent), 8)) FROM pg_inherits), \
    (SELECT sum(hashtextextended(concat_ws(',', oid, nspname), 9)) FROM pg_namespace \
        WHERE nspname !~ '^pg_(toast_)?temp_')))";

const SCHEMAS: &str = "SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'";

/// `BODY` is `prosqlbody` where there is one (from version 14). The last columns look for what changes
/// settings, at the beginning of a statement (UPDATE has a SET, too) or in a text that is run; and for what does so without
/// saying which.
const FUNCTIONS: &str = "SELECT p.oid, p.proname, p.pronamespace, p.provolatile, p.prokind, \
    CASE WHEN l.lanname = 'sql' AND p.provolatile <> 'v' THEN p.prosrc END, \
    CASE WHEN p.provolatile <> 'v' THEN BODY END, \
    (SELECT substr(c, 13) FROM unnest(p.proconfig) c WHERE c LIKE 'search\\_path=%' LIMIT 1), \
    p.proargtypes::text, concat_ws(' ', p.prorettype, array_to_string(p.proallargtypes, ' ')), \
    p.pronargdefaults, p.proargdefaults, p.provariadic, \
    SOURCE ~* '\\mset_config\\M|(^|;|''|\\$|>>|\\*/|\\m(begin|then|else|loop)\\M)\\s*(set|reset|load|discard)\\s', \
    SOURCE ~* '\\mset_config\\s*\\(\\s*(?!''[^'']*''(::\\w+)?\\s*,)' \
        OR SOURCE ~* '\\mexecute\\M.*''.*\\mset' OR SOURCE ~* '\\mload\\s+''' \
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang \
    WHERE p.oid >= 16384 OR p.pronamespace <> 'pg_catalog'::regnamespace";

/// The custom settings that functions name where they set them.
const CUSTOM: &str = "SELECT DISTINCT lower(m[1]) FROM pg_proc p, regexp_matches(SOURCE, \
    '(?:\\mset_config\\s*\\(\\s*''|\\mset\\s+(?:session\\s+)?)([a-z_][a-z0-9_$]*(?:[.][a-z_][a-z0-9_$]*)+)', 'gi') m \
    WHERE p.oid >= 16384 LIMIT 65";

const BUILTINS: &str = "SELECT oid, proname, pronamespace FROM pg_proc WHERE oid < 16384 AND pronamespace = 'pg_catalog'::regnamespace";

const AGGREGATES: &str = "SELECT aggfnoid::oid, concat_ws(' ', aggtransfn::oid, aggfinalfn::oid, aggcombinefn::oid, \
    aggserialfn::oid, aggdeserialfn::oid, aggmtransfn::oid, aggminvtransfn::oid, aggmfinalfn::oid) \
    FROM pg_aggregate WHERE aggfnoid::oid >= 16384";

const OPERATORS: &str =
    "SELECT oid, oprname, oprcode::oid, oprleft, oprright FROM pg_operator WHERE oid >= 16384";

const CASTS: &str = "SELECT castsource, casttarget, castfunc FROM pg_cast WHERE oid >= 16384";

const RELATIONS: &str = "SELECT c.oid, c.relname, c.relnamespace, c.relkind, c.relpersistence, c.relrowsecurity, \
    c.oid IN (SELECT tgrelid FROM pg_trigger WHERE NOT tgisinternal \
        UNION ALL SELECT ev_class FROM pg_rewrite WHERE ev_type <> '1' \
        UNION ALL SELECT adrelid FROM pg_attrdef WHERE oid IN (SELECT objid FROM pg_depend \
            WHERE classid = 'pg_attrdef'::regclass AND refclassid = 'pg_proc'::regclass AND refobjid >= 16384) \
        UNION ALL SELECT conrelid FROM pg_constraint WHERE oid IN (SELECT objid FROM pg_depend \
            WHERE classid = 'pg_constraint'::regclass AND refclassid = 'pg_proc'::regclass AND refobjid >= 16384)), \
    c.oid IN (SELECT confrelid FROM pg_constraint \
        WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_(toast|temp)'";

/// A temporary child is seen by its own session alone, which stays on the primary.
const CHILDREN: &str = "SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
    WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'f')";

const VIEWS: &str = "SELECT r.ev_class, r.ev_action FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class \
    WHERE c.relkind = 'v' AND r.ev_type = '1' AND c.oid >= 16384 AND c.relpersistence <> 't'";

const POLICIES: &str =
    "SELECT polrelid, polqual FROM pg_policy WHERE polqual IS NOT NULL AND polcmd IN ('r', '*')";

const TYPES: &str = "SELECT t.oid, t.typname, t.typbasetype, t.typelem, coalesce(r.rngsubtype, 0), t.typrelid, \
    concat_ws(' ', t.typinput::oid, t.typoutput::oid, t.typreceive::oid, t.typsend::oid, t.typmodin::oid, \
        r.rngcanonical::oid, r.rngsubdiff::oid, (SELECT string_agg(a.amproc::oid::text, ' ') FROM pg_amproc a \
        WHERE a.oid >= 16384 AND t.oid IN (a.amproclefttype, a.amprocrighttype))) FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid \
    JOIN pg_namespace n ON n.oid = t.typnamespace \
    WHERE t.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp)'";

const CHECKS: &str =
    "SELECT contypid, conbin FROM pg_constraint WHERE contypid <> 0 AND contype = 'c' AND oid >= 16384";

const COLUMNS: &str = "SELECT attrelid, atttypid FROM pg_attribute \
    WHERE atttypid >= 16384 AND attnum > 0 AND NOT attisdropped";

/// A connection for reading catalogs.
pub(in crate::monitor) struct Reader {
    link: Link,
    version: u32,
}

/// What one login sees.
#[derive(Debug)]
pub struct Seen {
    /// The rows of the catalogs.
    pub rows: Rows,
    /// The login's `search_path`.
    pub search_path: String,
    /// Its role.
    pub user: String,
}

impl Reader {
    /// Connects and logs in. A host name is resolved anew.
    pub(in crate::monitor) async fn open(
        address: &Address,
        login: &Login,
        database: &str,
    ) -> Result<Self, LinkError> {
        Self::over(Link::open(address, login, database).await?).await
    }

    /// Over a connection that is there.
    pub(in crate::monitor) async fn over(mut link: Link) -> Result<Self, LinkError> {
        let version = link.query("SELECT current_setting('server_version_num')").await?;
        let version = number(version.first().ok_or(LinkError::Nonsense)?, 0)?;
        Ok(Self { link, version })
    }

    /// What the login sees.
    pub(in crate::monitor) async fn seen(&mut self) -> Result<Seen, LinkError> {
        let login = self.link.query("SELECT current_setting('search_path'), current_user").await?;
        let [row] = login.as_slice() else { return Err(LinkError::Nonsense) };
        let (search_path, user) = (text(row, 0)?, text(row, 1)?);
        Ok(Seen { rows: self.rows().await?, search_path, user })
    }

    /// The connection, for other questions.
    pub(in crate::monitor) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// The server's version as a number: `150006`.
    pub(in crate::monitor) fn version(&self) -> u32 {
        self.version
    }

    /// See [`FINGERPRINT`].
    pub(super) async fn fingerprint(&mut self) -> Result<String, LinkError> {
        let rows = self.link.query(FINGERPRINT).await?;
        text(rows.first().ok_or(LinkError::Nonsense)?, 0)
    }

    /// All rows, as they are at one moment.
    pub(super) async fn rows(&mut self) -> Result<Rows, LinkError> {
        self.link.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // So that names are not looked up anywhere else.
        self.link.query("SET LOCAL search_path = pg_catalog").await?;
        let rows = self.all().await?;
        self.link.query("COMMIT").await?;
        Ok(rows)
    }

    async fn all(&mut self) -> Result<Rows, LinkError> {
        let body = if self.version >= 140_000 { "p.prosqlbody" } else { "NULL" };
        let source = if self.version >= 140_000 {
            "coalesce(pg_get_function_sqlbody(p.oid), p.prosrc)"
        } else {
            "p.prosrc"
        };
        let functions = FUNCTIONS.replace("BODY", body).replace("SOURCE", source);
        let mut rows = Rows {
            schemas: self.each(SCHEMAS, |row| Ok((number(row, 0)?, text(row, 1)?))).await?,
            functions: self.each(&functions, function).await?,
            custom: self.each(&CUSTOM.replace("SOURCE", source), |row| text(row, 0)).await?,
            aggregates: self.each(AGGREGATES, |row| Ok((number(row, 0)?, numbers(row, 1)?))).await?,
            operators: self.each(OPERATORS, operator).await?,
            casts: self.each(CASTS, cast).await?,
            relations: self.each(RELATIONS, relation).await?,
            children: self.each(CHILDREN, |row| Ok((number(row, 0)?, number(row, 1)?))).await?,
            views: self.each(VIEWS, tree).await?,
            policies: self.each(POLICIES, tree).await?,
            types: self.each(TYPES, own_type).await?,
            checks: self.each(CHECKS, tree).await?,
            columns: self.each(COLUMNS, |row| Ok((number(row, 0)?, number(row, 1)?))).await?,
        };
        let builtins = self.each(BUILTINS, |row| {
            let (oid, name, schema) = (number(row, 0)?, text(row, 1)?, number(row, 2)?);
            Ok(FunctionRow { oid, name, schema, ..FunctionRow::default() })
        });
        rows.functions.extend(builtins.await?);
        Ok(rows)
    }

    async fn each<T>(
        &mut self,
        text: &str,
        read: impl Fn(&SimpleQueryRow) -> Result<T, LinkError>,
    ) -> Result<Vec<T>, LinkError> {
        self.link.query(text).await?.iter().map(read).collect()
    }
}

fn column(row: &SimpleQueryRow, at: usize) -> Result<Option<&str>, LinkError> {
    row.try_get(at).map_err(LinkError::from)
}

fn text(row: &SimpleQueryRow, at: usize) -> Result<String, LinkError> {
    column(row, at)?.map(str::to_owned).ok_or(LinkError::Nonsense)
}

fn number(row: &SimpleQueryRow, at: usize) -> Result<Oid, LinkError> {
    column(row, at)?.and_then(|text| text.parse().ok()).ok_or(LinkError::Nonsense)
}

/// Several numbers with blanks between them; zeros stand for nothing.
fn numbers(row: &SimpleQueryRow, at: usize) -> Result<Vec<Oid>, LinkError> {
    let text = column(row, at)?.unwrap_or_default();
    let numbers = text.split_whitespace().map(|text| text.parse().map_err(|_| LinkError::Nonsense));
    Ok(numbers.collect::<Result<Vec<Oid>, _>>()?.into_iter().filter(|oid| *oid != 0).collect())
}

fn letter(row: &SimpleQueryRow, at: usize) -> Result<u8, LinkError> {
    column(row, at)?.and_then(|text| text.bytes().next()).ok_or(LinkError::Nonsense)
}

fn flag(row: &SimpleQueryRow, at: usize) -> Result<bool, LinkError> {
    Ok(column(row, at)? == Some("t"))
}

fn function(row: &SimpleQueryRow) -> Result<FunctionRow, LinkError> {
    let body = match (column(row, 5)?, column(row, 6)?) {
        (_, Some(tree)) => Body::Tree(tree.to_owned()),
        (Some(text), None) => Body::Text(text.to_owned()),
        (None, None) => Body::Hidden,
    };
    Ok(FunctionRow {
        oid: number(row, 0)?,
        name: text(row, 1)?,
        schema: number(row, 2)?,
        volatility: letter(row, 3)?,
        kind: letter(row, 4)?,
        body,
        path: column(row, 7)?.map(str::to_owned),
        arguments: numbers(row, 8)?,
        results: numbers(row, 9)?,
        optional: usize::try_from(number(row, 10)?).map_err(|_| LinkError::Nonsense)?,
        defaults: column(row, 11)?.map(str::to_owned),
        variadic: number(row, 12)?,
        sets: flag(row, 13)?,
        hides: flag(row, 14)?,
    })
}

fn operator(row: &SimpleQueryRow) -> Result<OperatorRow, LinkError> {
    Ok(OperatorRow {
        oid: number(row, 0)?,
        name: text(row, 1)?,
        function: number(row, 2)?,
        operands: [number(row, 3)?, number(row, 4)?],
    })
}

fn cast(row: &SimpleQueryRow) -> Result<CastRow, LinkError> {
    Ok(CastRow { types: [number(row, 0)?, number(row, 1)?], function: number(row, 2)? })
}

fn relation(row: &SimpleQueryRow) -> Result<RelationRow, LinkError> {
    Ok(RelationRow {
        oid: number(row, 0)?,
        name: text(row, 1)?,
        schema: number(row, 2)?,
        kind: letter(row, 3)?,
        persistence: letter(row, 4)?,
        row_security: flag(row, 5)?,
        triggers: flag(row, 6)?,
        cascades: flag(row, 7)?,
    })
}

fn tree(row: &SimpleQueryRow) -> Result<TreeRow, LinkError> {
    Ok(TreeRow { owner: number(row, 0)?, tree: text(row, 1)? })
}

fn own_type(row: &SimpleQueryRow) -> Result<TypeRow, LinkError> {
    Ok(TypeRow {
        oid: number(row, 0)?,
        name: text(row, 1)?,
        parts: [number(row, 2)?, number(row, 3)?, number(row, 4)?],
        relation: number(row, 5)?,
        functions: numbers(row, 6)?,
    })
}
