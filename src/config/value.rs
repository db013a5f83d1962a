//! Texts into values and back: booleans, numbers with units, words, lists.
//!
//! Follows `src/config/pool_config_variables.c @ V4_3_5`, quirks included: an int is C's
//! `strtol` with base 0, a misspelt boolean means on, a number that is no number is 0.0 where
//! a real is wanted. Whether such a quirk deserves a word is told by [`Parsed::remark`].

use super::{
    Release,
    parameter::{Indexed, Kind, Parameter, Unit, Value},
};

/// A value that some release takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub value: Value,
    pub remark: Option<Remark>,
}

/// What is odd about an accepted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Neither true nor false; stock takes it as on, without a message.
    BadBool,
    /// Not a number, or one with something behind it; stock takes what it can read, without a message.
    BadReal,
    /// The releases up to 4.1 know no units.
    UnitBefore4_2,
    /// A word of other releases.
    ForeignWord,
}

/// A value that no release takes, in the original's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    pub message: String,
    pub hint: String,
}

const TIME_HINT: &str =
    "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".";
const MEMORY_HINT: &str =
    "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".";
const RANGE_HINT: &str = "Value exceeds allowed range.";

/// Largest first, as microseconds.
const TIME_UNITS: [(&str, f64); 6] = [
    ("d", 86_400_000_000.0),
    ("h", 3_600_000_000.0),
    ("min", 60_000_000.0),
    ("s", 1_000_000.0),
    ("ms", 1_000.0),
    ("us", 1.0),
];
/// Largest first, as bytes.
const MEMORY_UNITS: [(&str, f64); 5] = [
    ("TB", 1_099_511_627_776.0),
    ("GB", 1_073_741_824.0),
    ("MB", 1_048_576.0),
    ("kB", 1_024.0),
    ("B", 1.0),
];

impl Unit {
    /// The units that may follow a number, and the size of this one among them.
    fn table(self) -> Option<(&'static [(&'static str, f64)], f64)> {
        Some(match self {
            Unit::None | Unit::Mode => return None,
            Unit::Milliseconds => (&TIME_UNITS, 1_000.0),
            Unit::Seconds => (&TIME_UNITS, 1_000_000.0),
            Unit::Minutes => (&TIME_UNITS, 60_000_000.0),
            Unit::Bytes => (&MEMORY_UNITS, 1.0),
            Unit::Kilobytes => (&MEMORY_UNITS, 1_024.0),
        })
    }

    fn hint(self) -> &'static str {
        match self {
            Unit::None | Unit::Mode => "",
            Unit::Milliseconds | Unit::Seconds | Unit::Minutes => TIME_HINT,
            Unit::Bytes | Unit::Kilobytes => MEMORY_HINT,
        }
    }
}

