//! Cuts a psql script into statements, by psql's rules (`src/fe_utils/psqlscan.l` of PostgreSQL) and
//! without our own lexer, which is what is being checked.

/// The statements of a script, without their semicolons and without data of COPY.
pub fn statements(script: &str) -> Vec<String> {
    let mut cutter = Cutter {
        text: script.as_bytes(),
        at: 0,
        start: 0,
        found: Vec::new(),
        words: Vec::new(),
        parentheses: 0,
        body: 0,
    };
    cutter.run();
    cutter.found
}

/// `:name`, `:'name'` and `:"name"` as psql would fill them in, with values that are right for most.
pub fn without_variables(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len());
    let mut rest = statement;
    while let Some(at) = rest.find(':') {
        let (before, colon) = rest.split_at(at);
        out.push_str(before);
        let after = &colon[1..];
        if out.ends_with(':') || after.starts_with([':', '=']) {
            out.push(':');
        } else if after.starts_with(['\'', '"']) {
            // The name in its quotes is as good a constant or identifier as any.
        } else if after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            let end = after
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(after.len());
            out.push_str(&after[..end]);
            rest = &after[end..];
            continue;
        } else {
            out.push(':');
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

struct Cutter<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the current statement begins.
    start: usize,
    found: Vec<String>,
    /// Its first words, in capitals.
    words: Vec<String>,
    parentheses: usize,
    /// Open BEGINs and CASEs of a function's SQL body.
    body: usize,
}

