use proptest::prelude::*;

use super::*;

fn facts(sql: &str) -> Facts {
    Facts::of(sql.as_bytes())
}

fn shown(facts: &Facts, names: &[Name]) -> Vec<String> {
    let text = |i: Ident| String::from_utf8_lossy(facts.text(i)).into_owned();
    names
        .iter()
        .map(|n| match n.schema {
            Some(schema) => format!("{}.{}", text(schema), text(n.name)),
            None => text(n.name),
        })
        .collect()
}

fn relations(sql: &str) -> Vec<String> {
    let f = facts(sql);
    assert!(!f.is_unknown(), "{sql}");
    shown(&f, f.relations())
}

fn functions(sql: &str) -> Vec<String> {
    let f = facts(sql);
    assert!(!f.is_unknown(), "{sql}");
    shown(&f, f.functions())
}

#[test]
fn tables_are_found_wherever_a_query_names_them() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT 1", &[]),
        ("SELECT a, b FROM T1 WHERE c = 1", &["t1"]),
        ("select * from t1, t2 x, only t3 as y", &["t1", "t2", "t3"]),
        (
            "select * from t1 join t2 on t1.a = t2.a left outer join s.t3 using (b), t4",
            &["t1", "t2", "s.t3", "t4"],
        ),
        (
            "select * from (t1 join t2 on true) j, t3",
            &["t1", "t2", "t3"],
        ),
        (
            "select * from (select * from t1) s, lateral (select 1 from t2) u",
            &["t1", "t2"],
        ),
        ("select (select max(i) from t1) from t2", &["t1", "t2"]),
        (
            "select * from t1 where i in (select i from t2 where exists (table t3))",
            &["t1", "t2", "t3"],
        ),
        ("with a as (select * from t1) select * from a", &["t1", "a"]),
        ("table t1", &["t1"]),
        (
            "select 1 from t1 union all select 2 from t2 union (table t3)",
            &["t1", "t2", "t3"],
        ),
        (
            "select extract(year from x), substring(a from 2 for 3) from t1",
            &["t1"],
        ),
        ("select a is not distinct from b from t1", &["t1"]),
        ("select distinct a from t1", &["t1"]),
        ("select * from f(1) g, t1", &["t1"]),
        (
            "select * from rows from (f(1), g(2)) with ordinality x(a, b), t1",
            &["t1"],
        ),
        (
            "select * from t1 tablesample system (10) repeatable (1) where a",
            &["t1"],
        ),
        ("select * from \"T1q\", db.sch.t2", &["T1q", "sch.t2"]),
        (
            "select * from u&\"d\\0061ta\", u&\"d!0061ta2\" uescape '!'",
            &["data", "data2"],
        ),
        ("insert into t1(a) select b from t2", &["t1", "t2"]),
        ("update only t1 set a = b from t2 where true", &["t1", "t2"]),
        (
            "delete from t1 using t2, t3 where true",
            &["t1", "t2", "t3"],
        ),
        (
            "merge into t1 using t2 on a = b when matched then delete",
            &["t1", "t2"],
        ),
        ("truncate table t1, only t2 cascade", &["t1", "t2"]),
        ("lock t1, t2 in share mode", &["t1", "t2"]),
        ("copy t1 (a, b) to stdout", &["t1"]),
        ("copy (select * from t1) to stdout with csv", &["t1"]),
        ("prepare p(int) as select * from t1 where i = $1", &["t1"]),
        (
            "declare c scroll cursor with hold for select * from t1",
            &["t1"],
        ),
        ("explain (analyze, format json) select * from t1", &["t1"]),
        ("explain (select * from t1)", &["t1"]),
        (
            "select * from t1 order by a limit 1 offset 2 for update of t1",
            &["t1"],
        ),
        // Keywords that are not reserved are names where a table is due.
        (
            "select * from start, values, set, between join position on true, by",
            &["start", "values", "set", "between", "position", "by"],
        ),
        (
            "select * from t1 set, t2 values, t3 as rows, time",
            &["t1", "t2", "t3", "time"],
        ),
        ("update set set a = 1", &["set"]),
        (
            "delete from values using row where true",
            &["values", "row"],
        ),
        (
            "merge into only t1 using t2 on a = b when matched then update set (a, b) = (1, 2)",
            &["t1", "t2"],
        ),
        (
            "select * from xmltable('/a' passing b columns c int path '@c', d for ordinality) x, \
             current_date d, cast(1 as int) e, t1",
            &["t1"],
        ),
        (
            "select * from (with recursive r(n) as (select 1) search depth first by n set s select * from r) x, t1",
            &["r", "t1"],
        ),
    ];
    for (sql, want) in cases {
        assert_eq!(relations(sql), *want, "{sql}");
    }
}

