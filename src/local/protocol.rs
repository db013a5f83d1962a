//! The words of the socket.

use serde::{Deserialize, Serialize};

use crate::events::Event;

/// Grows when a client of the version before would misunderstand the answer.
pub const VERSION: u32 = 1;
/// Bytes of a question.
pub const LONGEST_ASK: usize = 16 * 1024;

/// A question: one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub version: u32,
    #[serde(flatten)]
    pub question: Question,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Question {
    Events {
        /// At most as many, the latest; missing: all that are kept.
        #[serde(default)]
        last: Option<usize>,
        /// From then on, as RFC 3339 writes it.
        #[serde(default)]
        since: Option<String>,
        /// Later than the event of this number.
        #[serde(default)]
        after: u64,
        /// Go on with those that come, until the client closes.
        #[serde(default)]
        follow: bool,
    },
    WhatIf {
        /// As on the command line.
        requests: String,
    },
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Always first.
    Hello {
        version: u32,
        pid: u32,
    },
    Event(Box<Event>),
    /// To print as it is.
    Text(String),
    /// Nothing follows.
    End {},
    /// Nothing follows.
    Error {
        message: String,
        hint: String,
    },
}

impl Ask {
    pub fn new(question: Question) -> Ask {
        Ask {
            version: VERSION,
            question,
        }
    }
}

impl Line {
    pub fn hello() -> Line {
        Line::Hello {
            version: VERSION,
            pid: std::process::id(),
        }
    }

    pub fn error(message: impl Into<String>, hint: impl Into<String>) -> Line {
        Line::Error {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// As a line for the socket. What cannot be written as JSON, which is nothing of ours, becomes an error
/// line.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_else(|_| {
        br#"{"error":{"message":"an answer cannot be encoded","hint":""}}"#.to_vec()
    });
    bytes.push(b'\n');
    bytes
}

/// The question of a client.
///
/// # Errors
///
/// The line that refuses it.
pub fn decode_ask(line: &[u8]) -> Result<Question, Line> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let stranger = || {
        Line::error(
            "the question is not understood",
            "this socket is for \"pgpool events\" and \"pgpool --what-if\"",
        )
    };
    let Version { version } = serde_json::from_slice(line).map_err(|_| stranger())?;
    if version != VERSION {
        return Err(Line::error(
            format!("the running pgpool speaks version {VERSION} of this protocol, not {version}"),
            "ask with the binary that runs, or restart pgpool with this one",
        ));
    }
    serde_json::from_slice::<Ask>(line)
        .map(|ask| ask.question)
        .map_err(|_| stranger())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_line_and_what_is_missing_has_its_default() {
        let asked = decode_ask(br#"{"version":1,"ask":"events","colour":"red"}"#);
        let plain = Question::Events {
            last: None,
            since: None,
            after: 0,
            follow: false,
        };
        assert_eq!(asked, Ok(plain));
        let what_if = Question::WhatIf {
            requests: "down 0".into(),
        };
        let line = encode(&Ask::new(what_if.clone()));
        assert_eq!(
            String::from_utf8_lossy(&line),
            "{\"version\":1,\"ask\":\"what-if\",\"requests\":\"down 0\"}\n"
        );
        assert_eq!(decode_ask(&line), Ok(what_if));
    }

    #[test]
    fn strangers_and_other_versions_are_told_so() {
        for (line, want) in [
            (&b""[..], "not understood"),
            (b"GET / HTTP/1.1", "not understood"),
            (br#"{"version":1,"ask":"shutdown"}"#, "not understood"),
            (br#"{"version":2,"ask":"votes"}"#, "speaks version 1"),
        ] {
            let Err(Line::Error { message, .. }) = decode_ask(line) else {
                panic!("{line:?} is taken");
            };
            assert!(message.contains(want), "{message}");
        }
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        for line in [
            Line::hello(),
            Line::Text("a \"b\"\n".into()),
            Line::End {},
            Line::error("m", "h"),
        ] {
            let bytes = encode(&line);
            assert_eq!(bytes.iter().filter(|&&b| b == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Line>(&bytes).unwrap(), line);
        }
    }
}
