//! `pgpool --what-if`: what requests would lead to, told by a clone of the running core.
//!
//! The clone is fed the requests and answered as the cluster would answer if all went well: hooks do
//! their work, and servers have the roles that are known now. Whatever is assumed is said. Nothing is
//! run, asked or changed: the clone's actions become lines of text.

use std::time::{Duration, Instant};

use super::{
    core::{Action, Core, Event, Now, Told, Waits, Why},
    promotion,
    request::{Request, Source},
    search::{Answer, Receiver},
};
use crate::{
    cluster::{ClusterView, NodeId, NodeStatus},
    config::settings::ClusteringMode,
    events::{Note, Step, text},
    observe::Severity,
    recovery::request::Ongoing,
};

/// Requests in one question.
const MOST_REQUESTS: usize = 16;
/// Rounds after which a search without an end is called so, and in any case steps of one request.
const MOST_ROUNDS: usize = 30;
const MOST_STEPS: usize = 10_000;

/// The question, with the state that it is about.
#[derive(Clone, Debug)]
pub struct WhatIf {
    pub core: Core,
    /// The online recovery that goes on.
    pub recovery: Option<Ongoing>,
    pub requests: Vec<Request>,
}

/// `down 0`, `up 0`, `promote 1` or `switchover 1`; several with `;` between them.
///
/// # Errors
///
/// What is wrong, with what can be asked.
pub fn parse(text: &str) -> Result<Vec<Request>, String> {
    let requests: Result<Vec<Request>, String> = text
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(parse_one)
        .collect();
    match requests? {
        none if none.is_empty() => Err(format!("no request is given; {USAGE}")),
        many if many.len() > MOST_REQUESTS => {
            Err(format!("at most {MOST_REQUESTS} requests at a time"))
        }
        requests => Ok(requests),
    }
}

const USAGE: &str = "a request is \"down N\", \"up N\", \"promote N\" or \"switchover N\" with the number of a node, several with \";\" between them";

fn parse_one(part: &str) -> Result<Request, String> {
    let wrong = |why: String| format!("{why}; {USAGE}");
    let mut words = part.split_whitespace();
    let (Some(word), number, None) = (words.next(), words.next(), words.next()) else {
        return Err(wrong(format!("{part:?} has too many words")));
    };
    let Some(number) = number else {
        return Err(wrong(format!("{part:?} has no node")));
    };
    let node: NodeId = number
        .parse()
        .map_err(|_| wrong(format!("{number:?} is no number of a node")))?;
    Ok(match word.to_ascii_lowercase().as_str() {
        "down" => Request::Down { node },
        "up" => Request::Up { node },
        "promote" => Request::Promote { node },
        "switchover" => Request::Switchover { node },
        _ => return Err(wrong(format!("{word:?} is no request"))),
    })
}

impl WhatIf {
    /// The answer, in lines to print.
    pub fn lines(self, now: Now) -> Vec<String> {
        let mut walk = Walk::new(self.core, self.recovery, now);
        walk.say(format!("now: {}", walk.core.nodes_in_words()));
        walk.say("assumed: servers have the roles that are known now; commands do their work");
        if !walk.core.has_started() {
            walk.say("pgpool is still starting up: every request is refused");
            return walk.lines;
        }
        if walk.core.is_busy() || walk.core.is_following() {
            walk.say("");
            walk.say("at work now, and told to its end first:");
            if !walk.settle() {
                return walk.lines;
            }
        }
        for request in self.requests {
            walk.say("");
            walk.say(format!("{}:", words(&request)));
            if !walk.request(request) {
                break;
            }
        }
        walk.lines
    }
}

fn words(request: &Request) -> String {
    match request {
        Request::Down { node } => format!("down {node}"),
        Request::Up { node } => format!("up {node}"),
        Request::Promote { node } => format!("promote {node}"),
        Request::Switchover { node } => format!("switchover {node}"),
    }
}

struct Walk {
    core: Core,
    recovery: Option<Ongoing>,
    now: Now,
    /// What each server says when it is asked.
    answers: Vec<Answer>,
    published: ClusterView,
    status_file: String,
    lines: Vec<String>,
}

impl Walk {
    fn new(core: Core, recovery: Option<Ongoing>, now: Now) -> Walk {
        let view = core.view().clone();
        let answers = view
            .nodes
            .iter()
            .map(|node| {
                let writes = view.primary == Some(node.id)
                    || view.mode == ClusteringMode::LogicalReplication;
                if writes { Answer::Primary } else { standby() }
            })
            .collect();
        Walk {
            core: core.alone(),
            recovery,
            now,
            answers,
            published: view,
            status_file: String::new(),
            lines: Vec::new(),
        }
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(text::clean(&line.into()));
    }

    fn step(&mut self, line: impl AsRef<str>) {
        self.say(format!("  {}", line.as_ref()));
    }

    /// `false`: what comes after it is not known.
    fn request(&mut self, request: Request) -> bool {
        if let Some(refusal) = self.recovery.as_ref().and_then(|r| r.objection(&request)) {
            self.step(format!("refused: {}", refusal.in_one_line()));
            return true;
        }
        let node = request.node();
        match request {
            Request::Promote { .. } => {
                self.step(format!(
                    "assumed: the server of node {node} has been promoted; pgpool asks it first and refuses if it is a standby"
                ));
                self.set_role(node, Answer::Primary);
            }
            Request::Switchover { .. } => {
                let known = self.answers.get(node).cloned().unwrap_or_else(standby);
                if self.core.would_accept(&request).is_ok()
                    && let Err(refusal) = promotion::check_candidate(&request, &known)
                {
                    self.step(format!("refused: {}", refusal.in_one_line()));
                    return true;
                }
            }
            Request::Up { .. } if self.core.view().has_primary() => {
                let role = match self.answers.get(node) {
                    Some(Answer::Primary) => "takes writes",
                    _ => "is a standby",
                };
                self.step(format!("assumed: the server of node {node} {role}"));
            }
            Request::Up { .. } | Request::Down { .. } => {}
        }
        let (_told_by_the_record, actions) =
            self.core
                .request_because(request, Source::Pcp, Why::default(), None, self.now);
        self.carry_out(actions);
        let known = self.settle();
        if known {
            self.step(format!("then: {}", self.core.nodes_in_words()));
        }
        known
    }

