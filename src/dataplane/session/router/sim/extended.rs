//! The extended protocol of a model server.

use std::rc::Rc;

use super::{
    server::{Done, Outcome, Portal, Prepared, Server, cstr, rows_tag},
    sql::{self, Select, Sql, failure},
};

impl Server {
    pub(super) fn parse(&mut self, body: &[u8]) -> Done {
        let (name, rest) = cstr(body);
        let (text, _) = cstr(rest);
        self.transaction.start();
        if name.is_empty() {
            self.statements.remove("");
        }
        let question = self.database.borrow().questions.get(&text).cloned();
        let mut statements = match question {
            Some(_) => vec![Sql::Show(text)],
            None => sql::parse(&text)?,
        };
        if statements.len() > 1 {
            return failure("42601", "cannot insert multiple commands");
        }
        let sql = statements.pop();
        if let Some(sql) = &sql {
            self.failed_block(Some(sql))?;
            self.analyse(sql)?;
        }
        if self.statements.contains_key(&name) {
            return failure("42P05", format!("prepared statement {name} already exists"));
        }
        self.statements.insert(name, sql.map(Rc::new));
        self.say(b'1', "");
        Ok(())
    }

    pub(super) fn prepared(&self, name: &str) -> Done<Prepared> {
        match self.statements.get(name) {
            Some(sql) => Ok(sql.clone()),
            None => failure("26000", format!("prepared statement {name} does not exist")),
        }
    }

    pub(super) fn bind(&mut self, body: &[u8]) -> Done {
        let (portal, rest) = cstr(body);
        let (name, rest) = cstr(rest);
        self.transaction.start();
        let sql = self.prepared(&name)?;
        // No statement has parameters; a single one is taken for one of the wrong form.
        let parameters = rest[3];
        if parameters > 1 {
            return failure(
                "08P01",
                format!("bind message supplies {parameters} parameters"),
            );
        }
        self.failed_block(sql.as_deref())?;
        if portal.is_empty() {
            self.portals.remove("");
        }
        if parameters == 1 {
            // The portal is there by then, without its statement.
            self.new_portal(&portal, None, false)?;
            return failure("22P02", "invalid input syntax");
        }
        self.new_portal(&portal, sql.clone(), false)?;
        if let Some(sql) = &sql {
            let analysed = self.analyse(sql);
            if analysed.is_err()
                && let Some(portal) = self.portals.get_mut(&portal)
            {
                portal.sql = None;
            }
            analysed?;
        }
        self.say(b'2', "");
        Ok(())
    }

    pub(super) fn new_portal(&mut self, name: &str, sql: Prepared, from_declare: bool) -> Done {
        if self.portals.contains_key(name) {
            return failure("42P03", format!("cursor {name} already exists"));
        }
        let portal = Portal {
            sql,
            level: self.transaction.level(),
            snapshot: self.transaction.state.clone(),
            rows: None,
            done: false,
            failed: false,
            hold: false,
            from_declare,
        };
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    pub(super) fn describe(&mut self, body: &[u8]) -> Done {
        let (name, _) = cstr(&body[1..]);
        self.transaction.start();
        let sql = if body[0] == b'S' {
            let sql = self.prepared(&name)?;
            self.failed_rows(&sql)?;
            self.say(b't', "\0\0");
            sql
        } else {
            match self.portals.get(&name) {
                Some(portal) => {
                    let sql = portal.sql.clone();
                    self.failed_rows(&sql)?;
                    sql
                }
                None => return failure("34000", format!("portal {name} does not exist")),
            }
        };
        if self.gives_rows(&sql) {
            self.describe_rows();
        } else {
            self.say(b'n', "");
        }
        Ok(())
    }

    fn gives_rows(&self, sql: &Prepared) -> bool {
        match sql.as_deref() {
            Some(Sql::Execute(name)) => self
                .statements
                .get(name)
                .is_some_and(|inner| inner.as_deref().is_some_and(Sql::returns_rows)),
            Some(Sql::Fetch { name, .. }) => self.portals.contains_key(name),
            Some(sql) => sql.returns_rows(),
            None => false,
        }
    }

    fn failed_rows(&self, sql: &Prepared) -> Done {
        if self.gives_rows(sql) {
            return self.failed_block(None);
        }
        Ok(())
    }

    pub(super) fn execute(&mut self, body: &[u8]) -> Done {
        let (name, rest) = cstr(body);
        let limit = i32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
        let limit = usize::try_from(limit).unwrap_or(0);
        let Some(portal) = self.portals.get(&name) else {
            return failure("34000", format!("portal {name} does not exist"));
        };
        let sql = portal.sql.clone();
        let (failed, done) = (portal.failed, portal.done);
        let begun = portal.rows.is_some();
        let Some(sql) = sql else {
            self.say(b'I', "");
            return Ok(());
        };
        self.transaction.start();
        self.failed_block((!failed).then_some(&*sql))?;
        if failed || done {
            return failure("55000", format!("portal {name} cannot be run"));
        }
        if !begun {
            let outcome = match (&*sql, portal.from_declare) {
                (Sql::Select(select), _) => self.portal_rows(&name, select)?,
                (sql, _) => self.carry_out(sql)?,
            };
            match outcome {
                Outcome::Rows(rows, _) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.rows = Some(rows.into());
                    }
                }
                Outcome::Tag(tag) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.done = true;
                    }
                    self.executed(&sql)?;
                    self.complete(&tag);
                    return Ok(());
                }
                Outcome::CopyOut(rows) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.done = true;
                    }
                    self.copy_out(&rows);
                    self.executed(&sql)?;
                    self.complete(&rows_tag("COPY", rows.len()));
                    return Ok(());
                }
                Outcome::CopyIn(table) => {
                    if let Some(portal) = self.portals.get_mut(&name) {
                        portal.done = true;
                    }
                    self.begin_copy(table);
                    return Ok(());
                }
            }
        }
        let portal = self.portals.get_mut(&name);
        let rows = portal.and_then(|p| p.rows.as_mut()).expect("rows");
        let take = if limit == 0 {
            rows.len()
        } else {
            limit.min(rows.len())
        };
        let now: Vec<String> = rows.drain(..take).collect();
        self.rows(&now);
        if limit > 0 && now.len() == limit {
            self.transaction.pipelining = true;
            self.say(b's', "");
            return Ok(());
        }
        self.executed(&sql)?;
        let tag = match &*sql {
            Sql::Show(_) => "SHOW",
            Sql::Fetch { .. } => "FETCH",
            Sql::Write(write) => write.tag,
            Sql::Select(select) => select.tag,
            _ => "SELECT",
        };
        self.complete(&rows_tag(tag, now.len()));
        Ok(())
    }

    fn executed(&mut self, sql: &Sql) -> Done {
        if sql.is_transaction() || matches!(sql, Sql::Discard(what) if what == "ALL") {
            return self.finish();
        }
        self.transaction.pipelining = true;
        Ok(())
    }

    pub(super) fn portal_rows(&mut self, name: &str, select: &Select) -> Done<Outcome> {
        let Some(portal) = self.portals.get(name) else {
            return failure("34000", "gone");
        };
        let snapshot = portal.snapshot.clone();
        self.select(select, &snapshot)
    }

    pub(super) fn close(&mut self, body: &[u8]) -> Done {
        let (name, _) = cstr(&body[1..]);
        if body[0] == b'S' {
            self.statements.remove(&name);
        } else {
            self.portals.remove(&name);
        }
        self.say(b'3', "");
        Ok(())
    }
}
