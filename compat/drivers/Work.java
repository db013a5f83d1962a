import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;

/** JDBC: prepareThreshold, fetch size, batches, generated keys, COPY, notifications, cancel. */
public class Work {
    static java.io.PrintStream out;

    static Connection connect(String... more) throws SQLException {
        Properties place = new Properties();
        place.setProperty("user", env("USER"));
        place.setProperty("password", env("PASSWORD"));
        place.setProperty("sslmode", env("SSLMODE"));
        place.setProperty("gssEncMode", "disable");
        place.setProperty("loginTimeout", "15");
        for (int n = 0; n < more.length; n += 2) {
            place.setProperty(more[n], more[n + 1]);
        }
        return DriverManager.getConnection("jdbc:postgresql://" + env("HOST") + ":" + env("PORT") + "/" + env("DATABASE"), place);
    }

    static String env(String name) {
        return System.getenv("LOGIN_" + name);
    }

    static void section(String name) {
        out.println("== " + name);
    }

    static void say(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(line.length() > 0 ? "|" : "").append(word);
        }
        out.println(line);
    }

    static void failed(SQLException error) {
        String where = "";
        if (error instanceof PSQLException && ((PSQLException) error).getServerErrorMessage() != null) {
            where = "" + ((PSQLException) error).getServerErrorMessage().getPosition();
        }
        say("error", error.getSQLState(), error.getMessage().replace('\n', ' '), where);
    }

    static void rows(ResultSet rows) throws SQLException {
        ResultSetMetaData about = rows.getMetaData();
        StringBuilder line = new StringBuilder();
        for (int n = 1; n <= about.getColumnCount(); n++) {
            line.append(about.getColumnName(n)).append(':').append(about.getColumnTypeName(n)).append(' ');
        }
        say(line);
        while (rows.next()) {
            line.setLength(0);
            for (int n = 1; n <= about.getColumnCount(); n++) {
                Object value = rows.getObject(n);
                line.append(value instanceof byte[] ? Arrays.toString((byte[]) value) : value).append('|');
            }
            say("  " + line);
        }
    }

    /** All results of what is executed by `first`. */
    static void results(Statement statement, boolean first) throws SQLException {
        for (boolean isRows = first; ; isRows = statement.getMoreResults()) {
            if (isRows) {
                rows(statement.getResultSet());
            } else if (statement.getUpdateCount() >= 0) {
                say("count", statement.getUpdateCount());
            } else {
                return;
            }
        }
    }

    static void run(Connection db, String sql) {
        try (Statement statement = db.createStatement()) {
            results(statement, statement.execute(sql));
        } catch (SQLException error) {
            failed(error);
        }
    }

    static void run(PreparedStatement statement, Object... values) {
        try {
            for (int n = 0; n < values.length; n++) {
                statement.setObject(n + 1, values[n]);
            }
            results(statement, statement.execute());
        } catch (SQLException error) {
            failed(error);
        }
    }

    interface Attempt {
        void make() throws Exception;
    }

    static void attempt(Attempt what) throws Exception {
        try {
            what.make();
        } catch (SQLException error) {
            for (SQLException one = error; one != null; one = one.getNextException()) {
                failed(one);
            }
        }
    }

    static void typesAndParameters(Connection db) throws Exception {
        section("types and parameters");
        run(db, "SELECT true, 1::int2, 2::int4, 3::int8, 1.5::float4, 2.25::float8, 12.340::numeric, 'c'::char(3), 'é'::text, '\\xdead'::bytea, '2024-02-29'::date, '01:02:03'::time,"
                + " '2024-01-02 03:04:05'::timestamp, '00000000-0000-0000-0000-000000000005'::uuid, '{\"a\": 1}'::jsonb, '{1,2,NULL}'::int[], '10.0.0.1'::inet, NULL::int");
        try (PreparedStatement all = db.prepareStatement("SELECT ?::bool, ?::int, ?::int8, ?::float8, ?::numeric, ?::text, ?::date, ?::text")) {
            // The seventh time it is a named statement, with binary values.
            for (int turn = 0; turn < 7; turn++) {
                run(all, true, 7 + turn, 1L << 40, 1.5, new java.math.BigDecimal("12.340"), "té'xt", java.sql.Date.valueOf("2024-02-29"), null);
            }
        }
        try (PreparedStatement zero = db.prepareStatement("SELECT ? / ?")) {
            run(zero, 1, 0);
            run(zero, 1, 2);
        }
        run(db, "SELECT nothing FROM items");
        run(db, "SELECT 1; INSERT INTO work VALUES (900, 'several'); SELECT count(*) FROM work; DELETE FROM work");
        run(db, "");
        try (Statement quoted = db.createStatement()) {
            quoted.setEscapeProcessing(true);
            rows(quoted.executeQuery("SELECT {fn concat('a', 'b')}, {d '2024-01-01'}"));
        }
    }

    static void prepared(Connection db) throws Exception {
        section("prepared statements in and outside of transactions");
        try (PreparedStatement read = db.prepareStatement("SELECT id, name FROM items WHERE id <= ? ORDER BY id");
                PreparedStatement count = db.prepareStatement("SELECT count(*), max(v) FROM work WHERE id > ?");
                PreparedStatement write = db.prepareStatement("INSERT INTO work VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int n = 2; n < 5; n++) {
                run(read, n);
                run(count, 0);
            }
            for (int n = 1; n < 4; n++) {
                db.setAutoCommit(false);
                run(count, 0);
                write.setInt(1, n);
                write.setString(2, "w" + n);
                say(write.executeUpdate());
                rows(write.getGeneratedKeys());
                run(count, 0);
                run(read, 1);
                if (n == 3) {
                    db.rollback();
                } else {
                    db.commit();
                }
                run(count, 0);
                db.setAutoCommit(true);
                run(count, 0);
            }
            run(write, 1, "again");
            run(count, 0);
        }
    }

    static void transactions(Connection db) throws Exception {
        section("savepoints and errors in transactions");
        db.setAutoCommit(false);
        try (PreparedStatement count = db.prepareStatement("SELECT count(*) FROM work")) {
            run(count);
            Savepoint s = db.setSavepoint("s");
            run(db, "INSERT INTO work VALUES (10, 'gone')");
            run(count);
            run(db, "SELECT 1/0");
            run(count);
            db.rollback(s);
            run(count);
            attempt(() -> db.releaseSavepoint(s));
            run(db, "INSERT INTO work VALUES (11, 'kept')");
            attempt(db::commit);
            run(count);
            run(db, "SELECT 1/(id - 3) FROM items ORDER BY id");
            // The driver says that a failed transaction was rolled back instead.
            attempt(db::commit);
            attempt(db::rollback);
            run(count);
            db.rollback();
        }
        for (int level : new int[] {Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_SERIALIZABLE, Connection.TRANSACTION_READ_COMMITTED}) {
            db.setTransactionIsolation(level);
            db.setReadOnly(true);
            run(db, "SELECT count(*) FROM items");
            run(db, "DELETE FROM work");
            db.rollback();
            db.setReadOnly(false);
            run(db, "SELECT count(*) FROM work");
            db.rollback();
        }
        db.setAutoCommit(true);
        try (Connection careful = connect("autosave", "always", "preferQueryMode", "extended")) {
            careful.setAutoCommit(false);
            run(careful, "INSERT INTO work VALUES (12, 'autosave')");
            run(careful, "SELECT 1/0 FROM items");
            run(careful, "SELECT count(*) FROM work");
            careful.commit();
        }
        try (Connection simple = connect("preferQueryMode", "simple"); PreparedStatement read = simple.prepareStatement("SELECT name FROM items WHERE id = ?")) {
            run(read, 5);
            run(simple, "SELECT count(*) FROM work");
        }
    }

    static void fetchSize(Connection db) throws Exception {
        section("fetch size, two results at once");
        db.setAutoCommit(false);
        try (PreparedStatement one = db.prepareStatement("SELECT id, name FROM items ORDER BY id"); PreparedStatement two = db.prepareStatement("SELECT count(*), id % 2 FROM items WHERE id < ? GROUP BY 2 ORDER BY 2")) {
            one.setFetchSize(7);
            two.setFetchSize(1);
            for (int turn = 0; turn < 4; turn++) {
                two.setInt(1, 20 + turn);
                long sum = 0;
                try (ResultSet a = one.executeQuery(); ResultSet b = two.executeQuery()) {
                    for (int n = 0; n < 10 && a.next(); n++) {
                        sum += a.getInt(1);
                    }
                    b.next();
                    say(sum, b.getInt(1));
                    run(db, "INSERT INTO work VALUES (" + (30 + turn) + ", 'between')");
                    run(db, "SELECT count(*) FROM work");
                    while (a.next()) {
                        sum += a.getInt(1);
                    }
                    b.next();
                    say(sum, b.getInt(1), b.next());
                }
                if (turn % 2 == 0) {
                    db.commit();
                }
            }
        }
        db.rollback();
        try (Statement big = db.createStatement()) {
            big.setFetchSize(500);
            long sum = 0;
            try (ResultSet rows = big.executeQuery("SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g")) {
                while (rows.next()) {
                    sum += rows.getInt(1) + rows.getString(2).length();
                }
            }
            say(sum);
            big.setFetchSize(2);
            attempt(() -> rows(big.executeQuery("SELECT 1/(id - 5) FROM items ORDER BY id")));
        }
        run(db, "SELECT 'not run'");
        db.rollback();
        try (Statement scroll = db.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
            scroll.setFetchSize(3);
            scroll.setMaxRows(8);
            try (ResultSet rows = scroll.executeQuery("SELECT id FROM items ORDER BY id")) {
                db.commit();
                rows.last();
                say(rows.getInt(1), rows.getRow());
            }
        }
        db.commit();
        db.setAutoCommit(true);
        run(db, "SELECT repeat('z', 10) FROM generate_series(1, 3)");
    }

    static void batches(Connection db) throws Exception {
        section("batches");
        try (PreparedStatement insert = db.prepareStatement("INSERT INTO work VALUES (?, ?)"); Statement mixed = db.createStatement()) {
            for (int part = 0; part < 3; part++) {
                for (int n = 0; n < 50; n++) {
                    insert.setInt(1, 100 + part * 50 + n);
                    insert.setString(2, "batch " + n);
                    insert.addBatch();
                }
                say(Arrays.toString(insert.executeBatch()));
            }
            for (int id : new int[] {300, 301, 100, 302}) {
                insert.setInt(1, id);
                insert.setString(2, "double");
                insert.addBatch();
            }
            try {
                say(Arrays.toString(insert.executeBatch()));
            } catch (BatchUpdateException error) {
                say(Arrays.toString(error.getUpdateCounts()), error.getSQLState());
            }
            run(db, "SELECT count(*), max(id) FROM work WHERE id >= 100");
            for (String sql : new String[] {"UPDATE work SET v = 'u' WHERE id < 110 AND id >= 100", "INSERT INTO work VALUES (400, 'm')", "DELETE FROM work WHERE id = 400", "CREATE TEMP TABLE temporary(a int)"}) {
                mixed.addBatch(sql);
            }
            say(Arrays.toString(mixed.executeBatch()));
            run(db, "SELECT count(*) FROM temporary");
            db.setAutoCommit(false);
            for (int n = 0; n < 300; n++) {
                insert.setInt(1, 500 + n);
                insert.setString(2, "long " + n);
                insert.addBatch();
            }
            say(insert.executeBatch().length);
            run(db, "SELECT count(*) FROM work WHERE id >= 500");
            db.rollback();
            db.setAutoCommit(true);
            run(db, "SELECT count(*) FROM work WHERE id >= 500");
        }
    }

    static void copy(Connection db) throws Exception {
        section("copy");
        CopyManager copy = db.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int n = 1000; n < 1300; n++) {
            lines.append(n).append("\tcopied\n");
        }
        say(copy.copyIn("COPY work FROM STDIN", new StringReader(lines.toString())));
        StringWriter text = new StringWriter();
        say(copy.copyOut("COPY (SELECT * FROM work WHERE id BETWEEN 1000 AND 1003 ORDER BY id) TO STDOUT", text), text.toString().replace("\n", " "));
        attempt(() -> copy.copyIn("COPY work FROM STDIN", new StringReader("no number\tx\n")));
        run(db, "SELECT count(*) FROM work WHERE id >= 1000");
        run(db, "DELETE FROM work WHERE id >= 1000");
    }

    static void session(Connection db) throws Exception {
        section("parameters of the session, PREPARE");
        for (String sql : new String[] {"SHOW work_mem", "SET work_mem = '5MB'", "SHOW work_mem", "RESET work_mem", "SHOW work_mem", "PREPARE one(int) AS SELECT name FROM items WHERE id = $1", "EXECUTE one(4)", "BEGIN",
            "UPDATE work SET v = 'changed' WHERE id = 1", "EXECUTE one(6)", "COMMIT", "EXECUTE one(7)", "DEALLOCATE one", "EXECUTE one(8)", "SET search_path = nowhere", "SELECT count(*) FROM items", "RESET search_path"}) {
            run(db, sql);
        }
        db.setClientInfo("ApplicationName", "work");
        run(db, "SHOW application_name");
        run(db, "SELECT count(*) FROM items");
        // What the driver's metadata queries ask of the catalogues.
        try (ResultSet keys = db.getMetaData().getPrimaryKeys(null, null, "work")) {
            rows(keys);
        }
        try (ResultSet columns = db.getMetaData().getColumns(null, "public", "items", "%")) {
            while (columns.next()) {
                say(columns.getString("COLUMN_NAME"), columns.getString("TYPE_NAME"));
            }
        }
        say(db.isValid(10));
    }

    static void notifications(Connection db) throws Exception {
        section("notifications");
        try (Connection listener = connect()) {
            run(listener, "LISTEN news");
            run(listener, "SELECT count(*) FROM items");
            run(db, "NOTIFY news, 'hello'");
            for (PGNotification one : listener.unwrap(PGConnection.class).getNotifications(20000)) {
                say(one.getName(), one.getParameter());
            }
        }
    }

    static void cancel(Connection db) throws Exception {
        section("cancel");
        for (String sql : new String[] {"SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b"}) {
            try (Statement slow = db.createStatement()) {
                Thread canceller = new Thread(() -> {
                    try {
                        Thread.sleep(500);
                        slow.cancel();
                    } catch (InterruptedException | SQLException error) {
                        say(error);
                    }
                });
                canceller.start();
                attempt(() -> rows(slow.executeQuery(sql)));
                canceller.join();
            }
            Thread.sleep(500);
        }
        try (Statement timed = db.createStatement()) {
            timed.setQueryTimeout(1);
            attempt(() -> rows(timed.executeQuery("SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 300000) b")));
        }
        Thread.sleep(500);
        run(db, "SELECT 1");
    }

    static void discard(Connection db) throws Exception {
        section("discard");
        run(db, "CREATE TEMP TABLE mine AS SELECT 1 AS a");
        run(db, "SELECT a FROM mine");
        run(db, "DISCARD ALL");
        run(db, "SELECT a FROM mine");
        run(db, "SELECT count(*) FROM items");
    }

    public static void main(String[] args) throws Exception {
        out = new java.io.PrintStream(System.out, true, "UTF-8");
        for (String threshold : new String[] {"1", "5", "0"}) {
            say("==== prepareThreshold " + threshold);
            try (Connection db = connect("prepareThreshold", threshold)) {
                typesAndParameters(db);
                prepared(db);
                transactions(db);
                fetchSize(db);
                run(db, "DELETE FROM work");
            }
        }
        try (Connection db = connect("prepareThreshold", "2")) {
            batches(db);
            copy(db);
            session(db);
            notifications(db);
            cancel(db);
            discard(db);
        }
        try (Connection db = connect("reWriteBatchedInserts", "true")) {
            run(db, "DELETE FROM work");
            batches(db);
        }
    }
}
