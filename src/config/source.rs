//! pgpool.conf and what it includes, as one list of settings with their places.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Release,
    dialect::{Fact, Recognition, recognise},
    finding::{Finding, Place},
    grammar::{self, Document, Form, Oddity, Position, Setting},
};

/// What messages about the shape of a file begin with.
pub(super) const SYNTAX_ERROR: &str = "syntax error in configuration file";

/// The original gives up at this depth of includes.
const DEEPEST_INCLUDE: usize = 10;

/// A setting and the file it stands in.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub setting: Setting,
    pub path: PathBuf,
}

impl Located {
    /// Where the name stands.
    pub fn at(&self) -> Place {
        place(&self.path, self.setting.at)
    }

    /// Where the value stands, or the name if there is none.
    pub fn value_at(&self) -> Place {
        match self.setting.form {
            Form::LineEnd | Form::FileEnd => self.at(),
            _ => place(&self.path, self.setting.value_at),
        }
    }
}

/// All settings in the order in which they apply.
#[derive(Debug)]
pub(super) struct Source {
    pub settings: Vec<Located>,
    pub recognition: Recognition,
    pub findings: Vec<Finding>,
    /// Nothing of the file may take effect at a reload.
    pub syntax_errors: bool,
}

/// Reads a file, or plays one in tests.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Reads `path` and its includes. A missing file is a warning and means defaults, as in the original.
pub(super) fn read(path: &Path, read: Read<'_>) -> Source {
    let mut findings = Vec::new();
    let document = match read(path) {
        Ok(bytes) => grammar::parse(&bytes),
        Err(error) => {
            findings.push(could_not_open(path, &error));
            Document::default()
        }
    };
    let facts = facts(document.settings.iter());
    let own = recognise(&facts, &document.commented_out);
    let mut expansion = Expansion {
        read,
        includes: own.release >= Release::V4_3,
        settings: Vec::new(),
        commented_out: Vec::new(),
        findings,
        syntax_errors: false,
    };
    expansion.add(path, document, 0);
    let Expansion {
        settings,
        commented_out,
        findings,
        syntax_errors,
        ..
    } = expansion;
    let all = recognise(
        &self::facts(settings.iter().map(|l| &l.setting)),
        &commented_out,
    );
    // Whoever includes files runs 4.3 or later, whatever these files look like.
    let includes = settings.iter().any(|l| l.setting.name == "include");
    let recognition = if includes && own.release >= Release::V4_3 && all.release < Release::V4_3 {
        own
    } else {
        all
    };
    Source {
        settings,
        recognition,
        findings,
        syntax_errors,
    }
}

fn facts<'a>(settings: impl Iterator<Item = &'a Setting>) -> Vec<Fact<'a>> {
    settings
        .map(|s| Fact {
            name: &s.name,
            value: &s.value,
            line: s.at.line,
        })
        .collect()
}

pub(super) fn place(path: &Path, at: Position) -> Place {
    Place::new(path, at.line, at.column)
}

fn syntax_error(path: &Path) -> String {
    format!("{SYNTAX_ERROR} \"{}\"", path.display())
}

fn could_not_open(path: &Path, error: &io::Error) -> Finding {
    Finding::warning(
        Place::whole(path),
        format!("could not open configuration file: \"{}\"", path.display()),
    )
    .detail("using default configuration parameter values")
    .remedy(crate::sys::errors::message(error))
}

struct Expansion<'a> {
    read: Read<'a>,
    includes: bool,
    settings: Vec<Located>,
    commented_out: Vec<String>,
    findings: Vec<Finding>,
    syntax_errors: bool,
}

impl Expansion<'_> {
    fn add(&mut self, path: &Path, document: Document, depth: usize) {
        for (at, oddity) in document.oddities {
            self.findings.push(oddity_finding(place(path, at), oddity));
        }
        for error in document.errors {
            let text = syntax_error(path);
            let detail = format!(
                "parse error at line {} '{}' token = {}",
                error.at.line, error.text, error.token
            );
            self.error(
                Finding::error(place(path, error.at), text)
                    .detail(detail)
                    .remedy("a setting is: name = value; put the value in single quotes"),
            );
        }
        self.commented_out.extend(document.commented_out);
        for setting in document.settings {
            let include = self.includes && setting.name == "include";
            let located = Located {
                setting,
                path: path.to_owned(),
            };
            if include {
                self.include(&located, depth);
            }
            self.settings.push(located);
        }
    }

    fn include(&mut self, at: &Located, depth: usize) {
        let name = &at.setting.value;
        let path = match at.path.parent() {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        };
        if depth + 1 > DEEPEST_INCLUDE {
            self.error(
                Finding::error(
                    at.at(),
                    format!(
                        "could not open configuration file \"{name}\": maximum nesting depth exceeded"
                    ),
                )
                .remedy("a file must not include itself"),
            );
            return;
        }
        match (self.read)(&path) {
            Ok(bytes) => self.add(&path, grammar::parse(&bytes), depth + 1),
            Err(error) => {
                let text = syntax_error(&at.path);
                let detail = format!(
                    "parse error at line {} '{}' token = {}",
                    at.setting.at.line, at.setting.raw, at.setting.token
                );
                self.error(Finding::error(at.at(), text).detail(detail).remedy(format!(
                    "could not open configuration file: \"{}\": {}",
                    path.display(),
                    crate::sys::errors::message(&error)
                )));
            }
        }
    }

    fn error(&mut self, finding: Finding) {
        self.syntax_errors = true;
        self.findings.push(finding);
    }
}