#[test]
fn functions_are_told_from_types_aliases_and_syntax() {
    let cases: &[(&str, &[&str])] = &[
        ("select f(), S.G(1), \"H\" (2)", &["f", "s.g", "H"]),
        ("select f(g(h()))", &["f", "g", "h"]),
        (
            "select * from f(g(1)) as x(a int, b numeric(10,2))",
            &["f", "g"],
        ),
        ("select * from f(1) x(a), t1 y(b)", &["f"]),
        (
            "select cast(a as numeric(10,2)), b::varchar(10), c::my.type(3) from t",
            &[],
        ),
        (
            "select coalesce(f(), 1), greatest(1, 2), a in (1, 2), exists (select 1)",
            &["f"],
        ),
        (
            "select count(*) filter (where f(a)) over (partition by g(b) order by (c)) from t",
            &["count", "f", "g"],
        ),
        (
            "with recursive r(n) as (select f()), q (m) as (select 1) select n from r",
            &["f"],
        ),
        ("with r as materialized (select 1) select 1 from r", &[]),
        (
            "select case when f() then g() else h() end",
            &["f", "g", "h"],
        ),
        ("select 1 limit f() offset g()", &["f", "g"]),
        (
            "select a from t group by rollup (a), f(a) having g(a)",
            &["rollup", "f", "g"],
        ),
        (
            "select * from t where a like f(b) and c between f2() and f3()",
            &["f", "f2", "f3"],
        ),
        (
            "select * from t join u on t.a similar to f(u.b)",
            &["pg_catalog.similar_to_escape", "f"],
        ),
        (
            "select left(a, 1), right(b, 2) from t left join (select 1) x on true",
            &["left", "right"],
        ),
        (
            "select trim(a), trim(leading from b), extract(year from c)",
            &["pg_catalog.btrim", "pg_catalog.ltrim", "pg_catalog.extract"],
        ),
        ("select a at time zone (f())", &["pg_catalog.timezone", "f"]),
        ("select 1 where not f()", &["f"]),
        ("select * from t where (a, b) in (select f(), 2)", &["f"]),
        ("select array[f()], (array[g()])[h()]", &["f", "g", "h"]),
        ("select interval(3) '1', numeric (3) '2'", &[]),
        (
            "select within(a), filter(b), 'x' like 'y' escape ('z')",
            &["within", "filter", "pg_catalog.like_escape"],
        ),
        ("select /* c */ f /* d */ (1)", &["f"]),
        // Keywords that are not reserved are names where an expression begins.
        (
            "select set(1), rows(2) + like(3), 1 - join(4) from t where by(5) or not zone(6) and inner(7)",
            &["set", "rows", "like", "join", "by", "zone", "inner"],
        ),
        (
            "select a from t cross join (u join v on isnull(a)) where a not like ('b') group by (a), set(b) order by (b)",
            &["isnull", "set"],
        ),
        (
            "select * from t, lateral is(a), tablesample(b)",
            &["is", "tablesample"],
        ),
        ("update t set (a, b) = (set(1), 2)", &["set"]),
        ("with r as not materialized (select 1) select 1 from r", &[]),
        ("select * from trim(a) b", &["pg_catalog.btrim"]),
        (
            "select substring(a, 1), overlay(b placing c from 1), substring((select d from e), f(1))",
            &["substring", "pg_catalog.overlay", "substring", "f"],
        ),
        (
            "select substring(substring(a, 1) from 2), substring(position(b in c), 2), overlay(overlay(a placing b from 1), 1)",
            &[
                "pg_catalog.substring",
                "substring",
                "substring",
                "pg_catalog.position",
                "overlay",
                "pg_catalog.overlay",
            ],
        ),
        (
            "select * from substring(a from 1) b, substring(c, 2) d, t substring (e)",
            &["pg_catalog.substring", "substring"],
        ),
        // UESCAPE belongs to the name before it.
        (
            "select u&\"f!0061\" uescape '!' (), u&\"s\" uescape '!' . g (1) from t u&\"a\" uescape '!' , u&\"h\" uescape '!' (2)",
            &["fa", "s.g", "h"],
        ),
        ("values (f())", &["f"]),
    ];
    for (sql, want) in cases {
        assert_eq!(functions(sql), *want, "{sql}");
    }
}