impl Cutter<'_> {
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn run(&mut self) {
        while self.at < self.text.len() {
            match self.byte(0) {
                b'-' if self.byte(1) == b'-' => self.to_line_end(),
                b'/' if self.byte(1) == b'*' => self.comment(),
                b'\'' => self.quoted(b'\'', false),
                b'"' => self.quoted(b'"', false),
                b'$' => self.dollar(),
                b'\\' => self.meta_command(),
                b'(' => {
                    self.parentheses += 1;
                    self.at += 1;
                }
                b')' => {
                    self.parentheses = self.parentheses.saturating_sub(1);
                    self.at += 1;
                }
                b';' => {
                    if self.parentheses == 0 && self.body == 0 {
                        self.cut();
                    }
                    self.at += 1;
                    if self.parentheses == 0 && self.body == 0 {
                        self.start = self.at;
                        self.skip_copy_data();
                    }
                }
                b if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 => self.word(),
                _ => self.at += 1,
            }
        }
        self.cut();
    }

    fn cut(&mut self) {
        let statement = String::from_utf8_lossy(&self.text[self.start..self.at]);
        if !self.words.is_empty() || !statement.trim().is_empty() {
            self.found.push(statement.trim().to_owned());
        }
        self.words.clear();
        self.parentheses = 0;
        self.body = 0;
    }

    fn to_line_end(&mut self) {
        while self.at < self.text.len() && self.byte(0) != b'\n' {
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        let mut depth = 0;
        while self.at < self.text.len() {
            if self.byte(0) == b'/' && self.byte(1) == b'*' {
                depth += 1;
                self.at += 2;
            } else if self.byte(0) == b'*' && self.byte(1) == b'/' {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    fn quoted(&mut self, quote: u8, escapes: bool) {
        self.at += 1;
        while self.at < self.text.len() {
            let byte = self.byte(0);
            self.at += 1;
            if byte == b'\\' && escapes {
                self.at += 1;
            } else if byte == quote {
                if self.byte(0) != quote {
                    return;
                }
                self.at += 1;
            }
        }
    }

    fn dollar(&mut self) {
        let tag = self.text[self.at + 1..]
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b >= 0x80)
            .count();
        if self.byte(1).is_ascii_digit() || self.byte(tag + 1) != b'$' {
            self.at += 1;
            return;
        }
        let tag = &self.text[self.at..self.at + tag + 2];
        self.at += tag.len();
        while self.at < self.text.len() && !self.text[self.at..].starts_with(tag) {
            self.at += 1;
        }
        self.at += tag.len();
    }

    /// `\g` and its like send the statement, `\;` is a part of it, the rest of the line is no SQL.
    fn meta_command(&mut self) {
        if self.byte(1) == b';' {
            self.at += 2;
            return;
        }
        let name: String = self.text[self.at + 1..]
            .iter()
            .take_while(|b| b.is_ascii_alphabetic())
            .map(|b| char::from(*b))
            .collect();
        let sends = name.starts_with('g') && name != "getenv"
            || matches!(
                name.as_str(),
                "crosstabview" | "watch" | "r" | "reset" | "bind"
            );
        // What stands before any other command stays in psql's buffer; here it is rarely more than blanks.
        let pending = !self.words.is_empty();
        if sends || !pending {
            if pending {
                self.cut();
            }
            self.to_line_end();
            self.start = self.at;
            self.words.clear();
        } else {
            self.cut();
            self.to_line_end();
            self.start = self.at;
        }
    }

    fn word(&mut self) {
        let begin = self.at;
        while self.byte(0).is_ascii_alphanumeric()
            || matches!(self.byte(0), b'_' | b'$')
            || self.byte(0) >= 0x80
        {
            self.at += 1;
        }
        let word = String::from_utf8_lossy(&self.text[begin..self.at]).to_ascii_uppercase();
        if self.byte(0) == b'\'' && word == "E" {
            self.quoted(b'\'', true);
        }
        if self.words.first().is_some_and(|w| w == "CREATE") && self.words.len() < 5 {
            self.words.push(word.clone());
        } else if self.words.is_empty() {
            self.words.push(word.clone());
        }
        let routine = self
            .words
            .iter()
            .any(|w| w == "FUNCTION" || w == "PROCEDURE");
        if routine && self.parentheses == 0 {
            match word.as_str() {
                "BEGIN" => self.body += 1,
                "CASE" if self.body > 0 => self.body += 1,
                "END" => self.body = self.body.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Behind COPY ... FROM STDIN, up to `\.`, unless what follows looks like statements: the COPY
    /// was one that fails.
    fn skip_copy_data(&mut self) {
        let Some(last) = self.found.last() else {
            return;
        };
        let upper = last.to_ascii_uppercase();
        if !upper.trim_start().starts_with("COPY") || !upper.contains("STDIN") {
            return;
        }
        let rest = String::from_utf8_lossy(&self.text[self.at..]).into_owned();
        let Some(end) = rest.find("\n\\.") else {
            return;
        };
        let statement_like = rest[..end].lines().any(|line| {
            let line = line.trim().to_ascii_lowercase();
            line.ends_with(';')
                && [
                    "copy ",
                    "select ",
                    "create ",
                    "drop ",
                    "insert ",
                    "alter ",
                    "truncate ",
                ]
                .iter()
                .any(|word| line.starts_with(word))
        });
        if !statement_like {
            self.at += self.text[self.at..]
                .windows(3)
                .position(|w| w == b"\n\\.")
                .map_or(0, |at| at + 3);
            self.start = self.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_psql_does() {
        let script = "SELECT ';', $a$;$a$ /* ; */; -- ;\n\\echo x;\nSELECT E'\\';' \\gset\nSELECT 1\\; SELECT 2;\n\
            COPY t FROM STDIN;\n1;2\n\\.\nCREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END; TABLE t";
        assert_eq!(
            statements(script),
            [
                "SELECT ';', $a$;$a$ /* ; */",
                "-- ;\n\\echo x;\nSELECT E'\\';'",
                "SELECT 1\\; SELECT 2",
                "COPY t FROM STDIN",
                "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; END",
                "TABLE t",
            ]
            .map(|s| s.replace("-- ;\n\\echo x;\n", ""))
        );
    }

    #[test]
    fn variables_are_filled_in() {
        assert_eq!(
            without_variables("a::int, b[1:2], :x + :'y' := 3"),
            "a::int, b[1:2], x + 'y' := 3"
        );
    }
}
