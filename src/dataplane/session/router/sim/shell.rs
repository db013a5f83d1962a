//! What `routed.rs` and `relay.rs` do around a router, without sockets.

use std::collections::HashMap;

use super::super::{Before, Effects, Env, Ledger, Router, Sending, Step};
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication, NodeStatus},
    dataplane::session::{
        backend_side::{BackendEvents, BackendSide},
        client_side::{ClientSide, Message, Next, Stop},
        lookup::LookUp,
        routed::plain_begin,
    },
    protocol::{frame::HEADER_LEN, messages},
    routing::{
        balance::Who,
        facts::Facts,
        policy::Catalog,
        relcache::{Answer, Question, Relation},
        settings::Settings,
    },
};

/// What is known of the catalog.
#[derive(Debug, Default)]
pub struct Known(HashMap<Question, Answer>);

impl Catalog for &mut Known {
    fn relation(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<Relation> {
        let question = Question::Relation {
            schema: schema.map(Into::into),
            name: name.into(),
        };
        match self.0.get(&question)? {
            Answer::Relation(relation) => Some(*relation),
            _ => None,
        }
    }

    fn volatile(&mut self, schema: Option<&[u8]>, name: &[u8]) -> Option<bool> {
        let question = Question::Function {
            schema: schema.map(Into::into),
            name: name.into(),
        };
        match self.0.get(&question)? {
            Answer::Function { volatile, .. } => Some(*volatile),
            _ => None,
        }
    }
}

impl Known {
    pub fn forget_all(&mut self) {
        self.0.clear();
    }

    fn forget(&mut self, gone: &[u8]) {
        self.0.retain(|question, _| match question {
            Question::Relation { name, .. } | Question::Function { name, .. } => {
                !name.ends_with(gone)
            }
            Question::DefaultIsolation { .. } | Question::Temporary { .. } => true,
        });
    }
}

pub struct Shell {
    pub router: Router,
    pub ledgers: Vec<Ledger>,
    pub view: ClusterView,
    pub replication: Vec<NodeReplication>,
    pub settings: Settings,
    pub known: Known,
    facts: Facts,
    client_side: ClientSide,
    /// Bytes of the client that are not sent on.
    held: Vec<u8>,
    /// They wait for the router; else for more.
    held_for_router: bool,
    sides: Vec<BackendSide>,
    look_up: Option<LookUp>,
    aside: Vec<u8>,
    pub to_nodes: Vec<Vec<u8>>,
    pub to_client: Vec<u8>,
    /// Texts of the questions that are on their way.
    pub asked: Vec<(String, Question)>,
    pub diverged: Vec<NodeId>,
    /// A statement was prepared in the midst of a pipeline because its node has changed.
    pub prepared_anew: bool,
    /// What happens, when a history is repeated to explain it.
    pub notes: Option<Vec<String>>,
}

impl Shell {
    pub fn new(view: ClusterView, settings: Settings, balance: NodeId, explained: bool) -> Shell {
        let count = view.nodes.len();
        let primary = view.primary.expect("a primary");
        Shell {
            router: Router::new(primary, Some(balance)),
            ledgers: (0..count).map(|_| Ledger::default()).collect(),
            replication: vec![NodeReplication::default(); count],
            view,
            settings,
            known: Known::default(),
            facts: Facts::new(),
            client_side: ClientSide::default(),
            held: Vec::new(),
            held_for_router: false,
            sides: (0..count).map(|_| BackendSide::default()).collect(),
            look_up: None,
            aside: Vec::new(),
            to_nodes: vec![Vec::new(); count],
            to_client: Vec::new(),
            asked: Vec::new(),
            diverged: Vec::new(),
            prepared_anew: false,
            notes: explained.then(Vec::new),
        }
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(text());
        }
    }

    pub fn may_read_client(&self) -> bool {
        !self.held_for_router || self.look_up.is_none() && self.router.may_go_on(&self.ledgers)
    }

