//! Lines of pool_hba.conf cut into fields, and fields into tokens.
//!
//! A field is a comma list of tokens; blanks separate fields; `"` quotes, doubled inside; `#` begins
//! a comment; `@file` stands for all tokens of a file. Knows nothing of what the fields mean.
//!
//! Source: `next_token`, `next_field_expand`, `tokenize_file` in `src/auth/pool_hba.c @ V4_3_5`.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::HbaError;

/// A token may have up to 255 bytes.
const MAX_TOKEN: usize = 256;
/// A line with its newline must have fewer bytes than this.
const MAX_LINE: usize = 8191;
/// The original has no limit and crashes on a file that includes itself.
const MAX_DEPTH: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub text: String,
    /// The token began with a quote: keywords lose their meaning.
    pub quoted: bool,
}

impl Token {
    pub fn is_keyword(&self, word: &str) -> bool {
        !self.quoted && self.text == word
    }
}

/// A line that is neither blank nor comment.
#[derive(Debug)]
pub(super) struct Line {
    pub number: u32,
    pub fields: Vec<Vec<Token>>,
    /// As it stands in the file, without the blanks around it.
    raw: String,
}

impl Line {
    /// The line for people to read. A password in it is left out.
    pub fn text(&self) -> String {
        let secret = |token: &Token| token.text.starts_with(SECRET_OPTION);
        if !self.fields.iter().flatten().any(secret) {
            return self.raw.clone();
        }
        // Quotes may stand anywhere in a token, so the line is written anew.
        let shown = |token: &Token| match token.text.as_str() {
            _ if secret(token) => format!("{SECRET_OPTION}..."),
            text if text.is_empty() || text.contains([' ', '\t', ',', '#', '"']) => {
                format!("\"{}\"", text.replace('"', "\"\""))
            }
            text if token.quoted => format!("\"{text}\""),
            text => text.to_owned(),
        };
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|field| field.iter().map(shown).collect::<Vec<_>>().join(","))
            .collect();
        fields.join(" ")
    }
}

const SECRET_OPTION: &str = "ldapbindpasswd=";

/// Reads the file that an `@` token names.
pub(super) type Reader<'a> = &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>;

/// Cuts a file; each bad line gives one error and no [`Line`].
pub(super) fn cut_file(
    path: &Path,
    text: &[u8],
    read: Reader<'_>,
    errors: &mut Vec<HbaError>,
) -> Vec<Line> {
    cut_nested(path, text, read, 0, errors)
}

fn cut_nested(
    path: &Path,
    text: &[u8],
    read: Reader<'_>,
    depth: usize,
    errors: &mut Vec<HbaError>,
) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, raw) in (1..).zip(text.split_inclusive(|&b| b == b'\n')) {
        if raw.len() >= MAX_LINE {
            errors.push(HbaError::at(
                path,
                number,
                "authentication file line too long",
            ));
            continue;
        }
        // Comments in old encodings are common; a name that is not UTF-8 matches nobody.
        let line = String::from_utf8_lossy(raw);
        let mut cutter = Cutter {
            path,
            number,
            rest: line.trim_end_matches(['\n', '\r']),
            depth,
        };
        match cutter.fields(read, errors) {
            Some(fields) if fields.is_empty() => {}
            Some(fields) => lines.push(Line {
                number,
                fields,
                raw: line.trim().to_owned(),
            }),
            None => {}
        }
    }
    lines
}

struct Cutter<'a> {
    path: &'a Path,
    number: u32,
    rest: &'a str,
    depth: usize,
}

struct Cut {
    token: Token,
    comma: bool,
}