/// Reads the value of `parameter` (of slot `index`).
///
/// Values of all releases are understood; `dialect` decides only what deserves a remark, and
/// whether a unit on the index-free form of a per-slot parameter is an error (4.2 and later
/// refuse it, before 4.2 it was not seen).
pub fn parse(
    parameter: &Parameter,
    index: Option<usize>,
    text: &str,
    dialect: Release,
) -> Result<Parsed, BadValue> {
    let plain = |value| {
        Ok(Parsed {
            value,
            remark: None,
        })
    };
    match parameter.kind {
        Kind::Bool => Ok(parse_bool_loosely(text)),
        Kind::Int { min, max, unit } => {
            let bare = parameter.indexed == Indexed::Optional
                && index.is_none()
                && dialect >= Release::V4_2;
            let unit = if bare { Unit::None } else { unit };
            let name = full_name(parameter, index);
            let (number, with_unit) = parse_int(text, unit, max > i64::from(i32::MAX))
                .map_err(|hint| invalid(&name, text, hint))?;
            if !(min..=max).contains(&number) {
                return Err(BadValue {
                    message: format!(
                        "{number} is outside the valid range for parameter \"{name}\" ({min} .. {max})"
                    ),
                    hint: String::new(),
                });
            }
            Ok(Parsed {
                value: Value::Int(number),
                remark: (with_unit && dialect < Release::V4_2).then_some(Remark::UnitBefore4_2),
            })
        }
        Kind::Real { min, max } => {
            let (number, whole) = parse_real(text);
            if !(min..=max).contains(&number) {
                return Err(BadValue {
                    message: format!(
                        "{number:.6} is outside the valid range for parameter \"{}\" ({min:.6} .. {max:.6})",
                        full_name(parameter, index)
                    ),
                    hint: String::new(),
                });
            }
            Ok(Parsed {
                value: Value::Real(number),
                remark: (!whole).then_some(Remark::BadReal),
            })
        }
        Kind::Text => plain(Value::Text(text.to_owned())),
        Kind::List { separator } => plain(Value::List(if text.is_empty() {
            Vec::new()
        } else {
            text.split(separator).map(str::to_owned).collect()
        })),
        Kind::Enum(words) => {
            let found = words
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text));
            let Some(&(word, number)) = found else {
                return Err(invalid(
                    &full_name(parameter, index),
                    text,
                    &available(words, dialect),
                ));
            };
            let foreign = !word_is_of(word, dialect);
            // `primary` for `master` in a release that says primary, and the other way round.
            let native = words
                .iter()
                .find(|(other, n)| foreign && *n == number && word_is_of(other, dialect));
            Ok(Parsed {
                value: Value::Enum {
                    word: native.map_or(word, |(native, _)| native),
                    number,
                },
                remark: foreign.then_some(Remark::ForeignWord),
            })
        }
        Kind::Group => Err(BadValue {
            message: format!(
                "unrecognized configuration parameter \"{}\"",
                parameter.name
            ),
            hint: String::new(),
        }),
    }
}

/// The default of a release; outside the range for some ports, where 0 means none.
pub fn default(parameter: &Parameter, release: Release, debian: bool) -> Option<Value> {
    let Some(text) = parameter.default_in(release, debian)? else {
        return Some(Value::Null);
    };
    if let Kind::Int { .. } = parameter.kind {
        let (number, _) = parse_int(text, Unit::None, true).ok()?;
        return Some(Value::Int(number));
    }
    parse(parameter, None, text, release).ok().map(|p| p.value)
}

/// Name with index, as messages print it.
pub fn full_name(parameter: &Parameter, index: Option<usize>) -> String {
    match index {
        Some(index) => format!("{}{index}", parameter.name),
        None => parameter.name.to_owned(),
    }
}

fn invalid(name: &str, text: &str, hint: &str) -> BadValue {
    BadValue {
        message: format!("invalid value for parameter \"{name}\": \"{text}\""),
        hint: hint.to_owned(),
    }
}

fn available(words: &[(&str, i64)], dialect: Release) -> String {
    let known: Vec<&str> = words
        .iter()
        .map(|(word, _)| *word)
        // Taken for the sake of old habits, and not offered.
        .filter(|word| !matches!(*word, "debug" | "") && word_is_of(word, dialect))
        .collect();
    format!("Available values: {}.", known.join(", "))
}

/// Some words came or went with a release; each of them belongs to one parameter only.
fn word_is_of(word: &str, release: Release) -> bool {
    match word {
        "slony" => release <= Release::V4_6,
        "master" => release <= Release::V4_1,
        "primary" | "dml_adaptive" => release >= Release::V4_2,
        _ => true,
    }
}

/// `true`, `no`, `on`, `1` and so on, or any unambiguous beginning of a word.
pub fn parse_bool(text: &str) -> Option<bool> {
    const WORDS: [(&str, usize, bool); 6] = [
        ("true", 1, true),
        ("false", 1, false),
        ("yes", 1, true),
        ("no", 1, false),
        ("on", 2, true),
        ("off", 2, false),
    ];
    match text {
        "1" => return Some(true),
        "0" => return Some(false),
        _ => {}
    }
    WORDS
        .iter()
        .find(|(word, shortest, _)| {
            text.len() >= *shortest
                && word
                    .get(..text.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(text))
        })
        .map(|(_, _, value)| *value)
}

