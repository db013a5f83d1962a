/*
 * libpq itself: all ways to ask, single-row mode, pipeline mode, COPY, notifications, cancel.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

static PGconn *connect_(void)
{
	const char *keys[] = {"host", "port", "user", "password", "dbname", "sslmode", "gssencmode", "connect_timeout", NULL};
	const char *values[] = {getenv("LOGIN_HOST"), getenv("LOGIN_PORT"), getenv("LOGIN_USER"), getenv("LOGIN_PASSWORD"), getenv("LOGIN_DATABASE"), getenv("LOGIN_SSLMODE"), "disable", "15", NULL};
	PGconn *conn = PQconnectdbParams(keys, values, 0);

	if (PQstatus(conn) != CONNECTION_OK) {
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

static void section(const char *name)
{
	printf("== %s\n", name);
}

/* Notices belong to the transcript; their source lines do not. */
static void notice(void *unused, const PGresult *res)
{
	(void) unused;
	printf("notice|%s|%s\n", PQresultErrorField(res, PG_DIAG_SQLSTATE), PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
}

static const char *text(const char *s)
{
	return s ? s : "";
}

/* Says all about a result and forgets it; returns 0 for the NULL that ends a query's results. */
static int show(PGresult *res)
{
	if (!res)
		return 0;
	printf("%s|%s|%s", PQresStatus(PQresultStatus(res)), PQcmdStatus(res), PQcmdTuples(res));
	if (*PQresultErrorMessage(res))
		printf("|%s|%s|%s|%s", text(PQresultErrorField(res, PG_DIAG_SQLSTATE)), text(PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY)),
			   text(PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION)), text(PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME)));
	for (int n = 0; n < PQnparams(res); n++)
		printf("|$%d %u", n + 1, PQparamtype(res, n));
	for (int n = 0; n < PQnfields(res); n++)
		printf("|%s %u %d %d %s", PQfname(res, n), PQftype(res, n), PQfmod(res, n), PQfsize(res, n), PQfformat(res, n) ? "binary" : "text");
	printf("\n");
	for (int row = 0; row < PQntuples(res); row++) {
		printf("  ");
		for (int n = 0; n < PQnfields(res); n++) {
			if (PQgetisnull(res, row, n))
				printf("|NULL");
			else if (PQfformat(res, n)) {
				printf("|x");
				for (int at = 0; at < PQgetlength(res, row, n); at++)
					printf("%02x", (unsigned char) PQgetvalue(res, row, n)[at]);
			} else if (PQgetlength(res, row, n) > 200)
				printf("|%d bytes", PQgetlength(res, row, n));
			else
				printf("|%s", PQgetvalue(res, row, n));
		}
		printf("\n");
	}
	PQclear(res);
	return 1;
}

static void state(PGconn *conn)
{
	static const char *names[] = {"idle", "active", "in transaction", "failed transaction", "unknown"};

	printf("state|%s\n", names[PQtransactionStatus(conn)]);
}

/* Simple protocol: PQexec gives the last result, PQsendQuery all. */
static void run(PGconn *conn, const char *sql)
{
	if (!PQsendQuery(conn, sql))
		printf("not sent|%s", PQerrorMessage(conn));
	while (show(PQgetResult(conn)))
		;
	state(conn);
}

/* Extended protocol, unnamed statement; up to three parameters. */
static void params(PGconn *conn, const char *sql, int count, ...)
{
	const char *values[3];
	va_list list;

	va_start(list, count);
	for (int n = 0; n < count; n++)
		values[n] = va_arg(list, const char *);
	va_end(list);
	show(PQexecParams(conn, sql, count, NULL, values, NULL, NULL, 0));
	state(conn);
}

static void named(PGconn *conn, const char *name, int count, ...)
{
	const char *values[3];
	va_list list;

	va_start(list, count);
	for (int n = 0; n < count; n++)
		values[n] = va_arg(list, const char *);
	va_end(list);
	show(PQexecPrepared(conn, name, count, values, NULL, NULL, 0));
	state(conn);
}

static const char *READ = "SELECT id, name FROM items WHERE id <= $1 ORDER BY id";
static const char *COUNT = "SELECT count(*), max(v) FROM work WHERE id > $1";
static const char *WRITE = "INSERT INTO work VALUES ($1, $2) RETURNING id";

