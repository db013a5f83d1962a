//! What is counted and logged of a client's statements.
//!
//! `log_statement`, `log_per_node_statement` and `log_client_messages` want messages whole; while all
//! are off, a message costs a look at the first word of its statement and nothing else.

use std::collections::HashMap;

use crate::{
    admin,
    cluster::NodeId,
    config::Config,
    observe::{NodeCounters, Reporter, Severity, counters::bump},
    protocol::messages::ErrorMessage,
    routing::{StatementKind, lexer},
};

/// More named statements than this are not told apart by the counters.
const NAMED_LIMIT: usize = 10_000;

/// Longer names neither; PostgreSQL cuts identifiers at 63 bytes.
const NAME_LIMIT: usize = 64;

/// Per session.
#[derive(Debug)]
pub struct StatementLog {
    log_statement: bool,
    log_per_node_statement: bool,
    log_client_messages: bool,
    notice_per_node_statement: bool,
    client_min_messages: Severity,
    /// NoticeResponses for the client: `client_min_messages` lets lines of its log through.
    notices: Vec<u8>,
    /// Kind and, for the log, text of the unnamed statement and of the last portal bound.
    unnamed: Statement,
    bound: Statement,
    /// The name that `bound` came from: drivers bind the same statement again and again.
    bound_name: Box<[u8]>,
    named: HashMap<Box<[u8]>, Statement>,
}

#[derive(Clone, Debug, Default)]
struct Statement {
    kind: StatementKind,
    /// Empty unless a log setting is on.
    sql: Box<[u8]>,
}

impl Default for StatementLog {
    /// Nothing is logged.
    fn default() -> StatementLog {
        StatementLog {
            log_statement: false,
            log_per_node_statement: false,
            log_client_messages: false,
            notice_per_node_statement: false,
            client_min_messages: Severity::Notice,
            notices: Vec::new(),
            unnamed: Statement::default(),
            bound: Statement::default(),
            bound_name: Box::default(),
            named: HashMap::new(),
        }
    }
}

impl StatementLog {
    pub fn new(config: &Config) -> StatementLog {
        let mut log = StatementLog::default();
        log.configure(&admin::SessionSettings::default(), config);
        log
    }

    /// `PGPOOL SET` has changed something, perhaps.
    pub fn configure(&mut self, session: &admin::SessionSettings, config: &Config) {
        self.log_statement = session.log_statement(config);
        self.log_per_node_statement = session.log_per_node_statement(config);
        self.log_client_messages = session.log_client_messages(config);
        self.notice_per_node_statement = session.notice_per_node_statement(config);
        self.client_min_messages = session.client_min_messages(config);
    }

    /// Whether messages are wanted whole.
    pub fn any(&self) -> bool {
        self.log_statement
            || self.log_per_node_statement
            || self.log_client_messages
            || self.notice_per_node_statement
    }

    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// What the client is to read before the answer to its statement.
    pub fn take_notices(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.notices)
    }

    #[track_caller]
    fn line(&mut self, reporter: &Reporter, message: &str, detail: &str) {
        reporter.emit(Severity::Log, message, detail, "");
        self.notice(Severity::Log, message, detail);
    }

    fn notice(&mut self, severity: Severity, message: &str, detail: &str) {
        if severity.reaches_client(self.client_min_messages) {
            let notice = ErrorMessage {
                severity: severity.label(),
                ..ErrorMessage::error("XX000", message)
            };
            notice.detail(detail).encode_notice(&mut self.notices);
        }
    }

    #[track_caller]
    fn client_message(&mut self, reporter: &Reporter, kind: &str, detail: &str) {
        let message = format!("{kind} message from frontend.");
        self.line(reporter, &message, detail);
    }

    /// A statement that pgpool answers itself.
    pub fn admin(&mut self, reporter: &Reporter, sql: &str) {
        if self.log_client_messages {
            self.client_message(reporter, "Query", &format!("query: \"{sql}\""));
        }
        if self.log_statement {
            self.line(reporter, &format!("statement: {sql}"), "");
        }
    }

    /// What the client was told instead of an answer of ours.
    #[track_caller]
    pub fn refused(reporter: &Reporter, error: &ErrorMessage) {
        reporter.emit(
            Severity::FrontendError,
            &error.message,
            &error.detail,
            &error.hint,
        );
    }

    pub fn terminate(&mut self, reporter: &Reporter) {
        if self.log_client_messages {
            self.client_message(reporter, "Terminate", "");
        }
    }

    /// The observer of one scan.
    pub fn observe<'a>(
        &'a mut self,
        counters: Option<&'a NodeCounters>,
        reporter: &'a Reporter,
        node: NodeId,
        backend_pid: u32,
    ) -> Observer<'a> {
        Observer {
            log: self,
            counters,
            reporter,
            node,
            backend_pid,
        }
    }
}

