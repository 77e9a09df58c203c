// Go: lib/pq and pgx, each as its users have it: through database/sql, and pgx by its own interface with its statement cache.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	_ "github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
)

type say func(what string, values ...interface{})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func code(err error) string {
	var theirs *pq.Error
	var other *pgconn.PgError
	switch {
	case err == nil:
		return "no error"
	case errors.As(err, &theirs):
		return string(theirs.Code)
	case errors.As(err, &other):
		return other.Code
	}
	return err.Error()
}

func throughSQL(say say, driver, table string) {
	db, err := sql.Open(driver, os.Getenv("DATABASE_URL")+"?sslmode=disable")
	must(err)
	defer db.Close()
	db.SetMaxOpenConns(2)
	exec := func(text string, args ...interface{}) { _, err := db.Exec(text, args...); must(err) }
	value := func(text string, args ...interface{}) (out string) { must(db.QueryRow(text, args...).Scan(&out)); return }
	exec("DROP TABLE IF EXISTS " + table)
	exec("CREATE TABLE " + table + " (id int PRIMARY KEY, name text)")
	for i := 0; i < 20; i++ {
		say("returning", value("INSERT INTO "+table+" VALUES ($1, $2) RETURNING id", i, "n"+strconv.Itoa(i)))
	}
	statement, err := db.Prepare("SELECT name FROM " + table + " WHERE id = $1")
	must(err)
	for i := 0; i < 20; i++ {
		var name string
		must(statement.QueryRow(i).Scan(&name))
		say("prepared", name)
	}
	must(statement.Close())
	_, err = db.Exec("INSERT INTO "+table+" VALUES ($1)", 1)
	say("error", code(err))
	_, err = db.Exec("SELECT 1 / 0")
	say("error", code(err))
	tx, err := db.Begin()
	must(err)
	_, err = tx.Exec("DELETE FROM " + table)
	must(err)
	_, err = tx.Exec("SAVEPOINT one")
	must(err)
	_, err = tx.Exec("SELECT 1 / $1::int", 0)
	say("inner", code(err))
	_, err = tx.Exec("ROLLBACK TO one")
	must(err)
	must(tx.Rollback())
	say("rolled back", value("SELECT count(*)::text FROM "+table))
	reading, err := db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelRepeatableRead})
	must(err)
	_, err = reading.Exec("DELETE FROM " + table)
	say("read only", code(err))
	must(reading.Rollback())
	if driver == "postgres" {
		tx, err = db.Begin()
		must(err)
		copyIn, err := tx.Prepare(pq.CopyIn(table, "id", "name"))
		must(err)
		for i := 200; i < 300; i++ {
			_, err = copyIn.Exec(i, "copied")
			must(err)
		}
		_, err = copyIn.Exec()
		must(err)
		must(copyIn.Close())
		must(tx.Commit())
		say("copy", value("SELECT count(*)::text FROM "+table+" WHERE name = 'copied'"))
		listener := pq.NewListener(os.Getenv("DATABASE_URL")+"?sslmode=disable", time.Second, time.Minute, nil)
		must(listener.Listen(table))
		exec("SELECT pg_notify($1, 'hello')", table)
		select {
		case heard := <-listener.Notify:
			say("notified", heard.Extra)
		case <-time.After(20 * time.Second):
			say("notified", "nothing")
		}
		must(listener.Close())
	}
	exec("DROP TABLE " + table)
}

func byItself(say say, table string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	must(err)
	defer conn.Close(ctx)
	exec := func(text string, args ...interface{}) { _, err := conn.Exec(ctx, text, args...); must(err) }
	value := func(text string, args ...interface{}) (out string) {
		must(conn.QueryRow(ctx, text, args...).Scan(&out))
		return
	}
	exec("DROP TABLE IF EXISTS " + table)
	exec("CREATE TABLE " + table + " (id int PRIMARY KEY, name text)")
	batch := &pgx.Batch{}
	for i := 0; i < 20; i++ {
		batch.Queue("INSERT INTO "+table+" VALUES ($1, $2)", i, "n"+strconv.Itoa(i))
	}
	must(conn.SendBatch(ctx, batch).Close())
	for i := 0; i < 20; i++ {
		say("cached", value("SELECT name FROM "+table+" WHERE id = $1", i))
	}
	batch = &pgx.Batch{}
	batch.Queue("INSERT INTO "+table+" VALUES (50, 'gone')")
	batch.Queue("INSERT INTO "+table+" VALUES ($1, 'again')", 1)
	say("batch error", code(conn.SendBatch(ctx, batch).Close()), value("SELECT count(*)::text FROM "+table))
	err = conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM "+table)
		must(err)
		say("inner", code(tx.BeginFunc(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT 1 / $1::int", 0)
			return err
		})))
		return errors.New("lost")
	})
	say("outer", err, value("SELECT count(*)::text FROM "+table))
	rows := [][]interface{}{}
	for i := int32(200); i < 300; i++ {
		rows = append(rows, []interface{}{i, "copied"})
	}
	copied, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "name"}, pgx.CopyFromRows(rows))
	must(err)
	say("copy", copied)
	exec("CREATE TEMP TABLE scratch AS SELECT 5 AS n")
	say("temporary", value("SELECT n::text FROM scratch"))
	exec("DROP TABLE scratch")
	exec("SET timezone TO 'Asia/Tokyo'")
	say("set", value("SELECT '2020-01-01 00:00+00'::timestamptz::text"))
	exec("SELECT pg_advisory_lock(1101)")
	say("unlocked", value("SELECT pg_advisory_unlock(1101)::text"))
	exec("LISTEN " + table)
	exec("SELECT pg_notify($1, 'hello')", table)
	heard, err := conn.WaitForNotification(ctx)
	must(err)
	say("notified", heard.Payload)
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	_, err = conn.Exec(short, "SELECT pg_sleep(10)")
	stop()
	say("timeout", err != nil, conn.IsClosed())
	conn, err = pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	must(err)
	exec("DROP TABLE " + table)
	must(conn.Close(ctx))
}

func main() {
	workers, err := strconv.Atoi(os.Getenv("WORKERS"))
	if err != nil {
		workers = 50
	}
	var all sync.WaitGroup
	texts := make([]string, workers)
	for i := range texts {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			var out strings.Builder
			say := func(what string, values ...interface{}) { fmt.Fprintln(&out, append([]interface{}{what}, values...)...) }
			try := func(name string, work func()) {
				defer func() {
					if failure := recover(); failure != nil {
						say(name+" FAILED", failure)
					}
				}()
				work()
			}
			try("lib/pq", func() { throughSQL(say, "postgres", fmt.Sprint("go_pq_", number)) })
			try("pgx by database/sql", func() { throughSQL(say, "pgx", fmt.Sprint("go_pgx_sql_", number)) })
			try("pgx", func() { byItself(say, fmt.Sprint("go_pgx_", number)) })
			texts[number] = out.String()
		}(i)
	}
	all.Wait()
	counts := map[string]int{}
	for _, text := range texts {
		counts[text]++
	}
	kinds := []string{}
	for kind := range counts {
		kinds = append(kinds, kind)
	}
	sort.Slice(kinds, func(a, b int) bool { return counts[kinds[a]] > counts[kinds[b]] })
	for _, kind := range kinds {
		fmt.Printf("%s%d of %d clients alike\n", kind, counts[kind], workers)
	}
}