static void types(PGconn *db)
{
	section("types and parameters");
	for (int binary = 0; binary < 2; binary++)
		show(PQexecParams(db, "SELECT true, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.25::float8, 12.340::numeric(9,3), 'c'::char(3), 'v'::varchar(5), 'é'::text, '\\xdead'::bytea, '2024-02-29'::date, "
			"'2024-01-02 03:04:05'::timestamp, '1 day'::interval, '{\"a\": 1}'::jsonb, '{1,2,NULL}'::int[], NULL::int", 0, NULL, NULL, NULL, NULL, binary));
	params(db, "SELECT $1::int + $2::int, $3::text", 3, "40", "2", NULL);
	params(db, "SELECT $1::int / $2::int", 2, "1", "0");
	params(db, "SELECT nothing FROM items", 0);
	params(db, "", 0);
	run(db, "");
	run(db, "SELECT 1; SELECT 2 AS two; SELECT 1/0; SELECT 3");
	run(db, "DO $$ BEGIN RAISE NOTICE 'said'; END $$");
	run(db, "COMMIT");
}

static void prepared(PGconn *db)
{
	section("prepared statements in and outside of transactions");
	show(PQprepare(db, "read", READ, 0, NULL));
	show(PQprepare(db, "count", COUNT, 0, NULL));
	show(PQprepare(db, "write", WRITE, 0, NULL));
	show(PQprepare(db, "read", "SELECT 'the name is taken'", 0, NULL));
	show(PQdescribePrepared(db, "read"));
	show(PQdescribePrepared(db, "never"));
	for (int turn = 1; turn < 3; turn++) {
		char id[8], v[8];

		snprintf(id, sizeof id, "%d", turn);
		snprintf(v, sizeof v, "w%d", turn);
		named(db, "count", 1, "0");
		run(db, "BEGIN");
		named(db, "count", 1, "0");
		named(db, "read", 1, "1");
		named(db, "write", 2, id, v);
		named(db, "count", 1, "0");
		named(db, "read", 1, "2");
		params(db, COUNT, 1, "0");
		show(PQdescribePrepared(db, "count"));
		run(db, "COMMIT");
		named(db, "count", 1, "0");
	}
	named(db, "write", 2, "1", "again");
	named(db, "count", 1, "no number");
	run(db, "DEALLOCATE count");
	named(db, "count", 1, "0");
	run(db, "DEALLOCATE ALL");
	named(db, "read", 1, "1");
	run(db, "PREPARE sql(int) AS SELECT name FROM items WHERE id = $1");
	named(db, "sql", 1, "3");
	show(PQdescribePrepared(db, "sql"));
	show(PQprepare(db, "wire", "SELECT name FROM items WHERE id = $1", 0, NULL));
	run(db, "EXECUTE wire(4)");
	run(db, "DEALLOCATE wire");
	named(db, "wire", 1, "4");
	show(PQprepare(db, "", COUNT, 0, NULL));
	named(db, "", 1, "0");
	run(db, "SELECT 'a simple query forgets the unnamed statement'");
	named(db, "", 1, "0");
}

static void transactions(PGconn *db)
{
	static const char *steps[] = {
		"BEGIN", "SELECT count(*) FROM work", "SAVEPOINT s", "INSERT INTO work VALUES (10, 'gone')", "SELECT count(*) FROM work", "SELECT 1/0", "SELECT 'not run'", "ROLLBACK TO s",
		"SELECT count(*) FROM work", "RELEASE s", "COMMIT", "BEGIN", "SELECT 1/(id - 3) FROM items ORDER BY id", "SELECT 'not run'", "COMMIT", "SELECT count(*) FROM work",
		"BEGIN READ ONLY", "SELECT count(*) FROM items", "DELETE FROM work", "ROLLBACK", "BEGIN ISOLATION LEVEL SERIALIZABLE", "SELECT count(*) FROM work", "COMMIT AND CHAIN", "SELECT 1", "ROLLBACK",
		"DECLARE c CURSOR WITH HOLD FOR SELECT id FROM items ORDER BY id", "FETCH 2 FROM c", "SELECT 1", "FETCH 2 FROM c", "CLOSE c"};

	section("savepoints, errors, cursors in transactions");
	for (size_t n = 0; n < sizeof steps / sizeof *steps; n++)
		run(db, steps[n]);
	for (size_t n = 0; n < sizeof steps / sizeof *steps; n++)
		params(db, steps[n], 0);
	run(db, "BEGIN");
	run(db, "DECLARE one CURSOR FOR SELECT id FROM items ORDER BY id");
	run(db, "DECLARE two CURSOR FOR SELECT count(*) FROM work");
	show(PQdescribePortal(db, "one"));
	show(PQdescribePortal(db, "never"));
	run(db, "ROLLBACK");
}

