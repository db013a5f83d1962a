//! Failover: decides what happens when a node goes down or comes back, and in which order.
//!
//! Feed [`Core`] requests, ends of hooks, answers of servers and the time; do what it returns, in
//! order. It knows no socket, no process and no clock. One request is worked off at a time; the
//! others wait in a queue without limit. The order of steps and the texts are those of `failover()`
//! in `src/main/pgpool_main.c @ V4_3_5`; the reference says which differences are meant:
//!
//! - the set of failed nodes does not accumulate over requests: one hook call per node and event;
//! - a primary that is valid and merely does not answer during an attach stays the primary;
//! - a search without hope ends when the next request can help (see `is_hopeless`);
//! - a start goes on with what a killed pgpool was in the middle of (see [`Core::resuming`]).

mod follow;
mod operation;
mod promote;
mod quarantine;
mod queue;
mod record;
mod resume;
mod searching;
#[cfg(test)]
mod tests;
mod texts;
mod together;
mod waits;

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use self::{
    follow::Follow,
    queue::Queued,
    record::Record,
    texts::{number, say},
    together::Together,
};
pub use self::{
    record::{Told, Why, cause_of, kind_of},
    together::{Adopted, AdoptedPrimary},
    waits::Waits,
};
use super::{
    request::{Entry, Request, Source},
    search::Answer,
    unfinished::{self, Unfinished},
};
use crate::{
    cluster::{ClusterView, Node, NodeId, NodeStatus, status_file},
    config::Release,
    observe::Severity,
};

/// The parameters that decide here.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dialect: Release,
    pub failover_command: String,
    pub failback_command: String,
    /// `follow_master_command` of dialects before 4.2.
    pub follow_primary_command: String,
    /// `None`: search for ever.
    pub search_primary_node_timeout: Option<Duration>,
    pub detach_false_primary: bool,
    /// Shown in texts.
    pub pid: u32,
}

