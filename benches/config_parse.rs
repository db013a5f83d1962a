//! Reading a whole sample file: the time a reload takes away from the control plane.

use std::{fs, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use pgpool_rs::config::{Config, grammar};

fn config_parse(c: &mut Criterion) {
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/config/dialect-4.2.conf"
    );
    let Ok(text) = fs::read_to_string(sample) else {
        eprintln!("SKIPPED: cannot read {sample}");
        return;
    };
    c.bench_function("grammar of a whole sample", |b| {
        b.iter(|| grammar::parse(black_box(text.as_bytes())));
    });
    c.bench_function("configuration from a whole sample", |b| {
        b.iter(|| Config::from_text(black_box(&text)).is_ok());
    });
}

criterion_group!(benches, config_parse);
criterion_main!(benches);
