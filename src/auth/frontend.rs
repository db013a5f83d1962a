//! One challenge to a client: clear text, md5 or SCRAM-SHA-256.
//!
//! Takes the client's messages, gives requests and a verdict. When to ask for what is decided in
//! [`super::session_auth`].
//!
//! Source: `authenticate_frontend_*`, `read_password_packet` in `src/auth/pool_auth.c @ V4_3_5`.

use super::{
    credential::{Credential, no_entry},
    error::ErrorReport,
    keys::{KeyRequest, SaltedPassword},
    messages,
    password::{Password, md5_response, same_bytes},
    scram::{
        ServerKeys, Verifier,
        server::{Challenging, Claimed, ClientFault, ServerDialogue},
    },
};

/// Longest body of a password message.
pub const MAX_PASSWORD_MESSAGE: usize = 1024;

/// Rounds of verifiers made from clear text, PostgreSQL's default.
const ITERATIONS: u32 = 4096;

/// A challenge that waits for the client or for a derived key.
#[derive(Debug)]
pub struct FrontendDialogue {
    user: String,
    state: State,
}

#[derive(Debug)]
enum State {
    ClearText {
        check: Option<Credential>,
    },
    /// The password is here, the verifier that it must fit needs its key.
    ClearTextKey {
        password: Password,
        keys: ServerKeys,
    },
    Md5 {
        stored: String,
        salt: [u8; 4],
    },
    ScramFirst {
        server: ServerDialogue,
        basis: Basis,
    },
    ScramFinal {
        challenging: Challenging,
        basis: Basis,
    },
    ScramKey {
        claimed: Claimed,
    },
}

/// What a proof of the client is judged by.
#[derive(Debug)]
enum Basis {
    Keys(ServerKeys),
    Derived(KeyRequest),
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send the request and wait for the client's message.
    Ask(FrontendDialogue, Vec<u8>),
    /// Answer with [`FrontendDialogue::on_key`].
    Derive(FrontendDialogue, KeyRequest),
    Passed(Passed),
    Failed(ErrorReport),
}

#[derive(Debug, Default)]
pub struct Passed {
    /// To be sent (AuthenticationSASLFinal).
    pub send: Option<Vec<u8>>,
    /// The password, when the client told it.
    pub password: Option<Password>,
    /// The proxy has checked the password itself.
    pub checked: bool,
}

impl FrontendDialogue {
    /// Asks for the password in clear text; without `check` it is only learnt, and for others to judge.
    pub fn clear_text(user: &str, check: Option<Credential>) -> Step {
        FrontendDialogue::ask(
            user,
            State::ClearText { check },
            messages::authentication_cleartext_password(),
        )
    }

    /// `basis`: `None` when nothing is known of the user.
    pub fn md5(user: &str, basis: Option<&Credential>, salt: [u8; 4]) -> Step {
        const MESSAGE: &str = "md5 authentication failed";
        let Some(basis) = basis else {
            return Step::Failed(no_entry(MESSAGE, user));
        };
        if *basis == Credential::Undecryptable {
            return Step::Failed(ErrorReport::undecryptable(MESSAGE));
        }
        let Some(stored) = basis.md5(user) else {
            return Step::Failed(ErrorReport::fatal(
                MESSAGE,
                format!("pool_passwd file does not contain valid md5 entry for \"{user}\""),
            ));
        };
        FrontendDialogue::ask(
            user,
            State::Md5 { stored, salt },
            messages::authentication_md5_password(salt),
        )
    }

