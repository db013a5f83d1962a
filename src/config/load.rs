//! From files to a checked [`Config`]: recognises the dialect, applies the settings in order,
//! checks the whole, and collects everything there is to say.

use std::{fs, io, path::Path};

use super::{
    Config, Release, checks,
    dialect::Recognition,
    finding::{Finding, Place},
    flags,
    grammar::Form,
    names::{self, Name},
    parameter::{Indexed, Kind, PARAMETERS, Parameter, Value, Values},
    paths::Paths,
    source::{self, Located, Source},
    typed,
    value::{self, Remark},
};

/// What the configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadMode {
    /// To run, or to find a running server: what is missing on this machine may be an error.
    Start,
    /// `--check`: only the text itself can be in error.
    Check,
}

/// The configuration has errors; nothing can start with it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", first_error(.findings))]
pub struct LoadError {
    /// All of them, with the warnings in between.
    pub findings: Vec<Finding>,
    /// What could be read: defaults stand for settings with an error.
    pub read: Box<Config>,
}

/// The original reads all of the file before it looks at any value.
fn first_error(findings: &[Finding]) -> String {
    let mut errors = findings.iter().filter(|f| f.is_error());
    let syntax = errors
        .clone()
        .find(|f| f.text.starts_with(source::SYNTAX_ERROR));
    match syntax.or_else(|| errors.next()) {
        Some(finding) => finding.to_string(),
        None => "invalid configuration".to_owned(),
    }
}

impl Config {
    /// Reads pgpool.conf, what it includes, pgpool-rs.conf and pgpool_node_id.
    ///
    /// A missing pgpool.conf is a warning and means defaults, as in the original.
    ///
    /// # Errors
    ///
    /// At least one finding is an error: no release takes the file, or none of its own dialect
    /// and no other reading makes sense. The program ends with status 3.
    pub fn load(paths: &Paths, mode: LoadMode) -> Result<(Config, Vec<Finding>), LoadError> {
        let loaded = load(paths, mode, &|path: &Path| fs::read(path));
        if loaded.findings.iter().any(Finding::is_error) {
            return Err(LoadError {
                findings: loaded.findings,
                read: Box::new(loaded.config),
            });
        }
        Ok((loaded.config, loaded.findings))
    }

    /// A configuration from a text instead of files; relative paths belong to `/etc`.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn from_text(text: &str) -> Result<(Config, Vec<Finding>), LoadError> {
        let paths = Paths {
            config: "/etc/pgpool.conf".into(),
            pcp: "/etc/pcp.conf".into(),
            hba: "/etc/pool_hba.conf".into(),
            key: None,
        };
        let loaded = load(&paths, LoadMode::Check, &|path: &Path| {
            if path == paths.config {
                Ok(text.as_bytes().to_vec())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        });
        if loaded.findings.iter().any(Finding::is_error) {
            return Err(LoadError {
                findings: loaded.findings,
                read: Box::new(loaded.config),
            });
        }
        Ok((loaded.config, loaded.findings))
    }
}

/// What reading gave, errors or not.
pub(super) struct Loaded {
    pub config: Config,
    pub findings: Vec<Finding>,
}

pub(super) fn load(paths: &Paths, mode: LoadMode, read: source::Read<'_>) -> Loaded {
    let Source {
        settings,
        recognition,
        mut findings,
        ..
    } = source::read(&paths.config, read);
    let dialect = recognition.release;
    let mut values = defaults(dialect, paths.debian());
    let mut found = Vec::new();
    apply(&settings, dialect, &mut values, &mut found);
    // On a line with a syntax error a bad value is a consequence.
    let broken: Vec<_> = findings.iter().filter(|f| f.is_error()).collect();
    let broken = |place: &Place| {
        broken
            .iter()
            .any(|f| f.place.path == place.path && f.place.line == place.line)
    };
    found.retain(|finding| !broken(&finding.place));
    findings.append(&mut found);
    apply_own(paths, read, dialect, &mut values, &mut findings);
    checks::place_own_node(&mut values, paths, read);
    checks::whole(&values, dialect, paths, mode, read, &mut findings);
    findings.push(recognised(paths, &recognition));
    // A warning may be about another line than an error before it; readers want the file's order.
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.place.line, f.place.column);
        a.place.path.cmp(&b.place.path).then(key(a).cmp(&key(b)))
    });
    Loaded {
        config: typed::config(values, dialect, paths),
        findings,
    }
}

