//! Every keyword of PostgreSQL where a name may stand: many are names of tables and functions, too.

/// `@` stands for the keyword. What the grammar refuses is left out, as everywhere.
const TEMPLATES: [&str; 36] = [
    "SELECT @('t')",
    "SELECT @(1, 2) FROM t",
    "SELECT a, @(a) FROM t",
    "SELECT 1 + @(a) FROM t",
    "SELECT a FROM t WHERE @(a)",
    "SELECT a FROM t WHERE NOT @(a) ORDER BY @(b)",
    "SELECT a FROM t WHERE a = 1 AND @(a) = 2",
    "SELECT a FROM t GROUP BY @(a) HAVING @(b) LIMIT @(1)",
    "SELECT CASE WHEN @(a) THEN @(b) ELSE @(c) END FROM t",
    "SELECT DISTINCT @(a) FROM t",
    "SELECT s.@(a), @.f(b) FROM t",
    "SELECT (SELECT @(1)), ARRAY[@(2)], ROW(@(3))",
    "SELECT * FROM @",
    "SELECT * FROM t, @ WHERE a = 1",
    "SELECT * FROM @, t",
    "SELECT * FROM t JOIN @ ON true",
    "SELECT * FROM t JOIN @ USING (a)",
    "SELECT * FROM t LEFT JOIN @ x ON x.a = t.a",
    "SELECT * FROM (t CROSS JOIN @) WHERE a = 1",
    "SELECT * FROM @ AS x, @.y",
    "SELECT * FROM ONLY @",
    "SELECT * FROM @(1)",
    "SELECT * FROM t, @(a) AS x(b)",
    "SELECT * FROM t, LATERAL @(a)",
    "SELECT @ FROM t WHERE @ = f(1)",
    "SELECT a AS @, f(b) FROM t",
    "SELECT a @, f(b) FROM t, u",
    "SELECT * FROM t AS @, u",
    "SELECT * FROM t @, u",
    "SELECT * FROM t @ JOIN u ON f(1)",
    "WITH @ AS (SELECT f(1)) SELECT * FROM @, t",
    "WITH @ (a) AS (SELECT f(1)), x AS (DELETE FROM t RETURNING *) SELECT * FROM @",
    "TABLE @",
    "INSERT INTO @ SELECT f(1)",
    "UPDATE @ SET a = 1",
    "DELETE FROM @ USING t",
];

/// Statements of every keyword of a `kwlist.h`.
pub fn statements(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.strip_prefix("PG_KEYWORD(\"")?.split('"').next())
        .flat_map(|word| TEMPLATES.map(|template| template.replace('@', word)))
        .collect()
}
