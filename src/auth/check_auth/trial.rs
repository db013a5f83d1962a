//! One login played through in memory: [`SessionAuth`] between a client and backends of our own.
//!
//! The very core that decides about real logins decides here, so that what is foretold is what
//! happens. Nobody's password is in it: the entry of pool_passwd is replaced by one of the same kind
//! for a password that client and backends know.

use std::collections::BTreeMap;

use super::{Asks, Kind};
use crate::{
    auth::{
        backend::{self, BackendDialogue},
        credential::Credential,
        error::ErrorReport,
        frontend::{self, FrontendDialogue, ScramChallenge},
        hba::{Method, Origin},
        messages::{self, Authentication},
        passwd::Secret,
        password::{Password, md5_of_password},
        scram::Verifier,
        session_auth::{Action, HbaVerdict, Inputs, Randomness, SessionAuth},
    },
    cluster::NodeId,
};

const PASSWORD: &str = "the password of the trial";
/// Of that password, with one round.
const VERIFIER: &str = "SCRAM-SHA-256$1:c2FsdCBvZiB0cmlhbHM=$sz7qvxpjlZoaAYQvErgt/0vJUKZ01fXqscrricIEhkA=:X2dPejl30YvzO3XmMr23kWQ9JmpPR3Cv3ErXZJqXiis=";

/// What a login depends on.
#[derive(Clone, Debug)]
pub(super) struct Setting<'a> {
    pub user: &'a str,
    pub database: &'a str,
    pub origin: Origin,
    pub hba: HbaVerdict,
    /// `backend_use_passwd` of the record.
    pub hand_on: bool,
    pub allow_clear_text: bool,
    pub entry: Kind,
    /// What auth_query gives; `None`: it is off.
    pub auth_query: Option<Kind>,
}

/// How a login went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// What the client was asked for, in this order.
    pub asked: Vec<Asked>,
    /// pool_hba.conf let the client go on to the backends.
    pub passed: bool,
    pub ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    ClearText,
    Md5,
    Scram,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    LoggedIn,
    Refused(ErrorReport),
    /// A backend refused the start-up packet.
    RefusedBy(NodeId),
}

/// Whether the client knows the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Knows,
    Guesses,
}

/// Plays a login to `backends`; without any, that of a session to `admin_database`.
pub(super) fn play(setting: &Setting<'_>, backends: &[(NodeId, &Asks)], client: Client) -> Course {
    let failed = |error: ErrorReport| Course {
        asked: Vec::new(),
        passed: false,
        ending: Ending::Refused(error),
    };
    let random = match Randomness::generate() {
        Ok(random) => random,
        Err(e) => {
            let text = format!("no random numbers: {e}");
            return failed(ErrorReport::error("authentication failed", text));
        }
    };
    let has_tls = matches!(setting.origin, Origin::Host { tls: true, .. });
    let mut stage = Stage {
        setting,
        session: SessionAuth::new(Inputs {
            user: setting.user.to_owned(),
            database: setting.database.to_owned(),
            origin: setting.origin,
            hba: setting.hba,
            allow_clear_text: setting.allow_clear_text,
            entry: setting.entry.model(setting.user),
            // A client that has TLS is taken to have the right certificate, too.
            client_name: has_tls.then(|| setting.user.to_owned()),
            // Binding changes who can listen, not who gets in.
            channel_binding: None,
            auth_query: setting.auth_query.is_some(),
            client_key: None,
            random,
        }),
        typed: match client {
            Client::Knows => PASSWORD,
            Client::Guesses => "something else",
        },
        client: None,
        servers: backends
            .iter()
            .map(|&(node, asks)| (node, Server::new(asks, setting)))
            .collect(),
        asked: Vec::new(),
        passed: false,
        ending: None,
    };
    stage.play();
    let ending = stage.ending.unwrap_or_else(|| {
        Ending::Refused(ErrorReport::error(
            "authentication failed",
            "nobody answers any more",
        ))
    });
    Course {
        asked: stage.asked,
        passed: stage.passed,
        ending,
    }
}

