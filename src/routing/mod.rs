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
//! | 4 | a query in WITH writes, at any depth | primary |
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
//! | 15 | read in a transaction that has written, failed, is SERIALIZABLE, or that the node has no part in; behind a write of the same pipeline | primary |
//! | 16 | the load balance node lags too much (looked at last) | primary, or another node |
//! | 17-19 | names a system catalog, temporary table, unlogged table | primary |
//! | 20 | matches `primary_routing_query_pattern_list` | primary |
//! | 21 | calls a writing function | primary |
//! | 22 | dml_adaptive: names what the transaction has written | primary |
//! | 23 | any other read | load balance node |
//! | 24 | everything else | primary |
//!
//! Reads are SELECT and its like, SHOW, and COPY TO the client.
//!
//! # How the relay uses it
//!
//! A worker has one [`facts::Facts`] to read into, one [`relcache::RelCache`], and a
//! [`session::SessionState`] per session. At the start of a session [`balance::choose`] gives its
//! load balance node, from the names of the startup packet.
//!
//! **Decide.** Read the facts; [`policy::decide`]. `NeedCatalog` means: put the questions to the
//! worker's cache, the shared one, and then, on a connection of the worker's own to the primary
//! (or as `relcache_query_target` says), to the server; hold back what the client sends meanwhile;
//! put the answers into both caches, or into [`session::SessionState::begins_serializable`], and
//! decide again. A look-up that fails is answered with the primary. With a decision for
//! [`policy::Destination::LoadBalance`], choose a new node first if
//! [`policy::Decision::wants_new_node`]; [`policy::Decision::nodes`] gives the nodes.
//!
//! **Query.** Decide, `sent`, forward to the nodes (standbys get `BEGIN` where
//! `plain_begin_on_standbys` says so). With several nodes the primary's answer is the client's; the
//! others' answers are awaited, and an error there that the primary does not have is logged and
//! fails the session's use of that node. CommandComplete without an error: `succeeded`; an error:
//! `failed`. ReadyForQuery of each node: `node_ready`; of the primary also `ready`. The client's
//! status byte is the primary's. After PREPARE TRANSACTION the standbys of
//! [`session::SessionState::nodes_in_transaction`] get a COMMIT.
//!
//! **Extended protocol.** Facts are kept with the prepared statement, for the life of its name
//! (`Facts` is cloned once per Parse). Parse: decide, forward to one node (several for what goes to
//! several), `parsed`. Bind: decide again, since the transaction may have written since; a node
//! that lacks the statement gets a Parse of its own whose answer the client does not see, then
//! `parsed`. Execute: `sent`; its CommandComplete: `succeeded`. A portal stays on the node where it
//! was bound. Describe and Close go where the statement or portal is; Close: `closed`. Before a
//! statement goes to another node than the one before it in the same pipeline, the answers of the
//! earlier node are awaited (a Flush is sent), so that an error there can discard what follows up
//! to Sync; Sync goes to every node used since the last one. EXECUTE of a statement that a Parse
//! made (`by_sql` is false) is decided by the facts of that statement instead.
//!
//! **What else changes the state.** ParameterStatus standard_conforming_strings is the argument of
//! [`facts::Facts::read`]. A change of the cluster view whose load balance node is not valid any
//! more: `choose` again; inside a transaction reads stay on the primary until its end, as the new
//! node has no part in it. CREATE and DROP of temporary tables: `RelCache::forget` the name.

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
