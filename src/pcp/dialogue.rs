//! One PCP connection as a state machine: salt, login, then commands one after the other.
//!
//! Decides, never reads, writes, draws random bytes or opens pcp.conf: the caller feeds
//! [`Dialogue`] what arrived and carries out the [`Action`]s in their order. After
//! [`Action::CheckLogin`] and [`Action::Run`] it feeds the answer before the next request.
//!
//! Source: `src/pcp_con/pcp_worker.c @ V4_3_5`.

use bytes::BytesMut;

use super::{
    codec::{self, BadLength, Frame, Notice},
    request::{self, Command, Request},
};
use crate::observe::Severity;

#[derive(Debug)]
pub enum Event {
    Frame(Frame),
    BadLength(BadLength),
    /// Answer to [`Action::CheckLogin`].
    LoginChecked(LoginVerdict),
    /// Answer to [`Action::Run`]: the reply has gone out (or was a refusal that goes out now).
    CommandDone(Result<Option<Notice>, Notice>),
    /// The client did not log in in time.
    LoginTimedOut,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginVerdict {
    Accepted,
    /// Unknown user or wrong password; clients cannot tell which.
    Wrong,
    /// pcp.conf cannot be used; the text says why.
    NoPasswordFile(String),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Send(BytesMut),
    /// Send the packet, and say it in the server log.
    Refuse(Notice),
    CheckLogin(LoginAttempt),
    Run(Command),
    /// Close once everything is sent.
    Close,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginAttempt {
    pub user: Vec<u8>,
    /// Hex md5 over stored hash, user and salt, as the client computed it.
    pub response: Vec<u8>,
    pub salt: [u8; 4],
}

/// Requests that a client may make before its login is accepted; tools make two. More would be a
/// way to keep the control plane busy without a password.
const MAX_BEFORE_LOGIN: u32 = 32;

#[derive(Debug, Default)]
pub struct Dialogue {
    /// Handed out by the last `M`; good for one login.
    salt: Option<[u8; 4]>,
    /// Whose login is being checked.
    pending_user: Option<String>,
    /// Set by the first good login.
    user: Option<String>,
    /// Requests so far, while there was no login.
    before_login: u32,
    /// The client asked for messages of level debug1.
    debug: bool,
    closed: bool,
}

impl Dialogue {
    pub fn new() -> Dialogue {
        Dialogue::default()
    }

    /// The user of the last good login.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// `fresh_salt` is called when the client asks for a salt: four random bytes, or `None` when
    /// there are none to be had, which ends the connection.
    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(
        &mut self,
        event: Event,
        fresh_salt: impl FnOnce() -> Option<[u8; 4]>,
    ) -> Vec<Action> {
        if self.closed {
            return Vec::new();
        }
        let actions = match event {
            Event::Frame(frame) => self.frame(&frame, fresh_salt),
            Event::BadLength(bad) => {
                self.refuse(Notice::fatal("invalid PCP packet", bad.to_string()))
            }
            Event::LoginChecked(verdict) => self.login_checked(verdict),
            Event::CommandDone(Ok(remark)) => self.remark(remark).into_iter().collect(),
            Event::CommandDone(Err(notice)) => self.refuse(notice),
            Event::LoginTimedOut if self.user.is_none() => self.refuse(Notice::fatal(
                "authentication failed for new PCP connection",
                "the client did not log in within the time limit",
            )),
            Event::LoginTimedOut => Vec::new(),
        };
        self.closed = actions.contains(&Action::Close);
        actions
    }

    fn frame(
        &mut self,
        frame: &Frame,
        fresh_salt: impl FnOnce() -> Option<[u8; 4]>,
    ) -> Vec<Action> {
        let mut actions: Vec<Action> = self
            .remark(Some(Notice::new(
                Severity::Debug1,
                "received PCP packet",
                format!("PCP packet type of service '{}'", char::from(frame.kind)),
            )))
            .into_iter()
            .collect();
        let request = request::parse(frame);
        let may_run = self.user.is_some();
        if !may_run {
            self.before_login += 1;
            if self.before_login > MAX_BEFORE_LOGIN {
                return self.refuse(Notice::fatal(
                    "authentication failed for new PCP connection",
                    "too many requests before a login",
                ));
            }
        }
        actions.extend(match request {
            Request::AskSalt => {
                self.salt = fresh_salt();
                match self.salt {
                    Some(salt) => send(|out| codec::put_salt(out, salt)),
                    None => self.refuse(Notice::fatal(
                        "authentication failed",
                        "no random bytes for a salt",
                    )),
                }
            }
            Request::Login { user, response } => self.login(user, response),
            _ if !may_run => self.refuse(Notice::fatal(
                "authentication failed for new PCP connection",
                "connection not authorized",
            )),
            Request::Run(command) => vec![Action::Run(command)],
            Request::SetParameter { name, value } => self.set_parameter(&name, &value),
            Request::StopRecovery => Vec::new(),
            Request::Disconnect => self
                .remark(Some(Notice::new(
                    Severity::Debug1,
                    "PCP processing request, client disconnecting",
                    "closing PCP connection, and exiting child",
                )))
                .into_iter()
                .chain([Action::Close])
                .collect(),
            Request::Unknown(kind) => self.refuse(Notice::fatal(
                "PCP processing request",
                format!("unknown PCP packet type \"{}\"", char::from(kind)),
            )),
        });
        actions
    }

    fn login(&mut self, user: Vec<u8>, response: Vec<u8>) -> Vec<Action> {
        let Some(salt) = self.salt.take() else {
            return self.refuse(Notice::fatal("authentication failed", MISMATCH));
        };
        self.pending_user = Some(String::from_utf8_lossy(&user).into_owned());
        vec![Action::CheckLogin(LoginAttempt {
            user,
            response,
            salt,
        })]
    }

    fn login_checked(&mut self, verdict: LoginVerdict) -> Vec<Action> {
        let user = self.pending_user.take().unwrap_or_default();
        match verdict {
            LoginVerdict::Accepted => {
                self.user = Some(user);
                send(|out| codec::put_texts(out, b'r', &["AuthenticationOK"]))
            }
            LoginVerdict::Wrong => self.refuse(Notice::fatal(
                format!("authentication failed for user \"{user}\""),
                MISMATCH,
            )),
            LoginVerdict::NoPasswordFile(why) => {
                self.refuse(Notice::fatal("failed to authenticate PCP user", why))
            }
        }
    }

    /// The only parameter of the protocol is `client_min_messages`, of this connection alone.
    fn set_parameter(&mut self, name: &str, value: &str) -> Vec<Action> {
        const FAILED: &str = "PCP: set configuration parameter failed";
        if !name.eq_ignore_ascii_case("client_min_messages") {
            return self.refuse(Notice::error(
                FAILED,
                format!("invalid parameter \"{name}\""),
            ));
        }
        let debug = match value.to_ascii_lowercase().as_str() {
            "debug5" | "debug4" | "debug3" | "debug2" | "debug1" => true,
            "log" | "commerror" | "info" | "notice" | "warning" | "error" => false,
            _ => {
                return self.refuse(Notice::error(
                    FAILED,
                    format!("invalid value \"{value}\" for parameter \"{name}\""),
                ));
            }
        };
        self.debug = debug;
        let mut actions: Vec<Action> = self
            .remark(Some(Notice::new(
                Severity::Debug1,
                format!("PCP setting parameter \"{name}\" to \"{value}\""),
                "",
            )))
            .into_iter()
            .collect();
        actions.extend(send(|out| codec::put_command_complete(out, b'a')));
        actions
    }

    /// A debug1 message to the client, if it asked for such.
    fn remark(&self, notice: Option<Notice>) -> Option<Action> {
        let notice = notice.filter(|_| self.debug)?;
        send(|out| notice.encode(out)).pop()
    }

    fn refuse(&self, notice: Notice) -> Vec<Action> {
        let fatal = notice.is_fatal();
        let mut actions = vec![Action::Refuse(notice)];
        if fatal {
            actions.push(Action::Close);
        }
        actions
    }
}

const MISMATCH: &str = "username and/or password does not match";

fn send(fill: impl FnOnce(&mut BytesMut)) -> Vec<Action> {
    let mut out = BytesMut::new();
    fill(&mut out);
    vec![Action::Send(out)]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const SALT: [u8; 4] = [1, 0, 255, 7];

    fn frame(kind: u8, payload: &[u8]) -> Event {
        Event::Frame(Frame {
            kind,
            payload: Bytes::copy_from_slice(payload),
        })
    }

    fn step(dialogue: &mut Dialogue, event: Event) -> Vec<Action> {
        dialogue.handle(event, || Some(SALT))
    }

    fn logged_in() -> Dialogue {
        let mut dialogue = Dialogue::new();
        let _ = step(&mut dialogue, frame(b'M', b""));
        let _ = step(&mut dialogue, frame(b'R', b"postgres\0hash\0"));
        let _ = step(&mut dialogue, Event::LoginChecked(LoginVerdict::Accepted));
        dialogue
    }

    fn refusal(actions: &[Action]) -> (&str, &str) {
        match actions {
            [Action::Refuse(notice), ..] => (&notice.message, &notice.detail),
            other => panic!("no refusal: {other:?}"),
        }
    }

    fn closes(actions: &[Action]) -> bool {
        actions.last() == Some(&Action::Close)
    }

    #[test]
    fn a_login_is_checked_with_the_salt_that_was_handed_out() {
        let mut dialogue = Dialogue::new();
        let salt = step(&mut dialogue, frame(b'M', b""));
        assert_eq!(
            salt,
            [Action::Send(BytesMut::from(
                &b"m\x00\x00\x00\x08\x01\x00\xff\x07"[..]
            ))]
        );
        let check = step(&mut dialogue, frame(b'R', b"postgres\0hash\0"));
        assert_eq!(
            check,
            [Action::CheckLogin(LoginAttempt {
                user: b"postgres".to_vec(),
                response: b"hash".to_vec(),
                salt: SALT,
            })]
        );
        assert_eq!(dialogue.user(), None);
        let answer = step(&mut dialogue, Event::LoginChecked(LoginVerdict::Accepted));
        assert_eq!(
            answer,
            [Action::Send(BytesMut::from(
                &b"r\x00\x00\x00\x15AuthenticationOK\0"[..]
            ))]
        );
        assert_eq!(dialogue.user(), Some("postgres"));
    }

    #[test]
    fn a_salt_is_good_for_one_login_and_the_last_of_two_counts() {
        let mut dialogue = Dialogue::new();
        let _ = dialogue.handle(frame(b'M', b""), || Some([9; 4]));
        let _ = dialogue.handle(frame(b'M', b""), || Some(SALT));
        let first = step(&mut dialogue, frame(b'R', b"a\0b\0"));
        assert!(matches!(&first[..], [Action::CheckLogin(attempt)] if attempt.salt == SALT));
        let _ = step(&mut dialogue, Event::LoginChecked(LoginVerdict::Accepted));
        let second = step(&mut dialogue, frame(b'R', b"a\0b\0"));
        assert_eq!(refusal(&second).0, "authentication failed");
        assert!(closes(&second));
    }

    #[test]
    fn nothing_but_a_login_is_answered_before_the_login() {
        for kind in (0..=255).filter(|kind| !b"MR".contains(kind)) {
            let mut dialogue = Dialogue::new();
            let actions = step(&mut dialogue, frame(kind, b"0\0"));
            assert_eq!(
                refusal(&actions),
                (
                    "authentication failed for new PCP connection",
                    "connection not authorized"
                )
            );
            assert!(closes(&actions));
            assert!(
                step(&mut dialogue, frame(b'M', b"")).is_empty(),
                "closed is closed"
            );
        }
    }

    #[test]
    fn an_error_leaves_the_connection_usable_and_a_fatal_one_ends_it() {
        let mut dialogue = logged_in();
        assert!(matches!(
            &step(&mut dialogue, frame(b'L', b""))[..],
            [Action::Run(Command::NodeCount)]
        ));
        let error = Event::CommandDone(Err(Notice::error("no", "")));
        assert!(!closes(&step(&mut dialogue, error)));
        let fatal = Event::CommandDone(Err(Notice::fatal("no", "")));
        assert!(closes(&step(&mut dialogue, fatal)));
    }

    #[test]
    fn an_unknown_letter_and_a_bad_length_are_fatal() {
        let actions = step(&mut logged_in(), frame(b'q', b""));
        assert_eq!(
            refusal(&actions),
            ("PCP processing request", "unknown PCP packet type \"q\"")
        );
        assert!(closes(&actions));
        let actions = step(&mut logged_in(), Event::BadLength(BadLength(260)));
        assert_eq!(
            refusal(&actions),
            ("invalid PCP packet", "incorrect packet length (260)")
        );
        assert!(closes(&actions));
    }

    #[test]
    fn salts_are_not_handed_out_without_end() {
        let mut dialogue = Dialogue::new();
        for _ in 0..MAX_BEFORE_LOGIN {
            assert!(!closes(&step(&mut dialogue, frame(b'M', b""))));
        }
        assert!(closes(&step(&mut dialogue, frame(b'M', b""))));

        let mut dialogue = logged_in();
        for _ in 0..1000 {
            assert!(!closes(&step(&mut dialogue, frame(b'M', b""))));
        }
    }

    #[test]
    fn the_time_limit_ends_only_connections_without_a_login() {
        assert!(closes(&step(&mut Dialogue::new(), Event::LoginTimedOut)));
        assert!(step(&mut logged_in(), Event::LoginTimedOut).is_empty());
    }

    #[test]
    fn stopping_a_recovery_gets_no_reply_and_a_goodbye_closes() {
        let mut dialogue = logged_in();
        assert!(step(&mut dialogue, frame(b'F', b"")).is_empty());
        assert_eq!(step(&mut dialogue, frame(b'X', b"")), [Action::Close]);
    }

    #[test]
    fn debug_messages_come_only_to_who_asked_for_them() {
        let mut dialogue = logged_in();
        let set = step(&mut dialogue, frame(b'A', b"client_min_messages\0debug1\0"));
        assert_eq!(set.len(), 2, "the remark and the reply");
        let count = step(&mut dialogue, frame(b'L', b""));
        assert!(matches!(&count[..], [Action::Send(_), Action::Run(_)]));
        let _ = step(&mut dialogue, frame(b'A', b"client_min_messages\0notice\0"));
        assert_eq!(step(&mut dialogue, frame(b'L', b"")).len(), 1);
        let bad = step(&mut dialogue, frame(b'A', b"port\x001\0"));
        assert_eq!(refusal(&bad).1, "invalid parameter \"port\"");
        assert!(!closes(&bad));
    }

    proptest::proptest! {
        /// Whatever frames come in whatever order: no panic, no command before a login, silence
        /// after the end, and never more than three answers to one event.
        #[test]
        fn any_order_of_events_is_survived(
            events in proptest::collection::vec(
                (proptest::num::u8::ANY, proptest::collection::vec(proptest::num::u8::ANY, 0..256)),
                0..60,
            )
        ) {
            let mut dialogue = Dialogue::new();
            let mut accepted = false;
            let mut closed = false;
            for (kind, payload) in events {
                let event = match kind {
                    0..=9 => Event::LoginChecked(LoginVerdict::Wrong),
                    10..=59 => {
                        accepted = !closed;
                        Event::LoginChecked(LoginVerdict::Accepted)
                    }
                    200..=203 => Event::BadLength(BadLength(i32::from(kind))),
                    204..=205 => Event::LoginTimedOut,
                    206..=220 => Event::CommandDone(Err(Notice::error("x", "y"))),
                    _ => frame(kind, &payload),
                };
                let actions = step(&mut dialogue, event);
                assert!(actions.len() <= 3);
                assert!(!closed || actions.is_empty());
                if actions.iter().any(|action| matches!(action, Action::Run(_))) {
                    assert!(accepted);
                }
                closed |= closes(&actions);
            }
        }
    }
}