static void single_rows(PGconn *db)
{
	PGresult *res;
	long rows = 0, size = 0;

	section("single-row mode, large results");
	PQsendQueryParams(db, "SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g", 0, NULL, NULL, NULL, NULL, 0);
	PQsetSingleRowMode(db);
	while ((res = PQgetResult(db))) {
		rows += PQntuples(res);
		if (PQntuples(res))
			size += PQgetlength(res, 0, 1);
		PQclear(res);
	}
	printf("%ld|%ld\n", rows, size);
	PQsendQuery(db, "SELECT 1/(g - 3) FROM generate_series(1, 5) g");
	PQsetSingleRowMode(db);
	while (show(PQgetResult(db)))
		;
	run(db, "SELECT repeat('z', 5000000)");
}

/* Reads a pipeline to its count-th Sync. */
static void drain(PGconn *db, int syncs)
{
	while (syncs > 0) {
		PGresult *res = PQgetResult(db);

		if (!res)
			printf("--\n");
		else {
			if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
				syncs--;
			show(res);
		}
	}
}

static void send(PGconn *db, const char *sql, const char *value)
{
	if (!PQsendQueryParams(db, sql, value ? 1 : 0, NULL, &value, NULL, NULL, 0))
		printf("not sent|%s", PQerrorMessage(db));
}

static void send_named(PGconn *db, const char *name, const char *value)
{
	if (!PQsendQueryPrepared(db, name, value ? 1 : 0, &value, NULL, NULL, 0))
		printf("not sent|%s", PQerrorMessage(db));
}

