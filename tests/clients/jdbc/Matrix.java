// JDBC: server-side statements from the fifth use on, fetch size with autocommit off, batches, COPY, notifications.
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;

public class Matrix {
    interface Work { void run() throws Exception; }

    static String code(Work work) throws Exception {
        try {
            work.run();
            return "no error";
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    static String value(Connection conn, String text) throws SQLException {
        try (Statement statement = conn.createStatement(); ResultSet rows = statement.executeQuery(text)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static void exercise(List<String> out, int number) throws Exception {
        String table = "jdbc_" + number;
        try (Connection conn = DriverManager.getConnection(System.getenv("JDBC_URL"))) {
            Statement plain = conn.createStatement();
            plain.execute("DROP TABLE IF EXISTS " + table);
            plain.execute("CREATE TABLE " + table + " (id serial PRIMARY KEY, name text UNIQUE, at timestamptz)");
            PreparedStatement insert = conn.prepareStatement(
                "INSERT INTO " + table + " (name, at) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS);
            StringBuilder ids = new StringBuilder();
            for (int i = 0; i < 20; i++) {
                insert.setString(1, "n" + i);
                insert.setTimestamp(2, new Timestamp(i * 1000L));
                insert.executeUpdate();
                ResultSet keys = insert.getGeneratedKeys();
                keys.next();
                ids.append(keys.getInt(1)).append(' ');
            }
            out.add("returning: " + ids);
            PreparedStatement select = conn.prepareStatement("SELECT name, at FROM " + table + " WHERE id = ?");
            StringBuilder names = new StringBuilder();
            for (int i = 1; i <= 20; i++) {
                select.setInt(1, i);
                try (ResultSet rows = select.executeQuery()) {
                    rows.next();
                    names.append(rows.getString(1)).append('@').append(rows.getTimestamp(2).getTime()).append(' ');
                }
            }
            out.add("prepared: " + names);
            insert.setString(1, "n1");
            out.add("error: " + code(insert::executeUpdate) + " " + code(() -> plain.execute("SELECT 1 / 0")));
            for (int i = 0; i < 300; i++) {
                insert.setString(1, "b" + i);
                insert.addBatch();
            }
            out.add("batch: " + insert.executeBatch().length);
            for (int i = 0; i < 5; i++) {
                insert.setString(1, i == 3 ? "b1" : "c" + i);
                insert.addBatch();
            }
            out.add("batch error: " + code(insert::executeBatch) + " " + value(conn, "SELECT count(*) FROM " + table));
            conn.setAutoCommit(false);
            PreparedStatement many = conn.prepareStatement("SELECT generate_series(1, ?)");
            many.setFetchSize(100);
            many.setInt(1, 1000);
            long sum = 0;
            try (ResultSet rows = many.executeQuery()) {
                while (rows.next()) {
                    sum += rows.getInt(1);
                }
            }
            out.add("fetched: " + sum);
            plain.execute("DELETE FROM " + table);
            Savepoint savepoint = conn.setSavepoint();
            out.add("inner: " + code(() -> plain.execute("SELECT 1 / 0")) + " " + code(() -> plain.execute("SELECT 1")));
            conn.rollback(savepoint);
            out.add("inside: " + value(conn, "SELECT count(*) FROM " + table));
            conn.rollback();
            out.add("rolled back: " + value(conn, "SELECT count(*) FROM " + table));
            conn.commit();
            conn.setReadOnly(true);
            out.add("read only: " + code(() -> plain.execute("DELETE FROM " + table)));
            conn.rollback();
            conn.setReadOnly(false);
            conn.setAutoCommit(true);
            PGConnection pg = conn.unwrap(PGConnection.class);
            pg.getCopyAPI().copyIn("COPY " + table + " (name) FROM STDIN", new StringReader("x\ny\nz\n"));
            StringWriter copied = new StringWriter();
            pg.getCopyAPI().copyOut("COPY (SELECT name FROM " + table + " WHERE name > 'w' ORDER BY 1) TO STDOUT", copied);
            out.add("copy: " + copied.toString().replace('\n', ' '));
            try (ResultSet columns = conn.getMetaData().getColumns(null, null, table, null)) {
                int count = 0;
                while (columns.next()) {
                    count++;
                }
                out.add("columns: " + count);
            }
            plain.execute("CREATE TEMP TABLE scratch AS SELECT 5 AS n");
            out.add("temporary: " + value(conn, "SELECT n FROM scratch"));
            plain.execute("DROP TABLE scratch");
            conn.setSchema("pg_catalog");
            out.add("schema: " + conn.getSchema());
            conn.setSchema("public");
            plain.execute("SELECT pg_advisory_lock(9001)");
            out.add("unlocked: " + value(conn, "SELECT pg_advisory_unlock(9001)"));
            plain.execute("LISTEN " + table);
            plain.execute("NOTIFY " + table + ", 'hello'");
            org.postgresql.PGNotification[] heard = pg.getNotifications(20000);
            out.add("notified: " + (heard == null ? "nothing" : heard[0].getParameter()));
            plain.execute("UNLISTEN *");
            plain.execute("DROP TABLE " + table);
        }
    }

    public static void main(String[] args) throws Exception {
        int workers = Integer.parseInt(System.getenv().getOrDefault("WORKERS", "50"));
        ExecutorService threads = Executors.newFixedThreadPool(workers);
        List<Future<String>> clients = new ArrayList<>();
        for (int i = 0; i < workers; i++) {
            int number = i;
            clients.add(threads.submit(() -> {
                List<String> out = new ArrayList<>();
                try {
                    exercise(out, number);
                } catch (Exception error) {
                    out.add("FAILED " + error);
                }
                return String.join("\n", out);
            }));
        }
        Map<String, Integer> counts = new TreeMap<>();
        for (Future<String> client : clients) {
            counts.merge(client.get(), 1, Integer::sum);
        }
        counts.forEach((text, count) -> System.out.println(text + "\n" + count + " of " + workers + " clients alike"));
        threads.shutdown();
    }
}
