//! Where a statement goes. A core: no socket, no clock, no random number of its own.
//!
//! | part | question |
//! |---|---|
//! | [`lexer`] | where do tokens end? |
//! | [`facts`] | which statements are these, which relations and functions do they name? |
//! | [`policy`] | which nodes, by which rule? |
//! | [`session`] | what has this session done that matters: transaction, writes, temporary tables, prepared statements |
//! | [`balance`] | which node is the load balance node? |
//! | [`relcache`] | what does the catalog say of a name? |
//! | [`settings`], [`pattern`] | the parameters, with their regular expressions compiled |
//!
//! # The rules
//!
//! For streaming and logical replication and slony; the first that holds decides. *Several* is
//! primary and load balance node (all nodes with `statement_level_load_balance`, the primary alone
//! without `load_balance_mode` or when no standby has a part in the open transaction).
//!
//! | no. | statement | goes to |
//! |---|---|---|
//! | 1 | several statements in one Query; what follows in a transaction that one began | primary |
//! | 2 | not understood | primary |
//! | 3 | SELECT with a locking clause or INTO | primary |
//! | 4 | a query in WITH writes (deeper in, each node refuses it) | primary |
//! | 5 | COPY FROM, COPY of a writing query, COPY to a file | primary |
//! | 6 | LOCK from ROW EXCLUSIVE on; weaker | primary; several |
//! | 7 | BEGIN, COMMIT, ROLLBACK, savepoints | several; COMMIT and ROLLBACK of a Query leave out idle standbys |
//! | 8 | two-phase commit | primary |
//! | 9 | SET that a standby refuses: READ WRITE, SERIALIZABLE, SNAPSHOT | primary |
//! | 10 | other SET, RESET, DISCARD, DEALLOCATE ALL | several |
//! | 11 | PREPARE | primary |
//! | 12 | EXECUTE, DEALLOCATE | where the statement was prepared; unknown: primary, several |
//! | 13 | read, after a write with `disable_load_balance_on_write = always` | primary |
//! | 14 | read, but balancing is off or the text begins with something else than a read (a comment) | primary |
//! | 15 | read in a transaction that has written, failed, is SERIALIZABLE, or that the node has no part in or other modes; behind a write of the same pipeline | primary |
//! | 16 | the load balance node lags too much (looked at last) | primary, or another node |
//! | 17 | names a system catalog, or what the catalog could not be asked about | primary |
//! | 18 | names a temporary table; in a session that has some, also their names in constants and types, and functions that are not PostgreSQL's own; the temporary schema | primary |
//! | 19 | names an unlogged table, a view, or a table with row security, that calls a function of rule 21; a sequence, in a session that has written | primary |
//! | 20 | matches `primary_routing_query_pattern_list` | primary |
//! | 21 | calls a writing function, or one that tells about the server or session | primary |
//! | 22 | dml_adaptive: names what the transaction has written | primary |
//! | 23 | any other read | load balance node |
//! | 24 | everything else | primary |
//!
//! Reads are SELECT and its like, SHOW, and COPY TO the client.
//!
//! # Who uses it
//!
//! `dataplane::session::router` keeps a [`session::SessionState`] for each session that balances and
//! asks [`policy::decide`] for each statement: of a Query, of a Parse, and again of each Bind, since
//! the transaction may have written in between. [`policy::Verdict::NeedCatalog`] names what the
//! relation caches do not know; the session asks its own connection to the primary, between two
//! statements, and decides again.

pub mod balance;
pub mod facts;
mod first_word;
pub mod lexer;
pub mod pattern;
pub mod policy;
pub mod relcache;
pub mod session;
pub mod settings;

pub use lexer::StatementKind;
