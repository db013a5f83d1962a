//! A client and backends in memory, to drive [`SessionAuth`] as its shell does.

use std::time::{Duration, Instant};

use super::*;
use crate::auth::{
    frontend::{MAX_PASSWORD_MESSAGE, Step},
    keys::DerivedKeys,
    messages::{
        Authentication, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, password_message, sasl_initial_response,
        sasl_response,
    },
    password::{md5_of_password, md5_response},
    scram::{
        Verifier,
        client::{Binding, ClientDialogue, Proven},
    },
};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "secret";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Trust,
    Md5,
    Scram,
    /// SCRAM with the verifier of [`Entry::Verifier`], so that the key of a client opens it.
    ScramVerifier,
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
    /// What auth_query gives; `None`: it is off.
    pub auth_query: Option<Entry>,
    /// The common name of the client's certificate.
    pub client_name: Option<&'static str>,
    /// Both connections of the proxy have TLS, with these end points.
    pub end_points: Option<[&'static str; 2]>,
    /// What PAM and LDAP take for right.
    pub outside: &'static str,
    /// `backend_use_passwd`.
    pub hand_on: bool,
}

impl Setting {
    pub fn new(hba: HbaVerdict, allow_clear_text: bool, entry: Entry) -> Setting {
        Setting {
            hba,
            allow_clear_text,
            entry,
            auth_query: None,
            client_name: None,
            end_points: None,
            outside: PASSWORD,
            hand_on: false,
        }
    }

    pub fn session(self) -> SessionAuth {
        SessionAuth::new(self.inputs())
    }

    pub fn inputs(self) -> Inputs {
        Inputs {
            user: USER.to_owned(),
            database: "postgres".to_owned(),
            origin: Origin::Local,
            hba: self.hba,
            allow_clear_text: self.allow_clear_text,
            entry: self.entry.secret(),
            client_name: self.client_name.map(str::to_owned),
            channel_binding: self.end_points.map(|[ours, _]| ours.as_bytes().to_vec()),
            auth_query: self.auth_query.is_some(),
            client_key: None,
            random: Randomness::generate().unwrap(),
        }
    }
}

/// How a session ended, and the authentication codes that the client saw on the way.
#[derive(Debug, Default)]
pub struct Outcome {
    pub codes: Vec<i32>,
    pub done: Option<Remembered>,
    pub error: Option<ErrorReport>,
    pub derived: usize,
    pub looked_up: usize,
    /// What the client's proof has shown.
    pub key: Option<ClientKey>,
    pub logged: Vec<String>,
    pub may_be_a_guess: bool,
    /// The longest time that one event has taken.
    pub longest: Duration,
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
    if pair == with_entry("clear text authentication failed", "an entry") {
        return known("E7");
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
    Run::new(setting, &[backend; 2], typed).go(None)
}

/// The same for a user whose key is known from an earlier login.
pub fn fresh_with_key(
    setting: Setting,
    backend: Backend,
    typed: &str,
    key: Option<ClientKey>,
) -> Outcome {
    let mut run = Run::new(setting, &[backend; 2], typed);
    run.session = SessionAuth::new(Inputs {
        client_key: key,
        ..setting.inputs()
    });
    run.go(None)
}

/// A session on a cached connection.
pub fn reused(setting: Setting, remembered: &Remembered, typed: &str) -> Outcome {
    Run::new(setting, &[], typed).go(Some(remembered))
}

pub fn mixed(setting: Setting, backends: &[Backend], typed: &str) -> Outcome {
    Run::new(setting, backends, typed).go(None)
}

pub fn standalone(setting: Setting, typed: &str) -> Outcome {
    let mut run = Run::new(setting, &[], typed);
    let actions = run.session.start();
    if run.carry_out(actions) {
        let actions = run.session.standalone();
        run.carry_out(actions);
    }
    run.outcome
}

struct Run {
    setting: Setting,
    session: SessionAuth,
    backends: Vec<Server>,
    client: Client,
    outcome: Outcome,
}

impl Run {
    fn new(setting: Setting, backends: &[Backend], typed: &str) -> Run {
        let server = |&kind| Server {
            kind,
            end_point: setting.end_points.map(|[_, theirs]| theirs),
            dialogue: None,
        };
        Run {
            setting,
            session: setting.session(),
            backends: backends.iter().map(server).collect(),
            client: Client {
                typed: typed.to_owned(),
                end_point: setting.end_points.map(|[ours, _]| ours),
                scram: None,
                proven: None,
            },
            outcome: Outcome::default(),
        }
    }

    fn go(mut self, remembered: Option<&Remembered>) -> Outcome {
        let actions = self.step(SessionAuth::start);
        if self.carry_out(actions) {
            self.connect(remembered);
        }
        self.outcome.key = self.session.client_key().cloned();
        self.outcome.may_be_a_guess = self.session.may_be_a_guess();
        self.outcome
    }

