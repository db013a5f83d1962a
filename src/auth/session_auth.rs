//! Authentication at the start of a session: client, proxy and backends together.
//!
//! Order of events, as in the original:
//!
//! 1. [`SessionAuth::start`]: pool_hba.conf decides and the client is asked, before any backend is
//!    contacted. At [`Action::Passed`] the shell looks for a cached connection.
//! 2. [`SessionAuth::connect`] with the nodes whose connections are new, and with what is remembered
//!    of a cached one; or [`SessionAuth::standalone`] when no backend is needed (`admin_database`).
//! 3. Messages go in, actions come out, until [`Action::Done`] or a failure. AuthenticationOk is
//!    part of the last actions.
//!
//! The shell reads the client only while [`SessionAuth::wants_client`] says so.
//!
//! A cached connection never lets anybody in who would be asked on a new one; the original does in
//! two cases (pool_hba `trust`, backend `password`, clear text allowed).
//!
//! Source: `pool_do_auth`, `pool_do_reauth`, `get_auth_password` in `src/auth/pool_auth.c @ V4_3_5` with
//! the changes for CVE-2025-46801; order and codes as measured on Debian's 4.3.5.

mod random;
mod rules;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use openssl::error::ErrorStack;

use super::{
    backend::{self, BackendDialogue, Request},
    credential::{Credential, no_entry},
    error::ErrorReport,
    frontend::{self, FrontendDialogue, Passed},
    hba::{Hba, Method, Origin},
    keys::{KeyRequest, SaltedPassword},
    messages,
    passwd::Secret,
    password::Password,
};
use crate::cluster::NodeId;

pub use random::Randomness;
use rules::Plan;

/// What a session knows when its start-up packet has been read.
#[derive(Debug)]
pub struct Inputs {
    pub user: String,
    pub database: String,
    pub origin: Origin,
    pub hba: HbaVerdict,
    /// `allow_clear_text_frontend_auth`.
    pub allow_clear_text: bool,
    /// [`super::passwd::PoolPasswd::get`] of the user.
    pub entry: Option<Secret>,
    pub random: Randomness,
}

/// What pool_hba.conf says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HbaVerdict {
    /// `enable_pool_hba = off`.
    Off,
    /// The file is missing or bad.
    Unusable,
    /// No record matches.
    NoRecord,
    Method(Method),
}

/// What the shell has to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    SendClient(Vec<u8>),
    SendBackend(NodeId, Vec<u8>),
    /// Derive off the session threads (or take from [`super::keys::DerivedKeys`]), then
    /// [`SessionAuth::on_key_derived`] with this id.
    DeriveKey(u32, KeyRequest),
    /// pool_hba.conf lets the client go on: look for cached connections, then [`SessionAuth::connect`].
    Passed,
    /// The backend has said AuthenticationOk; what it sends from now on is not for this core.
    BackendReady(NodeId),
    /// An entry for the log, severity LOG.
    Log {
        message: &'static str,
        detail: &'static str,
        hint: &'static str,
    },
    /// All are authenticated. Keep this with the backend connections when they are cached.
    Done(Remembered),
    /// Send this ErrorResponse body of the node to the client as it is, then close.
    ForwardError(NodeId, Vec<u8>),
    /// Send this to the client, then close.
    Fail(ErrorReport),
}

/// How a set of backend connections was authenticated; decides what the next client is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    pub method: RememberedMethod,
    /// The password that a client told us and a backend accepted.
    pub password: Option<Password>,
}

/// The strictest request among the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RememberedMethod {
    #[default]
    Trust,
    Md5,
    ScramSha256,
    Password,
}

/// See the module's description.
#[derive(Debug)]
pub struct SessionAuth {
    user: String,
    database: String,
    origin: Origin,
    hba: HbaVerdict,
    allow_clear_text: bool,
    entry: Option<Credential>,
    random: Randomness,

    stage: Stage,
    /// The client is being asked, or its key is being derived.
    dialogue: Option<FrontendDialogue>,
    /// The proxy itself has made sure of the client, or pool_hba says trust.
    authenticated: bool,
    /// Clear text that the client sent.
    client_password: Option<Password>,
    nodes: BTreeMap<NodeId, Node>,
    remembered: Option<Remembered>,
    keys: Vec<PendingKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// pool_hba.conf decides.
    Hba,
    /// The shell looks for connections.
    Passed,
    /// The client of a cached connection is asked.
    Reauthenticating,
    /// Backends log us in; the client may be asked on the way.
    Connecting,
    Standalone,
    Over,
}

#[derive(Debug, Default)]
struct Node {
    dialogue: BackendDialogue,
    request: Option<Request>,
    answered: bool,
    ready: bool,
    /// The password sent was the client's own, so that the backend has judged it.
    client_judged: bool,
}

