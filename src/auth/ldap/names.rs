//! Names and filters made of a user name, which a stranger chooses.

use ldap3::{dn_escape, ldap_escape};

const PLACEHOLDER: &str = "$username";

/// The name to bind as: prefix, user, suffix.
///
/// Behind a prefix like `cn=` the user name is a value of a distinguished name and is escaped
/// (RFC 4514), so that it stays one value whatever it contains. Other forms (`DOMAIN\user`,
/// `user@domain`) are no distinguished names and take it as it is, as the original always does.
pub(super) fn bind_name(prefix: &str, user: &str, suffix: &str) -> String {
    if prefix.trim_end().ends_with('=') {
        format!("{prefix}{}{suffix}", dn_escape(user))
    } else {
        format!("{prefix}{user}{suffix}")
    }
}

/// The filter to search with: `filter` with the user for each `$username`, or else `attribute`
/// (by default `uid`) equal to the user. The user name is escaped (RFC 4515).
pub(super) fn filter(filter: Option<&str>, attribute: Option<&str>, user: &str) -> String {
    let user = ldap_escape(user);
    match filter {
        Some(filter) => filter.replace(PLACEHOLDER, &user),
        None => format!("({}={user})", attribute.unwrap_or("uid")),
    }
}

/// The DNS domain of a distinguished name: `ou=blah,dc=foo,dc=bar` is of `foo.bar` (RFC 2247).
pub(super) fn domain_of(name: &str) -> Option<String> {
    let mut labels: Vec<&str> = Vec::new();
    for part in name.split(',') {
        let (attribute, value) = part.split_once('=')?;
        if attribute.trim().eq_ignore_ascii_case("dc") {
            labels.push(value.trim());
        } else {
            labels.clear();
        }
    }
    (!labels.is_empty()).then(|| labels.join("."))
}

/// Whether two names are the same but for case and blanks around their parts. What is missed is
/// a name written with other escapes.
pub(super) fn are_same(one: &str, other: &str) -> bool {
    let simple = |name: &str| -> String {
        let parts: Vec<String> = name
            .split([',', '='])
            .map(|part| part.trim().to_ascii_lowercase())
            .collect();
        parts.join(",")
    };
    simple(one) == simple(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_one_value_of_the_distinguished_name() {
        let name = |user| bind_name("cn=", user, ",dc=example");
        assert_eq!(name("app"), "cn=app,dc=example");
        assert_eq!(name("jürgen o'neil"), "cn=jürgen o'neil,dc=example");
        assert_eq!(name("smith, john"), r"cn=smith\2c john,dc=example");
        assert_eq!(name("a,ou=b"), r"cn=a\2cou\3db,dc=example");
        assert_eq!(name("a+uid=b"), r"cn=a\2buid\3db,dc=example");
        assert_eq!(name(r"a\"), r"cn=a\5c,dc=example");
        assert_eq!(name("#04"), r"cn=\2304,dc=example");
        assert_eq!(name(" a "), r"cn=\20a\20,dc=example");
        assert_eq!(bind_name("uid = ", "a,b", ""), r"uid = a\2cb");
    }

    #[test]
    fn names_of_active_directory_are_taken_as_they_are() {
        assert_eq!(bind_name("EXAMPLE\\", "a+b", ""), r"EXAMPLE\a+b");
        assert_eq!(bind_name("", "a=b", "@example.com"), "a=b@example.com");
    }

    #[test]
    fn a_filter_has_the_user_for_every_placeholder() {
        let both = "(|(uid=$username)(mail=$username@example.com))";
        assert_eq!(
            filter(Some(both), None, "app"),
            "(|(uid=app)(mail=app@example.com))"
        );
        assert_eq!(filter(None, Some("cn"), "app"), "(cn=app)");
        assert_eq!(filter(None, None, "app"), "(uid=app)");
        assert_eq!(filter(Some("(uid=$user)"), None, "app"), "(uid=$user)");
    }

    #[test]
    fn a_user_name_cannot_change_a_filter() {
        for (user, escaped) in [
            ("*", r"\2a"),
            ("a)(uid=*", r"a\29\28uid=\2a"),
            (r"a\29", r"a\5c29"),
            ("$username", "$username"),
        ] {
            let got = filter(Some("(uid=$username)"), None, user);
            assert_eq!(got, format!("(uid={escaped})"));
            assert!(ldap3::parse_filter(&got).is_ok(), "{got}");
        }
        assert!(ldap3::parse_filter(filter(None, None, "jürgen")).is_ok());
    }

    /// What `ldap_dn2domain` of libldap 2.5 gives.
    #[test]
    fn the_domain_is_that_of_the_last_dc_parts() {
        for (name, domain) in [
            ("ou=blah,dc=foo,dc=bar", Some("foo.bar")),
            ("dc=example, dc=net", Some("example.net")),
            ("DC=example,DC=net", Some("example.net")),
            ("dc=foo,ou=x,dc=bar", Some("bar")),
            ("o=x,dc=a,c=de", None),
            ("ou=x", None),
            ("", None),
            ("bad", None),
        ] {
            assert_eq!(domain_of(name).as_deref(), domain, "{name}");
        }
    }

    #[test]
    fn the_base_is_known_again_in_other_letters() {
        assert!(are_same("OU=people, dc=Example", "ou=people,dc=example"));
        assert!(!are_same("ou=people,dc=example", "dc=example"));
    }
}
