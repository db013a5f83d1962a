//! A client that sends whatever comes to its mind.

use crate::{
    failover::sim::random::Random,
    protocol::messages::{self, FLUSH, SYNC, frame},
    routing::settings::{CheckTempTable, OnWrite, Settings},
};

/// One message of the client.
#[derive(Debug)]
pub struct Item {
    pub bytes: Vec<u8>,
    /// It reads what PostgreSQL has flushed by then before it goes on.
    pub waits: bool,
}

/// What the settings let a session read and find as PostgreSQL alone would show it.
#[derive(Clone, Copy, Debug)]
struct Space {
    /// Its own uncommitted writes. With `disable_load_balance_on_write = off` it does not see them,
    /// and that is what the setting says.
    own_writes: bool,
    /// Of tables that the session has written without naming them; dml_adaptive knows names only.
    hidden_writes: bool,
    /// Temporary tables. With `check_temp_table = none` nobody looks.
    temporary: bool,
}

pub struct Client<'a> {
    random: &'a mut Random,
    space: Space,
    items: Vec<Item>,
    /// How often a Query follows a Query.
    pace: u64,
}

/// A random sequence of messages, after which no copy is open and all is answered.
pub fn script(random: &mut Random, settings: &Settings) -> Vec<Item> {
    let space = Space {
        own_writes: settings.on_write != OnWrite::Off,
        hidden_writes: settings.on_write != OnWrite::DmlAdaptive,
        temporary: settings.switches.check_temp_table != CheckTempTable::None,
    };
    let pace = [5, 40, 90][random.node(3)];
    let mut client = Client {
        random,
        space,
        items: Vec::new(),
        pace,
    };
    for _ in 0..2 + client.random.below(14) {
        client.block();
    }
    for _ in 0..4 {
        client.put(b'c', |_| ());
        client.sync();
    }
    client.items
}

