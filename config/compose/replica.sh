#!/bin/bash
# The entrypoint of a replica: copies the primary when its own folder is empty, then runs as the image does.
set -euo pipefail

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec gosu postgres "$BASH" "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # A copy that was cut short is no copy. The folder is a mount point: it is emptied, not removed.
    find "$PGDATA" -mindepth 1 -delete
    export PGPASSWORD="$REPLICATION_PASSWORD"
    # --write-recovery-conf leaves standby.signal and primary_conninfo (with the password) behind.
    until pg_basebackup --host "$PRIMARY_HOST" --username "$REPLICATION_USER" --pgdata "$PGDATA" \
        --wal-method stream --checkpoint fast --write-recovery-conf; do
        echo "the primary is not ready: trying again" >&2
        find "$PGDATA" -mindepth 1 -delete
        sleep 1
    done
    unset PGPASSWORD
fi

exec postgres -c hot_standby=on