fn recognised(paths: &Paths, recognition: &Recognition) -> Finding {
    let mut text = format!("read as a file of {}", recognition.release);
    if recognition.mixed {
        text.push_str(", mixed with names of other releases");
    }
    Finding::info(Place::whole(&paths.config), text).remedy(recognition.why.clone())
}

/// The defaults of a release and a build; old spellings that act as another name are left out.
pub(super) fn defaults(dialect: Release, debian: bool) -> Values {
    let mut values = Values::default();
    for parameter in PARAMETERS.iter().filter(|p| p.known_in(dialect)) {
        if let Some(value) = value::default(parameter, dialect, debian) {
            values.set((parameter.name, None), value, None);
        }
    }
    values
}

/// Applies settings in their order; the last of a name wins. A setting with an error changes nothing.
pub(super) fn apply(
    settings: &[Located],
    dialect: Release,
    values: &mut Values,
    findings: &mut Vec<Finding>,
) {
    for located in settings {
        let name = located.setting.name.as_str();
        if name == "include" {
            if dialect < Release::V4_3 {
                findings.push(
                    Finding::warning(
                        located.at(),
                        format!(
                            "include has no effect in a file of {dialect}: it is known since 4.3"
                        ),
                    )
                    .remedy("put the settings into this file"),
                );
            }
            continue;
        }
        match names::resolve(name, dialect) {
            Name::Known {
                parameter,
                index,
                note,
            } => {
                if let Some(note) = note {
                    let finding = Finding::warning(located.at(), note.text);
                    findings.push(finding.remedy(note.remedy));
                }
                apply_one(located, parameter, index, dialect, values, findings);
            }
            Name::Refused(text, detail, remedy) => findings.push(
                Finding::error(located.at(), text)
                    .detail(detail)
                    .remedy(remedy),
            ),
            Name::NoEffect(text, remedy) => {
                findings.push(Finding::warning(located.at(), text).remedy(remedy));
            }
        }
    }
}

fn apply_one(
    located: &Located,
    parameter: &'static Parameter,
    index: Option<usize>,
    dialect: Release,
    values: &mut Values,
    findings: &mut Vec<Finding>,
) {
    let setting = &located.setting;
    let mut text = setting.value.as_str();
    if let Some(finding) = odd_form(located, parameter) {
        findings.push(finding);
        if matches!(setting.form, Form::LineEnd | Form::FileEnd) {
            text = "";
        }
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        let finding = Finding::warning(located.value_at(), "the value is not UTF-8");
        findings.push(finding.remedy("save the file as UTF-8"));
    }
    let parsed = match value::parse(parameter, index, text, dialect) {
        Ok(parsed) => parsed,
        Err(bad) => {
            let remedy = if bad.hint.is_empty() {
                advice(parameter, index, text)
            } else {
                bad.hint
            };
            findings.push(Finding::error(located.value_at(), bad.message).remedy(remedy));
            return;
        }
    };
    if let Some(remark) = parsed.remark {
        findings.push(remarked(located, &parsed.value, remark, dialect));
    }
    let value = match flags::checked(parameter.name, index, parsed.value, dialect, located) {
        Ok((value, note)) => {
            findings.extend(note);
            value
        }
        Err(finding) => {
            findings.push(finding);
            return;
        }
    };
    let place = located.at();
    if parameter.indexed == Indexed::Required && index.is_none() {
        // Only wd_port comes this way; whose slot it is depends on the node id.
        values.own_wd_port = Some(value);
        values.places.insert((parameter.name, None), place);
        return;
    }
    values.set((parameter.name, index), value, Some(place));
}