    fn step(&mut self, event: impl FnOnce(&mut SessionAuth) -> Vec<Action>) -> Vec<Action> {
        let began = Instant::now();
        let actions = event(&mut self.session);
        self.outcome.longest = self.outcome.longest.max(began.elapsed());
        actions
    }

    fn connect(&mut self, remembered: Option<&Remembered>) {
        let nodes: Vec<NodeId> = (0..self.backends.len()).collect();
        let actions = self.step(|session| session.connect(&nodes, remembered));
        if let Some([_, theirs]) = self.setting.end_points {
            for &node in &nodes {
                self.session
                    .backend_channel_binding(node, theirs.as_bytes().to_vec());
            }
        }
        self.carry_out(actions);
        for node in nodes {
            let hello = self.backends[node].hello();
            let actions =
                self.step(|session| session.on_backend_message(node, hello[0], &hello[5..]));
            self.carry_out(actions);
        }
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
                        more.extend(self.step(|session| {
                            session.on_backend_message(node, reply[0], &reply[5..])
                        }));
                    }
                    more
                }
                Action::DeriveKey(id, request) => {
                    self.outcome.derived += 1;
                    {
                        let key = derived(&request);
                        self.step(|session| session.on_key_derived(id, Ok(key)))
                    }
                }
                Action::Passed => {
                    passed = true;
                    Vec::new()
                }
                Action::LookUp => {
                    self.outcome.looked_up += 1;
                    let found = self.setting.auth_query.expect("it is off");
                    self.session.on_looked_up(found.secret())
                }
                Action::VerifyPassword(service, password) => {
                    let right = password.as_bytes() == self.setting.outside.as_bytes();
                    let verdict = right.then_some(()).ok_or(service.refusal(USER));
                    self.session
                        .on_password_verified(verdict, self.setting.hand_on)
                }
                Action::Log { message, .. } => {
                    self.outcome.logged.push(message.into_owned());
                    Vec::new()
                }
                Action::BackendReady(_) => Vec::new(),
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
        if self.outcome.error.is_some() {
            return Vec::new();
        }
        assert!(self.session.wants_client());
        self.step(|session| session.on_client_message(reply[0], &reply[5..]))
    }
}

/// As the shell does it: each key once.
fn derived(request: &KeyRequest) -> SaltedPassword {
    static KEYS: std::sync::LazyLock<DerivedKeys> = std::sync::LazyLock::new(DerivedKeys::default);
    KEYS.get(request).unwrap_or_else(|| {
        let key = request.derive().unwrap();
        KEYS.insert(request, key.clone());
        key
    })
}

struct Client {
    typed: String,
    end_point: Option<&'static str>,
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
            Authentication::Sasl { mechanisms } => {
                let offered = mechanisms.iter().any(|m| m == SCRAM_SHA_256_PLUS);
                assert_eq!(offered, self.end_point.is_some());
                let (mechanism, binding) = match self.end_point {
                    Some(hash) => (
                        SCRAM_SHA_256_PLUS,
                        Binding::EndPoint(hash.as_bytes().to_vec()),
                    ),
                    None => (SCRAM_SHA_256, Binding::Impossible),
                };
                let scram = ClientDialogue::new("client-nonce".to_owned(), binding);
                let first = sasl_initial_response(mechanism, scram.first_message().as_bytes());
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
                let (answer, proven) = challenged.prove(&derived(&request)).unwrap();
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
    end_point: Option<&'static str>,
    dialogue: Option<FrontendDialogue>,
}

impl Server {
    fn scram(&self, known: &Credential) -> Step {
        let challenge = ScramChallenge {
            salt: b"salt of both".to_vec(),
            nonce: "server-nonce".to_owned(),
            binding: self.end_point.map(|hash| hash.as_bytes().to_vec()),
        };
        FrontendDialogue::scram(USER, Some(known), challenge)
    }

    fn hello(&mut self) -> Vec<u8> {
        let known = Credential::Clear(Password::new(PASSWORD));
        let step = match self.kind {
            Backend::Trust => return messages::authentication_ok(),
            Backend::Password => FrontendDialogue::clear_text(USER, Some(known)),
            Backend::Md5 => FrontendDialogue::md5(USER, Some(&known), [0, 255, 3, 4]),
            Backend::Scram => self.scram(&known),
            Backend::ScramVerifier => {
                let text = include_str!("../../../fixtures/auth/verifier-of-secret.txt");
                let verifier = Verifier::parse(text.trim_end()).unwrap();
                self.scram(&Credential::Verifier(verifier))
            }
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
                let step = dialogue.on_key(&derived(&request));
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
