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

#[cfg(test)]
mod histories;
#[cfg(test)]
mod methods_tests;
mod random;
mod rules;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;

use openssl::error::ErrorStack;

use super::{
    backend::{self, BackendDialogue, Request},
    credential::Credential,
    error::ErrorReport,
    frontend::{self, FrontendDialogue, Passed, ScramChallenge},
    hba::{Method, Origin},
    keys::{KeyRequest, SaltedPassword},
    messages,
    passwd::Secret,
    password::Password,
    scram::ClientKey,
};
use crate::cluster::NodeId;

pub use random::Randomness;
use rules::Plan;
pub use types::{Action, HbaVerdict, Inputs, PasswordService, Remembered, RememberedMethod};

/// See the module's description.
#[derive(Debug)]
pub struct SessionAuth {
    user: String,
    database: String,
    origin: Origin,
    hba: HbaVerdict,
    allow_clear_text: bool,
    entry: Option<Credential>,
    lookup: Lookup,
    client_name: Option<String>,
    channel_binding: Option<Vec<u8>>,
    random: Randomness,

    stage: Stage,
    /// The client is being asked, or its key is being derived.
    dialogue: Option<FrontendDialogue>,
    standing: Standing,
    /// Clear text that the client sent.
    client_password: Option<Password>,
    /// PAM or LDAP has the client's password.
    verifying: bool,
    /// PAM or LDAP has found the client's password right, and servers are to judge it, too.
    handed_on: bool,
    /// What the client's proof has shown, now or earlier.
    client_key: Option<ClientKey>,
    /// A client whose failure may be a guess: it has answered, or there is no such user.
    may_guess: bool,
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

/// What is known of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody has asked.
    Stranger,
    /// pool_hba.conf says trust.
    Trusted,
    /// It has shown a certificate with its name.
    Certified,
    /// PAM or LDAP knows it. It may still not know the password of pool_passwd: as in the
    /// original, servers that ask for md5 or SCRAM make us ask for that.
    Verified,
    /// The proxy has checked a password.
    Proven,
}