#[derive(Debug)]
struct PendingKey {
    request: KeyRequest,
    key: Option<SaltedPassword>,
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Client,
    Node(NodeId),
}

impl SessionAuth {
    pub fn new(inputs: Inputs) -> SessionAuth {
        SessionAuth {
            user: inputs.user,
            database: inputs.database,
            origin: inputs.origin,
            hba: inputs.hba,
            allow_clear_text: inputs.allow_clear_text,
            entry: inputs.entry.map(Credential::from),
            random: inputs.random,
            stage: Stage::Hba,
            dialogue: None,
            authenticated: false,
            client_password: None,
            nodes: BTreeMap::new(),
            remembered: None,
            keys: Vec::new(),
        }
    }

    /// Does what pool_hba.conf asks for.
    pub fn start(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let plan = match self.hba {
            HbaVerdict::Off => Plan::Nothing,
            HbaVerdict::Unusable => Plan::Fail(Hba::unusable()),
            HbaVerdict::NoRecord | HbaVerdict::Method(Method::Reject) => {
                Plan::Fail(Hba::rejection(self.origin, &self.user, &self.database))
            }
            HbaVerdict::Method(Method::Trust) => {
                self.authenticated = true;
                Plan::Nothing
            }
            HbaVerdict::Method(Method::Md5) => Plan::AskMd5(self.entry.clone()),
            HbaVerdict::Method(Method::ScramSha256) => Plan::AskScram(self.entry.clone()),
            HbaVerdict::Method(Method::Password) => Plan::AskClearText,
            // The start is refused with such a record; a reload must not open a door either.
            HbaVerdict::Method(later @ (Method::Cert | Method::Pam | Method::Ldap)) => {
                Plan::Fail(ErrorReport::fatal(
                    "client authentication failed",
                    format!(
                        "authentication method \"{}\" of pool_hba.conf is not supported",
                        later.word()
                    ),
                ))
            }
        };
        self.carry_out(plan, &mut actions);
        actions
    }

    /// Goes on with new connections to `nodes` (start-up packets sent or about to be) and with the
    /// connections that `remembered` belongs to. One of the two must be there.
    pub fn connect(&mut self, nodes: &[NodeId], remembered: Option<&Remembered>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stage != Stage::Passed {
            self.fail(frontend::out_of_turn(), &mut actions);
            return actions;
        }
        self.nodes = nodes.iter().map(|&n| (n, Node::default())).collect();
        self.remembered = remembered.cloned();
        self.stage = Stage::Reauthenticating;
        let plan = match &self.remembered {
            Some(remembered) => self.plan_reauthentication(remembered),
            None => Plan::Nothing,
        };
        self.carry_out(plan, &mut actions);
        actions
    }

    /// Goes on without any backend: the client must be known to pool_hba.conf or pool_passwd.
    pub fn standalone(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stage != Stage::Passed {
            self.fail(frontend::out_of_turn(), &mut actions);
            return actions;
        }
        self.stage = Stage::Standalone;
        let plan = match &self.entry {
            _ if self.authenticated => Plan::Nothing,
            Some(Credential::Md5(_)) => Plan::AskMd5(self.entry.clone()),
            Some(_) => Plan::AskScram(self.entry.clone()),
            None => Plan::Fail(no_entry("client authentication failed", &self.user)),
        };
        self.carry_out(plan, &mut actions);
        actions
    }

    /// Whether the client has been asked and its next message is wanted.
    pub fn wants_client(&self) -> bool {
        self.dialogue.is_some() && !self.client_waits_for_key()
    }

    /// Whether a message of the client may be read: its type and the length of its body. Call it
    /// before reading the body, which bounds the memory a stranger can claim.
    ///
    /// # Errors
    ///
    /// What to tell the client before its connection is closed.
    pub fn check_client_header(&self, kind: u8, length: usize) -> Result<(), ErrorReport> {
        frontend::check_header(kind, length)
    }

    /// A message of the client, when it is wanted: its type and its body.
    pub fn on_client_message(&mut self, kind: u8, body: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        let wanted = self.wants_client();
        match self.dialogue.take() {
            Some(dialogue) if wanted => {
                let step = dialogue.on_message(kind, body);
                self.client_step(step, &mut actions);
            }
            _ => self.fail(frontend::out_of_turn(), &mut actions),
        }
        actions
    }

