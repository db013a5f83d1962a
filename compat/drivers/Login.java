import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.util.Properties;

/** JDBC. */
public class Login {
    public static void main(String[] args) throws Exception {
        Properties place = new Properties();
        place.setProperty("user", env("USER"));
        place.setProperty("password", env("PASSWORD"));
        place.setProperty("sslmode", env("SSLMODE"));
        place.setProperty("loginTimeout", "15");
        place.setProperty("gssEncMode", "disable");
        // The second execution of the statement is a named one.
        place.setProperty("prepareThreshold", "1");
        if (!env("ROOTCERT").isEmpty()) {
            place.setProperty("sslrootcert", env("ROOTCERT"));
        }
        String url = "jdbc:postgresql://" + env("HOST") + ":" + env("PORT") + "/" + env("DATABASE");
        try (Connection connection = DriverManager.getConnection(url, place);
                PreparedStatement statement = connection.prepareStatement("SELECT current_user::text, ?::int + 1, ?::text || 'é'")) {
            String line = "";
            for (int turn = 0; turn < 2; turn++) {
                statement.setInt(1, 41);
                statement.setString(2, "caf");
                try (ResultSet row = statement.executeQuery()) {
                    row.next();
                    line = row.getString(1) + "|" + row.getInt(2) + "|" + row.getString(3);
                }
            }
            // The driver does not tell; with require and verify-full it would not have gone on without TLS.
            new java.io.PrintStream(System.out, true, "UTF-8").println(line + "|" + (env("SSLMODE").equals("disable") ? "plain" : "tls"));
        } catch (java.sql.SQLException error) {
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }

    private static String env(String name) {
        String value = System.getenv("LOGIN_" + name);
        return value == null ? "" : value;
    }
}