/// Whether auth_query is asked about a user without an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    /// It is not needed, or has been.
    Done,
    Open,
    Running,
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
        let entry = Credential::usable(inputs.entry);
        SessionAuth {
            user: inputs.user,
            database: inputs.database,
            origin: inputs.origin,
            hba: inputs.hba,
            allow_clear_text: inputs.allow_clear_text,
            lookup: if entry.is_none() && inputs.auth_query {
                Lookup::Open
            } else {
                Lookup::Done
            },
            entry,
            client_name: inputs.client_name,
            channel_binding: inputs.channel_binding.filter(|hash| !hash.is_empty()),
            random: inputs.random,
            stage: Stage::Hba,
            dialogue: None,
            standing: Standing::Stranger,
            client_password: None,
            verifying: false,
            handed_on: false,
            client_key: inputs.client_key,
            may_guess: false,
            nodes: BTreeMap::new(),
            remembered: None,
            keys: Vec::new(),
        }
    }

    /// Does what pool_hba.conf asks for.
    pub fn start(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let plan = self.plan_start(&mut actions);
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
        let plan = self.plan_reauthentication();
        self.carry_out(plan, &mut actions);
        actions
    }

    /// A backend's TLS handshake is done: `end_point` is `tls-server-end-point` of its certificate.
    /// Call it after [`SessionAuth::connect`] and before the node's first message.
    pub fn backend_channel_binding(&mut self, node: NodeId, end_point: Vec<u8>) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.dialogue.bind_channel(end_point);
        }
    }

    /// Whether a password remembered with cached connections may be what lets this client in. A
    /// server has judged it when the connections were made; the caller bounds how long ago.
    pub fn relies_on(&self, remembered: &Remembered) -> bool {
        remembered.method != RememberedMethod::Trust
            && remembered.password.is_some()
            && (self.entry.is_none() || self.handed_on)
            && self.standing != Standing::Proven
    }

    /// Whether a failure of this login may have been the guess of a password or of a user's name.
    pub fn may_be_a_guess(&self) -> bool {
        self.may_guess && self.standing != Standing::Proven
    }

    /// Whether a password has been checked on the way in, by us or by a server.
    pub fn is_proven(&self) -> bool {
        matches!(
            self.standing,
            Standing::Proven | Standing::Verified | Standing::Certified
        ) || self.nodes.values().any(|n| n.client_judged && n.ready)
    }

    /// What the client's proof has shown, to be kept after a good login.
    pub fn client_key(&self) -> Option<&ClientKey> {
        self.client_key
            .as_ref()
            .filter(|_| self.standing == Standing::Proven)
    }

    /// Goes on without any backend: the client must be known to pool_hba.conf or pool_passwd.
    pub fn standalone(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stage != Stage::Passed {
            self.fail(frontend::out_of_turn(), &mut actions);
            return actions;
        }
        self.stage = Stage::Standalone;
        let plan = self.plan_standalone();
        self.may_guess |= matches!(plan, Plan::Fail(_));
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
                self.may_guess = true;
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

    /// The password could not be judged: whatever comes of the login, it was no guess.
    pub fn nobody_has_judged(&mut self) {
        self.may_guess = false;
    }

    /// The answer to [`Action::VerifyPassword`]: the verdict, or what to tell the client.
    ///
    /// `hand_on` (`backend_use_passwd` of a ldap record): servers get this password instead of the
    /// one in pool_passwd.
    pub fn on_password_verified(
        &mut self,
        verdict: Result<(), ErrorReport>,
        hand_on: bool,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        if !std::mem::take(&mut self.verifying) {
            self.fail(frontend::out_of_turn(), &mut actions);
            return actions;
        }
        // To an LDAP server an empty password is no password at all, and right.
        let told = self.client_password.as_ref().is_some_and(|p| !p.is_empty());
        match verdict {
            Ok(()) if !told => {
                let refusal = |service: PasswordService| service.refusal(&self.user);
                let error = self.password_service().map(refusal);
                self.fail(error.unwrap_or_else(frontend::out_of_turn), &mut actions);
            }
            Ok(()) => {
                self.standing = Standing::Verified;
                self.handed_on = hand_on;
                if !hand_on {
                    self.client_password = None;
                }
                self.stage_over(&mut actions);
            }
            Err(error) => self.fail(error, &mut actions),
        }
        actions
    }

    /// The answer to [`Action::LookUp`]: what auth_query says of the user.
    pub fn on_looked_up(&mut self, found: Option<Secret>) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.lookup != Lookup::Running || self.stage == Stage::Over {
            return actions;
        }
        self.lookup = Lookup::Done;
        self.entry = Credential::usable(found);
        let plan = match self.stage {
            Stage::Hba => self.plan_start(&mut actions),
            Stage::Reauthenticating => self.plan_reauthentication(),
            Stage::Standalone => self.plan_standalone(),
            Stage::Connecting => {
                self.advance(&mut actions);
                return actions;
            }
            Stage::Passed | Stage::Over => return actions,
        };
        self.carry_out(plan, &mut actions);
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
            Plan::LookUp => {
                self.lookup = Lookup::Running;
                return actions.push(Action::LookUp);
            }
            Plan::AskOutside => FrontendDialogue::clear_text(&self.user, None),
            Plan::AskClearText => FrontendDialogue::clear_text(&self.user, self.entry.clone()),
            Plan::AskMd5(basis) => {
                self.may_guess |= basis.is_none();
                FrontendDialogue::md5(&self.user, basis.as_ref(), self.random.md5_salt)
            }
            Plan::AskScram(basis) => {
                self.may_guess |= basis.is_none();
                let challenge = ScramChallenge {
                    salt: self.random.scram_salt(&self.user),
                    nonce: self.random.server_nonce(),
                    binding: self.channel_binding.clone(),
                };
                FrontendDialogue::scram(&self.user, basis.as_ref(), challenge)
            }
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
        if passed.checked {
            self.standing = Standing::Proven;
        }
        if passed.key.is_some() {
            self.client_key = passed.key;
        }
        if let Some(password) = passed.password {
            self.client_password = Some(password.clone());
            if self.stage == Stage::Hba
                && let Some(service) = self.password_service()
            {
                self.verifying = true;
                return actions.push(Action::VerifyPassword(service, password));
            }
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
            backend::Step::OtherSecret => self.fail(self.other_secret(node), actions),
            backend::Step::Failed(error) => self.fail(error, actions),
        }
    }

    /// Answers backends as far as that is possible now.
    ///
    /// Waits until every node has asked: what the client is asked must not depend on which node is
    /// the fastest. Clear text comes first, because it helps with all other requests.
    fn advance(&mut self, actions: &mut Vec<Action>) {
        if self.stage != Stage::Connecting
            || self.dialogue.is_some()
            || self.lookup == Lookup::Running
        {
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
        let judged =
            self.standing != Standing::Stranger || self.nodes.values().any(|n| n.client_judged);
        let all_trust = before.method == RememberedMethod::Trust
            && self.nodes.values().all(|n| n.request.is_none());
        if !judged && self.hba == HbaVerdict::Method(Method::Password) {
            return self.fail(self.nobody_judges(), actions);
        }
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