pub struct Observer<'a> {
    log: &'a mut StatementLog,
    counters: Option<&'a NodeCounters>,
    reporter: &'a Reporter,
    node: NodeId,
    backend_pid: u32,
}

impl Observer<'_> {
    /// Whether messages are wanted whole, for the log.
    pub fn wants_whole(&self) -> bool {
        self.log.any()
    }

    /// A message is sent to the node.
    pub fn message(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'Q' => {
                self.count(lexer::kind(body));
                if self.log.any() {
                    let sql = text(body);
                    self.log_client_message("Query", || format!("query: \"{sql}\""));
                    self.log_statement(&sql);
                    self.log_per_node(&sql);
                }
            }
            b'P' => self.parse(body),
            b'B' => self.bind(body),
            b'E' => {
                self.count(self.log.bound.kind);
                if self.log.any() {
                    let portal = text(body);
                    self.log_client_message("Execute", || format!("portal: \"{portal}\""));
                    let sql = text(&self.log.bound.sql);
                    self.log_statement(&sql);
                    self.log_per_node(&format!("Execute: {sql}"));
                }
            }
            _ => {
                if let (b'C', [b'S', name @ ..]) = (kind, body) {
                    self.log.named.remove(split_cstr(name).0);
                }
                if self.log.any() {
                    self.other(kind, body);
                }
            }
        }
    }

    fn parse(&mut self, body: &[u8]) {
        let (name, rest) = split_cstr(body);
        let statement = Statement {
            kind: lexer::kind(rest),
            sql: if self.log.any() {
                split_cstr(rest).0.into()
            } else {
                Box::default()
            },
        };
        if self.log.any() {
            let (name, sql) = (text(name), text(&statement.sql));
            self.log_client_message("Parse", || {
                format!("statement: \"{name}\", query: \"{sql}\"")
            });
            self.log_per_node(&format!("Parse: {sql}"));
        }
        self.log.bound_name = Box::default();
        if name.is_empty() {
            self.log.unnamed = statement;
        } else if self.log.named.len() < NAMED_LIMIT && name.len() <= NAME_LIMIT {
            self.log.named.insert(name.into(), statement);
        }
    }

    fn bind(&mut self, body: &[u8]) {
        let (portal, rest) = split_cstr(body);
        let (name, _) = split_cstr(rest);
        if name.is_empty() {
            self.log.bound = self.log.unnamed.clone();
            self.log.bound_name = Box::default();
        } else if *name != *self.log.bound_name {
            self.log.bound = self.log.named.get(name).cloned().unwrap_or_default();
            self.log.bound_name = name.into();
        }
        if self.log.any() {
            let (portal, name) = (text(portal), text(name));
            self.log_client_message("Bind", || {
                format!("portal: \"{portal}\", statement: \"{name}\"")
            });
            let sql = text(&self.log.bound.sql);
            self.log_per_node(&format!("Bind: {sql}"));
        }
    }

    fn other(&mut self, kind: u8, body: &[u8]) {
        match kind {
            b'D' | b'C' => {
                let word = if kind == b'D' { "Describe" } else { "Close" };
                let (what, name) = body.split_first().unwrap_or((&b'S', &[]));
                let what = if *what == b'P' { "portal" } else { "statement" };
                let name = text(name);
                self.log_client_message(word, || format!("{what}: \"{name}\""));
                self.log_per_node(&format!("{} message", char::from(kind)));
            }
            b'S' => self.log_client_message("Sync", String::new),
            b'H' => self.log_client_message("Flush", String::new),
            b'F' => self.log_client_message("FunctionCall", || {
                let oid = body
                    .first_chunk::<4>()
                    .map_or(0, |b| u32::from_be_bytes(*b));
                format!("function oid: {oid}")
            }),
            b'd' => self.log_client_message("CopyData", String::new),
            b'c' => self.log_client_message("CopyDone", String::new),
            b'f' => self.log_client_message("CopyFail", String::new),
            _ => {}
        }
    }

    fn count(&self, kind: StatementKind) {
        let Some(c) = self.counters else { return };
        bump(match kind {
            StatementKind::Select => &c.select,
            StatementKind::Insert => &c.insert,
            StatementKind::Update => &c.update,
            StatementKind::Delete => &c.delete,
            StatementKind::Ddl => &c.ddl,
            StatementKind::Other => &c.other,
        });
    }

    fn log_statement(&mut self, sql: &str) {
        if self.log.log_statement {
            self.log
                .line(self.reporter, &format!("statement: {sql}"), "");
        }
    }

    fn log_per_node(&mut self, sql: &str) {
        if !self.log.log_per_node_statement && !self.log.notice_per_node_statement {
            return;
        }
        let text = format!(
            "DB node id: {} backend pid: {} statement: {sql}",
            self.node, self.backend_pid
        );
        if self.log.log_per_node_statement {
            self.log.line(self.reporter, &text, "");
        }
        if self.log.notice_per_node_statement {
            self.log.notice(Severity::Notice, &text, "");
        }
    }

    fn log_client_message(&mut self, kind: &str, detail: impl FnOnce() -> String) {
        if self.log.log_client_messages {
            self.log.client_message(self.reporter, kind, &detail());
        }
    }
}