#[test]
fn what_changes_the_catalog_is_told_from_what_does_not() {
    for sql in [
        "create table t (i int)",
        "create unlogged table t as select 1",
        "create or replace view v as select 1",
        "create temp table c () inherits (t)",
        "create temp table c partition of t default",
        "alter function f() volatile",
        "/* c */ drop function f",
        "drop table t",
        "select 1 into t",
        "select 1 into unlogged t",
        "explain analyze create table t as select 1",
        "import foreign schema s from server f into t",
        "set work_mem = 1; create table t (i int)",
        "select 1; alter table t add j int",
    ] {
        assert!(facts(sql).changes_catalog(), "{sql}");
    }
    for sql in [
        "create temp table t (i int)",
        "create temporary table t as select row_number() over (partition by i) from s",
        "select 1 into temp t",
        "truncate t",
        "grant select on t to u",
        "comment on table t is 'x'",
        "reindex table t",
        "insert into t values (1)",
        "with a as (insert into t values (1) returning i) select * from a",
        "select 1",
    ] {
        assert!(!facts(sql).changes_catalog(), "{sql}");
    }
}

#[test]
fn an_alias_with_uescape_is_one_name() {
    assert!(!facts("select 1 from t u&\"a\" uescape '!' where true").is_unknown());
}

/// A statement of the length that is read at most holds up nobody.
#[test]
fn calls_in_calls_are_read_once() {
    let started = std::time::Instant::now();
    for call in ["substring(", "extract(", "position(", "overlay(", "trim("] {
        let deep = format!("select {}", call.repeat(20_000));
        assert_eq!(facts(&deep).functions().len(), 20_000);
    }
    let taken = started.elapsed();
    assert!(taken.as_secs() < 4, "{taken:?}");
}

#[test]
fn locks_into_and_writes_inside_are_noticed_at_any_depth() {
    for sql in [
        "select * from t for update",
        "select * from t for no key update nowait",
        "select * from t for share of t skip locked",
        "select * from (select * from t for key share) s",
    ] {
        assert!(facts(sql).has_locking_clause(), "{sql}");
    }
    assert!(!facts("select substring(a from 1 for 2), b from t").has_locking_clause());
    for sql in ["select * into x from t", "select 1 into temp x"] {
        assert!(facts(sql).has_into(), "{sql}");
    }
    assert!(!facts("insert into t select 1").has_into());
    for sql in [
        "with a as (insert into t values (1) returning i) select * from a",
        "((with a as (delete from t returning i) select * from a))",
        "with values (a) as (select 1), x as (delete from t returning i) select * from values",
        "with a as not materialized (update t set i = 1 returning i) select 1",
    ] {
        assert!(facts(sql).has_data_modifying_with(), "{sql}");
        assert_eq!(facts(sql).first(), Statement::Select, "{sql}");
    }
    // Refused by any server.
    for sql in [
        "with a as (with b as (delete from t returning i) select * from b) select * from a",
        "select * from (with a as (delete from t returning i) select * from a) s",
    ] {
        assert!(!facts(sql).has_data_modifying_with(), "{sql}");
    }
    let main = "with a as (select 1) insert into t select 1 from a";
    assert_eq!(facts(main).first(), Statement::Insert);
    assert_eq!(
        facts("with insert as (select 1) select * from insert").first(),
        Statement::Select
    );
}

#[test]
fn statements_are_counted_without_the_empty_ones() {
    for (sql, count) in [
        ("", 0),
        (" ; ;; ", 0),
        ("/* c */ -- d", 0),
        ("select 1;", 1),
        (";select 1", 1),
        ("select ';'; select $$;$$", 2),
        ("begin; select 1; commit", 3),
        (
            "create function f() returns int language sql begin atomic select 1; end",
            1,
        ),
        (
            "create or replace procedure p(a int default 1) begin atomic insert into t values (case when a = 1 then 2 end); \
             select 1 as end, t.end from t;; end; select 2; select 3",
            3,
        ),
        ("create function f() as $$begin; end$$; select 1", 2),
    ] {
        assert_eq!(facts(sql).count(), count, "{sql}");
    }
}