/// The two clocks: one that only runs forward, one that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Now {
    /// What the machine says.
    pub fn of_the_machine() -> Now {
        Now {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Event {
    /// Sent once, first.
    Start,
    /// The hook of [`Action::RunHook`] has ended, however. Hooks of kind follow run beside the
    /// others.
    HookFinished { call: u64 },
    /// A server answered the question of [`Action::Ask`].
    Answered {
        sweep: u64,
        node: NodeId,
        answer: Answer,
    },
    /// The moment of [`Action::WakeAt`] has come; spurious ones are harmless.
    Timer,
    /// A session has used the node.
    NodeUsed { node: NodeId },
    /// The replication check sees a primary where none is known, or a standby in its place.
    RolesDiffer,
    /// The watchdog: this pgpool node does not reach the node, and the others have not agreed to a failover.
    Quarantine { node: NodeId, why: Why },
    /// A node that may be in quarantine answers again.
    Release { node: NodeId },
    /// The watchdog has its quorum again: all quarantine is over.
    ReleaseAll,
    /// The watchdog's leader has told its picture of the nodes. One that comes before [`Event::Start`] spares
    /// the search for a primary.
    Adopt(Adopted),
    /// Does this pgpool node lead? With a watchdog it does not until that is said.
    Coordinates(bool),
    /// The answer to [`Action::AskToBegin`].
    MayBegin { ask: u64, yes: bool },
    /// The process is about to end, and a command that follows a new primary is ended with it: none
    /// is begun any more.
    Stopping,
}

#[derive(Clone, Debug)]
pub enum Action {
    Log(Entry),
    /// For the history of events.
    Record(Told),
    /// Replace the status file by this text, before the next action.
    WriteStatusFile(String),
    Publish(ClusterView),
    /// Run in the background, then send [`Event::HookFinished`], whatever the exit status. From the moment
    /// on at which it begins `begun` is to be kept for the next start: both happen, or neither does.
    RunHook {
        hook: HookCall,
        begun: Unfinished,
    },
    /// Keep it for the next start, before the next action.
    Remember(Unfinished),
    /// A hook of an earlier life may still run: send [`Event::HookFinished`] when it does not.
    AwaitHook {
        call: u64,
        kind: HookKind,
    },
    /// Ask each node in the background; answer each with [`Event::Answered`], always, within a
    /// bounded time. Answers to older sweeps may be dropped.
    Ask {
        sweep: u64,
        nodes: Vec<NodeId>,
    },
    /// Send [`Event::Timer`] then; replaces an earlier request.
    WakeAt(Instant),
    /// With a watchdog: something that leads to a promotion is about to begin. Ask
    /// [`crate::watchdog::core::Core::may_still_begin`] and answer at once with [`Event::MayBegin`].
    AskToBegin {
        ask: u64,
        request: Request,
    },
    /// The health check of the node shall look at once whether its reason still holds.
    LookAgain {
        node: NodeId,
    },
    /// The replication check shall begin a new round.
    RestartReplicationCheck,
    /// The first primary search is over: `pgpool-II successfully started` may be said.
    Started,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
    pub call: u64,
    pub kind: HookKind,
    pub node: NodeId,
    pub line: String,
    /// As in [`Told::operation`].
    pub operation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    Failover,
    Failback,
    /// `follow_primary_command`; the node is the one that has to follow.
    Follow,
}

/// A clone goes on by itself, which shows what would be done ([`super::what_if`]).
#[derive(Clone, Debug)]
pub struct Core {
    settings: Settings,
    view: ClusterView,
    /// The last main node; stays when all nodes are down.
    main: Option<NodeId>,
    queue: VecDeque<Queued>,
    operation: Option<Operation>,
    follow: Follow,
    started: bool,
    /// Version of the view in which each node was attached last.
    attached: Vec<u64>,
    /// Numbers hook calls and sweeps, so that late answers are known.
    last_ticket: u64,
    record: Record,
    /// The failover or failback that goes on, for a start after a kill.
    unfinished: Option<unfinished::Hook>,
    /// As the last [`Action::Remember`] had it.
    remembered: Unfinished,
    /// For the first start: what an earlier life has left.
    left: Unfinished,
    /// The primary of an earlier life, which was about to be detached.
    was_to_go: Option<NodeId>,
    /// In quarantine, and the primary when it is over.
    quarantined_primary: Option<NodeId>,
    /// `None`: there is no watchdog.
    together: Option<Together>,
}

/// What is being worked off.
#[derive(Clone, Debug)]
struct Operation {
    kind: Kind,
    /// As it was before this operation.
    old_primary: Option<NodeId>,
    /// The `%m` of hooks: the valid node with the lowest number after the change, or the one that
    /// a switchover asks for.
    new_main: Option<NodeId>,
    /// The node that a switchover asks for.
    wish: Option<NodeId>,
    /// There was a primary and now there is none: sessions wait for the end of the search.
    hold: bool,
    /// For an attach.
    all_were_down: bool,
    /// For a start: the failover or failback that it goes on with.
    resumed: Option<Kind>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Start,
    /// Only a search: the roles have changed without us.
    Search,
    Down(NodeId),
    Up(NodeId),
    /// The server says that it is a primary, and becomes the primary here.
    Promote(NodeId),
}

#[derive(Clone, Debug)]
enum Stage {
    Hook { call: u64 },
    Search(Search),
}

#[derive(Clone, Debug)]
struct Search {
    began: Instant,
    sweep: u64,
    answers: Vec<Option<Answer>>,
    missing: Vec<NodeId>,
    /// When the sweep ends although servers have not answered.
    grace_ends: Option<Instant>,
    /// Set between two sweeps.
    next_sweep: Option<Instant>,
    /// Lines of the sweep before, so that only news is logged.
    said: Vec<Entry>,
}

impl Core {
    /// `view` as [`crate::cluster::initial_view`] makes it.
    pub fn new(settings: Settings, view: ClusterView) -> Core {
        Core {
            main: view.main_node(),
            settings,
            view,
            queue: VecDeque::new(),
            operation: None,
            follow: Follow::default(),
            started: false,
            attached: Vec::new(),
            last_ticket: 0,
            record: Record::default(),
            unfinished: None,
            remembered: Unfinished::default(),
            left: Unfinished::default(),
            was_to_go: None,
            quarantined_primary: None,
            together: None,
        }
    }

    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// A failover or failback is going on or waits.
    pub fn is_busy(&self) -> bool {
        self.operation.is_some() || !self.queue.is_empty() || self.asks()
    }

    /// `follow_primary_command` runs, or is to run: nodes are down that a script works on. Other
    /// work goes on meanwhile.
    pub fn is_following(&self) -> bool {
        self.follow.is_going_on()
    }

    #[must_use = "the caller has to carry the actions out"]
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Start => self.start(now, &mut out),
            Event::HookFinished { call } => self.hook_finished(call, now, &mut out),
            Event::Answered {
                sweep,
                node,
                answer,
            } => self.answered(sweep, node, answer, now, &mut out),
            Event::Timer => self.timer(now, &mut out),
            Event::NodeUsed { node } => self.node_used(node, now, &mut out),
            Event::RolesDiffer => self.roles_differ(now, &mut out),
            Event::Quarantine { node, why } => self.quarantine(node, why, now, &mut out),
            Event::Release { node } => {
                self.release(node, "over: its server answers", now, &mut out)
            }
            Event::ReleaseAll => self.release_all(now, &mut out),
            Event::Adopt(adopted) => self.adopt_status(&adopted, now, &mut out),
            Event::Coordinates(leads) => self.lead(leads, now, &mut out),
            Event::MayBegin { ask, yes } => self.may_begin(ask, yes, now, &mut out),
            Event::Stopping => self.stop_following(now, &mut out),
        }
        self.pump(now, &mut out);
        self.remember(&mut out);
        out
    }

    /// New settings and node definitions after a reload. Statuses stay; nodes that are new in
    /// `nodes` are added with the status they have there.
    #[must_use = "the caller has to carry the actions out"]
    pub fn reload(&mut self, settings: Settings, nodes: Vec<Node>, now: Now) -> Vec<Action> {
        let mut out = Vec::new();
        self.settings = settings;
        let mut added = false;
        for new in nodes {
            match self.view.nodes.get_mut(new.id) {
                Some(old) if old.status != NodeStatus::Unused => adopt(old, new, &mut out),
                Some(old) => {
                    added |= new.status != NodeStatus::Unused;
                    *old = new;
                }
                None => {
                    added |= new.status != NodeStatus::Unused;
                    self.view.nodes.push(new);
                }
            }
        }
        if let Some(Operation {
            stage: Stage::Search(search),
            ..
        }) = &mut self.operation
        {
            search.answers.resize(self.view.nodes.len(), None);
        }
        if added {
            self.view.version += 1;
        }
        self.write_status_file(&mut out);
        out.push(Action::Publish(self.view.clone()));
        self.pump(now, &mut out);
        out
    }

    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        self.write_status_file(out);
        self.operation = Some(Operation {
            kind: Kind::Start,
            old_primary: None,
            new_main: self.main,
            wish: None,
            hold: true,
            all_were_down: false,
            resumed: None,
            stage: Stage::Hook { call: 0 },
        });
        self.record_request(Why::new("", self.nodes_in_words()));
        self.record_began(now, out);
        if self.start_with_adopted(now, out) {
            return;
        }
        if !self.resume_hook(out) {
            self.search_or_finish(now, out);
        }
    }

    /// A node was promoted, or turned into a standby, and nobody told us.
    fn roles_differ(&mut self, now: Now, out: &mut Vec<Action>) {
        let idle = self.started && !self.is_busy() && !self.is_following();
        if !idle || !self.view.has_primary() || !self.coordinates() {
            return;
        }
        let known = number(self.view.primary);
        let text = format!(
            "the servers have other roles than known here (primary node {known}): searching the primary node"
        );
        let why = Why::new(
            cause_of(Source::ReplicationCheck),
            format!("the servers have other roles than known (primary node {known})"),
        );
        self.search_aside(&text, why, now, out);
    }

    /// Only a search for the primary. No session waits for it.
    fn search_aside(&mut self, text: &str, why: Why, now: Now, out: &mut Vec<Action>) {
        say(out, text);
        self.operation = Some(Operation {
            kind: Kind::Search,
            old_primary: self.view.primary,
            new_main: self.view.main_node(),
            wish: None,
            hold: false,
            all_were_down: false,
            resumed: None,
            stage: Stage::Hook { call: 0 },
        });
        self.record_request(why);
        self.record_began(now, out);
        self.search_or_finish(now, out);
    }

    /// Waiting becomes up. No new version: nothing changes for sessions.
    fn node_used(&mut self, id: NodeId, now: Now, out: &mut Vec<Action>) {
        let Some(node) = self
            .view
            .nodes
            .get_mut(id)
            .filter(|n| n.status == NodeStatus::Waiting)
        else {
            return;
        };
        node.status = NodeStatus::Up;
        node.status_changed = now.wall;
        // First: the session waits for it, and the file reads the same as before.
        out.push(Action::Publish(self.view.clone()));
        self.write_status_file(out);
    }

    fn write_status_file(&self, out: &mut Vec<Action>) {
        out.push(match status_file::text(&self.view.nodes) {
            Some(text) => Action::WriteStatusFile(text),
            None => Action::Log(Entry::warning(
                Source::Main,
                "All the DB nodes are in down status and skip writing status file.",
            )),
        });
    }

    fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }
}

/// Takes over what a reload may change of a node; the address of a node in use stays.
fn adopt(old: &mut Node, new: Node, out: &mut Vec<Action>) {
    if new.status == NodeStatus::Unused {
        out.push(Action::Log(Entry {
            hint: "restart pgpool to remove the backend".to_owned(),
            ..Entry::warning(
                Source::Main,
                format!("backend {} is not removed by a reload", old.id),
            )
        }));
        return;
    }
    let (mut hostname, mut port) = (new.hostname, new.port);
    if old.is_valid() && (hostname != old.hostname || port != old.port) {
        out.push(Action::Log(
            Entry {
                severity: Severity::Warning,
                ..Entry::log(
                    Source::Main,
                    format!(
                        "address of backend {} is not changed from {}({}) to {hostname}({port}) while it is in use",
                        old.id, old.hostname, old.port
                    ),
                )
            }
            .with_hint("detach the node, reload, attach the node"),
        ));
        hostname.clone_from(&old.hostname);
        port = old.port;
    }
    *old = Node {
        hostname,
        port,
        status: old.status,
        quarantine: old.quarantine,
        status_changed: old.status_changed,
        ..new
    };
}
