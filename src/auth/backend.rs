//! Our login to one backend, as its client.
//!
//! Takes the backend's authentication messages, says what it asks for, and answers with a
//! [`Credential`]. Where the credential comes from is decided in [`super::session_auth`].
//!
//! Source: `pool_do_auth`, `do_md5`, `do_SCRAM`, `do_clear_text_password` in `src/auth/pool_auth.c @ V4_3_5`.

use openssl::error::ErrorStack;

use super::{
    credential::Credential,
    error::ErrorReport,
    keys::{KeyRequest, SaltedPassword},
    messages::{self, Authentication},
    password::{Password, md5_response},
    scram::{
        ClientKey,
        client::{Binding, Challenged, ClientDialogue, Proven, ServerFault},
    },
};

/// What a backend wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Password,
    Md5 { salt: [u8; 4] },
    Scram,
}

/// The login to one backend.
#[derive(Debug)]
pub struct BackendDialogue {
    state: State,
    /// `tls-server-end-point` of the server's certificate.
    end_point: Option<Vec<u8>>,
    /// The server offers SCRAM with channel binding.
    offers_plus: bool,
}

#[derive(Debug)]
enum State {
    Start,
    Asked(Request),
    /// The password or its md5 is sent.
    Answered,
    ScramFirst {
        client: ClientDialogue,
        secret: ScramSecret,
    },
    ScramKey(Challenged),
    ScramFinal(Proven),
    ScramVerified,
    Ready,
    Failed,
}

#[derive(Debug)]
enum ScramSecret {
    Password(Password),
    Key(ClientKey),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Answer with [`BackendDialogue::answer`].
    Asks(Request),
    Send(Vec<u8>),
    /// Answer with [`BackendDialogue::on_key`].
    Derive(KeyRequest),
    /// Nothing; the backend speaks next.
    Wait,
    /// AuthenticationOk.
    Ready,
    /// The backend refused the start-up packet itself (no such database or role): its ErrorResponse
    /// goes to the client as it is.
    Refused,
    /// The server keeps another SCRAM secret than the one whose key is known.
    OtherSecret,
    Failed(ErrorReport),
}

impl Default for BackendDialogue {
    fn default() -> BackendDialogue {
        BackendDialogue::new()
    }
}

impl BackendDialogue {
    /// For a connection whose start-up packet is sent.
    pub fn new() -> BackendDialogue {
        BackendDialogue {
            state: State::Start,
            end_point: None,
            offers_plus: false,
        }
    }

    /// There is TLS; `end_point` is `tls-server-end-point` (RFC 5929) of the server's certificate.
    pub fn bind_channel(&mut self, end_point: Vec<u8>) {
        self.end_point = Some(end_point).filter(|hash| !hash.is_empty());
    }

    /// A message of the backend before AuthenticationOk: its type and its body.
    pub fn on_message(&mut self, kind: u8, body: &[u8]) -> Step {
        let state = std::mem::replace(&mut self.state, State::Failed);
        match kind {
            b'R' => match Authentication::decode(body) {
                Some(message) => self.on_authentication(state, message),
                None => failed(
                    "invalid authentication packet from backend",
                    "failed to get auth kind",
                ),
            },
            b'E' => match state {
                State::Start | State::Asked(_) => Step::Refused,
                _ => failed(
                    "authentication failed",
                    &messages::error_message(body)
                        .unwrap_or_else(|| "backend throws authentication error".to_owned()),
                ),
            },
            other => failed(
                "backend authentication failed",
                &format!(
                    "backend response with kind '{}' when expecting 'R'",
                    char::from(other).escape_default()
                ),
            ),
        }
    }

    /// Answers what the backend asked for; `nonce` is for SCRAM and must be new.
    pub fn answer(&mut self, user: &str, credential: &Credential, nonce: String) -> Step {
        let State::Asked(request) = self.state else {
            self.state = State::Failed;
            return failed("failed to authenticate with backend", "nothing was asked");
        };
        let (state, bytes) = match (request, credential) {
            (Request::Password, Credential::Clear(password)) => (
                State::Answered,
                messages::password_message(password.as_bytes()),
            ),
            (Request::Md5 { salt }, _) => match credential.md5(user) {
                Some(stored) => (
                    State::Answered,
                    messages::password_message(md5_response(&stored, salt).as_bytes()),
                ),
                None => return self.cannot(request, Some(credential)),
            },
            (Request::Scram, Credential::Clear(password)) => {
                self.scram(nonce, ScramSecret::Password(password.clone()))
            }
            (Request::Scram, Credential::ClientKey(key)) => {
                self.scram(nonce, ScramSecret::Key(key.clone()))
            }
            _ => return self.cannot(request, Some(credential)),
        };
        self.state = state;
        Step::Send(bytes)
    }