    /// The worker's tick.
    pub fn keep_awake(&mut self) {
        self.router.keep_awake(&mut self.ledgers);
        self.carry_out_effects();
    }

    /// Whether reading from the client has a use though nothing has arrived.
    pub fn has_held(&self) -> bool {
        self.held_for_router
    }

    /// One read from the client.
    pub fn client_bytes(&mut self, random: &mut dyn FnMut() -> f64, arrived: &[u8]) {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(arrived);
        self.held_for_router = false;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let message = match self.client_side.next(rest, false) {
                Next::Body(len) => {
                    self.to_nodes[self.router.current()].extend_from_slice(&rest[..len]);
                    at += len;
                    continue;
                }
                Next::Message(message) => message,
                Next::Stop(Stop::MaybeAdmin { len }) => Message {
                    kind: b'Q',
                    body_len: len - HEADER_LEN,
                    bytes: &rest[..len],
                },
                Next::Stop(Stop::Incomplete) => {
                    self.held = rest.to_vec();
                    return;
                }
                Next::Stop(stop) => panic!("{stop:?}"),
            };
            let step = self.step(message, random);
            self.carry_out_effects();
            self.note(|| format!("router: {} -> {step:?}", shown(message.bytes)));
            match step {
                Step::Send(sending) => {
                    self.client_side.accept(message);
                    self.send(&sending, message);
                    at += message.bytes.len();
                }
                Step::NeedsMore => {
                    self.held = rest.to_vec();
                    return;
                }
                Step::Wait => {
                    self.held = rest.to_vec();
                    self.held_for_router = true;
                    return;
                }
                Step::LookUp(questions) => {
                    self.held = rest.to_vec();
                    self.held_for_router = true;
                    self.look_up(questions);
                    return;
                }
            }
        }
    }

    fn step(&mut self, message: Message<'_>, random: &mut dyn FnMut() -> f64) -> Step {
        let mut env = Env {
            view: &self.view,
            replication: &self.replication,
            settings: &self.settings,
            switches: self.settings.switches,
            who: Who {
                user: b"alice",
                database: b"test",
                application_name: b"",
            },
            catalog: &mut self.known,
            facts: &mut self.facts,
            random,
        };
        self.router.step(message, &mut self.ledgers, &mut env)
    }

    fn send(&mut self, sending: &Sending, message: Message<'_>) {
        for (nodes, before) in &sending.before {
            self.prepared_anew |= matches!(before, Before::Parse { sync: false, .. });
            for node in nodes.iter() {
                self.to_nodes[node].extend(before.encode());
            }
        }
        for node in sending.followers.iter() {
            if sending.plain_begin {
                self.to_nodes[node].extend(plain_begin(message));
            } else {
                self.to_nodes[node].extend_from_slice(message.bytes);
            }
        }
        self.to_nodes[sending.leader].extend_from_slice(message.bytes);
    }

    fn look_up(&mut self, questions: Vec<Question>) {
        for question in &questions {
            let text = String::from_utf8_lossy(&question.sql()).into_owned();
            self.asked.push((text, question.clone()));
        }
        let look_up = LookUp::new(self.router.catalog_node(&self.settings), questions);
        self.router
            .look_up_sent(look_up.node, look_up.message_count(), &mut self.ledgers);
        self.to_nodes[look_up.node].extend(look_up.encode());
        self.look_up = Some(look_up);
    }

    /// One read from a node.
    pub fn node_bytes(&mut self, node: NodeId, bytes: &[u8]) {
        let mut side = std::mem::take(&mut self.sides[node]);
        let mut events = Events { shell: self, node };
        let hidden = side.scan(bytes, &mut events).expect("messages");
        self.sides[node] = side;
        let mut at = 0;
        for range in hidden {
            self.to_client.extend_from_slice(&bytes[at..range.start]);
            at = range.end;
        }
        self.to_client.extend_from_slice(&bytes[at..]);
        self.carry_out_effects();
        let current = self.router.current();
        if self.sides[current].client_at_boundary() {
            self.to_client.append(&mut self.aside);
        }
    }

    fn node_message(&mut self, node: NodeId, kind: u8, body: &[u8]) {
        let is_primary = node == self.router.primary();
        let shows = self.router.shows(node, kind, &self.ledgers);
        self.note(|| {
            let shown = if shows { "to the client" } else { "hidden" };
            format!("node {node}: {} {shown}", shown_parts(kind, body))
        });
        if matches!(kind, b'A' | b'S') && is_primary && !shows {
            messages::frame(kind, &mut self.aside, |out| out.extend_from_slice(body));
        }
        self.router
            .answer(node, kind, body, &mut self.ledgers, &self.settings);
        if let Some(look_up) = &mut self.look_up
            && look_up.node == node
        {
            look_up.received(kind, body);
        }
    }

    fn carry_out_effects(&mut self) {
        self.look_up_done();
        let Effects {
            orders,
            forget,
            catalog_changed,
            diverged,
        } = self.router.take_effects();
        for (node, order) in orders {
            self.note(|| format!("router: {order:?} to node {node}"));
            self.to_nodes[node].extend(order.encode());
        }
        forget.iter().for_each(|name| self.known.forget(name));
        if catalog_changed {
            self.known.forget_all();
        }
        for node in diverged {
            self.note(|| format!("router: node {node} has diverged"));
            self.diverged.push(node);
        }
    }

    fn look_up_done(&mut self) {
        let ledgers = &self.ledgers;
        let is_done = |l: &mut LookUp| ledgers.get(l.node).is_none_or(|l| !l.owed.owes_ready());
        let Some(look_up) = self.look_up.take_if(is_done) else {
            return;
        };
        let Some(answers) = look_up.answers() else {
            self.note(|| "router: the look-up has failed".to_owned());
            self.router.look_up_failed();
            return;
        };
        for (question, answer) in answers {
            self.note(|| format!("router: {question:?} {answer:?}"));
            if let Answer::DefaultIsolation { serializable } = answer {
                self.router.set_begins_serializable(serializable);
            }
            if let Answer::Temporary { more } = answer {
                self.router.set_untraced(more);
            }
            self.known.0.insert(question, answer);
        }
    }

    /// False: the session ends with the node.
    pub fn lose(&mut self, node: NodeId) -> bool {
        let amid = node == self.router.current() && !self.client_side.at_boundary();
        if amid || self.router.depends_on(node, &self.ledgers) {
            return false;
        }
        self.view.nodes[node].status = NodeStatus::Down;
        self.sides[node] = BackendSide::default();
        self.to_nodes[node].clear();
        self.router.node_lost(node, &mut self.ledgers);
        if self.look_up.as_ref().is_some_and(|l| l.node == node) {
            self.look_up = None;
            self.router.look_up_failed();
        }
        self.carry_out_effects();
        true
    }
}

struct Events<'a> {
    shell: &'a mut Shell,
    node: NodeId,
}

impl BackendEvents for Events<'_> {
    fn message(&mut self, kind: u8, body: &[u8]) {
        self.shell.node_message(self.node, kind, body);
    }

    fn shows(&mut self, kind: u8) -> bool {
        let shell = &*self.shell;
        shell.router.shows(self.node, kind, &shell.ledgers)
    }

    /// As in the relay, and all of them for the notes.
    fn wants_body(&self, kind: u8) -> bool {
        matches!(kind, b'Z' | b'E' | b'N' | b'S' | b'A')
            || self.shell.look_up.is_some() && kind == b'D'
            || self.shell.notes.is_some()
    }
}

/// A message for people.
pub fn shown(message: &[u8]) -> String {
    shown_parts(message[0], message.get(HEADER_LEN..).unwrap_or_default())
}

fn shown_parts(kind: u8, body: &[u8]) -> String {
    let body = body.strip_suffix(&[0]).unwrap_or(body);
    format!("{} \"{}\"", char::from(kind), body.escape_ascii())
}
