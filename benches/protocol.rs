//! The user-mode work of the relay: 0.1 to 0.5 us per statement beside 17 us of system calls.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgpool_rs::{
    dataplane::session::{
        backend_side::{BackendEvents, BackendSide},
        client_side::{ClientEvents, ClientSide},
    },
    protocol::messages::{frame, query, ready_for_query},
    routing::lexer,
};

struct Nothing;

impl ClientEvents for Nothing {
    fn message(&mut self, kind: u8, body: &[u8]) {
        black_box((kind, body.len()));
    }
}

impl BackendEvents for Nothing {
    fn message(&mut self, kind: u8, body: &[u8]) {
        black_box((kind, body.len()));
    }
}

/// Guards the walk over a client's messages: a simple query and an extended one.
fn client_side(c: &mut Criterion) {
    let mut simple = Vec::new();
    query(
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        &mut simple,
    );
    let mut extended = Vec::new();
    frame(b'B', &mut extended, |out| out.resize(30, 0));
    frame(b'D', &mut extended, |out| out.resize(2, 0));
    frame(b'E', &mut extended, |out| out.resize(5, 0));
    frame(b'S', &mut extended, |_| ());
    c.bench_function("client side, simple query", |b| {
        b.iter(|| ClientSide::default().scan(black_box(&simple), &mut Nothing));
    });
    c.bench_function("client side, bind to sync", |b| {
        b.iter(|| ClientSide::default().scan(black_box(&extended), &mut Nothing));
    });
}

/// Guards the walk over a backend's messages: a short answer, and 64 KiB of rows.
fn backend_side(c: &mut Criterion) {
    let mut short = Vec::new();
    frame(b'T', &mut short, |out| out.resize(29, 0));
    frame(b'D', &mut short, |out| out.resize(9, 0));
    frame(b'C', &mut short, |out| out.extend_from_slice(b"SELECT 1\0"));
    ready_for_query(b'I', &mut short);
    let mut rows = Vec::new();
    while rows.len() < 64 * 1024 {
        frame(b'D', &mut rows, |out| out.resize(100, 0));
    }
    c.bench_function("backend side, short answer", |b| {
        b.iter(|| BackendSide::default().scan(black_box(&short), &mut Nothing));
    });
    let mut group = c.benchmark_group("backend side");
    group.throughput(Throughput::Bytes(rows.len() as u64));
    group.bench_function("64 KiB of rows", |b| {
        b.iter(|| BackendSide::default().scan(black_box(&rows), &mut Nothing));
    });
    group.finish();
}

/// Guards the lexer's entry point: the first word of each statement.
fn first_word(c: &mut Criterion) {
    let sql = b"SELECT abalance FROM pgbench_accounts WHERE aid = 12345;\0";
    c.bench_function("lexer, kind of a statement", |b| {
        b.iter(|| lexer::kind(black_box(sql)));
    });
    let commented = b"/* app:web, request:123456789 */ -- x\n SELECT 1\0";
    c.bench_function("lexer, kind of a statement behind comments", |b| {
        b.iter(|| lexer::kind(black_box(commented)));
    });
}

criterion_group!(benches, client_side, backend_side, first_word);
criterion_main!(benches);
