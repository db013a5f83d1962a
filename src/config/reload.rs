//! A new configuration from changed files, while the old one runs.
//!
//! As in the original, what is not in the file any more keeps its running value, a bad setting
//! keeps the running value of its parameter, and after a syntax error nothing of the file takes
//! effect. Other than the original, parameters that need a restart are named when they differ.

use std::{fs, path::Path};

use super::{
    Config, checks,
    finding::{Finding, Place},
    load::{self, LoadMode},
    parameter::{Key, Values, find_in},
    paths::Paths,
    source, typed, value,
};

impl Config {
    /// Reads the files again. Findings that are errors tell what keeps its running value.
    pub fn reload(&self, paths: &Paths) -> (Config, Vec<Finding>) {
        self.reload_with(paths, &|path: &Path| fs::read(path))
    }

    fn reload_with(&self, paths: &Paths, read: source::Read<'_>) -> (Config, Vec<Finding>) {
        let dialect = self.dialect;
        let source = source::read(&paths.config, read);
        let mut findings = source.findings;
        if source.syntax_errors {
            let place = Place::whole(&paths.config);
            findings.push(Finding::warning(
                place,
                "nothing of the file takes effect because of its syntax errors",
            ));
            return (self.clone(), findings);
        }
        if source.recognition.release != dialect {
            let text = format!(
                "now reads as a file of {}; the running server stays with {dialect} until it is restarted",
                source.recognition.release
            );
            let place = Place::whole(&paths.config);
            findings.push(Finding::warning(place, text).remedy(source.recognition.why));
        }
        let mut values = self.values.clone();
        // Places of this reading only, to see what has left the file.
        values.places.clear();
        load::apply(&source.settings, dialect, &mut values, &mut findings);
        load::apply_own(paths, read, dialect, &mut values, &mut findings);
        checks::place_own_node(&mut values, paths, read);
        self.keep_startup_values(&mut values, &mut findings);
        self.name_removed(&mut values, paths, &mut findings);
        let before = findings.len();
        checks::whole(
            &values,
            dialect,
            paths,
            LoadMode::Check,
            read,
            &mut findings,
        );
        if findings[before..].iter().any(Finding::is_error) {
            let place = Place::whole(&paths.config);
            findings.push(Finding::warning(
                place,
                "nothing of the file takes effect, since its settings contradict each other",
            ));
            return (self.clone(), findings);
        }
        (typed::config(values, dialect, paths), findings)
    }

    fn keep_startup_values(&self, values: &mut Values, findings: &mut Vec<Finding>) {
        let keys: Vec<Key> = values.places.keys().copied().collect();
        for (name, index) in keys {
            let Some(parameter) = find_in(name, self.dialect) else {
                continue;
            };
            if !parameter.needs_restart(self.dialect) {
                continue;
            }
            let running = self.values.get(name, index).cloned();
            if values.get(name, index) == running.as_ref() {
                continue;
            }
            let place = values.place(name, index).cloned();
            if let Some(place) = &place {
                let name = value::full_name(parameter, index);
                let text = format!("{name} has changed, which needs a restart");
                findings.push(Finding::warning(place.clone(), text));
            }
            if let Some(running) = running {
                values.set((name, index), running, place);
            }
        }
    }

    /// Settings that are gone from the file and whose default is another than the running value.
    fn name_removed(&self, values: &mut Values, paths: &Paths, findings: &mut Vec<Finding>) {
        let defaults = load::defaults(self.dialect, paths.debian());
        for (key, place) in &self.values.places {
            let (name, index) = *key;
            if values.places.contains_key(key) || values.places.contains_key(&(name, None)) {
                continue;
            }
            let running = values.get(name, index);
            let Some(parameter) = find_in(name, self.dialect) else {
                continue;
            };
            if running != defaults.get(name, index) {
                let text = format!(
                    "{} is no longer in the file and keeps its running value until the restart",
                    value::full_name(parameter, index)
                );
                findings.push(Finding::info(Place::whole(&place.path), text));
            }
            values.places.insert(*key, place.clone());
        }
    }
}