impl Client<'_> {
    fn push(&mut self, bytes: Vec<u8>) {
        let waits = self.random.chance(self.pace);
        self.items.push(Item { bytes, waits });
    }

    fn put(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        frame(kind, &mut out, write);
        self.push(out);
    }

    fn sync(&mut self) {
        self.push(SYNC.to_vec());
    }

    fn pick<'s>(&mut self, from: &[&'s str]) -> &'s str {
        from[self.random.node(from.len())]
    }

    fn block(&mut self) {
        match self.random.below(100) {
            0..40 => {
                let sql = self.text();
                // A standby has no part in the transaction that begins so, and keeps no portal for it.
                let begins = sql.contains("BEGIN") || sql.contains("START TRANSACTION");
                if begins && sql.contains(';') {
                    self.sync();
                }
                self.query(&sql);
            }
            40..85 => self.sequence(),
            85..92 => self.transaction(),
            92..96 => {
                let table = self.copied();
                self.query(&format!("COPY {table} FROM STDIN"));
                self.copy_data();
            }
            96..98 if self.space.hidden_writes => {
                self.put(b'F', |out| out.extend_from_slice(&[0; 10]))
            }
            _ => self.stray(),
        }
    }

    fn query(&mut self, sql: &str) {
        let mut out = Vec::new();
        messages::query(sql, &mut out);
        self.push(out);
    }

    /// Something that belongs nowhere.
    fn stray(&mut self) {
        match self.random.below(4) {
            0 => self.put(b'c', |_| ()),
            1 => self.put(b'd', |out| out.extend_from_slice(b"row")),
            2 => self.push(FLUSH.to_vec()),
            _ => self.sync(),
        }
    }

    /// A transaction of an orderly client.
    fn transaction(&mut self) {
        let begin = self.pick(&["BEGIN", "BEGIN", "START TRANSACTION READ ONLY"]);
        self.query(begin);
        for _ in 0..self.random.below(5) {
            if self.random.chance(60) {
                let sql = self.text();
                self.query(&sql);
            } else {
                let sql = self.statement();
                self.prepared("", &sql);
                self.sync();
            }
        }
        let end = self.pick(&["COMMIT", "COMMIT", "ROLLBACK"]);
        self.query(end);
    }

    fn copied(&mut self) -> &'static str {
        if self.space.own_writes {
            self.pick(&["w1", "w2", "missing", "fixed1"])
        } else {
            "w1"
        }
    }

    fn copy_data(&mut self) {
        let mut refused = false;
        for _ in 0..self.random.below(4) {
            match self.random.below(12) {
                0 => {
                    refused = true;
                    self.put(b'd', |out| out.extend_from_slice(b"bad"));
                }
                // Whether the server reads it before or after it has refused a row shows only later;
                // no client sends one within its data.
                1 if !refused => self.sync(),
                2 => self.push(FLUSH.to_vec()),
                _ => self.put(b'd', |out| out.extend_from_slice(b"row")),
            }
        }
        match self.random.below(20) {
            // Left open, or forgotten for a message that does not belong there. Behind a row that is
            // refused this is as with Sync.
            0 if !refused => {}
            1..4 => self.put(b'f', |out| out.extend_from_slice(b"no\0")),
            _ => self.put(b'c', |_| ()),
        }
    }

    fn sequence(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            if self.random.chance(80) {
                let mut name = self.pick(&["", "", "", "s1", "s2", "p1"]);
                let sql = if self.random.chance(96) {
                    self.statement()
                } else {
                    self.text()
                };
                // What such a statement returns depends on what there is of that name on a node.
                // And a table that is not committed is not there on a standby.
                if sql.starts_with("EXECUTE") || sql.contains(" nt") {
                    name = "";
                }
                self.prepared(name, &sql);
            } else {
                self.message();
            }
            if self.random.chance(8) {
                self.push(FLUSH.to_vec());
            }
        }
        if self.random.chance(92) {
            self.sync();
        }
    }

    /// What drivers send for one statement.
    fn prepared(&mut self, name: &str, sql: &str) {
        let portal = self.pick(&["", "", "", "", "q1", "q2"]);
        if !name.is_empty() && self.random.chance(30) {
            self.close(b'S', name);
        }
        // Drivers bind again what they have prepared.
        if name.is_empty() || self.random.chance(60) {
            self.parse(name, sql);
        }
        if self.random.chance(20) {
            self.describe(b'S', name);
        }
        if !portal.is_empty() && self.random.chance(70) {
            self.close(b'P', portal);
        }
        self.bind(portal, name);
        if self.random.chance(60) {
            self.describe(b'P', portal);
        }
        self.execute(portal);
        if sql.contains("STDIN") {
            if self.random.chance(50) {
                self.sync();
            }
            self.copy_data();
        } else if self.random.chance(8) {
            self.execute(portal);
        }
    }

    fn parse(&mut self, name: &str, sql: &str) {
        let mut out = Vec::new();
        messages::parse(name.as_bytes(), sql.as_bytes(), &mut out);
        self.push(out);
    }

    fn bind(&mut self, portal: &str, name: &str) {
        // One that is wrong, or too many.
        let parameters = match self.random.below(60) {
            0 | 1 => 1,
            2 => 2,
            _ => 0,
        };
        self.put(b'B', |out| {
            out.extend_from_slice(format!("{portal}\0{name}\0").as_bytes());
            out.extend_from_slice(&[0, 0, 0, parameters]);
            for _ in 0..parameters {
                out.extend_from_slice(b"\0\0\0\x03odd");
            }
            out.extend_from_slice(&[0; 2]);
        });
    }

    fn execute(&mut self, portal: &str) {
        let limit = [0, 0, 0, 1, 2][self.random.node(5)];
        self.put(b'E', |out| {
            out.extend_from_slice(format!("{portal}\0\0\0\0").as_bytes());
            out.push(limit);
        });
    }

    fn describe(&mut self, what: u8, name: &str) {
        self.put(b'D', |out| {
            out.push(what);
            out.extend_from_slice(format!("{name}\0").as_bytes());
        });
    }

    fn close(&mut self, what: u8, name: &str) {
        self.put(b'C', |out| {
            out.push(what);
            out.extend_from_slice(format!("{name}\0").as_bytes());
        });
    }

    /// A message of a sequence without what usually comes before it.
    fn message(&mut self) {
        let name = self.pick(&["", "s1", "s2", "p1"]);
        // Cursors of DECLARE have names of their own: that of a portal of the protocol would have to be
        // looked up in every FETCH and CLOSE.
        let portal = self.pick(&["", "q2", "q1"]);
        // The unnamed portal is used where it is bound: which one is left after an error amid a
        // transaction is not remembered.
        let named = self.pick(&["q1", "q2"]);
        match self.random.below(9) {
            0 => {
                let sql = self.statement();
                let odd = sql.starts_with("EXECUTE") || sql.contains(" nt");
                let name = if odd { "" } else { name };
                self.parse(name, &sql);
            }
            1 | 2 => {
                if !portal.is_empty() && self.random.chance(70) {
                    self.close(b'P', portal);
                }
                self.bind(portal, name);
            }
            3 => self.execute(named),
            4 => self.execute("c1"),
            5 => self.describe(b'S', name),
            6 => self.describe(b'P', named),
            7 => self.close(b'S', name),
            _ => self.close(b'P', portal),
        }
    }

    /// The text of a Query.
    fn text(&mut self) -> String {
        match self.random.below(20) {
            0 => self.pick(&["", ";", "/* nothing */"]).to_owned(),
            1 | 2 => {
                let mut statements = vec![self.statement()];
                for _ in 0..1 + self.random.below(2) {
                    statements.push(self.statement());
                }
                // All of it goes to the primary, which may not have what the protocol has prepared; and
                // what is deallocated before an error is not noticed.
                statements.retain(|s| {
                    !["PREPARE", "EXECUTE", "DEALLOCATE"]
                        .contains(&s.split(' ').next().unwrap_or(""))
                });
                statements.join("; ")
            }
            _ => self.statement(),
        }
    }

    fn statement(&mut self) -> String {
        match self.random.below(100) {
            0..38 => self.read(),
            38..52 => self.write(),
            52..68 => self.transaction_command(),
            68..80 => self.set(),
            80..92 => self.prepared_command(),
            92..96 if self.space.temporary => self.temporary(),
            96 => "NONSENSE".to_owned(),
            _ => self
                .pick(&[
                    "LOCK TABLE w1 IN ACCESS SHARE MODE",
                    "LOCK TABLE w1",
                    "DISCARD ALL",
                    "DISCARD PLANS",
                ])
                .to_owned(),
        }
    }

    fn relation(&mut self) -> &'static str {
        match self.random.below(14) {
            0..3 => "fixed1",
            3..5 => "fixed2",
            5..7 => "rows3",
            7..10 if self.space.own_writes => self.pick(&["w1", "w2"]),
            10 if self.space.temporary => "tmp1",
            11 => self.pick(&["u1", "pg_class"]),
            12 => "missing",
            // dml_adaptive does not take what was created for written.
            13 if self.space.own_writes && self.space.hidden_writes => "nt",
            _ => "fixed1",
        }
    }

    fn read(&mut self) -> String {
        let relation = self.relation();
        match self.random.below(20) {
            0..8 => format!("SELECT * FROM {relation}"),
            8 => format!("SELECT * FROM {relation} WHERE 1/0"),
            9 => format!("SELECT * FROM {relation} FOR UPDATE"),
            10 => format!("/* c */ SELECT * FROM {relation}"),
            11 => format!("WITH x AS (SELECT * FROM {relation} ) SELECT * FROM x"),
            12 => format!("COPY {relation} TO STDOUT"),
            13 => format!("COPY (SELECT * FROM {relation} ) TO STDOUT"),
            14 => format!("EXPLAIN SELECT * FROM {relation}"),
            15 => "VALUES (1)".to_owned(),
            16 => self
                .pick(&["SHOW work_mem", "SHOW statement_timeout"])
                .to_owned(),
            17 => "SELECT f_vol()".to_owned(),
            18 if self.space.hidden_writes => "SELECT f_write()".to_owned(),
            _ => "SELECT f_stable()".to_owned(),
        }
    }

    fn write(&mut self) -> String {
        let table = self.pick(&["w1", "w1", "w2", "fixed1", "missing"]);
        match self.random.below(16) {
            0..4 => format!("INSERT INTO {table} VALUES (1)"),
            4 => format!("INSERT INTO {table} VALUES (-1)"),
            5 => format!("INSERT INTO {table} VALUES (-2)"),
            6 => format!("INSERT INTO {table} VALUES (1) RETURNING 1"),
            7 => format!("UPDATE {table} SET v = 1"),
            8 => format!("DELETE FROM {table}"),
            9 => format!("TRUNCATE {table}"),
            10 => format!("WITH x AS (INSERT INTO {table} VALUES (1) RETURNING 1) SELECT * FROM x"),
            11 => format!("COPY {table} FROM STDIN"),
            12 if self.space.hidden_writes => "DO $$ insert $$".to_owned(),
            13 => "CREATE TABLE nt (v int)".to_owned(),
            _ => format!("INSERT INTO {table} VALUES (1)"),
        }
    }

    fn transaction_command(&mut self) -> String {
        self.pick(&[
            "BEGIN",
            "BEGIN",
            "BEGIN",
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "BEGIN READ ONLY",
            "BEGIN READ WRITE",
            "COMMIT",
            "COMMIT",
            "END",
            "COMMIT AND CHAIN",
            "ROLLBACK",
            "ABORT",
            "ROLLBACK AND CHAIN",
            "SAVEPOINT a",
            "SAVEPOINT a",
            "SAVEPOINT b",
            "RELEASE a",
            "ROLLBACK TO a",
            "ROLLBACK TO a",
            "ROLLBACK TO b",
            "PREPARE TRANSACTION 'x'",
            "COMMIT PREPARED 'x'",
            "ROLLBACK PREPARED 'x'",
        ])
        .to_owned()
    }

    fn set(&mut self) -> String {
        let name = self.pick(&["work_mem", "statement_timeout"]);
        let value = 1 + self.random.below(9);
        match self.random.below(14) {
            0..6 => format!("SET {name} TO {value}"),
            6 | 7 => format!("SET LOCAL {name} TO {value}"),
            8 => format!("RESET {name}"),
            9 => "RESET ALL".to_owned(),
            10 => {
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE".to_owned()
            }
            11 => "SET default_transaction_isolation TO 'read committed'".to_owned(),
            12 => self
                .pick(&[
                    "SET TRANSACTION READ ONLY",
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                ])
                .to_owned(),
            _ => format!("SET {name} TO {value}"),
        }
    }

    fn prepared_command(&mut self) -> String {
        let name = self.pick(&["p1", "s1"]);
        match self.random.below(12) {
            0 | 1 => format!("PREPARE {name} AS SELECT * FROM {}", self.relation()),
            // dml_adaptive knows nothing of what EXECUTE writes.
            2 if self.space.hidden_writes => {
                format!("PREPARE {name} AS INSERT INTO w1 VALUES (1)")
            }
            3..6 if self.space.hidden_writes => format!("EXECUTE {name}"),
            6 => format!("DEALLOCATE {name}"),
            7 => "DEALLOCATE ALL".to_owned(),
            8 => format!("DECLARE c1 CURSOR FOR SELECT * FROM {}", self.relation()),
            9 => "DECLARE c1 CURSOR WITH HOLD FOR SELECT * FROM rows3".to_owned(),
            10 => "CLOSE c1".to_owned(),
            _ => "FETCH 1 FROM c1".to_owned(),
        }
    }

    fn temporary(&mut self) -> String {
        let name = self.pick(&["tmp1", "tmp1", "fixed2"]);
        match self.random.below(6) {
            0..3 => format!("CREATE TEMP TABLE {name} (v int)"),
            3 => format!("INSERT INTO {name} VALUES (1)"),
            4 => format!("DROP TABLE {name}"),
            _ => "DISCARD TEMP".to_owned(),
        }
    }
}