    fn scram(&self, nonce: String, secret: ScramSecret) -> (State, Vec<u8>) {
        let (mechanism, binding) = match &self.end_point {
            Some(hash) if self.offers_plus => (
                messages::SCRAM_SHA_256_PLUS,
                Binding::EndPoint(hash.clone()),
            ),
            Some(_) => (messages::SCRAM_SHA_256, Binding::NotOffered),
            None => (messages::SCRAM_SHA_256, Binding::Impossible),
        };
        let client = ClientDialogue::new(nonce, binding);
        let first = client.first_message();
        let bytes = messages::sasl_initial_response(mechanism, first.as_bytes());
        (State::ScramFirst { client, secret }, bytes)
    }

    /// The key that [`Step::Derive`] asked for.
    pub fn on_key(&mut self, key: &SaltedPassword) -> Step {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::ScramKey(challenged) => self.prove(challenged.prove(key)),
            _ => failed(
                "failed to authenticate with backend",
                "no key was asked for",
            ),
        }
    }

    fn on_authentication(&mut self, state: State, message: Authentication) -> Step {
        match (state, message) {
            (State::Start | State::Answered | State::ScramVerified, Authentication::Ok) => {
                self.state = State::Ready;
                Step::Ready
            }
            (State::Start, Authentication::CleartextPassword) => self.asks(Request::Password),
            (State::Start, Authentication::Md5Password { salt }) => {
                self.asks(Request::Md5 { salt })
            }
            (State::Start, Authentication::Sasl { mechanisms }) => {
                let offers = |name: &str| mechanisms.iter().any(|m| m == name);
                self.offers_plus = offers(messages::SCRAM_SHA_256_PLUS);
                let bound = self.offers_plus && self.end_point.is_some();
                if bound || offers(messages::SCRAM_SHA_256) {
                    self.asks(Request::Scram)
                } else {
                    failed(
                        "none of the server's SASL authentication mechanisms are supported",
                        "",
                    )
                }
            }
            (State::Start, Authentication::Other(kind)) => failed(
                "failed to authenticate with backend",
                &format!("unsupported auth kind received from backend: authkind:{kind}"),
            ),
            (State::ScramFirst { client, secret }, Authentication::SaslContinue(data)) => {
                let challenged = match client.challenge(&data) {
                    Ok(challenged) => challenged,
                    Err(ServerFault(text)) => return failed(text, ""),
                };
                match secret {
                    ScramSecret::Password(password) => {
                        let request = KeyRequest {
                            password,
                            salt: challenged.salt.clone(),
                            iterations: challenged.iterations,
                        };
                        self.state = State::ScramKey(challenged);
                        Step::Derive(request)
                    }
                    ScramSecret::Key(key) if challenged.asks_for(&key) => {
                        self.prove(challenged.prove_by_key(&key))
                    }
                    ScramSecret::Key(_) => Step::OtherSecret,
                }
            }
            (State::ScramFinal(proven), Authentication::SaslFinal(data)) => {
                match proven.verify(&data) {
                    Ok(()) => {
                        self.state = State::ScramVerified;
                        Step::Wait
                    }
                    Err(ServerFault(text)) => failed(text, ""),
                }
            }
            // Also AuthenticationOk of a server that has not proven to know the password.
            (_, unexpected) => failed(
                "failed to authenticate with backend",
                &format!(
                    "invalid auth kind received from backend: authkind:{}",
                    number_of(&unexpected)
                ),
            ),
        }
    }

    fn prove(&mut self, answer: Result<(String, Proven), ErrorStack>) -> Step {
        match answer {
            Ok((answer, proven)) => {
                self.state = State::ScramFinal(proven);
                Step::Send(messages::sasl_response(answer.as_bytes()))
            }
            Err(e) => Step::Failed(ErrorReport::cryptography(&e)),
        }
    }

    fn asks(&mut self, request: Request) -> Step {
        self.state = State::Asked(request);
        Step::Asks(request)
    }

    fn cannot(&mut self, request: Request, credential: Option<&Credential>) -> Step {
        self.state = State::Failed;
        Step::Failed(request.cannot_be_met(credential))
    }
}

impl Request {
    /// Whether `credential` can answer it.
    pub fn is_met_by(self, credential: &Credential) -> bool {
        matches!(
            (self, credential),
            (_, Credential::Clear(_))
                | (Request::Md5 { .. }, Credential::Md5(_))
                | (Request::Scram, Credential::ClientKey(_))
        )
    }

    /// What the client reads when the password of pool_passwd is of no use, or there is none.
    pub fn cannot_be_met(self, credential: Option<&Credential>) -> ErrorReport {
        let undecryptable = credential == Some(&Credential::Undecryptable);
        match self {
            Request::Md5 { .. } if undecryptable => {
                ErrorReport::undecryptable("md5 authentication failed")
            }
            Request::Scram if undecryptable => {
                ErrorReport::undecryptable("SCRAM authentication failed")
            }
            Request::Password if undecryptable => {
                ErrorReport::undecryptable("clear text password authentication failed")
            }
            Request::Md5 { .. } => ErrorReport::error(
                "failed to authenticate with backend using md5",
                "valid password not found",
            ),
            Request::Scram => ErrorReport::error(
                "failed to authenticate with backend using SCRAM",
                "valid password not found",
            ),
            Request::Password => ErrorReport::error(
                "clear text password authentication failed",
                "unable to get the password",
            ),
        }
    }
}