#[test]
fn a_string_is_split_at_its_own_semicolons() {
    let parts = Facts::split(b"set a to ';'; reset all;select $$;$$", true);
    let want: [&[u8]; 3] = [b"set a to ';'", b" reset all", b"select $$;$$"];
    assert_eq!(parts, want);
    assert_eq!(Facts::split(b"", true), [b""]);
}

#[test]
fn on_commit_drop_is_seen() {
    for (sql, drops) in [
        (
            "CREATE TEMP TABLE t (a int DEFAULT (1)) ON COMMIT DROP",
            true,
        ),
        (
            "create temp table if not exists t on commit drop as select 1",
            true,
        ),
        ("CREATE TEMP TABLE t ON COMMIT DROP AS EXECUTE p", true),
        (
            "CREATE TEMP TABLE t (a int) ON COMMIT DELETE ROWS; SELECT 1",
            false,
        ),
        (
            "CREATE TEMP TABLE t (a int REFERENCES b ON DELETE CASCADE)",
            false,
        ),
        (
            "CREATE TEMP TABLE t AS SELECT 1 FROM a JOIN b ON commit",
            false,
        ),
        ("CREATE TABLE t (a int) ON COMMIT DROP", false),
    ] {
        let f = facts(sql);
        let found = f
            .statements()
            .iter()
            .any(|s| matches!(s, Statement::DropAtCommit(n) if f.text(*n) == b"t"));
        assert_eq!(found, drops, "{sql}");
        assert!(!f.is_unknown(), "{sql}");
    }
}

