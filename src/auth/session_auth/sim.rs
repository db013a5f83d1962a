//! A client and backends in memory, to drive [`SessionAuth`] as its shell does.

use super::*;
use crate::auth::{
    frontend::{MAX_PASSWORD_MESSAGE, Step},
    messages::{Authentication, password_message, sasl_initial_response, sasl_response},
    password::{md5_of_password, md5_response},
    scram::client::{ClientDialogue, Proven},
};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "secret";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Trust,
    Md5,
    Scram,
    Password,
}

/// pool_passwd has for the user ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    None,
    Clear,
    Md5,
    Verifier,
}

impl Entry {
    pub fn secret(self) -> Option<Secret> {
        match self {
            Entry::None => None,
            Entry::Clear => Some(Secret::Clear(PASSWORD.to_owned())),
            Entry::Md5 => Some(Secret::Md5(md5_of_password(PASSWORD.as_bytes(), USER))),
            Entry::Verifier => Some(Secret::ScramVerifier(
                include_str!("../../../fixtures/auth/verifier-of-secret.txt")
                    .trim_end()
                    .to_owned(),
            )),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub hba: HbaVerdict,
    pub allow_clear_text: bool,
    pub entry: Entry,
}

impl Setting {
    pub fn session(self) -> SessionAuth {
        SessionAuth::new(Inputs {
            user: USER.to_owned(),
            database: "postgres".to_owned(),
            origin: Origin::Local,
            hba: self.hba,
            allow_clear_text: self.allow_clear_text,
            entry: self.entry.secret(),
            random: Randomness::generate().unwrap(),
        })
    }
}

/// How a session ended, and the authentication codes that the client saw on the way.
#[derive(Debug, Default)]
pub struct Outcome {
    pub codes: Vec<i32>,
    pub done: Option<Remembered>,
    pub error: Option<ErrorReport>,
    pub derived: usize,
}

impl Outcome {
    /// As in the table: `5,0` or `3 E3`.
    pub fn text(&self) -> String {
        let codes: Vec<String> = self.codes.iter().map(i32::to_string).collect();
        let codes = codes.join(",");
        match &self.error {
            None => codes,
            Some(error) => format!("{codes} {}", short(error)).trim_start().to_owned(),
        }
    }
}

/// The names that the table gives to errors.
fn short(error: &ErrorReport) -> String {
    let with_entry = |message: &str, kind: &str| {
        (
            message.to_owned(),
            format!("pool_passwd file does not contain {kind} for \"{USER}\""),
        )
    };
    let pair = (error.message.clone(), error.detail.clone());
    let known = |id: &str| id.to_owned();
    if pair == with_entry("md5 authentication failed", "an entry") {
        return known("E4");
    }
    if pair == with_entry("SCRAM authentication failed", "an entry") {
        return known("E5");
    }
    if pair == with_entry("SCRAM authentication failed", "valid SCRAM entry") {
        return known("E6");
    }
    match (&*error.message, &*error.detail) {
        ("failed to authenticate with backend using md5", "valid password not found") => {
            known("E1")
        }
        ("failed to authenticate with backend using SCRAM", "valid password not found") => {
            known("E2")
        }
        ("clear text password authentication failed", "unable to get the password") => known("E3"),
        (message, detail) => format!("{message}/{detail}"),
    }
}

/// A session against new connections to two backends of the same kind.
pub fn fresh(setting: Setting, backend: Backend, typed: &str) -> Outcome {
    Run::new(setting.session(), &[backend; 2], typed).go(None)
}

/// A session on a cached connection.
pub fn reused(setting: Setting, remembered: &Remembered, typed: &str) -> Outcome {
    Run::new(setting.session(), &[], typed).go(Some(remembered))
}

pub fn mixed(setting: Setting, backends: &[Backend], typed: &str) -> Outcome {
    Run::new(setting.session(), backends, typed).go(None)
}

pub fn standalone(setting: Setting, typed: &str) -> Outcome {
    let mut run = Run::new(setting.session(), &[], typed);
    let actions = run.session.start();
    if run.carry_out(actions) {
        let actions = run.session.standalone();
        run.carry_out(actions);
    }
    run.outcome
}

struct Run {
    session: SessionAuth,
    backends: Vec<Server>,
    client: Client,
    outcome: Outcome,
}

impl Run {
    fn new(session: SessionAuth, backends: &[Backend], typed: &str) -> Run {
        Run {
            session,
            backends: backends.iter().map(|&kind| Server::new(kind)).collect(),
            client: Client {
                typed: typed.to_owned(),
                scram: None,
                proven: None,
            },
            outcome: Outcome::default(),
        }
    }

    fn go(mut self, remembered: Option<&Remembered>) -> Outcome {
        let actions = self.session.start();
        if !self.carry_out(actions) {
            return self.outcome;
        }
        let nodes: Vec<NodeId> = (0..self.backends.len()).collect();
        let actions = self.session.connect(&nodes, remembered);
        self.carry_out(actions);
        for node in nodes {
            let hello = self.backends[node].hello();
            let actions = self.session.on_backend_message(node, hello[0], &hello[5..]);
            self.carry_out(actions);
        }
        self.outcome
    }

    /// Whether [`Action::Passed`] was among the actions.
    fn carry_out(&mut self, actions: Vec<Action>) -> bool {
        let mut passed = false;
        for action in actions {
            let more = match action {
                Action::SendClient(bytes) => self.send_client(&bytes),
                Action::SendBackend(node, bytes) => {
                    let mut more = Vec::new();
                    for reply in self.backends[node].on_message(&bytes[5..]) {
                        more.extend(self.session.on_backend_message(node, reply[0], &reply[5..]));
                    }
                    more
                }
                Action::DeriveKey(id, request) => {
                    self.outcome.derived += 1;
                    self.session.on_key_derived(id, request.derive())
                }
                Action::Passed => {
                    passed = true;
                    Vec::new()
                }
                Action::BackendReady(_) | Action::Log { .. } => Vec::new(),
                Action::Done(remembered) => {
                    self.outcome.done = Some(remembered);
                    Vec::new()
                }
                Action::ForwardError(..) => panic!("no backend refuses a start-up packet here"),
                Action::Fail(error) => {
                    self.outcome.error = Some(error);
                    Vec::new()
                }
            };
            passed |= self.carry_out(more);
        }
        passed
    }

    fn send_client(&mut self, bytes: &[u8]) -> Vec<Action> {
        assert_eq!(bytes[0], b'R');
        self.outcome
            .codes
            .push(i32::from_be_bytes(bytes[5..9].try_into().unwrap()));
        let Some(reply) = self.client.on_message(&bytes[5..]) else {
            return Vec::new();
        };
        assert!(self.session.wants_client());
        self.session.on_client_message(reply[0], &reply[5..])
    }
}

struct Client {
    typed: String,
    scram: Option<ClientDialogue>,
    proven: Option<Proven>,
}

impl Client {
    fn on_message(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let typed = self.typed.as_bytes();
        match Authentication::decode(body).unwrap() {
            Authentication::Ok => None,
            Authentication::CleartextPassword => Some(password_message(typed)),
            Authentication::Md5Password { salt } => {
                let answer = md5_response(&md5_of_password(typed, USER), salt);
                Some(password_message(answer.as_bytes()))
            }
            Authentication::Sasl { .. } => {
                let scram = ClientDialogue::new("client nonce".replace(' ', "-"));
                let first = sasl_initial_response(scram.first_message().as_bytes());
                self.scram = Some(scram);
                Some(first)
            }
            Authentication::SaslContinue(data) => {
                let challenged = self.scram.take().unwrap().challenge(&data).unwrap();
                let request = KeyRequest {
                    password: Password::new(typed),
                    salt: challenged.salt.clone(),
                    iterations: challenged.iterations,
                };
                let (answer, proven) = challenged.prove(&request.derive().unwrap()).unwrap();
                self.proven = Some(proven);
                Some(sasl_response(answer.as_bytes()))
            }
            Authentication::SaslFinal(data) => {
                assert_eq!(self.proven.take().unwrap().verify(&data), Ok(()));
                None
            }
            Authentication::Other(kind) => panic!("unknown request {kind}"),
        }
    }
}

/// PostgreSQL, as far as it asks for passwords.
struct Server {
    kind: Backend,
    dialogue: Option<FrontendDialogue>,
}

impl Server {
    fn new(kind: Backend) -> Server {
        Server {
            kind,
            dialogue: None,
        }
    }

    fn hello(&mut self) -> Vec<u8> {
        let known = Credential::Clear(Password::new(PASSWORD));
        let step = match self.kind {
            Backend::Trust => return messages::authentication_ok(),
            Backend::Password => FrontendDialogue::clear_text(USER, Some(known)),
            Backend::Md5 => FrontendDialogue::md5(USER, Some(&known), [0, 255, 3, 4]),
            Backend::Scram => FrontendDialogue::scram(
                USER,
                Some(&known),
                b"salt of both".to_vec(),
                "server-nonce".to_owned(),
            ),
        };
        self.step(step).remove(0)
    }

    fn on_message(&mut self, body: &[u8]) -> Vec<Vec<u8>> {
        assert!(body.len() <= MAX_PASSWORD_MESSAGE + 1);
        let dialogue = self.dialogue.take().unwrap();
        let step = dialogue.on_message(b'p', body);
        self.step(step)
    }

    fn step(&mut self, step: Step) -> Vec<Vec<u8>> {
        match step {
            Step::Ask(dialogue, bytes) => {
                self.dialogue = Some(dialogue);
                vec![bytes]
            }
            Step::Derive(dialogue, request) => {
                let step = dialogue.on_key(&request.derive().unwrap());
                self.step(step)
            }
            Step::Passed(passed) => passed
                .send
                .into_iter()
                .chain([messages::authentication_ok()])
                .collect(),
            Step::Failed(_) => {
                let fields = format!(
                    "SFATAL\0C28P01\0Mpassword authentication failed for user \"{USER}\"\0\0"
                );
                let mut bytes = vec![b'E', 0, 0, 0, 0];
                bytes.extend(fields.as_bytes());
                vec![bytes]
            }
        }
    }
}