    /// `salt` is for a basis of clear text and should stay the same for a user, see
    /// [`super::keys::DerivedKeys`]; `nonce` must be new.
    pub fn scram(user: &str, basis: Option<&Credential>, salt: Vec<u8>, nonce: String) -> Step {
        const MESSAGE: &str = "SCRAM authentication failed";
        let failed = |error| Step::Failed(error);
        let (salt, iterations, basis) = match basis {
            None => return failed(no_entry(MESSAGE, user)),
            Some(Credential::Undecryptable) => {
                return failed(ErrorReport::undecryptable(MESSAGE));
            }
            Some(Credential::Malformed) => {
                return failed(ErrorReport::error(
                    MESSAGE,
                    format!("username \"{user}\" has invalid password type"),
                ));
            }
            Some(Credential::Md5(_)) => {
                return failed(ErrorReport::fatal(
                    MESSAGE,
                    format!("pool_passwd file does not contain valid SCRAM entry for \"{user}\""),
                ));
            }
            Some(Credential::Verifier(verifier)) => (
                verifier.salt.clone(),
                verifier.iterations,
                Basis::Keys(verifier.keys.clone()),
            ),
            Some(Credential::Clear(password)) => (
                salt.clone(),
                ITERATIONS,
                Basis::Derived(KeyRequest {
                    password: password.clone(),
                    salt,
                    iterations: ITERATIONS,
                }),
            ),
        };
        let server = ServerDialogue {
            nonce,
            salt,
            iterations,
        };
        FrontendDialogue::ask(
            user,
            State::ScramFirst { server, basis },
            messages::authentication_sasl(),
        )
    }

    /// A message of the client: its type and its body.
    pub fn on_message(self, kind: u8, body: &[u8]) -> Step {
        if let Err(error) = check_header(kind, body.len()) {
            return Step::Failed(error);
        }
        let user = self.user;
        match self.state {
            State::ClearText { check } => clear_text_answer(user, check, text_of(body)),
            State::Md5 { stored, salt } => {
                if same_bytes(text_of(body), md5_response(&stored, salt).as_bytes()) {
                    Step::Passed(Passed {
                        checked: true,
                        ..Passed::default()
                    })
                } else {
                    Step::Failed(ErrorReport::error(
                        "md5 authentication failed",
                        "password does not match",
                    ))
                }
            }
            State::ScramFirst { server, basis } => scram_first(user, server, basis, body),
            State::ScramFinal { challenging, basis } => scram_final(user, challenging, basis, body),
            State::ClearTextKey { .. } | State::ScramKey { .. } => Step::Failed(out_of_turn()),
        }
    }

    /// The key that [`Step::Derive`] asked for.
    pub fn on_key(self, key: &SaltedPassword) -> Step {
        let keys_of = match ServerKeys::of(key) {
            Ok(keys) => keys,
            Err(e) => return Step::Failed(ErrorReport::cryptography(&e)),
        };
        match self.state {
            State::ScramKey { claimed } => scram_verdict(&self.user, &claimed, &keys_of),
            State::ClearTextKey { password, keys } if keys == keys_of => Step::Passed(Passed {
                send: None,
                password: Some(password),
                checked: true,
            }),
            State::ClearTextKey { .. } => Step::Failed(clear_text_mismatch()),
            _ => Step::Failed(out_of_turn()),
        }
    }

    fn ask(user: &str, state: State, request: Vec<u8>) -> Step {
        Step::Ask(
            FrontendDialogue {
                user: user.to_owned(),
                state,
            },
            request,
        )
    }
}

/// Whether a message of this type and body length may be read at all.
///
/// # Errors
///
/// What the client is told; its connection is closed without reading the body.
pub fn check_header(kind: u8, length: usize) -> Result<(), ErrorReport> {
    let refuse = |detail: String| Err(ErrorReport::error("authentication failed", detail));
    if kind != b'p' {
        refuse(
            "invalid authentication packet. password packet does not start with \"p\"".to_owned(),
        )
    } else if length > MAX_PASSWORD_MESSAGE {
        refuse(format!(
            "invalid authentication packet. password is too long. password length is {length}"
        ))
    } else if length == 0 {
        refuse(
            "invalid authentication packet. invalid password length. password length is 0"
                .to_owned(),
        )
    } else {
        Ok(())
    }
}

