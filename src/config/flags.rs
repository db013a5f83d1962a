//! String parameters whose text has a grammar of its own: `backend_flagN`, `log_destination`,
//! `compat_version`.

use super::{
    Release,
    finding::Finding,
    parameter::Value,
    settings::{BackendFlag, CompatVersion},
    source::Located,
};

/// The value as it is kept, and what there is to say about it; `Err` for a text that no release takes.
pub(super) fn checked(
    name: &str,
    index: Option<usize>,
    value: Value,
    dialect: Release,
    located: &Located,
) -> Result<(Value, Option<Finding>), Finding> {
    let Value::Text(text) = &value else {
        return Ok((value, None));
    };
    match name {
        "backend_flag" => {
            let key = match index {
                Some(index) => format!("backend_flag{index}"),
                None => "backend_flag".to_owned(),
            };
            let flag = backend_flag(text).map_err(|detail| {
                Finding::error(
                    located.value_at(),
                    format!("invalid configuration for key \"{key}\""),
                )
                .detail(detail)
                .remedy(
                    "join ALLOW_TO_FAILOVER or DISALLOW_TO_FAILOVER and ALWAYS_PRIMARY by | without blanks",
                )
            })?;
            let (own, other) = primary_words(dialect);
            let note = text.split('|').any(|f| f == other).then(|| {
                Finding::warning(
                    located.value_at(),
                    format!("{other} is taken as {own}; {dialect} would not start with it"),
                )
                .remedy(format!("write {own}"))
            });
            Ok((Value::Text(backend_flag_text(flag, dialect)), note))
        }
        "log_destination" => match bad_destination(text) {
            None => Ok((value, None)),
            Some(finding) => Err(Finding::error(located.value_at(), finding.0)
                .detail(finding.1)
                .remedy("write stderr, syslog or both with a comma and no blank between")),
        },
        "compat_version" if !text.is_empty() && text.parse::<CompatVersion>().is_err() => {
            Err(Finding::error(
                located.value_at(),
                format!("invalid value for parameter \"compat_version\": \"{text}\""),
            )
            .remedy("write a release from '4.0' to '4.7', with or without patch level, in quotes"))
        }
        _ => Ok((value, None)),
    }
}

/// The dialect's word for "always the primary", and the other family's.
fn primary_words(dialect: Release) -> (&'static str, &'static str) {
    if dialect < Release::V4_2 {
        ("ALWAYS_MASTER", "ALWAYS_PRIMARY")
    } else {
        ("ALWAYS_PRIMARY", "ALWAYS_MASTER")
    }
}

/// Words of both families; case and blanks count, as in the original.
pub(super) fn backend_flag(text: &str) -> Result<BackendFlag, String> {
    let mut flag = BackendFlag::default();
    let mut allow = false;
    for word in text.split('|').filter(|word| !word.is_empty()) {
        match word {
            "ALLOW_TO_FAILOVER" => allow = true,
            "DISALLOW_TO_FAILOVER" => flag.disallow_to_failover = true,
            "ALWAYS_PRIMARY" | "ALWAYS_MASTER" => flag.always_primary = true,
            other => return Err(format!("unknown backend flag:{other}")),
        }
    }
    if allow && flag.disallow_to_failover {
        return Err(
            "cannot set ALLOW_TO_FAILOVER and DISALLOW_TO_FAILOVER at the same time".to_owned(),
        );
    }
    Ok(flag)
}

/// As SHOW prints it.
fn backend_flag_text(flag: BackendFlag, dialect: Release) -> String {
    let failover = if flag.disallow_to_failover {
        "DISALLOW_TO_FAILOVER"
    } else {
        "ALLOW_TO_FAILOVER"
    };
    if flag.always_primary {
        format!("{failover}|{}", primary_words(dialect).0)
    } else {
        failover.to_owned()
    }
}

/// Message and detail.
fn bad_destination(text: &str) -> Option<(String, String)> {
    let mut words = text.split(',').filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        let message = format!("invalid value \"{text}\" for log_destination");
        return Some((message, String::new()));
    }
    let bad = words.find(|word| !matches!(*word, "stderr" | "syslog"))?;
    Some((
        "invalid configuration for \"log_destination\"".to_owned(),
        format!("unknown destination :{bad}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_joined_without_blanks_and_in_capitals() {
        let flag = |text| backend_flag(text).map(|f| (f.disallow_to_failover, f.always_primary));
        assert_eq!(flag(""), Ok((false, false)));
        assert_eq!(flag("ALLOW_TO_FAILOVER|"), Ok((false, false)));
        assert_eq!(
            flag("DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY"),
            Ok((true, true))
        );
        assert_eq!(flag("|ALWAYS_MASTER|ALWAYS_MASTER"), Ok((false, true)));
        assert_eq!(
            flag("allow_to_failover"),
            Err("unknown backend flag:allow_to_failover".to_owned())
        );
        assert_eq!(
            flag("ALLOW_TO_FAILOVER | ALWAYS_PRIMARY"),
            Err("unknown backend flag:ALLOW_TO_FAILOVER ".to_owned())
        );
        assert_eq!(
            flag("DISALLOW_TO_FAILOVER|ALLOW_TO_FAILOVER"),
            Err(
                "cannot set ALLOW_TO_FAILOVER and DISALLOW_TO_FAILOVER at the same time".to_owned()
            )
        );
    }

    #[test]
    fn the_flag_shows_in_the_words_of_the_dialect() {
        let flag = backend_flag("ALWAYS_MASTER").unwrap();
        assert_eq!(
            backend_flag_text(flag, Release::V4_3),
            "ALLOW_TO_FAILOVER|ALWAYS_PRIMARY"
        );
        assert_eq!(
            backend_flag_text(flag, Release::V4_1),
            "ALLOW_TO_FAILOVER|ALWAYS_MASTER"
        );
    }

    #[test]
    fn log_destinations_are_stderr_and_syslog_without_blanks() {
        for good in [
            "stderr",
            "syslog",
            "stderr,syslog",
            "stderr,",
            "stderr,stderr",
        ] {
            assert_eq!(bad_destination(good), None, "{good}");
        }
        for (bad, word) in [("stderr, syslog", " syslog"), ("STDERR", "STDERR")] {
            let (message, detail) = bad_destination(bad).unwrap();
            assert_eq!(message, "invalid configuration for \"log_destination\"");
            assert_eq!(detail, format!("unknown destination :{word}"));
        }
        assert_eq!(
            bad_destination("").unwrap().0,
            "invalid value \"\" for log_destination"
        );
    }
}