/// Values that are no value, or look like another than they are.
fn odd_form(located: &Located, parameter: &Parameter) -> Option<Finding> {
    let setting = &located.setting;
    let name = &setting.name;
    match (setting.form, setting.raw.as_str()) {
        (Form::LineEnd | Form::FileEnd, _)
            if matches!(parameter.kind, Kind::Text | Kind::List { .. }) =>
        {
            Some(
                Finding::warning(
                    located.at(),
                    format!("{name} has no value and is taken as empty; the original takes the line end as the value"),
                )
                .remedy("write two single quotes, or remove the line"),
            )
        }
        (Form::Symbol, "\"") => Some(
            Finding::warning(
                located.value_at(),
                format!("double quotes have no meaning: the value of {name} is the single character \""),
            )
            .remedy("use single quotes"),
        ),
        (Form::Symbol, "'") => Some(
            Finding::warning(
                located.value_at(),
                format!("the quote is not closed on its line: the value of {name} is the single character '"),
            )
            .remedy("close the quote"),
        ),
        _ => None,
    }
}

/// What to write instead, where the original gives no hint.
fn advice(parameter: &Parameter, index: Option<usize>, text: &str) -> String {
    match parameter.kind {
        Kind::Int { unit, .. }
            if index.is_none()
                && parameter.max_index > 0
                && unit != super::parameter::Unit::None
                && text.ends_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            format!(
                "without an index this parameter takes no unit; write a bare number, or {}0 = {text}",
                parameter.name
            )
        }
        Kind::Int { min, max, .. } => format!("write a whole number from {min} to {max}"),
        Kind::Real { min, max } => format!("write a number from {min} to {max}"),
        _ => String::new(),
    }
}

fn remarked(located: &Located, value: &Value, remark: Remark, dialect: Release) -> Finding {
    let setting = &located.setting;
    let (name, text) = (&setting.name, &setting.value);
    let (what, remedy) = match remark {
        Remark::BadBool => (
            format!("\"{text}\" is no boolean; {name} is on, as in the original"),
            "write on or off".to_owned(),
        ),
        Remark::BadReal => {
            let number = match value {
                Value::Real(x) => *x,
                _ => 0.0,
            };
            (
                format!("\"{text}\" is not a number; {name} is {number}, as in the original"),
                "write a number".to_owned(),
            )
        }
        Remark::UnitBefore4_2 => (
            format!("{dialect} does not know units; {name} = {text} is understood all the same"),
            "write a bare number".to_owned(),
        ),
        Remark::ForeignWord => (
            format!(
                "{name} = {text} is of another release than {dialect}, and understood all the same"
            ),
            String::new(),
        ),
    };
    Finding::warning(located.value_at(), what).remedy(remedy)
}

/// pgpool-rs.conf: the same grammar, our names only.
pub(super) fn apply_own(
    paths: &Paths,
    read: source::Read<'_>,
    dialect: Release,
    values: &mut Values,
    findings: &mut Vec<Finding>,
) {
    let path = paths.own();
    match read(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let text = format!("could not open configuration file: \"{}\"", path.display());
            let finding = Finding::warning(Place::whole(&path), text);
            findings.push(finding.detail(crate::sys::errors::message(&error)));
            return;
        }
    }
    let source = source::read(&path, read);
    findings.extend(source.findings);
    for located in &source.settings {
        let name = located.setting.name.as_str();
        let Some((parameter, index)) = own_parameter(name) else {
            let text = format!("{name} has no effect in pgpool-rs.conf");
            let names = PARAMETERS.iter().filter(|p| p.ours).map(|p| p.name);
            let names: Vec<&str> = names.collect();
            findings.push(
                Finding::warning(located.at(), text)
                    .remedy(format!("this file takes {}", names.join(", "))),
            );
            continue;
        };
        apply_one(located, parameter, index, dialect, values, findings);
    }
}

/// A parameter of ours by its name, with the index of a node where it takes one.
fn own_parameter(name: &str) -> Option<(&'static Parameter, Option<usize>)> {
    let own = || PARAMETERS.iter().filter(|p| p.ours);
    if let Some(parameter) = own().find(|p| p.name == name) {
        return Some((parameter, None));
    }
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let index = name.get(base.len()..)?.parse().ok()?;
    own()
        .find(|p| p.name == base && p.indexed == Indexed::Optional && index <= p.max_index)
        .map(|parameter| (parameter, Some(index)))
}