fn parse_bool_loosely(text: &str) -> Parsed {
    let known = parse_bool(text);
    Parsed {
        value: Value::Bool(known.unwrap_or(true)),
        remark: known.is_none().then_some(Remark::BadBool),
    }
}

/// The number in the parameter's unit, and whether a unit was written. `Err` is the hint.
fn parse_int(text: &str, unit: Unit, wide: bool) -> Result<(i64, bool), &'static str> {
    let body = text.trim_start_matches(is_space);
    let (number, rest) = read_number(body).ok_or("")?;
    let rest = rest.trim_start_matches(is_space);
    let written = rest.trim_end_matches(is_space);
    let number = if written.is_empty() {
        number
    } else {
        let (table, base) = unit.table().ok_or("")?;
        let at = table
            .iter()
            .position(|(word, _)| *word == written)
            .ok_or(unit.hint())?;
        Number::Real(convert(number.as_f64(), table, at, base))
    };
    let value = match number {
        Number::Whole(n) => n,
        Number::Real(x) => {
            let rounded = x.round_ties_even();
            // The largest i64 itself is not a f64.
            if !(-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(&rounded) {
                return Err(RANGE_HINT);
            }
            #[expect(clippy::cast_possible_truncation, reason = "checked above")]
            let whole = rounded as i64;
            whole
        }
    };
    if !wide && i32::try_from(value).is_err() {
        return Err(RANGE_HINT);
    }
    Ok((value, !written.is_empty()))
}

/// `x` of unit `table[at]`, in units of size `base`. A fraction is rounded to the next smaller
/// unit first (`30.1GB` is 30822 MB), as `convert_to_base_unit` of the original does.
fn convert(x: f64, table: &[(&str, f64)], at: usize, base: f64) -> f64 {
    let (_, size) = table[at];
    match table.get(at + 1) {
        Some((_, smaller)) if *smaller >= base => {
            (x * size / smaller).round_ties_even() * smaller / base
        }
        _ => x * size / base,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i64),
    Real(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "stock computes in doubles, too")]
            Number::Whole(n) => n as f64,
            Number::Real(x) => x,
        }
    }
}