fn failed(message: &str, detail: &str) -> Step {
    Step::Failed(ErrorReport::error(message, detail))
}

fn number_of(message: &Authentication) -> i32 {
    match message {
        Authentication::Ok => 0,
        Authentication::CleartextPassword => 3,
        Authentication::Md5Password { .. } => 5,
        Authentication::Sasl { .. } => 10,
        Authentication::SaslContinue(_) => 11,
        Authentication::SaslFinal(_) => 12,
        Authentication::Other(kind) => *kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::{
        authentication_cleartext_password, authentication_md5_password, authentication_ok,
        authentication_sasl, authentication_sasl_continue, authentication_sasl_final,
    };

    fn clear() -> Credential {
        Credential::Clear(Password::new("secret"))
    }

    fn says(dialogue: &mut BackendDialogue, bytes: &[u8]) -> Step {
        dialogue.on_message(bytes[0], &bytes[5..])
    }

    #[test]
    fn trust_is_over_at_once() {
        let mut dialogue = BackendDialogue::new();
        assert_eq!(says(&mut dialogue, &authentication_ok()), Step::Ready);
    }

    #[test]
    fn a_password_is_sent_in_clear_text_when_the_backend_asks_for_it() {
        let mut dialogue = BackendDialogue::new();
        assert_eq!(
            says(&mut dialogue, &authentication_cleartext_password()),
            Step::Asks(Request::Password)
        );
        assert_eq!(
            dialogue.answer("u", &clear(), String::new()),
            Step::Send(b"p\0\0\0\x0bsecret\0".to_vec())
        );
        assert_eq!(says(&mut dialogue, &authentication_ok()), Step::Ready);
    }

    #[test]
    fn md5_is_answered_from_the_hash_and_from_clear_text_alike() {
        let hash = Credential::Md5(super::super::password::md5_of_password(b"secret", "u"));
        let answers = [clear(), hash].map(|credential| {
            let mut dialogue = BackendDialogue::new();
            let _ = says(&mut dialogue, &authentication_md5_password([1, 2, 3, 4]));
            dialogue.answer("u", &credential, String::new())
        });
        assert!(matches!(answers[0], Step::Send(_)));
        assert_eq!(answers[0], answers[1]);
    }

    #[test]
    fn a_server_must_prove_that_it_knows_the_password_before_it_says_ok() {
        for premature in [true, false] {
            let mut dialogue = BackendDialogue::new();
            let _ = says(&mut dialogue, &authentication_sasl(false));
            let _ = dialogue.answer("u", &clear(), "abc".to_owned());
            let Step::Derive(request) = says(
                &mut dialogue,
                &authentication_sasl_continue(b"r=abcdef,s=c2FsdA==,i=1"),
            ) else {
                panic!("no key is asked for");
            };
            let _ = dialogue.on_key(&request.derive().unwrap());
            let answer = if premature {
                authentication_ok()
            } else {
                authentication_sasl_final(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
            };
            assert!(matches!(says(&mut dialogue, &answer), Step::Failed(_)));
        }
    }

    #[test]
    fn an_error_before_our_answer_is_the_backends_own_and_after_it_a_failed_login() {
        let error = b"SFATAL\0C28P01\0Mpassword authentication failed for user \"u\"\0\0";
        let mut dialogue = BackendDialogue::new();
        assert_eq!(dialogue.on_message(b'E', error), Step::Refused);

        let mut dialogue = BackendDialogue::new();
        let _ = says(&mut dialogue, &authentication_cleartext_password());
        let _ = dialogue.answer("u", &clear(), String::new());
        assert_eq!(
            dialogue.on_message(b'E', error),
            Step::Failed(ErrorReport::error(
                "authentication failed",
                "password authentication failed for user \"u\""
            ))
        );
    }

    #[test]
    fn what_cannot_be_answered_is_named() {
        let mut dialogue = BackendDialogue::new();
        assert_eq!(
            dialogue.on_message(b'R', &7_i32.to_be_bytes()),
            failed(
                "failed to authenticate with backend",
                "unsupported auth kind received from backend: authkind:7"
            )
        );
        let mut dialogue = BackendDialogue::new();
        assert_eq!(
            dialogue.on_message(b'v', b""),
            failed(
                "backend authentication failed",
                "backend response with kind 'v' when expecting 'R'"
            )
        );
        let mut dialogue = BackendDialogue::new();
        assert!(matches!(
            dialogue.on_message(b'R', b"\0\0"),
            Step::Failed(_)
        ));
        assert!(
            matches!(dialogue.on_message(b'R', b"\0\0\0\0"), Step::Failed(_)),
            "failed for good"
        );
    }
}