/// Up to the first NUL, and what is behind it.
fn split_cstr(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&b| b == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(split_cstr(bytes).0).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn a_prepared_statement_counts_when_it_is_executed() {
        let counters = NodeCounters::default();
        let mut log = StatementLog::default();
        let reporter = Reporter::new("child");
        let mut observer = log.observe(Some(&counters), &reporter, 0, 0);
        observer.message(b'P', b"s1\0select 1\0\0\0");
        observer.message(b'P', b"\0insert into t values (1)\0\0\0");
        for name in [&b"s1"[..], b"s1", b""] {
            observer.message(b'B', &[b"\0", name, b"\0\0\0"].concat());
            observer.message(b'E', b"\0\0\0\0\0");
        }
        assert_eq!(counters.select.load(Relaxed), 2);
        assert_eq!(counters.insert.load(Relaxed), 1);
    }

    #[test]
    fn a_client_is_told_the_node_of_its_statement_if_the_settings_say_so() {
        let notices = |settings: &str| {
            let text = format!("backend_clustering_mode = 'raw'\n{settings}");
            let (config, _) = Config::from_text(&text).unwrap();
            let mut log = StatementLog::new(&config);
            let reporter = Reporter::new("child");
            log.observe(None, &reporter, 1, 7)
                .message(b'Q', b"select 1\0");
            String::from_utf8_lossy(&log.take_notices()).into_owned()
        };
        let told = "DB node id: 1 backend pid: 7 statement: select 1\0";
        let notice = notices("notice_per_node_statement = on");
        assert!(notice.contains("SNOTICE\0") && notice.contains(told));
        assert_eq!(notices("log_per_node_statement = on"), "");
        let log = notices("log_per_node_statement = on\nclient_min_messages = 'log'");
        assert!(log.contains("SLOG\0") && log.contains(told));
        let silent = "notice_per_node_statement = on\nclient_min_messages = 'warning'";
        assert_eq!(notices(silent), "");
    }
}