impl Cutter<'_> {
    /// `None`: the line is bad, and `errors` says why.
    fn fields(&mut self, read: Reader<'_>, errors: &mut Vec<HbaError>) -> Option<Vec<Vec<Token>>> {
        let mut fields = Vec::new();
        while !self.rest.is_empty() {
            let mut field = Vec::new();
            while let Some(cut) = self.token(errors)? {
                match cut.token.text.strip_prefix('@') {
                    Some(name) if !cut.token.quoted && !name.is_empty() => {
                        field.extend(self.include(name, read, errors)?);
                    }
                    _ => field.push(cut.token),
                }
                if !cut.comma {
                    break;
                }
            }
            if !field.is_empty() {
                fields.push(field);
            }
        }
        Some(fields)
    }

    /// The next token; `Some(None)` at the end of the line, `None` when it is too long.
    fn token(&mut self, errors: &mut Vec<HbaError>) -> Option<Option<Cut>> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', ',']);
        let mut text = String::new();
        let mut comma = false;
        // `began_quoted`: a quote stood before the first character of the text.
        let (mut in_quote, mut after_quote, mut saw_quote, mut began_quoted) =
            (false, false, false, false);
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        for (at, c) in chars.by_ref() {
            if !in_quote && matches!(c, ' ' | '\t' | '\r') {
                end = at;
                break;
            }
            if !in_quote && c == '#' {
                break;
            }
            if text.len() + c.len_utf8() >= MAX_TOKEN {
                let shown = if text.starts_with(SECRET_OPTION) {
                    SECRET_OPTION
                } else {
                    &text
                };
                errors.push(HbaError::at(
                    self.path,
                    self.number,
                    format!("authentication file token too long, skipping: \"{shown}\""),
                ));
                self.rest = "";
                return None;
            }
            if !in_quote && c == ',' {
                comma = true;
                end = at + 1;
                break;
            }
            if c != '"' || after_quote {
                text.push(c);
            }
            // Two quotes in a row within quotes are one quote.
            after_quote = in_quote && c == '"' && !after_quote;
            if c == '"' {
                in_quote = !in_quote;
                saw_quote = true;
                began_quoted |= text.is_empty();
            }
        }
        self.rest = self.rest.get(end..).unwrap_or_default();
        let found = saw_quote || !text.is_empty();
        Some(found.then_some(Cut {
            token: Token {
                text,
                quoted: began_quoted,
            },
            comma,
        }))
    }

    fn include(
        &self,
        name: &str,
        read: Reader<'_>,
        errors: &mut Vec<HbaError>,
    ) -> Option<Vec<Token>> {
        let full: PathBuf = match self.path.parent() {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        };
        let text = if self.depth >= MAX_DEPTH {
            Err("nested too deeply".to_owned())
        } else {
            read(&full).map_err(|e| crate::sys::errors::message(&e))
        };
        let text = match text {
            Ok(text) => text,
            Err(reason) => {
                errors.push(HbaError::at(
                    self.path,
                    self.number,
                    format!(
                        "could not open secondary authentication file \"@{name}\" as \"{}\": {reason}",
                        full.display()
                    ),
                ));
                return None;
            }
        };
        let before = errors.len();
        let lines = cut_nested(&full, &text, read, self.depth + 1, errors);
        if errors.len() > before {
            return None;
        }
        Some(lines.into_iter().flat_map(|l| l.fields).flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<Vec<Vec<String>>> {
        let mut errors = Vec::new();
        let lines = cut_file(
            Path::new("/etc/pgpool2/pool_hba.conf"),
            text.as_bytes(),
            &mut |_| Err(io::ErrorKind::NotFound.into()),
            &mut errors,
        );
        assert_eq!(errors, []);
        lines
            .into_iter()
            .map(|l| {
                l.fields
                    .into_iter()
                    .map(|f| f.into_iter().map(|t| t.text).collect())
                    .collect()
            })
            .collect()
    }

    fn one(text: &str) -> Vec<Vec<String>> {
        cut(text).pop().unwrap_or_default()
    }

    #[test]
    fn blanks_separate_fields_and_commas_join_tokens() {
        assert_eq!(one("local\tall  all trust\r\n").len(), 4);
        assert_eq!(one("a,b,c d"), [vec!["a", "b", "c"], vec!["d"]]);
        assert_eq!(one("a, b c"), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(one("a ,b"), [vec!["a"], vec!["b"]]);
        assert_eq!(one(",,a"), [vec!["a"]]);
    }

    #[test]
    fn comments_and_blank_lines_are_nothing() {
        assert_eq!(
            cut("# host all\n\n   \n\t# x\n"),
            Vec::<Vec<Vec<String>>>::new()
        );
        assert_eq!(one("local all all trust# note"), one("local all all trust"));
    }

    #[test]
    fn quotes_keep_blanks_commas_and_hashes() {
        assert_eq!(one("\"a b,c#d\" e"), [vec!["a b,c#d"], vec!["e"]]);
        assert_eq!(one("\"a\"\"b\""), [vec!["a\"b"]]);
        assert_eq!(one("\"\" x"), [vec![""], vec!["x"]]);
    }

    #[test]
    fn the_text_of_a_line_is_the_line_without_passwords() {
        let text = |text: &str| {
            let read: Reader<'_> = &mut |_| Err(io::ErrorKind::NotFound.into());
            let lines = cut_file(Path::new("f"), text.as_bytes(), read, &mut Vec::new());
            lines[0].text()
        };
        assert_eq!(
            text("  host  all all 127.0.0.1/32\tmd5 # note\r\n"),
            "host  all all 127.0.0.1/32\tmd5 # note"
        );
        for secret in [
            "ldapbindpasswd=hunter2",
            "\"ldapbindpasswd=hunter2 hunter2\"",
            "ldapbind\"passwd=hunter2, \"hunter2",
        ] {
            assert_eq!(
                text(&format!(
                    "host \"all\" \"a b\",c all ldap {secret} \"ldapbasedn=a,b\"# x"
                )),
                "host \"all\" \"a b\",c all ldap ldapbindpasswd=... \"ldapbasedn=a,b\""
            );
        }
    }

    #[test]
    fn a_backslash_at_the_end_of_a_line_is_a_token() {
        assert_eq!(cut("local all \\\nall trust").len(), 2);
    }

    #[test]
    fn the_limits_are_those_of_the_original() {
        let errors_of = |text: &str| {
            let mut errors = Vec::new();
            let _ = cut_file(
                Path::new("f"),
                text.as_bytes(),
                &mut |_| Err(io::ErrorKind::NotFound.into()),
                &mut errors,
            );
            errors.into_iter().map(|e| e.message).collect::<Vec<_>>()
        };
        let x = |n| "x".repeat(n);
        assert!(errors_of(&x(255)).is_empty());
        assert_eq!(
            errors_of(&x(256)),
            [format!(
                "authentication file token too long, skipping: \"{}\"",
                x(255)
            )]
        );
        let long = format!("a {}", "b ".repeat(4094));
        assert_eq!(long.len(), 8190);
        assert!(errors_of(&long).is_empty());
        assert_eq!(
            errors_of(&format!("{long}\n")),
            ["authentication file line too long"]
        );
    }

    #[test]
    fn an_at_sign_includes_the_tokens_of_a_file_beside_this_one() {
        let mut errors = Vec::new();
        let lines = cut_file(
            Path::new("/etc/pgpool2/pool_hba.conf"),
            b"host all first,@users,\"@quoted\" all md5",
            &mut |path| match path.to_str() {
                Some("/etc/pgpool2/users") => Ok(b"alice, bob # two\n@/more\n".to_vec()),
                Some("/more") => Ok(b"carol".to_vec()),
                other => panic!("unexpected file {other:?}"),
            },
            &mut errors,
        );
        assert_eq!(errors, []);
        let users: Vec<_> = lines[0].fields[2].iter().map(|t| &*t.text).collect();
        assert_eq!(users, ["first", "alice", "bob", "carol", "@quoted"]);
    }

    #[test]
    fn a_file_that_is_missing_or_includes_itself_is_an_error_of_its_line() {
        let mut errors = Vec::new();
        let _ = cut_file(
            Path::new("/e/hba"),
            b"\nlocal all @nobody trust",
            &mut |_| Err(io::Error::from_raw_os_error(2)),
            &mut errors,
        );
        assert_eq!(
            errors[0].to_string(),
            "/e/hba:2: could not open secondary authentication file \"@nobody\" as \"/e/nobody\": No such file or directory"
        );
        errors.clear();
        let _ = cut_file(
            Path::new("/e/hba"),
            b"local all @self trust",
            &mut |_| Ok(b"@self".to_vec()),
            &mut errors,
        );
        assert_eq!(errors.len(), 1);
    }
}