static void pipelines(PGconn *db)
{
	char number[12];

	section("pipelines");
	run(db, "DELETE FROM work");
	PQenterPipelineMode(db);
	PQsendPrepare(db, "read", READ, 0, NULL);
	PQsendPrepare(db, "count", COUNT, 0, NULL);
	PQsendDescribePrepared(db, "count");
	send_named(db, "read", "2");
	send_named(db, "count", "0");
	send(db, "INSERT INTO work VALUES ($1, 'piped')", "1");
	send_named(db, "count", "0");
	send(db, "SELECT name FROM items WHERE id = $1", "3");
	PQpipelineSync(db);
	send_named(db, "count", "0");
	send_named(db, "read", "1");
	PQpipelineSync(db);
	drain(db, 2);

	/* Errors in the middle, in more than one of several parts. */
	send(db, "SELECT 1", NULL);
	send(db, "INSERT INTO work VALUES ($1, 'rolled back')", "2");
	send(db, "SELECT 1/0 FROM items", NULL);
	send_named(db, "count", "0");
	PQpipelineSync(db);
	send_named(db, "count", "0");
	send(db, "INSERT INTO work VALUES ($1, 'double')", "1");
	send(db, "SELECT 'skipped'", NULL);
	PQpipelineSync(db);
	PQpipelineSync(db);
	send_named(db, "never", NULL);
	PQsendPrepare(db, "skipped", "SELECT 1", 0, NULL);
	PQpipelineSync(db);
	send_named(db, "skipped", NULL);
	PQpipelineSync(db);
	drain(db, 5);

	/* What comes behind a failed read is not run, wherever the read went. */
	send(db, "SELECT 1/0 FROM items", NULL);
	send(db, "INSERT INTO work VALUES ($1, 'behind an error')", "3");
	PQpipelineSync(db);
	send_named(db, "read", "1");
	send(db, "SELECT 1/(id - 3) FROM items ORDER BY id", NULL);
	send(db, "INSERT INTO work VALUES ($1, 'behind an error')", "4");
	PQpipelineSync(db);
	send_named(db, "count", "0");
	PQpipelineSync(db);
	drain(db, 3);

	/* A transaction in one pipeline, and one over several. */
	send(db, "BEGIN", NULL);
	send_named(db, "count", "0");
	send(db, "UPDATE work SET v = 'changed' WHERE id = $1", "1");
	send_named(db, "count", "0");
	send_named(db, "read", "1");
	send(db, "COMMIT", NULL);
	send_named(db, "count", "0");
	PQpipelineSync(db);
	drain(db, 1);
	send(db, "BEGIN", NULL);
	PQpipelineSync(db);
	send_named(db, "count", "0");
	PQpipelineSync(db);
	send(db, "DELETE FROM work", NULL);
	PQpipelineSync(db);
	send_named(db, "count", "0");
	send(db, "SAVEPOINT s", NULL);
	send(db, "SELECT 1/0 FROM items", NULL);
	PQpipelineSync(db);
	send_named(db, "count", "0");
	PQpipelineSync(db);
	send(db, "ROLLBACK TO s", NULL);
	send_named(db, "count", "0");
	send(db, "ROLLBACK", NULL);
	send_named(db, "count", "0");
	PQpipelineSync(db);
	drain(db, 6);

	/* Many, read only afterwards; then Flush instead of Sync. */
	for (int n = 0; n < 300; n++) {
		snprintf(number, sizeof number, "%d", n % 4);
		if (n % 10 == 7) {
			snprintf(number, sizeof number, "%d", 100 + n);
			send(db, "INSERT INTO work VALUES ($1, 'many')", number);
		} else
			send_named(db, n % 2 ? "count" : "read", number);
		if (n % 60 == 59)
			PQpipelineSync(db);
	}
	drain(db, 5);
	send_named(db, "read", "1");
	PQsendFlushRequest(db);
	PQflush(db);
	while (show(PQgetResult(db)))
		;
	send_named(db, "count", "0");
	PQsendFlushRequest(db);
	PQflush(db);
	while (show(PQgetResult(db)))
		;
	PQpipelineSync(db);
	drain(db, 1);
	send(db, "SELECT g FROM generate_series(1, 3) g", NULL);
	PQsetSingleRowMode(db);
	send(db, "SELECT 'next'", NULL);
	PQpipelineSync(db);
	PQsetSingleRowMode(db);
	drain(db, 1);
	printf("left|%d\n", PQexitPipelineMode(db));
	state(db);
	run(db, "SELECT count(*) FROM work");
}

static void copy_out(PGconn *db, const char *sql)
{
	char *line;
	long size = 0, lines = 0;

	show(PQexec(db, sql));
	for (int got; (got = PQgetCopyData(db, &line, 0)) > 0; lines++) {
		size += got;
		if (lines < 3)
			printf("  %s", line);
		PQfreemem(line);
	}
	printf("lines %ld, bytes %ld\n", lines, size);
	while (show(PQgetResult(db)))
		;
	state(db);
}

static void copy_in(PGconn *db, const char *lines, const char *failure, int extended)
{
	if (extended)
		show(PQexecParams(db, "COPY work FROM STDIN", 0, NULL, NULL, NULL, NULL, 0));
	else
		show(PQexec(db, "COPY work FROM STDIN"));
	PQputCopyData(db, lines, (int) strlen(lines));
	PQputCopyEnd(db, failure);
	while (show(PQgetResult(db)))
		;
	state(db);
}

static void copy(PGconn *db)
{
	section("copy");
	copy_in(db, "1000\tcopied\n1001\t\\N\n", NULL, 0);
	copy_in(db, "1002\tcopied\n", NULL, 1);
	copy_in(db, "no number\n", NULL, 0);
	copy_in(db, "no number\n", NULL, 1);
	copy_in(db, "1003\tx\n", "changed my mind", 0);
	run(db, "SELECT * FROM work WHERE id >= 1000 ORDER BY id");
	copy_out(db, "COPY (SELECT * FROM work WHERE id >= 1000 ORDER BY id) TO STDOUT");
	copy_out(db, "COPY items TO STDOUT");
	copy_out(db, "COPY (SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g) TO STDOUT");
	copy_out(db, "COPY (SELECT 1/(g - 3) FROM generate_series(1, 5) g) TO STDOUT");
	run(db, "BEGIN");
	copy_in(db, "1004\tin a transaction\n", NULL, 1);
	copy_out(db, "COPY (SELECT count(*) FROM work WHERE id >= 1000) TO STDOUT");
	run(db, "ROLLBACK");
	copy_out(db, "COPY (SELECT count(*) FROM work WHERE id >= 1000) TO STDOUT");
}