#[test]
fn utility_statements_say_what_they_are() {
    let named = |sql: &str| {
        let f = facts(sql);
        let name = match f.first() {
            Statement::Savepoint(n)
            | Statement::Release(n)
            | Statement::RollbackTo(n)
            | Statement::Prepare(n)
            | Statement::Execute(n)
            | Statement::Deallocate(Some(n))
            | Statement::Declare(n)
            | Statement::Fetch(Some(n))
            | Statement::ClosePortal(Some(n))
            | Statement::CreateTemporary(n)
            | Statement::Drop(n) => n,
            other => panic!("{sql}: {other:?}"),
        };
        String::from_utf8(f.text(name).to_vec()).unwrap()
    };
    for sql in [
        "savepoint A",
        "release a",
        "fetch a",
        "fetch forward 3 from A",
        "move backward all in \"a\"",
        "close a;select 1",
        "release savepoint a",
        "rollback to a",
        "rollback work to savepoint \"a\"",
        "prepare a as select 1",
        "execute a(1)",
        "deallocate a",
        "deallocate prepare a",
        "declare a cursor for select 1",
        "create temp table a(i int)",
        "create table pg_temp.a(i int)",
        "create local temporary table if not exists a as select 1",
        "drop table if exists a",
        "create or replace temp view a as select 1",
    ] {
        assert_eq!(named(sql), "a", "{sql}");
    }
    let serializable = |read_only| TransactionModes {
        read_only,
        serializable: Some(true),
    };
    for (sql, want) in [
        ("begin", Statement::Begin(TransactionModes::default())),
        (
            "start transaction isolation level serializable, read only",
            Statement::Begin(serializable(Some(true))),
        ),
        (
            "begin work read write not deferrable isolation level serializable",
            Statement::Begin(serializable(Some(false))),
        ),
        (
            "set transaction isolation level repeatable read, read write",
            Statement::Set(Set::Transaction(serializable(Some(false)))),
        ),
        (
            "set session characteristics as transaction read write isolation level repeatable read",
            Statement::Set(Set::Characteristics(serializable(Some(false)))),
        ),
        (
            "begin isolation level repeatable read",
            Statement::Begin(TransactionModes {
                read_only: None,
                serializable: Some(false),
            }),
        ),
        (
            "begin isolation level read committed read only",
            Statement::Begin(TransactionModes {
                read_only: Some(true),
                serializable: Some(false),
            }),
        ),
        ("commit and chain", Statement::Commit { chain: true }),
        (
            "end transaction and no chain",
            Statement::Commit { chain: false },
        ),
        ("abort", Statement::Rollback { chain: false }),
        ("prepare transaction 'x'", Statement::PrepareTransaction),
        ("rollback prepared 'x'", Statement::FinishPrepared),
        (
            "set transaction_read_only = 0",
            Statement::Set(Set::TransactionReadOnly(Some(false))),
        ),
        (
            "set local transaction_read_only to 'ON'",
            Statement::Set(Set::TransactionReadOnly(Some(true))),
        ),
        (
            "set transaction_read_only to default",
            Statement::Set(Set::TransactionReadOnly(None)),
        ),
        (
            "set session characteristics as transaction isolation level serializable",
            Statement::Set(Set::Characteristics(serializable(None))),
        ),
        (
            "set transaction snapshot 'x'",
            Statement::Set(Set::Snapshot),
        ),
        (
            "set session authorization postgres",
            Statement::Set(Set::Other),
        ),
        ("set time zone 'UTC'", Statement::Set(Set::Other)),
        (
            "set constraints all deferred",
            Statement::Set(Set::Constraints),
        ),
        ("reset all", Statement::Reset(Set::All)),
        ("discard temporary", Statement::Discard(Discard::Temp)),
        ("deallocate all", Statement::Deallocate(None)),
        ("lock table a", Statement::Lock(LockMode::AccessExclusive)),
        (
            "lock a in row share mode nowait",
            Statement::Lock(LockMode::RowShare),
        ),
        (
            "lock a in share row exclusive mode",
            Statement::Lock(LockMode::ShareRowExclusive),
        ),
        (
            "copy t from stdin",
            Statement::Copy(Copy {
                from: true,
                file: false,
                source: CopySource::Table,
            }),
        ),
        (
            "copy (delete from t returning *) to stdout",
            Statement::Copy(Copy {
                from: false,
                file: false,
                source: CopySource::Write,
            }),
        ),
        (
            "copy t to '/tmp/x'",
            Statement::Copy(Copy {
                from: false,
                file: true,
                source: CopySource::Table,
            }),
        ),
        (
            "explain analyze verbose select 1",
            Statement::Explain {
                analyze: true,
                select: true,
            },
        ),
        (
            "explain insert into t values (1)",
            Statement::Explain {
                analyze: false,
                select: false,
            },
        ),
        ("(select 1)", Statement::Select),
        ("values (1)", Statement::Select),
        ("vacuum t", Statement::Other),
        ("close all", Statement::ClosePortal(None)),
    ] {
        let f = facts(sql);
        assert_eq!(f.first(), want, "{sql}");
        assert!(!f.is_unknown(), "{sql}");
    }
}

#[test]
fn what_is_no_sql_for_certain_is_unknown() {
    for sql in [
        "select (1",
        "select 1)",
        "select 'a",
        "select * form t1",
        "select * from t1 whre i = 1",
        "'a'",
        "(delete from t)",
        "with a as (select 1)",
        "select t.* form t",
        "discard",
    ] {
        assert!(facts(sql).is_unknown(), "{sql}");
    }
}

#[test]
fn the_buffer_forgets_the_last_text() {
    let mut f = facts("with a as (delete from t returning f()) select * into x from a for update");
    f.read(b"select 1", true);
    assert_eq!(f.statements(), [Statement::Select]);
    assert!(f.relations().is_empty() && f.functions().is_empty());
    assert!(!f.has_locking_clause() && !f.has_into() && !f.has_data_modifying_with());
}

proptest! {
    #[test]
    fn any_bytes_can_be_read(sql in prop::collection::vec(any::<u8>(), 0..120)) {
        Facts::of(&sql);
    }

    #[test]
    fn any_words_can_be_read(words in prop::collection::vec(prop::sample::select(vec![
        "select", "from", "with", "a", "(", ")", ",", ";", "as", "insert", "into", "update", "delete", "set", "begin",
        "prepare", "explain", "copy", "to", "lock", "in", "table", "'x'", "\"q\"", ".", "*", "::", "u&\"\\00\"", "uescape",
        "for", "rows", "join", "using", "drop", "create", "temp", "declare", "execute", "deallocate", "all", "=", "1", "$1",
        "rollback", "isolation", "level", "read", "trim", "reset", "discard", "'",
    ]), 0..24)) {
        Facts::of(words.join(" ").as_bytes());
    }
}
