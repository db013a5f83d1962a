//! LDAP URLs (RFC 4516) as libldap reads them: the value of `ldapurl`.
//!
//! `ldap[s]://host[:port]/basedn[?[attribute][?[scope][?[filter]]]]`. Takes and refuses what
//! `ldap_url_parse` of OpenLDAP 2.5 takes and refuses, compared URL by URL with the library.

use super::options::LdapScope;

/// The parts of a URL, percent escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LdapUrl {
    /// In lower case: `ldap`, `ldaps`, or one that only libldap knows.
    pub scheme: String,
    pub host: Option<String>,
    /// That of the scheme when the URL names none. The library checks no range.
    pub port: i32,
    /// Empty for a URL that ends behind the slash, `None` for one without a slash.
    pub base_dn: Option<String>,
    pub attributes: Vec<String>,
    pub scope: LdapScope,
    pub filter: Option<String>,
}

/// Cuts a URL; the error says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<LdapUrl, &'static str> {
    let rest = match text.strip_prefix('<') {
        Some(inner) => inner
            .strip_suffix('>')
            .ok_or("\"<\" without \">\" at the end")?,
        None => text,
    };
    let rest = strip_prefix_in_any_case(rest, "URL:").unwrap_or(rest);
    let (scheme, rest) = ["ldaps://", "ldapi://", "pldap://", "pldaps://", "ldap://"]
        .into_iter()
        .find_map(|prefix| Some((prefix, strip_prefix_in_any_case(rest, prefix)?)))
        .ok_or("it does not begin with ldap:// or ldaps://")?;
    let scheme = scheme.trim_end_matches("://").to_owned();
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        // Some servers hand out `ldap://host??`: what follows the question mark is nothing.
        None => (rest.split('?').next().unwrap_or_default(), None),
    };
    let (host, port) = host_and_port(authority)?;
    let mut url = LdapUrl {
        port: match port {
            0 if scheme.ends_with('s') => 636,
            0 => 389,
            port => port,
        },
        host,
        scheme,
        base_dn: None,
        attributes: Vec::new(),
        scope: LdapScope::Base,
        filter: None,
    };
    let Some(path) = path else {
        return Ok(url);
    };
    let mut parts = path.split('?');
    url.base_dn = parts.next().map(unescaped);
    if let Some(attributes) = parts.next() {
        let names = unescaped(attributes);
        url.attributes = names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
    }
    if let Some(scope) = parts.next().filter(|scope| !scope.is_empty()) {
        url.scope = scope_named(&unescaped(scope)).ok_or("its scope is none of base, one, sub")?;
    }
    if let Some(filter) = parts.next().filter(|filter| !filter.is_empty()) {
        let filter = unescaped(filter);
        if filter.is_empty() {
            return Err("its filter cannot be read");
        }
        url.filter = Some(filter);
    }
    // Extensions say nothing that a login needs.
    if parts.next() == Some("") {
        return Err("the part behind its last \"?\" is empty");
    }
    match parts.next() {
        Some(_) => Err("it has too many parts"),
        None => Ok(url),
    }
}

fn strip_prefix_in_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| text.get(prefix.len()..))?
}

/// Port 0: none was named.
fn host_and_port(authority: &str) -> Result<(Option<String>, i32), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, behind) = inner
                .split_once(']')
                .ok_or("\"[\" without \"]\" in the host")?;
            (host, behind.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => 0,
        Some(port) => unescaped(port)
            .parse()
            .map_err(|_| "its port is not a number")?,
    };
    let host = unescaped(host);
    Ok(((!host.is_empty()).then_some(host), port))
}

fn scope_named(word: &str) -> Option<LdapScope> {
    let word = word.to_ascii_lowercase();
    Some(match word.as_str() {
        "base" => LdapScope::Base,
        "one" | "onelevel" => LdapScope::One,
        "sub" | "subtree" => LdapScope::Subtree,
        "children" | "subord" | "subordinate" => LdapScope::Children,
        _ => return None,
    })
}

