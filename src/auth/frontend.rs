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
        ClientKey, ServerKeys, Verifier,
        server::{Binding, Challenging, Claimed, ClientFault, ServerDialogue},
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
        verifier: Verifier,
    },
    /// What the client must answer.
    Md5(Password),
    ScramFirst {
        nonce: String,
        /// `tls-server-end-point` of our certificate: channel binding is offered.
        binding: Option<Vec<u8>>,
        basis: Basis,
    },
    ScramFinal {
        challenging: Challenging,
        basis: Basis,
    },
    ScramKey {
        claimed: Claimed,
        request: KeyRequest,
    },
}

/// What a proof of the client is judged by.
#[derive(Debug)]
enum Basis {
    Verifier(Verifier),
    Derived(KeyRequest),
}

/// How to ask a client by SCRAM.
#[derive(Debug)]
pub struct ScramChallenge {
    /// For a basis of clear text; should stay the same for a user, see [`super::keys::DerivedKeys`].
    pub salt: Vec<u8>,
    /// Must be new.
    pub nonce: String,
    /// `tls-server-end-point` of the certificate that the client was shown.
    pub binding: Option<Vec<u8>>,
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
    /// What the client's proof for a verifier has shown.
    pub key: Option<ClientKey>,
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
            State::Md5(Password::new(md5_response(&stored, salt))),
            messages::authentication_md5_password(salt),
        )
    }

    /// `basis`: `None` when nothing is known of the user.
    pub fn scram(user: &str, basis: Option<&Credential>, challenge: ScramChallenge) -> Step {
        const MESSAGE: &str = "SCRAM authentication failed";
        let failed = |error| Step::Failed(error);
        let basis = match basis {
            None => return failed(no_entry(MESSAGE, user)),
            Some(Credential::Undecryptable) => {
                return failed(ErrorReport::undecryptable(MESSAGE));
            }
            Some(Credential::Malformed | Credential::ClientKey(_)) => {
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
            Some(Credential::Verifier(verifier)) => Basis::Verifier(verifier.clone()),
            Some(Credential::Clear(password)) => Basis::Derived(KeyRequest {
                password: password.clone(),
                salt: challenge.salt,
                iterations: ITERATIONS,
            }),
        };
        let request = messages::authentication_sasl(challenge.binding.is_some());
        FrontendDialogue::ask(
            user,
            State::ScramFirst {
                nonce: challenge.nonce,
                binding: challenge.binding,
                basis,
            },
            request,
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
            State::Md5(expected) => {
                if same_bytes(text_of(body), expected.as_bytes()) {
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
            State::ScramFirst {
                nonce,
                binding,
                basis,
            } => scram_first(user, nonce, binding, basis, body),
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
            State::ScramKey { claimed, request } => {
                let verifier = Verifier {
                    iterations: request.iterations,
                    salt: request.salt.clone(),
                    keys: keys_of,
                };
                scram_verdict(&self.user, &claimed, &verifier, false)
            }
            State::ClearTextKey { password, verifier } if verifier.keys == keys_of => {
                match ClientKey::of(key, verifier) {
                    Ok(client_key) => Step::Passed(Passed {
                        send: None,
                        password: Some(password),
                        checked: true,
                        key: Some(client_key),
                    }),
                    Err(e) => Step::Failed(ErrorReport::cryptography(&e)),
                }
            }
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
            password: Some(password),
            checked,
            ..Passed::default()
        })
    };
    let fits = match check {
        None => return passed(password, false),
        Some(Credential::Verifier(verifier)) => {
            let request = KeyRequest {
                password: password.clone(),
                salt: verifier.salt.clone(),
                iterations: verifier.iterations,
            };
            let state = State::ClearTextKey { password, verifier };
            return Step::Derive(FrontendDialogue { user, state }, request);
        }
        Some(Credential::Undecryptable) => {
            return Step::Failed(ErrorReport::undecryptable(
                "clear text authentication failed",
            ));
        }
        Some(Credential::Malformed | Credential::ClientKey(_)) => {
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

fn scram_first(
    user: String,
    nonce: String,
    binding: Option<Vec<u8>>,
    basis: Basis,
    body: &[u8],
) -> Step {
    let Some((mechanism, data)) = messages::decode_sasl_initial_response(body) else {
        return Step::Failed(fault(ClientFault("malformed SCRAM message")));
    };
    let plus = mechanism == messages::SCRAM_SHA_256_PLUS.as_bytes();
    let binding = match binding {
        Some(hash) if plus => Binding::EndPoint(hash),
        Some(_) => Binding::Declined,
        None => Binding::NotOffered,
    };
    let known = match &binding {
        Binding::EndPoint(_) => true,
        _ => mechanism == messages::SCRAM_SHA_256.as_bytes(),
    };
    if !known {
        return Step::Failed(ErrorReport::error(
            "client selected an invalid SASL authentication mechanism",
            "",
        ));
    }
    let (salt, iterations) = match &basis {
        Basis::Verifier(verifier) => (verifier.salt.clone(), verifier.iterations),
        Basis::Derived(request) => (request.salt.clone(), request.iterations),
    };
    let server = ServerDialogue {
        nonce,
        salt,
        iterations,
        binding,
    };
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
        Basis::Verifier(verifier) => scram_verdict(&user, &claimed, &verifier, true),
        // Only a client that answered in form is worth the 2 ms of a key.
        Basis::Derived(request) => {
            let state = State::ScramKey {
                claimed,
                request: request.clone(),
            };
            Step::Derive(FrontendDialogue { user, state }, request)
        }
    }
}

/// `keep`: the key may be good for servers, because the verifier is one of theirs.
fn scram_verdict(user: &str, claimed: &Claimed, verifier: &Verifier, keep: bool) -> Step {
    match claimed.judge(verifier) {
        Ok(Some((answer, key))) => Step::Passed(Passed {
            send: Some(messages::authentication_sasl_final(answer.as_bytes())),
            password: None,
            checked: true,
            key: keep.then_some(key),
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
