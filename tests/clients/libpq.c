/*
 * libpq in C, a thread for each client: pipelines with errors in them, rows one by one, COPY, large objects, notifications and
 * cancels. What newer versions of libpq have is tried where there is a newer one.
 */
#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Queries in flight. */
#define DEEP 400

typedef struct {
	int number;
	size_t size;
	char text[65536];
} Transcript;

static void
say(Transcript *t, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	t->size += vsnprintf(t->text + t->size, sizeof t->text - t->size, format, args);
	va_end(args);
	if (t->size > sizeof t->text - 2)
		abort();
	t->text[t->size++] = '\n';
	t->text[t->size] = 0;
}

/* Says what a result is, and clears it. */
static ExecStatusType
told(Transcript *t, const char *what, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	say(t, "%s: %s %s %s %d rows %s", what, result ? PQresStatus(status) : "none", code ? code : "",
		result ? PQcmdStatus(result) : "", PQntuples(result),
		PQntuples(result) > 0 && PQnfields(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return status;
}

static void
run(Transcript *t, PGconn *conn, const char *what, const char *text)
{
	told(t, what, PQexec(conn, text));
}

/* Sends all that is held back, and takes in what comes meanwhile, as a client must that does not block. */
static void
flush(PGconn *conn)
{
	while (PQflush(conn) > 0)
	{
		struct pollfd socket = {PQsocket(conn), POLLIN | POLLOUT, 0};

		poll(&socket, 1, -1);
		if (socket.revents & POLLIN)
			PQconsumeInput(conn);
	}
}

static void
insert(PGconn *conn, int id)
{
	char number[16];
	const char *values[] = {number, "row"};

	snprintf(number, sizeof number, "%d", id);
	PQsendQueryPrepared(conn, "insert", 2, values, NULL, NULL, 0);
}

/* Takes the results up to the next synchronisation; says how many were what. */
static void
drain(Transcript *t, PGconn *conn, const char *what)
{
	int ok = 0, aborted = 0, failed = 0, empty = 0;
	char code[6] = "";

	for (;;)
	{
		PGresult *result = PQgetResult(conn);

		if (result == NULL)
		{
			if (++empty > 2 * DEEP)
				break;
			continue;
		}
		switch (PQresultStatus(result))
		{
			case PGRES_PIPELINE_SYNC:
				PQclear(result);
				say(t, "%s: %d done, %d failed with %s, %d aborted, in transaction %d", what, ok, failed, code, aborted,
					PQtransactionStatus(conn));
				return;
			case PGRES_PIPELINE_ABORTED:
				aborted++;
				break;
			case PGRES_FATAL_ERROR:
				failed++;
				snprintf(code, sizeof code, "%s", PQresultErrorField(result, PG_DIAG_SQLSTATE));
				break;
			default:
				ok++;
		}
		PQclear(result);
	}
	say(t, "%s: FAILED, no synchronisation", what);
}

static void
pipelines(Transcript *t, PGconn *conn)
{
	char text[200];
	PGresult *result;

	PQsetnonblocking(conn, 1);
	PQenterPipelineMode(conn);
	snprintf(text, sizeof text, "INSERT INTO libpq_%d VALUES ($1, $2) RETURNING id", t->number);
	PQsendPrepare(conn, "insert", text, 0, NULL);
	PQsendDescribePrepared(conn, "insert");
	for (int id = 0; id < DEEP; id++)
	{
		insert(conn, id);
		flush(conn);
	}
	PQpipelineSync(conn);
	/* The next part is one transaction, whose middle fails; the one behind it is another. */
	for (int id = 1000; id < 1000 + DEEP; id++)
	{
		insert(conn, id == 1000 + DEEP / 2 ? 7 : id);
		flush(conn);
	}
	PQpipelineSync(conn);
	insert(conn, 2000);
	PQsendQueryParams(conn, "SELECT $1::int + 1", 1, NULL, (const char *[]) {"41"}, NULL, NULL, 1);
	PQpipelineSync(conn);
	flush(conn);
	drain(t, conn, "deep");
	drain(t, conn, "error in the middle");
	drain(t, conn, "behind it");

	/* Within a transaction that the pipeline itself begins; and one that fails at its commit. */
	PQsendQueryParams(conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 0);
	insert(conn, 3000);
	PQpipelineSync(conn);
	insert(conn, 7);
	PQpipelineSync(conn);
	insert(conn, 3001);
	PQsendQueryParams(conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(conn);
	PQsendQueryParams(conn, "ROLLBACK", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(conn);
	flush(conn);
	drain(t, conn, "begun");
	drain(t, conn, "failed");
	drain(t, conn, "still failed");
	drain(t, conn, "ended");

	/* Answers without a synchronisation, asked for by a flush. */
	PQsendQueryParams(conn, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0);
	PQsendFlushRequest(conn);
	flush(conn);
	told(t, "flushed", PQgetResult(conn));
	PQclear(PQgetResult(conn));
	insert(conn, 4000);
	PQsendFlushRequest(conn);
	flush(conn);
	told(t, "flushed write", PQgetResult(conn));
	PQclear(PQgetResult(conn));
	PQsendQueryParams(conn, "SELECT 1 / 0", 0, NULL, NULL, NULL, NULL, 0);
	PQsendFlushRequest(conn);
	insert(conn, 4001);
	PQpipelineSync(conn);
	flush(conn);
	drain(t, conn, "failed after a flush");

	/* Rows one by one, of one query among others. */
	PQsendQueryParams(conn, "SELECT generate_series(1, 300)", 0, NULL, NULL, NULL, NULL, 0);
	PQsendQueryParams(conn, "SELECT 1 / (3 - n) FROM generate_series(1, 5) n", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(conn);
	flush(conn);
	int rows = 0;

	PQsetSingleRowMode(conn);
	while ((result = PQgetResult(conn)) != NULL)
	{
		rows += PQresultStatus(result) == PGRES_SINGLE_TUPLE;
		PQclear(result);
	}
	say(t, "row by row: %d", rows);
	PQsetSingleRowMode(conn);
	drain(t, conn, "error after rows");
#if defined(LIBPQ_HAS_CLOSE_PREPARED)
	PQsendClosePrepared(conn, "insert");
	PQpipelineSync(conn);
	insert(conn, 5000);
	PQpipelineSync(conn);
	flush(conn);
	drain(t, conn, "closed");
	drain(t, conn, "no more");
#endif
#if defined(LIBPQ_HAS_CHUNK_MODE)
	PQsendQueryParams(conn, "SELECT generate_series(1, 300)", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(conn);
	flush(conn);
	PQsetChunkedRowsMode(conn, 70);
	for (rows = 0; (result = PQgetResult(conn)) != NULL; PQclear(result))
		rows += PQresultStatus(result) == PGRES_TUPLES_CHUNK;
	say(t, "chunks: %d", rows);
	drain(t, conn, "after chunks");
#endif
	say(t, "leaves the pipeline: %d", PQexitPipelineMode(conn));
	PQsetnonblocking(conn, 0);
	snprintf(text, sizeof text, "SELECT string_agg(id::text, ',' ORDER BY id) FROM libpq_%d WHERE id >= 1000", t->number);
	run(t, conn, "kept", text);
	run(t, conn, "deallocated", "DEALLOCATE ALL");
}

static void
copies(Transcript *t, PGconn *conn)
{
	char text[200], *line;
	long bytes = 0;
	int size;

	snprintf(text, sizeof text, "COPY libpq_%d FROM STDIN", t->number);
	for (int round = 0; round < 3; round++)
	{
		PQclear(PQexec(conn, text));
		for (int id = 10000; id < 10100; id++)
		{
			char row[40];

			size = snprintf(row, sizeof row, round == 1 ? "no number %d\n" : "%d\tcopied\n", id);
			PQputCopyData(conn, row, size);
		}
		PQputCopyEnd(conn, round == 0 ? "given up" : NULL);
		told(t, "copied", PQgetResult(conn));
		PQclear(PQgetResult(conn));
	}
	snprintf(text, sizeof text, "COPY (SELECT id FROM libpq_%d WHERE id >= 10000) TO STDOUT", t->number);
	PQclear(PQexec(conn, text));
	while ((size = PQgetCopyData(conn, &line, 0)) > 0)
	{
		bytes += size;
		PQfreemem(line);
	}
	told(t, "copied out", PQgetResult(conn));
	PQclear(PQgetResult(conn));
	say(t, "copied out: %ld bytes", bytes);
	PQclear(PQexec(conn, text));
	run(t, conn, "not read to the end", "SELECT 1");
}

static void
large_objects(Transcript *t, PGconn *conn)
{
	char buffer[3000];
	Oid oid;
	int file, got;
	long sum = 0;

	memset(buffer, 'x', sizeof buffer);
	run(t, conn, "begin", "BEGIN");
	oid = lo_creat(conn, INV_READ | INV_WRITE);
	file = lo_open(conn, oid, INV_READ | INV_WRITE);
	for (int round = 0; round < 5; round++)
		sum += lo_write(conn, file, buffer, sizeof buffer);
	say(t, "large object: %ld written, at %lld", sum, (long long) lo_tell64(conn, file));
	lo_lseek64(conn, file, 14000, SEEK_SET);
	got = lo_read(conn, file, buffer, sizeof buffer);
	say(t, "large object: %d read", got);
	say(t, "large object: truncated %d", lo_truncate64(conn, file, 100));
	say(t, "large object: closed %d", lo_close(conn, file));
	run(t, conn, "commit", "COMMIT");
	run(t, conn, "begin", "BEGIN READ ONLY");
	file = lo_open(conn, oid, INV_READ);
	say(t, "large object: %d read", lo_read(conn, file, buffer, sizeof buffer));
	run(t, conn, "end", "END");
	say(t, "large object: removed %d", lo_unlink(conn, oid));
	say(t, "large object: removed again %d", lo_unlink(conn, oid));
}

static void
notifications(Transcript *t, PGconn *conn)
{
	char text[200];
	PGnotify *heard = NULL;

	snprintf(text, sizeof text, "LISTEN libpq_%d; LISTEN libpq_unused", t->number);
	run(t, conn, "listens", text);
	snprintf(text, sizeof text, "NOTIFY libpq_%d, 'hello'", t->number);
	run(t, conn, "notifies", text);
	while ((heard = PQnotifies(conn)) == NULL)
	{
		struct pollfd socket = {PQsocket(conn), POLLIN, 0};

		if (poll(&socket, 1, 20000) < 1 || !PQconsumeInput(conn))
			break;
	}
	say(t, "notified: %s, by itself %d", heard ? heard->extra : "FAILED", heard && heard->be_pid == PQbackendPID(conn));
	PQfreemem(heard);
	run(t, conn, "listens no more", "UNLISTEN *");
}

/* Cancels until the statement has ended: the first request may come before the statement. */
static void
cancel(Transcript *t, PGconn *conn, int newer)
{
	char error[256];

	PQsendQuery(conn, "SELECT pg_sleep(30)");
	for (;;)
	{
		struct pollfd socket = {PQsocket(conn), POLLIN, 0};

		if (poll(&socket, 1, 100) > 0)
			PQconsumeInput(conn);
		if (!PQisBusy(conn))
			break;
#if defined(LIBPQ_HAS_ASYNC_CANCEL)
		if (newer)
		{
			PGcancelConn *canceller = PQcancelCreate(conn);

			if (!PQcancelBlocking(canceller))
				say(t, "cancel FAILED: %s", PQcancelErrorMessage(canceller));
			PQcancelFinish(canceller);
			continue;
		}
#else
		(void) newer;
#endif
		PGcancel *canceller = PQgetCancel(conn);

		if (!PQcancel(canceller, error, sizeof error))
			say(t, "cancel FAILED: %s", error);
		PQfreeCancel(canceller);
	}
	told(t, "cancelled", PQgetResult(conn));
	PQclear(PQgetResult(conn));
	/* The last request may still be on its way. */
	for (int round = 0; round < 20; round++)
	{
		PGresult *result = PQexec(conn, "SELECT 1");
		int good = PQresultStatus(result) == PGRES_TUPLES_OK;

		if (good || round == 19)
		{
			told(t, "after it", result);
			break;
		}
		PQclear(result);
	}
}

/* So many clients at once open a second connection. */
static pthread_mutex_t one_by_one = PTHREAD_MUTEX_INITIALIZER;

static void *
client(void *argument)
{
	Transcript *t = argument;
	PGconn *conn = PQconnectdb(getenv("DATABASE_URL"));
	char text[200];

	if (PQstatus(conn) != CONNECTION_OK)
	{
		say(t, "FAILED: %s", PQerrorMessage(conn));
		PQfinish(conn);
		return NULL;
	}
	PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
	run(t, conn, "quiet", "SET client_min_messages = error");
	snprintf(text, sizeof text, "DROP TABLE IF EXISTS libpq_%d; CREATE TABLE libpq_%d (id int PRIMARY KEY, name text)", t->number,
			 t->number);
	run(t, conn, "created", text);
	pipelines(t, conn);
	copies(t, conn);
	large_objects(t, conn);
	notifications(t, conn);
	told(t, "described", PQprepare(conn, "s", "SELECT $1::int", 0, NULL));
	told(t, "described", PQdescribePrepared(conn, "s"));
	told(t, "executed", PQexec(conn, "EXECUTE s (5)"));
	told(t, "unknown portal", PQdescribePortal(conn, "nothing"));
	pthread_mutex_lock(&one_by_one);
	cancel(t, conn, 0);
	cancel(t, conn, 1);
	pthread_mutex_unlock(&one_by_one);
	snprintf(text, sizeof text, "DROP TABLE libpq_%d", t->number);
	run(t, conn, "dropped", text);
	PQreset(conn);
	run(t, conn, "reset", "SHOW client_min_messages");
	PQfinish(conn);
	return NULL;
}

static int
by_text(const void *one, const void *other)
{
	return strcmp((*(Transcript *const *) one)->text, (*(Transcript *const *) other)->text);
}

int
main(void)
{
	int workers = getenv("WORKERS") ? atoi(getenv("WORKERS")) : 50;
	pthread_t *threads = calloc(workers, sizeof *threads);
	Transcript **all = calloc(workers, sizeof *all);

	for (int nth = 0; nth < workers; nth++)
	{
		all[nth] = calloc(1, sizeof **all);
		all[nth]->number = nth;
		pthread_create(&threads[nth], NULL, client, all[nth]);
	}
	for (int nth = 0; nth < workers; nth++)
		pthread_join(threads[nth], NULL);
	qsort(all, workers, sizeof *all, by_text);
	for (int nth = 0, alike; nth < workers; nth += alike)
	{
		for (alike = 1; nth + alike < workers && strcmp(all[nth]->text, all[nth + alike]->text) == 0;)
			alike++;
		printf("%s%d of %d clients alike\n", all[nth]->text, alike, workers);
	}
	return 0;
}
