//! What a node tree names, read from the way PostgreSQL prints it (`src/backend/nodes/outfuncs.c`): ` :field value` again and
//! again. Only the numbers of objects are of interest, and a few fields that say that something is locked or written.

use memchr::memchr_iter;

use super::rows::Oid;

/// What a tree names.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    pub(super) functions: Vec<Oid>,
    pub(super) operators: Vec<Oid>,
    pub(super) relations: Vec<Oid>,
    pub(super) types: Vec<Oid>,
    /// It writes, locks rows or takes from a sequence.
    pub(super) acts: bool,
}

/// Reads a tree.
pub(super) fn named(tree: &str) -> Named {
    let mut named = Named::default();
    let bytes = tree.as_bytes();
    for colon in memchr_iter(b':', bytes) {
        let rest = bytes.get(colon + 1..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_') else {
            break;
        };
        let (field, value) = rest.split_at(end);
        let value = value.trim_ascii_start();
        match field {
            b"funcid" | b"opfuncid" | b"aggfnoid" | b"winfnoid" | b"hashfuncid" | b"negfuncid" => {
                named.functions.extend(number(value));
            }
            b"opno" | b"eqop" | b"sortop" | b"ltop" => named.operators.extend(number(value)),
            b"opnos" => named.operators.extend(numbers(value)),
            b"relid" => named.relations.extend(number(value)),
            b"resulttype" | b"consttype" | b"funcresulttype" => named.types.extend(number(value)),
            b"seqid" => named.acts = true,
            b"commandType" => named.acts |= number(value) != Some(1),
            b"rowMarks" => named.acts |= !value.starts_with(b"<>"),
            b"hasModifyingCTE" | b"hasForUpdate" => named.acts |= !value.starts_with(b"false"),
            _ => {}
        }
    }
    for list in [&mut named.functions, &mut named.operators, &mut named.relations, &mut named.types] {
        list.retain(|oid| *oid != 0);
        list.sort_unstable();
        list.dedup();
    }
    named
}

fn number(text: &[u8]) -> Option<Oid> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    std::str::from_utf8(text.get(..end)?).ok()?.parse().ok()
}

/// `(o 97 664)`
fn numbers(text: &[u8]) -> impl Iterator<Item = Oid> + '_ {
    let end = memchr::memchr(b')', text).unwrap_or(0);
    text.get(..end).unwrap_or_default().split(|byte| !byte.is_ascii_digit()).filter_map(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_objects_are_found() {
        let tree = "({QUERY :commandType 1 :hasModifyingCTE false :hasForUpdate false :rtable ({RTE :alias <> :rtekind 0 :relid \
            16390 :relkind r}) :targetList ({TARGETENTRY :expr {FUNCEXPR :funcid 16400 :funcresulttype 23 :args ({OPEXPR \
            :opno 96 :opfuncid 65 :opresulttype 16}{ROWCOMPAREEXPR :opnos (o 16500 97)}{AGGREF :aggfnoid 2803})}}) :rowMarks \
            <>})";
        let found = named(tree);
        assert_eq!(found.functions, [65, 2803, 16_400]);
        assert_eq!(found.operators, [96, 97, 16_500]);
        assert_eq!((found.relations, found.acts), (vec![16_390], false));
        for acts in
            [":rowMarks ({ROWMARKCLAUSE :rti 1})", ":commandType 3 ", ":seqid 5 ", ":hasForUpdate true "]
        {
            assert!(named(acts).acts, "{acts}");
        }
    }
}