fn oddity_finding(at: Place, oddity: Oddity) -> Finding {
    match oddity {
        Oddity::ByteOrderMark => Finding::warning(
            at,
            "the file begins with a byte order mark, for which the original loses the first setting",
        )
        .remedy("save the file as UTF-8 without byte order mark"),
        Oddity::CommentAtFileEnd => Finding::warning(
            at,
            "the last line is a comment without a line end, with which the original does not start",
        )
        .remedy("end the last line"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_files(files: &[(&str, &str)]) -> Source {
        read(Path::new("/etc/p/pgpool.conf"), &|path| {
            files
                .iter()
                .find(|(name, _)| Path::new("/etc/p").join(name) == path)
                .map(|(_, text)| text.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn values(source: &Source) -> Vec<&str> {
        let settings = source.settings.iter().map(|l| &l.setting);
        settings.map(|s| s.value.as_str()).collect()
    }

    #[test]
    fn includes_stand_at_their_place_and_are_relative_to_the_including_file() {
        let source = read_files(&[
            (
                "pgpool.conf",
                "port = 1\ninclude = 'sub/a.conf'\nport = 4\n",
            ),
            ("sub/a.conf", "port = 2\ninclude b.conf\n"),
            ("sub/b.conf", "port = 3\n"),
        ]);
        assert_eq!(source.findings, []);
        assert_eq!(
            values(&source),
            ["1", "2", "3", "b.conf", "sub/a.conf", "4"]
        );
        assert_eq!(source.settings[2].at().to_string(), "/etc/p/sub/b.conf:1:1");
    }

    #[test]
    fn a_missing_include_is_a_syntax_error_at_the_include_line() {
        let source = read_files(&[("pgpool.conf", "port = 9999\ninclude nosuch.conf\n")]);
        let [finding] = &source.findings[..] else {
            panic!("{:?}", source.findings)
        };
        assert!(source.syntax_errors);
        assert_eq!(
            finding.text,
            "syntax error in configuration file \"/etc/p/pgpool.conf\""
        );
        assert_eq!(
            finding.detail,
            "parse error at line 2 'nosuch.conf' token = 5"
        );
        assert_eq!(finding.place.line, 2);
    }

    #[test]
    fn a_file_that_includes_itself_ends_at_the_tenth_level() {
        let source = read_files(&[("pgpool.conf", "include 'pgpool.conf'\n")]);
        assert_eq!(source.findings.len(), 1);
        assert!(
            source.findings[0]
                .text
                .ends_with("maximum nesting depth exceeded")
        );
    }

    #[test]
    fn before_4_3_include_is_an_unknown_name() {
        let source = read_files(&[(
            "pgpool.conf",
            "master_slave_mode = on\nwd_port = 9000\ninclude 'nosuch.conf'\n",
        )]);
        assert_eq!(source.findings, []);
        assert_eq!(source.recognition.release, Release::V4_0);
    }

    #[test]
    fn old_names_in_an_included_file_do_not_undo_the_include() {
        let source = read_files(&[
            ("pgpool.conf", "include 'a.conf'\nport = 9999\n"),
            (
                "a.conf",
                "master_slave_mode = on\nfollow_master_command = ''\nwd_hostname = 'x'\n",
            ),
        ]);
        assert_eq!(source.recognition.release, Release::V4_3);
    }

    #[test]
    fn a_missing_file_means_defaults_with_a_warning() {
        let source = read_files(&[]);
        assert_eq!(source.settings.len(), 0);
        assert!(!source.syntax_errors);
        assert_eq!(
            source.findings[0].text,
            "could not open configuration file: \"/etc/p/pgpool.conf\""
        );
    }
}
