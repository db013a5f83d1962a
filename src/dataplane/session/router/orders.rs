//! What nodes are sent besides the client's messages.

use std::rc::Rc;

use crate::{protocol::messages, routing::session::Parsed};

/// Our statement that fails on purpose; the text is what the server's log shows of it.
const ABORT: (&[u8], &[u8]) = (
    b"pgpool_rs_abort",
    b"/* pgpool: the transaction has failed on its load balance node */ ABORT ALL OF IT",
);

/// Of our statement and portal that stand for something of the client's on another node.
const JOIN: &[u8] = b"pgpool_rs_join";

/// What a node needs to be sent before a message of the client.
#[derive(Clone, Debug)]
pub enum Before {
    /// This statement, which they lack. A Close of its name goes first, in case that they have one
    /// all the same.
    Parse {
        name: Box<[u8]>,
        parsed: Rc<Parsed>,
        /// A Sync behind it: a Query comes next.
        sync: bool,
    },
    /// Close the statement of this name: PostgreSQL alone would have none.
    Close { name: Box<[u8]> },
    /// Bind a portal of this name to nothing: PostgreSQL alone would have one.
    Occupy { portal: Box<[u8]> },
    /// Take a snapshot, or carry something out: PostgreSQL alone would have.
    Join {
        snapshot: bool,
        execute: bool,
        /// A Sync behind it, as for Parse.
        sync: bool,
    },
}

impl Before {
    pub(super) fn close_unnamed() -> Before {
        Before::Close {
            name: Box::default(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Before::Parse { name, parsed, sync } => {
                messages::close_statement(name, &mut out);
                out.extend_from_slice(&parsed.message);
                if *sync {
                    out.extend_from_slice(&messages::SYNC);
                }
            }
            Before::Close { name } => messages::close_statement(name, &mut out),
            Before::Occupy { portal } => {
                messages::close_statement(JOIN, &mut out);
                messages::parse(JOIN, b"", &mut out);
                messages::bind(portal, JOIN, &mut out);
            }
            Before::Join {
                snapshot,
                execute,
                sync,
            } => {
                // Neither returns a row.
                let sql: &[u8] = if *snapshot {
                    b"SELECT WHERE false"
                } else {
                    b"UNLISTEN pgpool_rs_join"
                };
                messages::close_statement(JOIN, &mut out);
                messages::parse(JOIN, sql, &mut out);
                if *execute {
                    messages::close_portal(JOIN, &mut out);
                    messages::bind(JOIN, JOIN, &mut out);
                    messages::execute(JOIN, &mut out);
                }
                if *sync {
                    out.extend_from_slice(&messages::SYNC);
                }
            }
        }
        out
    }
}

/// Bytes that a node is to be sent on the router's own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Flush,
    Sync,
    /// Makes the open transaction fail.
    Abort {
        sync: bool,
    },
    Rollback,
    /// Runs these statements.
    Replay(Box<[u8]>),
}

impl Order {
    pub fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Order::Flush => out.extend_from_slice(&messages::FLUSH),
            Order::Sync => out.extend_from_slice(&messages::SYNC),
            Order::Abort { sync } => {
                messages::parse(ABORT.0, ABORT.1, &mut out);
                if sync {
                    out.extend_from_slice(&messages::SYNC);
                }
            }
            Order::Rollback => messages::query("ROLLBACK", &mut out),
            Order::Replay(sql) => messages::frame(b'Q', &mut out, |out| {
                out.extend_from_slice(&sql);
                out.push(0);
            }),
        }
        out
    }
}