struct Stage<'a> {
    setting: &'a Setting<'a>,
    session: SessionAuth,
    typed: &'static str,
    /// The client's side of the present challenge: a client answers as we answer a backend.
    client: Option<BackendDialogue>,
    servers: BTreeMap<NodeId, Server>,
    asked: Vec<Asked>,
    passed: bool,
    ending: Option<Ending>,
}

impl Stage<'_> {
    fn play(&mut self) {
        let actions = self.session.start();
        self.carry_out(actions);
        if !self.passed {
            return;
        }
        let nodes: Vec<NodeId> = self.servers.keys().copied().collect();
        if nodes.is_empty() {
            let actions = self.session.standalone();
            return self.carry_out(actions);
        }
        let actions = self.session.connect(&nodes, None);
        self.carry_out(actions);
        for node in nodes {
            let hello = self.servers.get_mut(&node).map(Server::hello);
            self.say_to_session(node, hello.unwrap_or_default());
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendClient(bytes) => self.tell_client(&bytes),
                Action::SendBackend(node, bytes) => {
                    let server = self.servers.get_mut(&node);
                    let replies = server.map(|s| s.on_message(body_of(&bytes)));
                    self.say_to_session(node, replies.unwrap_or_default());
                }
                Action::DeriveKey(id, request) => {
                    let more = self.session.on_key_derived(id, request.derive());
                    self.carry_out(more);
                }
                Action::LookUp => {
                    let found = self.setting.auth_query.unwrap_or(Kind::Nothing);
                    let more = self.session.on_looked_up(found.model(self.setting.user));
                    self.carry_out(more);
                }
                Action::VerifyPassword(service, password) => {
                    let verdict = if password.as_bytes() == PASSWORD.as_bytes() {
                        Ok(())
                    } else {
                        Err(service.refusal(self.setting.user))
                    };
                    let more = self
                        .session
                        .on_password_verified(verdict, self.setting.hand_on);
                    self.carry_out(more);
                }
                Action::Passed => self.passed = true,
                Action::BackendReady(_) | Action::Log { .. } => {}
                Action::Done(_) => self.end(Ending::LoggedIn),
                Action::ForwardError(node, _) => self.end(Ending::RefusedBy(node)),
                Action::Fail(error) => self.end(Ending::Refused(error)),
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    fn say_to_session(&mut self, node: NodeId, messages: Vec<Vec<u8>>) {
        for message in messages {
            let kind = message.first().copied().unwrap_or_default();
            let more = self
                .session
                .on_backend_message(node, kind, body_of(&message));
            self.carry_out(more);
        }
    }

    fn tell_client(&mut self, message: &[u8]) {
        let body = body_of(message);
        let asked = match Authentication::decode(body) {
            Some(Authentication::CleartextPassword) => Some(Asked::ClearText),
            Some(Authentication::Md5Password { .. }) => Some(Asked::Md5),
            Some(Authentication::Sasl { .. }) => Some(Asked::Scram),
            _ => None,
        };
        if let Some(asked) = asked {
            self.asked.push(asked);
            self.client = Some(BackendDialogue::new());
        }
        let Some(client) = &mut self.client else {
            return;
        };
        let credential = Credential::Clear(Password::new(self.typed));
        let mut step = client.on_message(b'R', body);
        loop {
            step = match step {
                backend::Step::Asks(_) => {
                    client.answer(self.setting.user, &credential, "nonce".to_owned())
                }
                backend::Step::Derive(request) => match request.derive() {
                    Ok(key) => client.on_key(&key),
                    Err(_) => return,
                },
                backend::Step::Send(answer) => {
                    let kind = answer.first().copied().unwrap_or_default();
                    let more = self.session.on_client_message(kind, body_of(&answer));
                    return self.carry_out(more);
                }
                _ => return,
            };
        }
    }
}

/// PostgreSQL, as far as it asks for passwords.
struct Server {
    user: String,
    asks: Asks,
    knows: Credential,
    dialogue: Option<FrontendDialogue>,
}

impl Server {
    fn new(asks: &Asks, setting: &Setting<'_>) -> Server {
        // A server whose SCRAM secret is that of pool_passwd holds the same verifier.
        let same = matches!(asks, Asks::Scram { same_secret: true });
        let verifier = Verifier::parse(VERIFIER).filter(|_| same);
        Server {
            user: setting.user.to_owned(),
            asks: asks.clone(),
            knows: verifier.map_or_else(
                || Credential::Clear(Password::new(PASSWORD)),
                Credential::Verifier,
            ),
            dialogue: None,
        }
    }

    fn hello(&mut self) -> Vec<Vec<u8>> {
        let knows = Some(self.knows.clone());
        let step = match &self.asks {
            Asks::Nothing => return vec![messages::authentication_ok()],
            Asks::Other(kind) => return vec![request(*kind)],
            Asks::Refused(error) => return vec![error_response(&error.message)],
            Asks::Password => FrontendDialogue::clear_text(&self.user, knows),
            Asks::Md5 => FrontendDialogue::md5(&self.user, knows.as_ref(), [1, 2, 3, 4]),
            Asks::Scram { .. } => {
                let challenge = ScramChallenge {
                    salt: b"salt of the server".to_vec(),
                    nonce: "nonce-of-the-server".to_owned(),
                    binding: None,
                };
                FrontendDialogue::scram(&self.user, knows.as_ref(), challenge)
            }
        };
        self.step(step)
    }

    fn on_message(&mut self, body: &[u8]) -> Vec<Vec<u8>> {
        match self.dialogue.take() {
            Some(dialogue) => {
                let step = dialogue.on_message(b'p', body);
                self.step(step)
            }
            None => Vec::new(),
        }
    }

    fn step(&mut self, mut step: frontend::Step) -> Vec<Vec<u8>> {
        loop {
            step = match step {
                frontend::Step::Ask(dialogue, request) => {
                    self.dialogue = Some(dialogue);
                    return vec![request];
                }
                frontend::Step::Derive(dialogue, request) => match request.derive() {
                    Ok(key) => dialogue.on_key(&key),
                    Err(_) => return Vec::new(),
                },
                frontend::Step::Passed(passed) => {
                    let ok = messages::authentication_ok();
                    return passed.send.into_iter().chain([ok]).collect();
                }
                frontend::Step::Failed(error) => return vec![error_response(&error.message)],
            };
        }
    }
}

impl Kind {
    /// An entry of this kind for the password of the trial.
    fn model(self, user: &str) -> Option<Secret> {
        match self {
            Kind::Nothing => None,
            Kind::Clear => Some(Secret::Clear(PASSWORD.to_owned())),
            Kind::Md5 => Some(Secret::Md5(md5_of_password(PASSWORD.as_bytes(), user))),
            Kind::Verifier => Some(Secret::ScramVerifier(VERIFIER.to_owned())),
            Kind::BadVerifier => Some(Secret::ScramVerifier("SCRAM-SHA-256$".to_owned())),
            Kind::Undecryptable => Some(Secret::Undecryptable),
        }
    }
}

impl Setting<'_> {
    pub fn method(&self) -> Option<Method> {
        match self.hba {
            HbaVerdict::Method(method) => Some(method),
            _ => None,
        }
    }
}

/// A message without its type and length.
fn body_of(message: &[u8]) -> &[u8] {
    message.get(5..).unwrap_or_default()
}

fn request(kind: i32) -> Vec<u8> {
    let mut bytes = b"R\0\0\0\x08".to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes
}

/// The length is nobody's business here.
fn error_response(message: &str) -> Vec<u8> {
    let mut bytes = b"E\0\0\0\0SFATAL\0C28P01\0M".to_vec();
    bytes.extend(message.as_bytes());
    bytes.extend(b"\0\0");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_of_the_trial_is_that_of_its_password() {
        let verifier = Verifier::parse(VERIFIER).unwrap();
        let request = crate::auth::keys::KeyRequest {
            password: Password::new(PASSWORD),
            salt: verifier.salt.clone(),
            iterations: verifier.iterations,
        };
        let keys = crate::auth::scram::ServerKeys::of(&request.derive().unwrap()).unwrap();
        assert_eq!(keys, verifier.keys);
    }
}
