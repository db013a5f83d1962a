//! A setting as text: as in a configuration file for `PGPOOL SHOW`, as the internal value for `SHOW pool_status`.

use crate::config::{
    Release, Value,
    parameter::{Kind, Parameter, Unit},
};

/// `PGPOOL SHOW`: words, and units where the release knows units.
pub(super) fn shown(parameter: &Parameter, value: &Value, release: Release) -> String {
    if parameter.secret || parameter.name == "wd_authkey" && !is_empty(value) {
        return "*****".to_owned();
    }
    match value {
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        // Files write them in octal; the original shows one so and the other in decimal.
        Value::Int(n) if parameter.name == "unix_socket_permissions" => format!("{n:04o}"),
        Value::Int(n) => match parameter.kind {
            Kind::Int { unit, .. } if shows_unit(parameter, release) => with_unit(*n, unit),
            _ => n.to_string(),
        },
        Value::Real(r) => r.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(items) => joined(parameter, items),
        Value::Enum { word, .. } => (*word).to_owned(),
        Value::Null => String::new(),
    }
}

/// `SHOW pool_status`: numbers for booleans and enums, sizes and times in the parameter's base unit.
pub(super) fn internal(parameter: &Parameter, value: &Value) -> String {
    match value {
        Value::Bool(on) => u8::from(*on).to_string(),
        Value::Int(n) if parameter.name == "unix_socket_permissions" => format!("{n:04o}"),
        Value::Int(n) => n.to_string(),
        Value::Real(r) => super::text::float(*r),
        Value::Text(text) => text.clone(),
        Value::List(items) => joined(parameter, items),
        // Text in the original too, although only certain words are allowed.
        Value::Enum { word, .. } if parameter.name == "syslog_facility" => (*word).to_owned(),
        Value::Enum { number, .. } => number.to_string(),
        // The original prints a list that was never set as empty, a string as C prints NULL.
        Value::Null if matches!(parameter.kind, Kind::List { .. }) => String::new(),
        Value::Null => "(null)".to_owned(),
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Null) || matches!(value, Value::Text(text) if text.is_empty())
}

fn joined(parameter: &Parameter, items: &[String]) -> String {
    let separator = match parameter.kind {
        Kind::List { separator } => separator,
        _ => ',',
    };
    items.join(&separator.to_string())
}

/// Units came with 4.2, and not to the parameters of single nodes.
fn shows_unit(parameter: &Parameter, release: Release) -> bool {
    release >= Release::V4_2 && parameter.indexed == crate::config::parameter::Indexed::No
}

/// In the largest unit that divides the value; zero and negative values have none.
fn with_unit(n: i64, unit: Unit) -> String {
    const KB: i64 = 1024;
    let steps: &[(i64, &str)] = match unit {
        Unit::Milliseconds => &[
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "min"),
            (1000, "s"),
            (1, "ms"),
        ],
        Unit::Seconds => &[(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")],
        Unit::Minutes => &[(1440, "d"), (60, "h"), (1, "min")],
        Unit::Bytes => &[
            (KB * KB * KB * KB, "TB"),
            (KB * KB * KB, "GB"),
            (KB * KB, "MB"),
            (KB, "kB"),
            (1, "B"),
        ],
        Unit::Kilobytes => &[(KB * KB * KB, "TB"), (KB * KB, "GB"), (KB, "MB"), (1, "kB")],
        _ => &[],
    };
    match steps.iter().find(|(size, _)| n > 0 && n % size == 0) {
        Some((size, name)) => format!("{}{name}", n / size),
        None => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_divides_the_value_is_shown() {
        for (n, unit, text) in [
            (0, Unit::Seconds, "0"),
            (-1, Unit::Seconds, "-1"),
            (350, Unit::Seconds, "350s"),
            (300, Unit::Seconds, "5min"),
            (5400, Unit::Seconds, "90min"),
            (86_400, Unit::Seconds, "1d"),
            (1440, Unit::Minutes, "1d"),
            (10_240, Unit::Kilobytes, "10MB"),
            (409_600, Unit::Bytes, "400kB"),
            (64 << 20, Unit::Bytes, "64MB"),
            (1500, Unit::Milliseconds, "1500ms"),
            (10_000, Unit::Milliseconds, "10s"),
            (7, Unit::None, "7"),
        ] {
            assert_eq!(with_unit(n, unit), text);
        }
    }
}
