//! Reads the value of a `PGPOOL SET`; the texts of the errors are the original's.

use super::wire;
use crate::{
    config::{
        Value,
        parameter::{Kind, Parameter, Unit},
    },
    protocol::messages::ErrorMessage,
};

/// The value that `text` is for `parameter`.
///
/// # Errors
///
/// What the client is told; the parameter keeps its value.
pub(super) fn parse(parameter: &Parameter, text: &str) -> Result<Value, ErrorMessage> {
    match &parameter.kind {
        Kind::Bool => boolean(text).map(Value::Bool).ok_or_else(|| {
            // The original takes any other word as on. That is kept for files, where a working
            // installation may rest on it; a person at a prompt is better told.
            invalid(parameter, text).hint("Available values: on, off.")
        }),
        Kind::Int { min, max, unit } => {
            let value = integer(text, *unit).map_err(|bad_unit| {
                let error = invalid(parameter, text);
                match valid_units(*unit) {
                    units if bad_unit && !units.is_empty() => {
                        error.hint(format!("Valid units for this parameter are {units}."))
                    }
                    _ => error,
                }
            })?;
            if value < *min as f64 || value > *max as f64 {
                return Err(wire::error(format!(
                    "{value:.0} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                    parameter.name
                )));
            }
            #[expect(clippy::cast_possible_truncation, reason = "between min and max")]
            Ok(Value::Int(value as i64))
        }
        Kind::Real { min, max } => {
            let value: f64 = text.trim().parse().map_err(|_| invalid(parameter, text))?;
            if !(*min..=*max).contains(&value) {
                return Err(wire::error(format!(
                    "{value} is outside the valid range for parameter \"{}\" ({min} .. {max})",
                    parameter.name
                )));
            }
            Ok(Value::Real(value))
        }
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::List { separator } => Ok(Value::List(
            text.split(*separator)
                .map(|item| item.trim().to_owned())
                .collect(),
        )),
        Kind::Enum(words) => words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text))
            .map(|&(word, number)| Value::Enum { word, number })
            .ok_or_else(|| {
                let words: Vec<&str> = words
                    .iter()
                    .map(|&(word, _)| word)
                    // Accepted for the sake of old habits, not offered.
                    .filter(|&word| word != "debug")
                    .collect();
                invalid(parameter, text).hint(format!("Available values: {}.", words.join(", ")))
            }),
        Kind::Group => Err(invalid(parameter, text)),
    }
}

fn invalid(parameter: &Parameter, text: &str) -> ErrorMessage {
    wire::error(format!(
        "invalid value for parameter \"{}\": \"{text}\"",
        parameter.name
    ))
}

/// The words of PostgreSQL, each in any unambiguous abbreviation.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    match text.as_str() {
        "" | "o" => None,
        "1" => Some(true),
        "0" => Some(false),
        word if "on".starts_with(word) || "true".starts_with(word) || "yes".starts_with(word) => {
            Some(true)
        }
        word if "off".starts_with(word) || "false".starts_with(word) || "no".starts_with(word) => {
            Some(false)
        }
        _ => None,
    }
}

/// A number with an optional unit, in the base unit, rounded. `Err(true)`: a number with something else behind it.
fn integer(text: &str, base: Unit) -> Result<f64, bool> {
    let text = text.trim();
    let (number, unit) = split_number(text).ok_or(false)?;
    let unit = unit.trim();
    let factor = if unit.is_empty() {
        1.0
    } else {
        units(base)
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or(true)?
    };
    Ok((number * factor).round_ties_even())
}

fn split_number(text: &str) -> Option<(f64, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        let end = hex
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(hex.len());
        let (hex, rest) = hex.split_at(end);
        return Some((sign * i64::from_str_radix(hex, 16).ok()? as f64, rest));
    }
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    if number.len() > 1 && number.starts_with('0') && !number.contains('.') {
        return Some((sign * i64::from_str_radix(number, 8).ok()? as f64, rest));
    }
    Some((sign * number.parse::<f64>().ok()?, rest))
}

fn units(base: Unit) -> &'static [(&'static str, f64)] {
    const KB: f64 = 1024.0;
    match base {
        Unit::Milliseconds => &[
            ("us", 0.001),
            ("ms", 1.0),
            ("s", 1000.0),
            ("min", 60_000.0),
            ("h", 3_600_000.0),
            ("d", 86_400_000.0),
        ],
        Unit::Seconds => &[
            ("us", 0.000_001),
            ("ms", 0.001),
            ("s", 1.0),
            ("min", 60.0),
            ("h", 3600.0),
            ("d", 86_400.0),
        ],
        Unit::Minutes => &[
            ("us", 1.0 / 60_000_000.0),
            ("ms", 1.0 / 60_000.0),
            ("s", 1.0 / 60.0),
            ("min", 1.0),
            ("h", 60.0),
            ("d", 1440.0),
        ],
        Unit::Bytes => &[
            ("B", 1.0),
            ("kB", KB),
            ("MB", KB * KB),
            ("GB", KB * KB * KB),
            ("TB", KB * KB * KB * KB),
        ],
        Unit::Kilobytes => &[
            ("B", 1.0 / KB),
            ("kB", 1.0),
            ("MB", KB),
            ("GB", KB * KB),
            ("TB", KB * KB * KB),
        ],
        _ => &[],
    }
}

/// `"us", "ms", "s", "min", "h", and "d"`; empty without units.
fn valid_units(base: Unit) -> String {
    let names: Vec<String> = units(base)
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    match names.split_last() {
        Some((last, others)) => format!("{}, and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_words_of_postgresql_or_their_beginnings() {
        for (text, value) in [
            ("on", Some(true)),
            ("TRUE", Some(true)),
            ("t", Some(true)),
            ("1", Some(true)),
            ("of", Some(false)),
            ("no", Some(false)),
            ("0", Some(false)),
            ("o", None),
            ("", None),
            ("bogus", None),
            ("3.5", None),
        ] {
            assert_eq!(boolean(text), value, "{text}");
        }
    }

    #[test]
    fn integers_take_units_and_are_rounded() {
        for (text, value) in [
            ("350", Ok(350.0)),
            ("3.7", Ok(4.0)),
            ("0x10", Ok(16.0)),
            ("5min", Ok(300.0)),
            ("1500ms", Ok(2.0)),
            ("100 ms", Ok(0.0)),
            ("-1", Ok(-1.0)),
            ("", Err(false)),
            ("abc", Err(false)),
            ("1.2.3", Err(false)),
            ("10 bananas", Err(true)),
            ("1min 5s", Err(true)),
            ("90, 91", Err(true)),
        ] {
            assert_eq!(integer(text, Unit::Seconds), value, "{text}");
        }
    }

    #[test]
    fn the_hint_lists_the_units() {
        assert_eq!(
            valid_units(Unit::Seconds),
            "\"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\""
        );
        assert_eq!(valid_units(Unit::None), "");
    }

    proptest::proptest! {
        #[test]
        fn no_number_makes_it_panic(text in "[-+]?0?x?[0-9a-f.eé ]*[a-z]*") {
            let _ = integer(&text, Unit::Bytes);
        }
    }
}
