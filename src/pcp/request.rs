//! What a request asks for: from letter and payload to a [`Command`].
//!
//! Ids and pids keep the text that was sent, because the answers to wrong ones quote it.

use super::codec::Frame;

/// A number as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    pub text: String,
    /// What C's `atoi` makes of it: leading blanks, a sign, digits; anything else ends it, and
    /// no digit at all is 0. Out of range values stay at the limit.
    pub value: i32,
}

/// A request of an authenticated client that somebody has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    NodeCount,
    /// -1: all nodes; only sent by tools of 4.3 and newer.
    NodeInfo(Number),
    ProcessCount,
    /// 0: all processes.
    ProcessInfo(Number),
    PoolStatus,
    /// -1: all, 0: this one, k: the k-th remote.
    WatchdogInfo(Number),
    HealthCheckStats(Number),
    AttachNode(Number),
    DetachNode {
        node: Number,
        graceful: bool,
    },
    PromoteNode {
        node: Number,
        graceful: bool,
        option: PromoteOption,
    },
    RecoverNode(Number),
    Stop {
        /// `s`, `f`, `i`; 0 when the request has no payload.
        mode: u8,
        scope: Scope,
    },
    Reload(Scope),
    RotateLog(Scope),
    InvalidateQueryCache,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Local,
    /// All members of the watchdog cluster; without a watchdog the same as local.
    Cluster,
}

/// How a promotion is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromoteOption {
    /// Only the proxy's idea of the primary changes (`n`, or no option byte: tools up to 4.2).
    RelabelOnly,
    /// The old primary is detached in favour of the node (`s`, 4.3 and newer).
    Switchover,
}

/// All that a client may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    AskSalt,
    Login {
        user: Vec<u8>,
        response: Vec<u8>,
    },
    Run(Command),
    SetParameter {
        name: String,
        value: String,
    },
    /// "stop online recovery": does nothing and gets no reply.
    StopRecovery,
    Disconnect,
    Unknown(u8),
}

/// Reads a request. Nothing in a payload makes it fail: surplus is ignored, missing texts are
/// empty, as in the original.
pub fn parse(frame: &Frame) -> Request {
    use Command as C;
    let payload = &frame.payload[..];
    Request::Run(match frame.kind {
        b'M' => return Request::AskSalt,
        b'R' => {
            let (user, rest) = split_text(payload);
            return Request::Login {
                user: user.to_vec(),
                response: split_text(rest).0.to_vec(),
            };
        }
        b'A' => {
            let (name, rest) = split_text(payload);
            return Request::SetParameter {
                name: lossy(name),
                value: lossy(split_text(rest).0),
            };
        }
        b'F' => return Request::StopRecovery,
        b'X' => return Request::Disconnect,
        b'L' => C::NodeCount,
        b'I' => C::NodeInfo(number(payload)),
        b'N' => C::ProcessCount,
        b'P' => C::ProcessInfo(number(payload)),
        b'B' => C::PoolStatus,
        b'W' => C::WatchdogInfo(number(payload)),
        b'H' => C::HealthCheckStats(number(payload)),
        b'C' => C::AttachNode(number(payload)),
        b'D' | b'd' => C::DetachNode {
            node: number(payload),
            graceful: frame.kind == b'd',
        },
        b'J' | b'j' => C::PromoteNode {
            node: number(payload),
            graceful: frame.kind == b'j',
            option: match split_text(payload).1.first() {
                Some(b's') => PromoteOption::Switchover,
                _ => PromoteOption::RelabelOnly,
            },
        },
        b'O' => C::RecoverNode(number(payload)),
        b'T' | b't' => C::Stop {
            mode: payload.first().copied().unwrap_or(0),
            scope: if frame.kind == b't' {
                Scope::Cluster
            } else {
                Scope::Local
            },
        },
        b'Z' => C::Reload(scope(payload)),
        b'V' => C::RotateLog(scope(payload)),
        b'G' => C::InvalidateQueryCache,
        other => return Request::Unknown(other),
    })
}

impl Number {
    pub fn new(text: &str) -> Number {
        Number {
            value: atoi(text),
            text: text.to_owned(),
        }
    }
}

fn number(payload: &[u8]) -> Number {
    Number::new(&lossy(split_text(payload).0))
}

fn scope(payload: &[u8]) -> Scope {
    match payload.first() {
        Some(b'c') => Scope::Cluster,
        _ => Scope::Local,
    }
}

/// The text up to the first NUL, and what follows the NUL.
fn split_text(payload: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = payload.splitn(2, |&byte| byte == 0);
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

fn atoi(text: &str) -> i32 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let value = digits
        .bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0i64, |value, digit| {
            (value * 10 + i64::from(digit - b'0')).min(i64::from(u32::MAX))
        });
    let value = if negative { -value } else { value };
    i32::try_from(value).unwrap_or(if negative { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(kind: u8, payload: &'static [u8]) -> Request {
        parse(&Frame {
            kind,
            payload: Bytes::from_static(payload),
        })
    }

    #[test]
    fn numbers_are_read_as_atoi_reads_them() {
        for (text, value) in [
            ("7", 7),
            ("-1", -1),
            ("abc", 0),
            ("7x", 7),
            ("  +12 ", 12),
            ("", 0),
            ("-", 0),
            ("99999999999999999999", i32::MAX),
            ("-99999999999999999999", i32::MIN),
        ] {
            assert_eq!(Number::new(text).value, value, "{text:?}");
        }
    }

    #[test]
    fn a_promotion_is_understood_in_the_old_and_the_new_form() {
        let promote = |payload, option| {
            let Request::Run(Command::PromoteNode {
                node, option: got, ..
            }) = request(b'J', payload)
            else {
                panic!("not a promotion")
            };
            assert_eq!((node.value, got), (1, option), "{payload:?}");
        };
        promote(b"1\0", PromoteOption::RelabelOnly);
        promote(b"1 \0n", PromoteOption::RelabelOnly);
        promote(b"1 \0s", PromoteOption::Switchover);
        promote(b"1 \0t", PromoteOption::RelabelOnly);
    }

    #[test]
    fn payloads_that_lack_their_texts_are_read_as_empty() {
        assert_eq!(
            request(b'R', b""),
            Request::Login {
                user: vec![],
                response: vec![]
            }
        );
        assert_eq!(
            request(b'R', b"postgres"),
            Request::Login {
                user: b"postgres".to_vec(),
                response: vec![]
            }
        );
        assert_eq!(
            request(b'T', b""),
            Request::Run(Command::Stop {
                mode: 0,
                scope: Scope::Local
            })
        );
    }

    #[test]
    fn every_byte_is_a_request_or_unknown() {
        for kind in 0..=255 {
            for payload in [&b""[..], b"\0", b"1\0", b"\xff\xfe", b"1 \0s"] {
                let _ = parse(&Frame {
                    kind,
                    payload: Bytes::copy_from_slice(payload),
                });
            }
        }
    }
}
