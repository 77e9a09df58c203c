#!/usr/bin/env bash
# Brings PostgreSQL's own regression statements under target/oracle, and prints the folder that holds them. They are not part
# of this repository. Tried in turn: a folder that you name, Debian's source package through apt, the crate pg_raw_parse.
#
#   tests/oracle/fetch.sh                       fetch, or say where they are already
#   PGWEIR_REGRESS=/src/postgresql tests/...    use that source tree; nothing is fetched
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
place=${CARGO_TARGET_DIR:-$root/target}/oracle
mkdir -p "$place"

# Each form of it: the folder of the .sql files below the folder that was unpacked.
found() {
    local folder
    for folder in "$1"/src/test/regress/sql "$1"/libpg_query/test/sql/postgres_regress; do
        if [ -e "$folder/select.sql" ]; then
            echo "$folder"
            return 0
        fi
    done
    return 1
}

# The system's own package sources, asked for sources instead of binaries, with lists and caches of our own.
from_apt() {
    command -v apt-get >/dev/null || return 1
    local apt=$place/apt version file
    mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/cache/archives/partial"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] || continue
        grep -qi debian "$file" || continue
        sed -E 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' "$file" >"$apt/parts/$(basename "$file")"
    done
    local options=(-qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/parts"
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return 1
    # The version of the installed server first: what was published last is not everywhere yet.
    local installed
    installed=$(dpkg-query -W -f '${Version}' postgresql-15 2>/dev/null || true)
    for version in $installed $(apt-cache "${options[@]}" showsrc postgresql-15 | sed -n 's/^Version: //p' | sort -rV); do
        (cd "$place" && apt-get "${options[@]}" source --download-only "postgresql-15=$version") || continue
        rm -rf "$place/debian" && mkdir "$place/debian"
        tar -xf "$place"/postgresql-15_*.orig.tar.* -C "$place/debian" --strip-components=1 --wildcards \
            '*/src/test/regress/sql' '*/src/test/regress/data' '*/src/test/regress/parallel_schedule' \
            '*/contrib/*/sql' '*/src/pl/plpgsql/src/sql' || return 1
        rm -f "$place"/postgresql-15_*
        found "$place/debian" && return 0
    done
    return 1
}

# A package that has the crate as its only dependency, so that cargo itself fetches it.
from_crate() {
    command -v cargo >/dev/null || return 1
    local crate=$place/crate manifest
    mkdir -p "$crate/src"
    touch "$crate/src/lib.rs"
    printf '[package]\nname = "corpus"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\npg_raw_parse = "0.1"\n[workspace]\n' \
        >"$crate/Cargo.toml"
    (cd "$crate" && cargo fetch --quiet) || return 1
    manifest=$(cd "$crate" && cargo metadata --format-version 1 --offline |
        grep -o '"manifest_path":"[^"]*/pg_raw_parse-[^"]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4)
    [ -n "$manifest" ] && found "$(dirname "$manifest")"
}

if [ -n "${PGWEIR_REGRESS:-}" ]; then
    found "$PGWEIR_REGRESS" || { echo "$PGWEIR_REGRESS: no src/test/regress/sql in it" >&2; exit 1; }
    exit
fi
found "$place/debian" || from_apt || from_crate || {
    echo "PostgreSQL's regression statements are not to be had: no apt source, no crate." >&2
    exit 1
}
