#!/bin/sh
# psql ($1), a process for each client: its script, with what it says of errors. What newer versions have is in the script, too.
set -u
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
workers=${WORKERS:-50}
number=0
while [ "$number" -lt "$workers" ]; do
    (cd "$folder" && mkdir "$number" && cd "$number" &&
        "$1" -X -a -d "$DATABASE_URL" -v "number=$number" -v "table=psql_$number" -f "$here/psql.sql" 2>&1 |
        sed "s/psql_$number\([^0-9]\|$\)/psql_N\1/g; s|^psql:.*/psql.sql|psql.sql|; s/^.*(every/(every/; s/^ *Table \"/Table \"/
            s/^\(lo_[a-z]*\) [0-9]*$/\1 OID/" >"../$number.out") &
    number=$((number + 1))
done
wait
cat "$folder/0.out"
alike=0
for out in "$folder"/*.out; do
    if cmp -s "$out" "$folder/0.out"; then
        alike=$((alike + 1))
    else
        diff "$folder/0.out" "$out"
    fi
done
echo "$alike of $workers clients alike"