    fn set_role(&mut self, node: NodeId, role: Answer) {
        if let Some(answer) = self.answers.get_mut(node) {
            *answer = role;
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(Told { note, .. }) => self.told(&note),
                Action::Publish(view) => self.published(view),
                Action::Log(entry) if entry.severity == Severity::Warning => {
                    let hint = if entry.hint.is_empty() {
                        String::new()
                    } else {
                        format!(" ({})", entry.hint)
                    };
                    self.step(format!("warning: {}{hint}", entry.message));
                }
                Action::WriteStatusFile(file) if file != self.status_file => {
                    let statuses: Vec<&str> = file.lines().collect();
                    self.step(format!("pgpool_status says: {}", statuses.join(" ")));
                    self.status_file = file;
                }
                Action::Log(_)
                | Action::WriteStatusFile(_)
                | Action::RunHook { .. }
                | Action::Remember(_)
                | Action::AwaitHook { .. }
                | Action::Ask { .. }
                | Action::WakeAt(_)
                | Action::LookAgain { .. }
                | Action::RestartReplicationCheck
                // The walk is alone: see Walk::new.
                | Action::AskToBegin { .. }
                | Action::Started => {}
            }
        }
    }

    fn told(&mut self, note: &Note) {
        match (&note.hook, note.step) {
            (Some(hook), Step::Hook) => {
                let line = format!("{} is run: {}", hook.name, hook.command);
                self.step(line);
            }
            _ => {
                // How long it took here says nothing.
                let timeless = Note {
                    seconds: None,
                    ..note.clone()
                };
                self.step(text::sentence(&timeless));
            }
        }
    }

    fn published(&mut self, view: ClusterView) {
        let old = std::mem::replace(&mut self.published, view);
        let new = self.published.clone();
        let wrote = old.write_node();
        for node in &new.nodes {
            let id = node.id;
            let before = old.node(id).map_or(NodeStatus::Unused, |n| n.status);
            match (before, node.status) {
                (NodeStatus::Up | NodeStatus::Waiting, NodeStatus::Down) if wrote == Some(id) => {
                    self.step(format!(
                        "sessions: all end (SQLSTATE 57P01), because they write to node {id}"
                    ));
                }
                (NodeStatus::Up | NodeStatus::Waiting, NodeStatus::Down) => {
                    self.step(format!(
                        "sessions: those end (SQLSTATE 57P01) that work on node {id} at that moment, the others go on"
                    ));
                }
                (NodeStatus::Down, NodeStatus::Up | NodeStatus::Waiting) => {
                    self.step(format!("sessions: none ends; new ones may use node {id}"));
                }
                _ => {}
            }
        }
        if new.primary_search_running && !old.primary_search_running {
            self.step(
                "sessions: new ones, and statements for the primary, wait for a primary node",
            );
        }
        let writes = new.write_node();
        if let (Some(from), Some(to)) = (wrote, writes)
            && from != to
            && new.is_valid(from)
        {
            self.step(format!(
                "sessions: all end (SQLSTATE 57P01), because writes move from node {from} to node {to}"
            ));
        }
        if let Some(to) = writes.filter(|_| wrote != writes) {
            self.step(format!("writes go to node {to} from now on"));
        }
    }

    /// Lets everything come to its end. `false`: there is none.
    fn settle(&mut self) -> bool {
        let mut rounds = 0;
        for _ in 0..MOST_STEPS {
            match self.core.waits_for() {
                Waits::Nothing => return true,
                Waits::Hook { call } => {
                    if let Some(node) = self.core.node_to_promote() {
                        self.step(format!("assumed: it promotes the server of node {node}"));
                        self.set_role(node, Answer::Primary);
                    }
                    self.handle(Event::HookFinished { call });
                }
                Waits::Answers { sweep, nodes } => {
                    for node in nodes {
                        let answer = self.answers.get(node).cloned().unwrap_or_else(standby);
                        self.handle(Event::Answered {
                            sweep,
                            node,
                            answer,
                        });
                    }
                }
                Waits::Until(at) => {
                    rounds += 1;
                    if rounds > MOST_ROUNDS && self.core.searches_for_ever() {
                        self.step(
                            "the primary node is searched until a server says that it is one (search_primary_node_timeout = 0); what comes after it is not known",
                        );
                        return false;
                    }
                    self.wait_until(at);
                    self.handle(Event::Timer);
                }
                Waits::Follow { call, node } => {
                    self.step(format!(
                        "assumed: it ends; node {node} stays down unless its script attaches it"
                    ));
                    self.handle(Event::HookFinished { call });
                }
            }
        }
        self.step("there is no end in sight; what comes after it is not known");
        false
    }

    fn wait_until(&mut self, at: Instant) {
        let wait: Duration = at.saturating_duration_since(self.now.instant);
        self.now.instant += wait;
        self.now.wall += wait;
    }

    fn handle(&mut self, event: Event) {
        let actions = self.core.handle(event, self.now);
        self.carry_out(actions);
    }
}

fn standby() -> Answer {
    Answer::Standby(Receiver::Unknown)
}

#[cfg(test)]
mod tests;
