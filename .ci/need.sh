# Read by ./demo, ./test and .ci/run: what must be on the machine, and how to get it. POSIX sh.

say() {
    echo "pgweir: $*" >&2
}

die() {
    say "$*"
    exit 1
}

# Runs a command as root; says so if that takes sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "not root, and there is no sudo: please run: $*"
    fi
}

# Installs Debian packages. The lists are fetched only if the packages are not known yet, or their known versions are gone.
install() {
    command -v apt-get >/dev/null || die "please install $* (there is no apt-get here to do it)"
    say "installing $* with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    if ! as_root apt-get install -y -q --no-install-recommends "$@" </dev/null >&2; then
        as_root apt-get update -q </dev/null >&2
        as_root apt-get install -y -q --no-install-recommends "$@" </dev/null >&2
    fi
}

need_cargo() {
    command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
    command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
}

need_c_compiler() {
    command -v cc >/dev/null || install gcc libc6-dev
}

# Whether a PostgreSQL server can be found: the same places that the fixture looks at (src/cli/demo/cluster/account.rs).
has_postgresql() {
    if [ -n "${PGWEIR_PG_BIN:-}" ]; then
        [ -x "$PGWEIR_PG_BIN/postgres" ] || die "PGWEIR_PG_BIN is $PGWEIR_PG_BIN, and there is no postgres in it"
        return
    fi
    for bin in /usr/lib/postgresql/*/bin "$(pg_config --bindir 2>/dev/null || true)"; do
        if [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; then
            return
        fi
    done
    return 1
}

# The server. Debian's package would create and start a cluster of its own on port 5432: not on a machine that only wants
# to run ours, so it is told not to, unless somebody has chosen already.
need_postgresql() {
    if has_postgresql; then
        return
    fi
    say "no PostgreSQL server on this machine"
    install postgresql-common
    chosen=/etc/postgresql-common/createcluster.conf
    if ! grep -qs '^[[:space:]]*create_main_cluster' "$chosen"; then
        say "setting create_main_cluster = false in $chosen, so that no server is started on port 5432"
        echo 'create_main_cluster = false' | as_root tee -a "$chosen" >/dev/null
    fi
    install postgresql
    has_postgresql || die "the package postgresql is installed, and still there is no server to be found"
}

# psql, pg_dump and pgbench: they come with the server, unless it came from elsewhere.
need_clients() {
    for client in psql pg_dump pgbench; do
        if ! command -v "$client" >/dev/null && ! ls /usr/lib/postgresql/*/bin/"$client" >/dev/null 2>&1; then
            install postgresql-client postgresql-contrib
        fi
    done
}