/// C's `strtol(text, &rest, 0)`, and `strtod` where a point, an exponent or an overflow follows.
fn read_number(text: &str) -> Option<(Number, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let hex = unsigned
        .strip_prefix("0x")
        .or_else(|| unsigned.strip_prefix("0X"))
        .filter(|digits| digits.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (radix, digits) = match hex {
        Some(digits) => (16, digits),
        None if unsigned.starts_with('0') => (8, unsigned),
        None => (10, unsigned),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let (body, rest) = digits.split_at(end);
    if body.is_empty() {
        return read_real(text);
    }
    let whole = i128::from_str_radix(body, radix)
        .ok()
        .map(|n| if negative { -n } else { n })
        .and_then(|n| i64::try_from(n).ok());
    match whole {
        Some(n) if radix == 16 || !rest.starts_with(['.', 'e', 'E']) => {
            Some((Number::Whole(n), rest))
        }
        _ if radix == 16 => None,
        _ => read_real(text),
    }
}

/// The longest beginning that is a decimal fraction.
fn read_real(text: &str) -> Option<(Number, &str)> {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let start = usize::from(text.starts_with(['+', '-']));
    let whole = digits(start);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if end == start || end == start + 1 && bytes.get(start) == Some(&b'.') {
        return None;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    let (number, rest) = text.split_at(end);
    let number = number.strip_prefix('+').unwrap_or(number);
    Some((Number::Real(number.parse().ok()?), rest))
}

/// C's `atof`, and whether all of the text was a number.
fn parse_real(text: &str) -> (f64, bool) {
    let text = text.trim_start_matches(is_space);
    let word = text.trim_start_matches(['+', '-']).get(..3);
    if word.is_some_and(|word| word.eq_ignore_ascii_case("inf")) {
        return (f64::INFINITY, true);
    }
    match read_real(text) {
        Some((number, rest)) => (number.as_f64(), rest.is_empty()),
        None => (0.0, false),
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

impl Value {
    /// As `PGPOOL SHOW` spells it in the newest release; secrets come out as `*****`.
    pub fn show(&self, parameter: &Parameter) -> String {
        self.show_in(parameter, Release::V4_7)
    }

    /// As `PGPOOL SHOW` of `release` spells it: units from 4.2 on.
    pub fn show_in(&self, parameter: &Parameter, release: Release) -> String {
        if parameter.secret {
            return "*****".to_owned();
        }
        self.written(parameter, release)
    }

    /// As one would write it in the file, without quotes; secrets in clear.
    pub(super) fn written(&self, parameter: &Parameter, release: Release) -> String {
        match (self, parameter.kind) {
            (Value::Bool(on), _) => if *on { "on" } else { "off" }.to_owned(),
            (Value::Int(n), Kind::Int { unit, .. }) => {
                show_int(*n, unit, parameter.indexed, release)
            }
            (Value::Int(n), _) => n.to_string(),
            // Cut and not rounded: a weight of 0.5 shows as 0 on the original.
            (Value::Real(x), _) => format!("{:.0}", x.trunc()),
            (Value::Text(text), _) => text.clone(),
            (Value::List(items), kind) => items.join(&separator(kind).to_string()),
            (Value::Enum { word, .. }, _) => (*word).to_owned(),
            (Value::Null, _) => String::new(),
        }
    }

    /// As `SHOW pool_status` prints it: booleans 0/1, words as their number, no units.
    pub fn internal(&self, parameter: &Parameter) -> String {
        match (self, parameter.kind) {
            (Value::Bool(on), _) => u8::from(*on).to_string(),
            (
                Value::Int(n),
                Kind::Int {
                    unit: Unit::Mode, ..
                },
            ) => format!("{n:04o}"),
            (Value::Int(n), _) => n.to_string(),
            (Value::Real(x), _) => format!("{x:.6}"),
            (Value::Text(text), _) => text.clone(),
            (Value::List(items), kind) => {
                let items: Vec<&str> = items.iter().map(String::as_str).collect();
                let full: Vec<&str> = items.into_iter().filter(|i| !i.is_empty()).collect();
                full.join(&separator(kind).to_string())
            }
            // The one enum that the original prints as its word.
            (Value::Enum { word, .. }, _) if parameter.name == "syslog_facility" => {
                (*word).to_owned()
            }
            (Value::Enum { number, .. }, _) => number.to_string(),
            // A list that was never set prints as empty, a string as C prints NULL.
            (Value::Null, Kind::List { .. }) => String::new(),
            (Value::Null, _) => "(null)".to_owned(),
        }
    }
}

fn separator(kind: Kind) -> char {
    match kind {
        Kind::List { separator } => separator,
        _ => ',',
    }
}

/// In the largest unit that needs no fraction; zero and negative numbers have none.
fn show_int(n: i64, unit: Unit, indexed: Indexed, release: Release) -> String {
    if unit == Unit::Mode {
        return format!("{n:04o}");
    }
    let Some((table, base)) = unit.table() else {
        return n.to_string();
    };
    if n <= 0 || indexed != Indexed::No || release < Release::V4_2 {
        return n.to_string();
    }
    for (word, size) in table {
        #[expect(clippy::cast_possible_truncation, reason = "sizes are whole numbers")]
        let factor = (size / base) as i64;
        if factor > 0 && n % factor == 0 {
            return format!("{}{word}", n / factor);
        }
    }
    n.to_string()
}

#[cfg(test)]
mod tests;