static void session(PGconn *db)
{
	static const char *steps[] = {"SHOW work_mem", "SET work_mem = '5MB'", "SHOW work_mem", "SELECT current_setting('work_mem')", "RESET work_mem", "SHOW work_mem", "SET TIME ZONE 'Asia/Tokyo'",
		"SELECT '2024-01-01 00:00Z'::timestamptz", "SET search_path = nowhere", "SELECT count(*) FROM items", "RESET search_path", "SELECT count(*) FROM items", "SET DateStyle = 'German'", "SELECT '2024-02-29'::date"};

	section("parameters of the session");
	for (size_t n = 0; n < sizeof steps / sizeof *steps; n++) {
		run(db, steps[n]);
		params(db, steps[n], 0);
	}
	printf("%s|%s\n", PQparameterStatus(db, "TimeZone"), PQparameterStatus(db, "DateStyle"));
	PQsetClientEncoding(db, "LATIN1");
	params(db, "SELECT $1::text", 1, "\xe9");
	printf("%s\n", PQparameterStatus(db, "client_encoding"));
	PQsetClientEncoding(db, "UTF8");
}

static void notifications(PGconn *db)
{
	PGconn *listener = connect_();
	PGnotify *one = NULL;
	time_t end = time(NULL) + 20;

	section("notifications");
	run(listener, "LISTEN news");
	params(listener, "SELECT count(*) FROM items", 0);
	run(db, "NOTIFY news, 'hello'");
	while (!(one = PQnotifies(listener)) && time(NULL) < end) {
		struct timeval second = {1, 0};
		fd_set set;

		FD_ZERO(&set);
		FD_SET(PQsocket(listener), &set);
		select(PQsocket(listener) + 1, &set, NULL, NULL, &second);
		PQconsumeInput(listener);
	}
	printf("%s|%s\n", one ? one->relname : "none", one ? one->extra : "");
	PQfreemem(one);
	PQfinish(listener);
}

static void cancel(PGconn *db)
{
	static const char *slow[] = {"SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b"};
	PGcancel *key = PQgetCancel(db);
	char error[256] = "";

	section("cancel");
	for (int n = 0; n < 2; n++) {
		PQsendQuery(db, slow[n]);
		usleep(500000);
		if (!PQcancel(key, error, sizeof error))
			printf("%s\n", error);
		while (show(PQgetResult(db)))
			;
		usleep(500000);
	}
	PQfreeCancel(key);
	run(db, "SELECT 1");
}

/* FunctionCall of abs(int4). */
static void result_of_abs(PGconn *db, int number)
{
	PQArgBlock argument = {.len = 4, .isint = 1, .u.integer = number};
	int result = 0, size = 0;

	show(PQfn(db, 1397, &result, &size, 1, &argument, 1));
	printf("%d|%d\n", result, size);
}

static void discard(PGconn *db)
{
	section("discard");
	run(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a");
	params(db, "SELECT a FROM mine", 0);
	run(db, "DISCARD ALL");
	params(db, "SELECT a FROM mine", 0);
	named(db, "count", 1, "0");
	params(db, "SELECT count(*) FROM items", 0);
	result_of_abs(db, -5);
}

int main(void)
{
	PGconn *db = connect_();

	setvbuf(stdout, NULL, _IOLBF, 0);
	PQsetNoticeReceiver(db, notice, NULL);
	types(db);
	prepared(db);
	transactions(db);
	single_rows(db);
	pipelines(db);
	copy(db);
	session(db);
	notifications(db);
	cancel(db);
	discard(db);
	PQfinish(db);
	return 0;
}