/// The text of a password message, without the NUL that ends it.
fn text_of(body: &[u8]) -> &[u8] {
    body.split(|&b| b == 0).next().unwrap_or_default()
}

fn clear_text_answer(user: String, check: Option<Credential>, text: &[u8]) -> Step {
    let password = Password::new(text);
    let passed = |password, checked| {
        Step::Passed(Passed {
            send: None,
            password: Some(password),
            checked,
        })
    };
    let fits = match check {
        None => return passed(password, false),
        Some(Credential::Verifier(Verifier {
            iterations,
            salt,
            keys,
        })) => {
            let request = KeyRequest {
                password: password.clone(),
                salt,
                iterations,
            };
            let state = State::ClearTextKey { password, keys };
            return Step::Derive(FrontendDialogue { user, state }, request);
        }
        Some(Credential::Undecryptable) => {
            return Step::Failed(ErrorReport::undecryptable(
                "clear text authentication failed",
            ));
        }
        Some(Credential::Malformed) => {
            return Step::Failed(ErrorReport::error(
                "clear text authentication failed",
                "password type stored in pool_passwd can't be used for clear text authentication",
            ));
        }
        Some(Credential::Clear(stored)) => stored == password,
        Some(Credential::Md5(stored)) => same_bytes(
            super::password::md5_of_password(text, &user).as_bytes(),
            stored.as_bytes(),
        ),
    };
    if fits {
        passed(password, true)
    } else {
        Step::Failed(clear_text_mismatch())
    }
}

fn clear_text_mismatch() -> ErrorReport {
    ErrorReport::error(
        "clear text authentication failed",
        "password does not match",
    )
}

fn scram_first(user: String, server: ServerDialogue, basis: Basis, body: &[u8]) -> Step {
    let Some((mechanism, data)) = messages::decode_sasl_initial_response(body) else {
        return Step::Failed(fault(ClientFault("malformed SCRAM message")));
    };
    if mechanism != messages::SCRAM_SHA_256.as_bytes() {
        return Step::Failed(ErrorReport::error(
            "client selected an invalid SASL authentication mechanism",
            "",
        ));
    }
    match server.challenge(data) {
        Ok((challenge, challenging)) => FrontendDialogue::ask(
            &user,
            State::ScramFinal { challenging, basis },
            messages::authentication_sasl_continue(challenge.as_bytes()),
        ),
        Err(broken) => Step::Failed(fault(broken)),
    }
}

fn scram_final(user: String, challenging: Challenging, basis: Basis, body: &[u8]) -> Step {
    let claimed = match challenging.claim(body) {
        Ok(claimed) => claimed,
        Err(broken) => return Step::Failed(fault(broken)),
    };
    match basis {
        Basis::Keys(keys) => scram_verdict(&user, &claimed, &keys),
        // Only a client that answered in form is worth the 2 ms of a key.
        Basis::Derived(request) => Step::Derive(
            FrontendDialogue {
                user,
                state: State::ScramKey { claimed },
            },
            request,
        ),
    }
}

fn scram_verdict(user: &str, claimed: &Claimed, keys: &ServerKeys) -> Step {
    match claimed.judge(keys) {
        Ok(Some(proof)) => Step::Passed(Passed {
            send: Some(messages::authentication_sasl_final(proof.as_bytes())),
            password: None,
            checked: true,
        }),
        Ok(None) => Step::Failed(ErrorReport::error(
            "authentication failed",
            format!("username \"{user}\" or password does not exist in backend"),
        )),
        Err(e) => Step::Failed(ErrorReport::cryptography(&e)),
    }
}

fn fault(fault: ClientFault) -> ErrorReport {
    ErrorReport::error(fault.0, "")
}

/// The shell broke the order of events, or a client sent what nobody asked for.
pub(crate) fn out_of_turn() -> ErrorReport {
    ErrorReport::error(
        "authentication failed",
        "invalid authentication packet. message was not asked for",
    )
}