/// Undoes `%XX`. A broken escape makes the whole part empty, as it does in the library.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = behind;
            continue;
        }
        let digit = |at: usize| {
            behind
                .get(at)
                .and_then(|&b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok())
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return String::new();
        };
        bytes.push(high << 4 | low);
        rest = behind.get(2..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scheme host port dn attributes scope filter`, `-` for what is missing.
    fn shown(text: &str) -> String {
        match parse(text) {
            Err(_) => "error".to_owned(),
            Ok(url) => {
                let or_dash = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
                format!(
                    "{} {} {} {} [{}] {:?} {}",
                    url.scheme,
                    or_dash(url.host),
                    url.port,
                    or_dash(url.base_dn),
                    url.attributes.join(","),
                    url.scope,
                    or_dash(url.filter)
                )
            }
        }
    }

    /// What `ldap_url_parse` of libldap 2.5 gives.
    #[test]
    fn urls_mean_what_they_mean_to_libldap() {
        for (text, expected) in [
            ("ldap://h", "ldap h 389 - [] Base -"),
            ("ldap://h/", "ldap h 389  [] Base -"),
            ("ldap://h:390", "ldap h 390 - [] Base -"),
            ("ldap://h:390/dc=x", "ldap h 390 dc=x [] Base -"),
            ("ldap://h:/dc=x", "error"),
            ("ldap://h:0/dc=x", "ldap h 389 dc=x [] Base -"),
            ("ldap://h:99999/dc=x", "ldap h 99999 dc=x [] Base -"),
            ("ldap://h:-1/dc=x", "ldap h -1 dc=x [] Base -"),
            ("ldap://h:12x/dc=x", "error"),
            ("ldap:///dc=x", "ldap - 389 dc=x [] Base -"),
            ("ldap://", "ldap - 389 - [] Base -"),
            ("ldap:/", "error"),
            ("LDAP://h/dc=x", "ldap h 389 dc=x [] Base -"),
            ("LDAPS://H/dc=x", "ldaps H 636 dc=x [] Base -"),
            ("pldap://h/dc=x", "pldap h 389 dc=x [] Base -"),
            ("cldap://h/dc=x", "error"),
            ("http://h/dc=x", "error"),
            ("h/dc=x", "error"),
            ("", "error"),
            ("<ldap://h/dc=x>", "ldap h 389 dc=x [] Base -"),
            ("<ldap://h/dc=x", "error"),
            ("<URL:ldap://h/dc=x>", "ldap h 389 dc=x [] Base -"),
            ("url:ldap://h/dc=x", "ldap h 389 dc=x [] Base -"),
            ("ldap://[::1]:390/dc=x", "ldap ::1 390 dc=x [] Base -"),
            ("ldap://[::1]x/dc=x", "ldap ::1 389 dc=x [] Base -"),
            ("ldap://[::1/dc=x", "error"),
            ("ldap://::1/dc=x", "error"),
            ("ldap://h1 h2/dc=x", "ldap h1 h2 389 dc=x [] Base -"),
            ("ldap://h/dc=x%2cdc=y", "ldap h 389 dc=x,dc=y [] Base -"),
            ("ldap://h/dc=x%zzdc=y", "ldap h 389  [] Base -"),
            ("ldap://h%20i/dc=x", "ldap h i 389 dc=x [] Base -"),
            ("ldap://h/dc=x?", "ldap h 389 dc=x [] Base -"),
            ("ldap://h/dc=x?uid", "ldap h 389 dc=x [uid] Base -"),
            ("ldap://h/dc=x?uid,cn?one", "ldap h 389 dc=x [uid,cn] One -"),
            ("ldap://h/dc=x??one", "ldap h 389 dc=x [] One -"),
            ("ldap://h/dc=x?uid?SUB", "ldap h 389 dc=x [uid] Subtree -"),
            ("ldap://h/dc=x?uid?onelevel", "ldap h 389 dc=x [uid] One -"),
            (
                "ldap://h/dc=x?uid?subord",
                "ldap h 389 dc=x [uid] Children -",
            ),
            ("ldap://h/dc=x?uid?foo", "error"),
            ("ldap://h/dc=x?uid??", "ldap h 389 dc=x [uid] Base -"),
            ("ldap://h/dc=x???(a=b)", "ldap h 389 dc=x [] Base (a=b)"),
            (
                "ldap://h/dc=x??sub?(a=%28)",
                "ldap h 389 dc=x [] Subtree (a=()",
            ),
            ("ldap://h/dc=x??sub?(a=b)?", "error"),
            (
                "ldap://h/dc=x??sub?(a=b)?!ext",
                "ldap h 389 dc=x [] Subtree (a=b)",
            ),
            ("ldap://h/dc=x????ext?more", "error"),
            ("ldap://h/dc=x?,?sub", "ldap h 389 dc=x [] Subtree -"),
            ("ldap://h?dc=x?uid", "ldap h 389 - [] Base -"),
            ("ldap://h:390?dc=x", "ldap h 390 - [] Base -"),
            ("ldap://user@h/dc=x", "ldap user@h 389 dc=x [] Base -"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
