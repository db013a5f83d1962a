//! What a worker knows of the catalogs of the databases, and the buffer in which it reads statements.
//!
//! No lock guards a worker's own cache. Behind it, with `enable_shared_relcache`, stands one for all
//! workers, which is asked and told on a miss only. Statements that change a catalog
//! empty all caches, so that a function that has become volatile goes to a standby no more; stock
//! waits for `relcache_expire`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use crate::routing::{
    facts::Facts,
    policy::Catalog,
    relcache::{Answer, Question, RelCache, Relation, SharedRelCache},
    settings::Settings,
};

/// Of all workers.
#[derive(Debug)]
pub struct SharedCatalog {
    cache: Option<SharedRelCache>,
    /// Grows with each change of a catalog.
    generation: AtomicU64,
}

impl SharedCatalog {
    pub fn new(settings: &Settings) -> SharedCatalog {
        SharedCatalog {
            cache: settings
                .enable_shared_relcache
                .then(|| SharedRelCache::new(settings.relcache_size, settings.relcache_expire)),
            generation: AtomicU64::new(0),
        }
    }

    /// All that is known may be wrong.
    pub fn changed(&self) {
        let next = || {
            self.generation.fetch_add(1, Relaxed);
        };
        match &self.cache {
            // At once: a worker that knows of the change must not find what was there before, and
            // none may put it back.
            Some(cache) => cache.clear_and(next),
            None => next(),
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    fn get(&self, database: &[u8], question: &Question, now: Instant) -> Option<Answer> {
        self.cache.as_ref()?.get(database, question, now)
    }
}

/// Of one worker.
#[derive(Debug)]
pub struct Catalogs {
    own: RelCache,
    generation: u64,
    facts: Facts,
}

impl Catalogs {
    pub fn new(settings: &Settings) -> Catalogs {
        Catalogs {
            own: RelCache::new(settings.relcache_size, settings.relcache_expire),
            generation: 0,
            facts: Facts::new(),
        }
    }

    /// The buffer for statements, and what is known of this database.
    pub fn parts<'a>(
        &'a mut self,
        shared: &'a SharedCatalog,
        database: &'a [u8],
        now: Instant,
    ) -> (&'a mut Facts, Known<'a>) {
        let generation = shared.generation();
        if generation != self.generation {
            self.generation = generation;
            self.own.clear();
        }
        let known = Known {
            own: &mut self.own,
            generation,
            shared,
            database,
            now,
        };
        (&mut self.facts, known)
    }
}

/// What is known of one database.
pub struct Known<'a> {
    own: &'a mut RelCache,
    generation: u64,
    shared: &'a SharedCatalog,
    database: &'a [u8],
    now: Instant,
}

impl Known<'_> {
    /// Grows with each change of a catalog.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// An answer to what was asked when [`Known::generation`] was `asked`. It is not kept if a catalog
    /// has changed since: nothing would ever tell that it is about the time before.
    pub fn learn(&mut self, question: &Question, answer: Answer, asked: u64) {
        if asked != self.generation {
            return;
        }
        self.own.put(self.database, question, answer, self.now);
        if let Some(cache) = &self.shared.cache {
            let unchanged = || self.shared.generation() == asked;
            cache.put_if(self.database, question, answer, self.now, unchanged);
        }
    }

    /// A temporary table of this name has come or gone.
    pub fn forget(&mut self, name: &[u8]) {
        self.own.forget(self.database, name);
        if let Some(cache) = &self.shared.cache {
            cache.forget(self.database, name);
        }
    }

    /// The answer to the question about the isolation level, if it is among these and known.
    pub fn default_isolation(&mut self, questions: &[Question]) -> Option<bool> {
        let question = questions
            .iter()
            .find(|q| matches!(q, Question::DefaultIsolation { .. }))?;
        match self.get(question)? {
            Answer::DefaultIsolation { serializable } => Some(serializable),
            _ => None,
        }
    }

    fn get(&mut self, question: &Question) -> Option<Answer> {
        if let Some(answer) = self.own.get(self.database, question, self.now) {
            return Some(answer);
        }
        let answer = self.shared.get(self.database, question, self.now)?;
        self.own.put(self.database, question, answer, self.now);
        Some(answer)
    }
}

impl Catalog for Known<'_> {
    fn relation(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<Relation> {
        if let Some(known) = self.own.relation(self.database, schema, name, self.now) {
            return Some(known);
        }
        self.shared.cache.as_ref()?;
        match self.get(&Question::Relation {
            schema: schema.map(Into::into),
            name: name.into(),
        })? {
            Answer::Relation(relation) => Some(relation),
            _ => None,
        }
    }

    fn volatile(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<bool> {
        if let Some(known) = self.own.volatile(self.database, schema, name, self.now) {
            return Some(known);
        }
        self.shared.cache.as_ref()?;
        match self.get(&Question::Function {
            schema: schema.map(Into::into),
            name: name.into(),
        })? {
            Answer::Function { volatile, .. } => Some(volatile),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLATILE: Answer = Answer::Function {
        volatile: true,
        missing: false,
    };

    fn function() -> Question {
        Question::Function {
            schema: None,
            name: b"f".as_slice().into(),
        }
    }

    #[test]
    fn workers_share_what_they_learn_until_the_catalog_changes() {
        let now = Instant::now();
        let settings = Settings::default();
        let shared = SharedCatalog::new(&settings);
        let (mut one, mut other) = (Catalogs::new(&settings), Catalogs::new(&settings));
        one.parts(&shared, b"d", now)
            .1
            .learn(&function(), VOLATILE, 0);
        assert_eq!(
            other.parts(&shared, b"d", now).1.volatile(None, b"f"),
            Some(true)
        );
        assert_eq!(other.parts(&shared, b"e", now).1.volatile(None, b"f"), None);
        shared.changed();
        for catalogs in [&mut one, &mut other] {
            assert_eq!(
                catalogs.parts(&shared, b"d", now).1.volatile(None, b"f"),
                None
            );
        }
    }

    #[test]
    fn an_answer_that_a_change_has_overtaken_is_not_kept() {
        let now = Instant::now();
        for enable_shared_relcache in [true, false] {
            let settings = Settings {
                enable_shared_relcache,
                ..Settings::default()
            };
            let shared = SharedCatalog::new(&settings);
            let mut catalogs = Catalogs::new(&settings);
            let asked = catalogs.parts(&shared, b"d", now).1.generation();
            shared.changed();
            let mut known = catalogs.parts(&shared, b"d", now).1;
            known.learn(&function(), VOLATILE, asked);
            assert_eq!(known.volatile(None, b"f"), None);
            // Or at the very moment when it is learnt.
            let asked = known.generation();
            shared.changed();
            known.learn(&function(), VOLATILE, asked);
            let mut known = catalogs.parts(&shared, b"d", now).1;
            assert_eq!(known.volatile(None, b"f"), None);
        }
    }

    #[test]
    fn without_a_shared_cache_each_worker_learns_for_itself() {
        let now = Instant::now();
        let settings = Settings {
            enable_shared_relcache: false,
            ..Settings::default()
        };
        let shared = SharedCatalog::new(&settings);
        let (mut one, mut other) = (Catalogs::new(&settings), Catalogs::new(&settings));
        one.parts(&shared, b"d", now)
            .1
            .learn(&function(), VOLATILE, 0);
        assert_eq!(
            one.parts(&shared, b"d", now).1.volatile(None, b"f"),
            Some(true)
        );
        assert_eq!(other.parts(&shared, b"d", now).1.volatile(None, b"f"), None);
    }
}