    /// A message of a backend before its AuthenticationOk: its type and its body. Notices and
    /// NegotiateProtocolVersion are the shell's and do not come here.
    pub fn on_backend_message(&mut self, node: NodeId, kind: u8, body: &[u8]) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stage == Stage::Over {
            return actions;
        }
        if let Some(entry) = self.nodes.get_mut(&node) {
            let step = entry.dialogue.on_message(kind, body);
            self.backend_step(node, step, body, &mut actions);
        }
        self.advance(&mut actions);
        actions
    }

    /// The connection to a node is given up, and the session goes on without it.
    pub fn drop_node(&mut self, node: NodeId) -> Vec<Action> {
        let mut actions = Vec::new();
        self.nodes.remove(&node);
        self.advance(&mut actions);
        actions
    }

    /// The answer to [`Action::DeriveKey`].
    pub fn on_key_derived(
        &mut self,
        id: u32,
        key: Result<SaltedPassword, ErrorStack>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let key = match key {
            Ok(key) => key,
            Err(e) => {
                self.fail(ErrorReport::cryptography(&e), &mut actions);
                return actions;
            }
        };
        let Some(pending) = self.keys.get_mut(id as usize) else {
            return actions;
        };
        pending.key = Some(key.clone());
        for waiting in std::mem::take(&mut pending.waiting) {
            if self.stage == Stage::Over {
                break;
            }
            self.key_known(waiting, &key, &mut actions);
        }
        self.advance(&mut actions);
        actions
    }

    fn carry_out(&mut self, plan: Plan, actions: &mut Vec<Action>) {
        let step = match plan {
            Plan::Nothing | Plan::Answer(_) => return self.stage_over(actions),
            Plan::Compare => {
                return match self.compare_with_remembered() {
                    Ok(()) => self.stage_over(actions),
                    Err(error) => self.fail(error, actions),
                };
            }
            Plan::Fail(error) => return self.fail(error, actions),
            Plan::AskClearText => FrontendDialogue::clear_text(&self.user, self.entry.clone()),
            Plan::AskMd5(basis) => {
                FrontendDialogue::md5(&self.user, basis.as_ref(), self.random.md5_salt)
            }
            Plan::AskScram(basis) => FrontendDialogue::scram(
                &self.user,
                basis.as_ref(),
                self.random.scram_salt(&self.user),
                self.random.server_nonce(),
            ),
        };
        self.client_step(step, actions);
    }

    fn client_step(&mut self, step: frontend::Step, actions: &mut Vec<Action>) {
        match step {
            frontend::Step::Ask(dialogue, request) => {
                self.dialogue = Some(dialogue);
                actions.push(Action::SendClient(request));
            }
            frontend::Step::Derive(dialogue, request) => {
                self.dialogue = Some(dialogue);
                self.want_key(Waiting::Client, request, actions);
            }
            frontend::Step::Passed(passed) => self.client_passed(passed, actions),
            frontend::Step::Failed(error) => self.fail(error, actions),
        }
    }

    fn client_passed(&mut self, passed: Passed, actions: &mut Vec<Action>) {
        actions.extend(passed.send.map(Action::SendClient));
        self.authenticated |= passed.checked;
        if let Some(password) = passed.password {
            self.client_password = Some(password);
            if self.stage == Stage::Reauthenticating
                && !passed.checked
                && let Err(error) = self.compare_with_remembered()
            {
                return self.fail(error, actions);
            }
        }
        self.stage_over(actions);
    }

    /// The client of the present stage needs no (more) asking.
    fn stage_over(&mut self, actions: &mut Vec<Action>) {
        match self.stage {
            Stage::Hba => {
                self.stage = Stage::Passed;
                actions.push(Action::Passed);
            }
            Stage::Reauthenticating => {
                self.stage = Stage::Connecting;
                self.advance(actions);
            }
            Stage::Connecting => self.advance(actions),
            Stage::Standalone => {
                actions.push(Action::SendClient(messages::authentication_ok()));
                actions.push(Action::Done(Remembered::default()));
                self.stage = Stage::Over;
            }
            Stage::Passed | Stage::Over => {}
        }
    }

    fn backend_step(
        &mut self,
        node: NodeId,
        step: backend::Step,
        body: &[u8],
        actions: &mut Vec<Action>,
    ) {
        match step {
            backend::Step::Asks(request) => {
                if let Some(entry) = self.nodes.get_mut(&node) {
                    entry.request = Some(request);
                }
            }
            backend::Step::Send(bytes) => actions.push(Action::SendBackend(node, bytes)),
            backend::Step::Derive(request) => self.want_key(Waiting::Node(node), request, actions),
            backend::Step::Wait => {}
            backend::Step::Ready => {
                if let Some(entry) = self.nodes.get_mut(&node) {
                    entry.ready = true;
                }
                actions.push(Action::BackendReady(node));
            }
            backend::Step::Refused => {
                actions.push(Action::ForwardError(node, body.to_owned()));
                self.stage = Stage::Over;
                self.dialogue = None;
            }
            backend::Step::Failed(error) => self.fail(error, actions),
        }
    }

    /// Answers backends as far as that is possible now.
    ///
    /// Waits until every node has asked: what the client is asked must not depend on which node is
    /// the fastest. Clear text comes first, because it helps with all other requests.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.stage != Stage::Connecting || self.dialogue.is_some() {
            return;
        }
        if self.nodes.values().any(|n| n.request.is_none() && !n.ready) {
            return;
        }
        let mut open: Vec<(NodeId, Request)> = self
            .nodes
            .iter()
            .filter(|(_, n)| !n.answered)
            .filter_map(|(&id, n)| n.request.map(|r| (id, r)))
            .collect();
        open.sort_by_key(|&(id, request)| (rank(request), id));
        for (node, request) in open {
            match self.plan_answer(request, actions) {
                Plan::Answer(credential) => {
                    self.answer(node, &credential, actions);
                    if self.stage != Stage::Connecting {
                        return;
                    }
                }
                plan => return self.carry_out(plan, actions),
            }
        }
        if self.remembered.is_none() && self.nodes.is_empty() {
            let error = ErrorReport::error(
                "authentication failed",
                "pool_do_auth: all backends are down",
            );
            return self.fail(error, actions);
        }
        if self.nodes.values().all(|n| n.ready) {
            self.finish(actions);
        }
    }

    fn answer(&mut self, node: NodeId, credential: &Credential, actions: &mut Vec<Action>) {
        let nonce = self.random.client_nonce(node);
        let told = self.client_password.as_ref();
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.answered = true;
            entry.client_judged =
                matches!(credential, Credential::Clear(sent) if Some(sent) == told);
            let step = entry.dialogue.answer(&self.user, credential, nonce);
            self.backend_step(node, step, &[], actions);
        }
    }

    fn finish(&mut self, actions: &mut Vec<Action>) {
        // By construction somebody has judged the client wherever a backend wants a password.
        // A fault in the rules above must not become an open door.
        let before = self.remembered.take().unwrap_or_default();
        let judged = self.authenticated || self.nodes.values().any(|n| n.client_judged);
        let all_trust = before.method == RememberedMethod::Trust
            && self.nodes.values().all(|n| n.request.is_none());
        if !judged && !all_trust {
            return self.fail(frontend::out_of_turn(), actions);
        }
        let requests = self.nodes.values().filter_map(|n| n.request);
        let fresh = requests.map(RememberedMethod::of).max().unwrap_or_default();
        let method = before.method.max(fresh);
        let accepted = self
            .client_password
            .take_if(|_| self.nodes.values().any(|n| n.client_judged));
        let password = accepted
            .or(before.password)
            .filter(|_| method != RememberedMethod::Trust);
        actions.push(Action::SendClient(messages::authentication_ok()));
        actions.push(Action::Done(Remembered { method, password }));
        self.stage = Stage::Over;
    }

    fn want_key(&mut self, waiting: Waiting, request: KeyRequest, actions: &mut Vec<Action>) {
        let known = self.keys.iter().position(|k| k.request == request);
        let Some(at) = known else {
            let id = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
            self.keys.push(PendingKey {
                request: request.clone(),
                key: None,
                waiting: vec![waiting],
            });
            actions.push(Action::DeriveKey(id, request));
            return;
        };
        // Standbys have the salt of their primary: one key serves them all.
        let Some(pending) = self.keys.get_mut(at) else {
            return;
        };
        match pending.key.clone() {
            Some(key) => self.key_known(waiting, &key, actions),
            None => pending.waiting.push(waiting),
        }
    }

    fn key_known(&mut self, waiting: Waiting, key: &SaltedPassword, actions: &mut Vec<Action>) {
        match waiting {
            Waiting::Client => {
                if let Some(dialogue) = self.dialogue.take() {
                    let step = dialogue.on_key(key);
                    self.client_step(step, actions);
                }
            }
            Waiting::Node(node) => {
                if let Some(entry) = self.nodes.get_mut(&node) {
                    let step = entry.dialogue.on_key(key);
                    self.backend_step(node, step, &[], actions);
                }
            }
        }
    }

    fn client_waits_for_key(&self) -> bool {
        self.keys
            .iter()
            .flat_map(|k| &k.waiting)
            .any(|w| matches!(w, Waiting::Client))
    }

    /// The first failure is the one that the client reads.
    fn fail(&mut self, error: ErrorReport, actions: &mut Vec<Action>) {
        if self.stage != Stage::Over {
            actions.push(Action::Fail(error));
        }
        self.stage = Stage::Over;
        self.dialogue = None;
    }
}

fn rank(request: Request) -> u8 {
    match request {
        Request::Password => 0,
        Request::Scram => 1,
        Request::Md5 { .. } => 2,
    }
}
