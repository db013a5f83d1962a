//! Failover: decides what happens when a node goes down or comes back, and in which order.
//!
//! Feed [`Core`] requests, ends of hooks, answers of servers and the time; do what it returns, in
//! order. It knows no socket, no process and no clock. One request is worked off at a time; the
//! others wait in a queue without limit. The order of steps and the texts are those of `failover()`
//! in `src/main/pgpool_main.c @ V4_3_5`; the reference says which differences are meant:
//!
//! - the set of failed nodes does not accumulate over requests: one hook call per node and event;
//! - a primary that is valid and merely does not answer during an attach stays the primary;
//! - a search without hope ends when the next request can help (see `is_hopeless`).

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::{
    hook_line,
    request::{self, Entry, Judged, Request, Source},
    search::{self, Answer, Judgement},
};
use crate::{
    cluster::{ClusterView, Node, NodeId, NodeStatus, status_file},
    config::{Release, settings::ClusteringMode},
    control::Refusal,
    observe::Severity,
};

/// Pause between two rounds of questions.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);
/// How long the other servers may still answer once one has said that it is the primary.
const SEARCH_GRACE: Duration = Duration::from_secs(1);
/// The search of a start ends after this time even with `search_primary_node_timeout = 0`.
const LONGEST_START: Duration = Duration::from_secs(300);
/// How long a reason of a health check counts while its request waits.
const REASON_LASTS: Duration = Duration::from_secs(5);
/// An attach that waits for a search in vain ends it after this time.
const SEARCH_BEFORE_ATTACH: Duration = Duration::from_secs(10);

/// The parameters that decide here.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dialect: Release,
    pub failover_command: String,
    pub failback_command: String,
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
    /// The hook of [`Action::RunHook`] has ended, however.
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
}

#[derive(Clone, Debug)]
pub enum Action {
    Log(Entry),
    /// Replace the status file by this text, before the next action.
    WriteStatusFile(String),
    Publish(ClusterView),
    /// Run in the background, then send [`Event::HookFinished`], whatever the exit status.
    RunHook(HookCall),
    /// Ask each node in the background; answer each with [`Event::Answered`], always, within a
    /// bounded time. Answers to older sweeps may be dropped.
    Ask {
        sweep: u64,
        nodes: Vec<NodeId>,
    },
    /// Send [`Event::Timer`] then; replaces an earlier request.
    WakeAt(Instant),
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    Failover,
    Failback,
}

#[derive(Debug)]
pub struct Core {
    settings: Settings,
    view: ClusterView,
    /// The last main node; stays when all nodes are down.
    main: Option<NodeId>,
    queue: VecDeque<Queued>,
    operation: Option<Operation>,
    started: bool,
    /// Version of the view in which each node was attached last.
    attached: Vec<u64>,
    /// Numbers hook calls and sweeps, so that late answers are known.
    last_ticket: u64,
}

#[derive(Debug)]
struct Queued {
    request: Request,
    source: Source,
    /// When its reason was seen last.
    seen: Instant,
}

impl Queued {
    /// A health check asks, so the reason may have gone while the request waited.
    fn may_be_outdated(&self) -> bool {
        matches!(
            (&self.request, self.source),
            (Request::Down { .. }, Source::HealthCheck(_))
        )
    }
}

/// What is being worked off.
#[derive(Debug)]
struct Operation {
    kind: Kind,
    /// As they were before this operation: the `%M` and `%P` of hooks.
    old_main: Option<NodeId>,
    old_primary: Option<NodeId>,
    /// The valid node with the lowest number after the change.
    new_main: Option<NodeId>,
    /// There was a primary and now there is none: sessions wait for the end of the search.
    hold: bool,
    /// For an attach.
    all_were_down: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Start,
    /// Only a search: the roles have changed without us.
    Search,
    Down(NodeId),
    Up(NodeId),
}

#[derive(Debug)]
enum Stage {
    Hook { call: u64 },
    Search(Search),
}

#[derive(Debug)]
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
            started: false,
            attached: Vec::new(),
            last_ticket: 0,
        }
    }

    pub fn view(&self) -> &ClusterView {
        &self.view
    }

    /// A failover or failback is going on or waits.
    pub fn is_busy(&self) -> bool {
        self.operation.is_some() || !self.queue.is_empty()
    }

    /// Whether a request would be taken now, without making it.
    ///
    /// # Errors
    ///
    /// The refusal, in the words of the PCP tools.
    pub fn would_accept(&self, request: &Request) -> Result<(), Refusal> {
        if !self.started {
            return Err(Refusal::error(
                "ignoring the failover request, since we are still starting up",
            ));
        }
        match request::judge(request, &self.view, &self.waiting(), self.settings.pid) {
            Judged::Refused(refusal) => Err(refusal),
            Judged::Queue | Judged::AlreadyQueued | Judged::NothingToDo(_) => Ok(()),
        }
    }

    /// Takes a request into the queue and begins with it when nothing else goes on.
    ///
    /// `evidence`: version of the view in which the reason was seen; a reason from before the last
    /// attach of the node is ignored. `None`: an operator wishes it.
    ///
    /// The refusal is for the one who asked; it has been logged unless an operator is told.
    #[must_use = "the caller has to carry the actions out"]
    pub fn request(
        &mut self,
        request: Request,
        source: Source,
        evidence: Option<u64>,
        now: Now,
    ) -> (Result<(), Refusal>, Vec<Action>) {
        let mut out = Vec::new();
        if evidence.is_some_and(|version| self.is_outdated(&request, version)) {
            let text = format!(
                "a reason to detach node {} from before its attach is ignored",
                request.node()
            );
            out.push(Action::Log(Entry::log(source, text.clone())));
            return (Err(Refusal::error(text)), out);
        }
        let result = self.take(request, source, now, &mut out);
        self.pump(now, &mut out);
        (result, out)
    }

    fn is_outdated(&self, request: &Request, evidence: u64) -> bool {
        let node = request.node();
        matches!(request, Request::Down { .. })
            && (self.attached.get(node).is_some_and(|&at| at > evidence)
                || self.waiting().contains(&&Request::Up { node }))
    }

    fn waiting(&self) -> Vec<&Request> {
        self.queue.iter().map(|queued| &queued.request).collect()
    }

    fn take(
        &mut self,
        request: Request,
        source: Source,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let mut say = |source, message: String| out.push(Action::Log(Entry::log(source, message)));
        let judged = request::judge(&request, &self.view, &self.waiting(), self.settings.pid);
        if let Judged::Refused(refusal) = judged {
            if source != Source::Pcp {
                say(source, refusal.message.clone());
            }
            return Err(refusal);
        }
        let kind = match request {
            Request::Down { .. } => "degenerate backend",
            Request::Up { .. } => "failback",
        };
        say(
            source,
            format!(
                "received {kind} request for node_id: {} from pid [{}]",
                request.node(),
                self.settings.pid
            ),
        );
        say(
            Source::Main,
            "Pgpool-II parent process has received failover request".to_owned(),
        );
        if !self.started {
            let text = "ignoring the failover request, since we are still starting up";
            say(Source::Main, text.to_owned());
            return Err(Refusal::error(text));
        }
        match judged {
            Judged::Queue => self.queue.push_back(Queued {
                request,
                source,
                seen: now.instant,
            }),
            Judged::NothingToDo(remark) => say(Source::Main, remark),
            Judged::AlreadyQueued => {
                if let Some(queued) = self.queue.iter_mut().rfind(|q| q.request == request) {
                    queued.seen = now.instant;
                    // An operator's wish does not depend on a reason any more.
                    if !matches!(source, Source::HealthCheck(_)) {
                        queued.source = source;
                    }
                }
            }
            Judged::Refused(_) => {}
        }
        Ok(())
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
        }
        self.pump(now, &mut out);
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
            old_main: self.main,
            old_primary: None,
            new_main: self.main,
            hold: true,
            all_were_down: false,
            stage: Stage::Hook { call: 0 },
        });
        self.search_or_finish(now, out);
    }

    /// Begins with the next request when nothing goes on.
    fn pump(&mut self, now: Now, out: &mut Vec<Action>) {
        while self.started && self.operation.is_none() {
            let Some(queued) = self.queue.pop_front() else {
                return;
            };
            let waited = now.instant.saturating_duration_since(queued.seen);
            if queued.may_be_outdated() && waited > REASON_LASTS {
                let node = queued.request.node();
                say(
                    out,
                    format!(
                        "node {node} is looked at again before it is detached, because the request waited {} seconds",
                        waited.as_secs()
                    ),
                );
                out.push(Action::LookAgain { node });
                continue;
            }
            match queued.request {
                Request::Down { node } => self.begin_down(node, now, out),
                Request::Up { node } => self.begin_up(node, now, out),
            }
        }
    }

    fn begin_down(&mut self, id: NodeId, now: Now, out: &mut Vec<Action>) {
        let Some(node) = self
            .view
            .nodes
            .get_mut(id)
            .filter(|n| n.is_valid() || n.quarantine)
        else {
            say(out, "failover: no backends are degenerated");
            return;
        };
        node.status = NodeStatus::Down;
        node.quarantine = false;
        node.status_changed = now.wall;
        self.say_framed(out, "starting degeneration. shutdown host", id);
        self.write_status_file(out);

        let old_primary = self.view.primary;
        let new_main = self.view.main_node();
        if new_main.is_none() {
            say(out, "failover: no valid backend node found");
        }
        let nobody_is_cut =
            self.view.mode == ClusteringMode::StreamingReplication && old_primary != Some(id);
        self.say_restart(out, id, nobody_is_cut.then_some("switching over"));
        let lost_primary = old_primary == Some(id);
        if lost_primary {
            self.view.primary = None;
        }
        self.operation = Some(Operation {
            kind: Kind::Down(id),
            old_main: self.main,
            old_primary,
            new_main,
            hold: lost_primary && new_main.is_some(),
            all_were_down: false,
            stage: Stage::Hook { call: 0 },
        });
        self.view.version += 1;
        self.view.primary_search_running = lost_primary && new_main.is_some();
        out.push(Action::Publish(self.view.clone()));

        let template = self.settings.failover_command.clone();
        self.run_hook(HookKind::Failover, id, &template, old_primary, now, out);
    }

    fn begin_up(&mut self, id: NodeId, now: Now, out: &mut Vec<Action>) {
        if self
            .view
            .node(id)
            .is_none_or(|n| n.status != NodeStatus::Down)
        {
            let code = self.view.node(id).map_or(0, |n| n.status.code());
            say(
                out,
                format!(
                    "invalid failback request, status: [{code}] of node id : {id} is invalid for failback"
                ),
            );
            return;
        }
        self.say_framed(out, "starting fail back. reconnect host", id);
        let someone_up = self
            .view
            .nodes
            .iter()
            .find(|n| n.is_valid())
            .map(|n| (n.id, n.status.code()));
        if let Some((other, code)) = someone_up {
            say(out, format!("Node {other} is not down (status: {code})"));
        }
        if let Some(node) = self.view.nodes.get_mut(id) {
            node.status = NodeStatus::Waiting;
            node.quarantine = false;
            node.status_changed = now.wall;
        }
        self.write_status_file(out);
        let old_primary = self.view.primary;
        let had_none = someone_up.is_none() && self.view.has_primary();
        self.operation = Some(Operation {
            kind: Kind::Up(id),
            old_main: self.main,
            old_primary,
            new_main: self.view.main_node(),
            // All nodes were down: whoever comes now waits until it is known what this node is.
            hold: had_none,
            all_were_down: someone_up.is_none(),
            stage: Stage::Hook { call: 0 },
        });
        self.view.version += 1;
        if self.attached.len() <= id {
            self.attached.resize(id + 1, 0);
        }
        if let Some(at) = self.attached.get_mut(id) {
            *at = self.view.version;
        }
        self.view.primary_search_running = had_none;
        out.push(Action::Publish(self.view.clone()));

        let template = self.settings.failback_command.clone();
        // Here the original's %P falls back to the main node.
        let shown_primary = old_primary.or(self.main);
        self.run_hook(HookKind::Failback, id, &template, shown_primary, now, out);
    }

    /// Starts the hook, or goes on at once when there is nothing to run.
    fn run_hook(
        &mut self,
        kind: HookKind,
        node: NodeId,
        template: &str,
        old_primary: Option<NodeId>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let call = self.ticket();
        let Some(operation) = &mut self.operation else {
            return;
        };
        operation.stage = Stage::Hook { call };
        let nodes = hook_line::Nodes {
            node,
            new_main: operation.new_main,
            old_main: operation.old_main,
            old_primary,
        };
        let line = hook_line::expand(template, nodes, &self.view, self.settings.dialect);
        if line.is_empty() {
            self.hook_is_over(now, out);
            return;
        }
        say(out, format!("execute command: {line}"));
        out.push(Action::RunHook(HookCall {
            call,
            kind,
            node,
            line,
        }));
    }

    fn hook_finished(&mut self, finished: u64, now: Now, out: &mut Vec<Action>) {
        let expected = self
            .operation
            .as_ref()
            .is_some_and(|o| matches!(o.stage, Stage::Hook { call } if call == finished));
        if expected {
            self.hook_is_over(now, out);
        }
    }

    fn hook_is_over(&mut self, now: Now, out: &mut Vec<Action>) {
        if let Some(Operation {
            kind: Kind::Up(id),
            old_primary,
            all_were_down,
            ..
        }) = self.operation
        {
            let nobody_is_cut = self.view.mode == ClusteringMode::StreamingReplication
                && !all_were_down
                && old_primary.is_some();
            self.say_restart(out, id, nobody_is_cut.then_some("failing back"));
        }
        self.search_or_finish(now, out);
    }

    fn search_or_finish(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(operation) = &self.operation else {
            return;
        };
        let primary_stays = match operation.kind {
            Kind::Down(_) => self.view.primary.is_some(),
            Kind::Start | Kind::Search | Kind::Up(_) => false,
        };
        if !self.view.has_primary() || primary_stays {
            let primary = self.view.primary;
            self.finish(primary, None, now, out);
            return;
        }
        if self.view.main_node().is_none() {
            say(
                out,
                "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node",
            );
            self.finish(None, None, now, out);
            return;
        }
        say(
            out,
            "find_primary_node_repeatedly: waiting for finding a primary node",
        );
        let always_primary = self
            .view
            .nodes
            .iter()
            .find(|n| n.flag.always_primary && n.status != NodeStatus::Unused)
            .map(|n| n.id);
        if always_primary.is_some() {
            self.finish(always_primary, None, now, out);
            return;
        }
        self.sweep(now.instant, Vec::new(), now, out);
    }

    /// Asks all valid nodes.
    fn sweep(&mut self, began: Instant, said: Vec<Entry>, now: Now, out: &mut Vec<Action>) {
        let sweep = self.ticket();
        let nodes: Vec<NodeId> = self.view.valid_nodes().collect();
        let Some(operation) = &mut self.operation else {
            return;
        };
        operation.stage = Stage::Search(Search {
            began,
            sweep,
            answers: vec![None; self.view.nodes.len()],
            missing: nodes.clone(),
            grace_ends: None,
            next_sweep: None,
            said,
        });
        if nodes.is_empty() {
            self.sweep_finished(now, out);
        } else {
            out.push(Action::Ask { sweep, nodes });
        }
    }

    fn answered(
        &mut self,
        sweep: u64,
        node: NodeId,
        answer: Answer,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(Operation {
            stage: Stage::Search(search),
            ..
        }) = &mut self.operation
        else {
            return;
        };
        if search.sweep != sweep || search.next_sweep.is_some() || !search.missing.contains(&node) {
            return;
        }
        search.missing.retain(|&id| id != node);
        let is_primary = answer == Answer::Primary;
        if let Some(slot) = search.answers.get_mut(node) {
            *slot = Some(answer);
        }
        if search.missing.is_empty() {
            self.sweep_finished(now, out);
        } else if is_primary && search.grace_ends.is_none() {
            let ends = now.instant + SEARCH_GRACE;
            search.grace_ends = Some(ends);
            out.push(Action::WakeAt(ends));
        }
    }

    fn timer(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(Operation {
            stage: Stage::Search(search),
            ..
        }) = &mut self.operation
        else {
            return;
        };
        match (search.next_sweep, search.grace_ends) {
            (Some(at), _) if now.instant >= at => {
                let (began, said) = (search.began, std::mem::take(&mut search.said));
                self.sweep(began, said, now, out);
            }
            (None, Some(ends)) if now.instant >= ends => {
                for id in std::mem::take(&mut search.missing) {
                    if let Some(slot) = search.answers.get_mut(id) {
                        *slot = Some(Answer::Unreachable("no answer in time".to_owned()));
                    }
                }
                self.sweep_finished(now, out);
            }
            // Too early: a timer of an earlier request.
            (Some(at), _) | (None, Some(at)) => out.push(Action::WakeAt(at)),
            (None, None) => {}
        }
    }

    fn sweep_finished(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        let Stage::Search(search) = &mut operation.stage else {
            return;
        };
        let known = self.view.primary.filter(|&id| self.view.is_valid(id));
        // All servers of logical replication say that they take writes, so that says nothing for
        // the one that is known: the lowest is the primary, as it is shown.
        let standing = known.filter(|_| self.view.mode == ClusteringMode::StreamingReplication);
        let answers = std::mem::take(&mut search.answers);
        let kind = operation.kind;
        let judgement = search::judge(
            &answers,
            &self.view,
            standing,
            self.settings.detach_false_primary,
        );
        let lines = lines_of(&answers, &judgement);
        if lines != search.said {
            out.extend(lines.iter().cloned().map(Action::Log));
        }
        search.said = lines;
        let began = search.began;
        self.drop_disproved(&answers, out);

        // Its health check decides whether it is down; that it did not answer here proves nothing.
        let known_is_silent = known.filter(|&id| {
            !matches!(
                answers.get(id),
                Some(Some(Answer::Standby(_) | Answer::Primary))
            )
        });
        let another_may_be_it = standing.is_some() || known_is_silent.is_none();
        if let Some(primary) = judgement.primary(standing).filter(|_| another_may_be_it) {
            self.finish(Some(primary), Some(judgement), now, out);
            return;
        }
        if let Some(primary) = known_is_silent {
            say(
                out,
                format!(
                    "find_primary_node: node {primary} did not answer and stays the primary node"
                ),
            );
            self.finish(Some(primary), Some(judgement), now, out);
            return;
        }
        let waited = now.instant.saturating_duration_since(began);
        if kind == Kind::Search {
            // The next replication check asks again.
            self.finish(None, Some(judgement), now, out);
            return;
        }
        let limit = self.search_limit(kind);
        if limit.is_some_and(|limit| waited >= limit) {
            let detail = format!(
                "find_primary_node_repeatedly: expired after {} seconds",
                waited.as_secs()
            );
            out.push(Action::Log(
                Entry::log(Source::Main, "failed to find primary node").with_detail(detail),
            ));
            self.finish(None, Some(judgement), now, out);
            return;
        }
        if self.is_hopeless(waited) {
            say(
                out,
                "find_primary_node_repeatedly: gives up because another request waits that changes the nodes",
            );
            self.finish(None, Some(judgement), now, out);
            return;
        }
        self.update_hold(known, &answers, out);
        if let Some(Operation {
            stage: Stage::Search(search),
            ..
        }) = &mut self.operation
        {
            let end = limit.map(|limit| began + limit);
            let next = now.instant + SEARCH_PAUSE;
            let at = end.map_or(next, |end| next.min(end));
            search.next_sweep = Some(at);
            out.push(Action::WakeAt(at));
        }
    }

    /// A search without end would keep a start from ever opening PCP and checking its servers; the
    /// replication check finds a primary that comes later.
    fn search_limit(&self, kind: Kind) -> Option<Duration> {
        match self.settings.search_primary_node_timeout {
            None if kind == Kind::Start => Some(LONGEST_START),
            limit => limit,
        }
    }

    /// Sessions wait only as long as a standby may still become the primary.
    fn update_hold(
        &mut self,
        known: Option<NodeId>,
        answers: &[Option<Answer>],
        out: &mut Vec<Action>,
    ) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        let mut changed = false;
        if known.is_some() {
            // The primary of the view has said that it is a standby.
            self.view.primary = None;
            operation.hold = true;
            changed = true;
        }
        let can_help = answers
            .iter()
            .any(|answer| matches!(answer, Some(Answer::Standby(_))));
        // At a start nobody was promised a primary; the original serves clients meanwhile.
        let hold = operation.hold && can_help && operation.kind != Kind::Start;
        if self.view.primary_search_running != hold {
            self.view.primary_search_running = hold;
            changed = true;
        }
        if changed {
            self.view.version += 1;
            out.push(Action::Publish(self.view.clone()));
        }
    }

    /// The search found nothing so far, and what waits in the queue changes what can be found:
    /// the node that was to be promoted is down itself, all nodes are, or a node is to be attached.
    fn is_hopeless(&self, waited: Duration) -> bool {
        let Some(operation) = &self.operation else {
            return false;
        };
        let waiting = self.waiting();
        let goes_down = |id: NodeId| waiting.contains(&&Request::Down { node: id });
        operation.new_main.is_some_and(goes_down)
            || self.view.valid_nodes().all(goes_down)
            || (waited >= SEARCH_BEFORE_ATTACH
                && waiting.iter().any(|r| matches!(r, Request::Up { .. })))
    }

    fn finish(
        &mut self,
        primary: Option<NodeId>,
        judgement: Option<Judgement>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(operation) = self.operation.take() else {
            return;
        };
        let old_primary = match operation.kind {
            Kind::Start => None,
            Kind::Search | Kind::Down(_) | Kind::Up(_) => operation.old_primary,
        };
        if old_primary != primary && operation.kind != Kind::Start {
            for id in [old_primary, primary].into_iter().flatten() {
                if let Some(node) = self.view.nodes.get_mut(id) {
                    node.status_changed = now.wall;
                }
            }
        }
        let before = (self.view.primary, self.view.primary_search_running);
        self.view.primary = primary;
        self.view.primary_search_running = false;
        if before != (primary, false) {
            self.view.version += 1;
            out.push(Action::Publish(self.view.clone()));
        }
        if operation.kind == Kind::Start {
            self.started(now, judgement, out);
            return;
        }
        say(
            out,
            format!("failover: set new primary node: {}", number(primary)),
        );
        if let Some(main) = operation.new_main {
            self.main = Some(main);
            say(out, format!("failover: set new main node: {main}"));
        }
        out.push(Action::RestartReplicationCheck);
        out.push(Action::Log(Entry::log(
            Source::ReplicationCheck,
            "worker process received restart request",
        )));
        match operation.kind {
            Kind::Down(id) => self.say_framed(out, "failover done. shutdown host", id),
            Kind::Up(id) => self.say_framed(out, "failback done. reconnect host", id),
            Kind::Start | Kind::Search => {}
        }
    }

    fn started(&mut self, now: Now, judgement: Option<Judgement>, out: &mut Vec<Action>) {
        self.started = true;
        out.push(Action::Started);
        if self.view.mode != ClusteringMode::StreamingReplication {
            return;
        }
        let mut invalid = Vec::new();
        for id in 0..self.view.nodes.len() {
            let verdict = judgement
                .as_ref()
                .and_then(|j| j.verdicts.get(id).copied())
                .unwrap_or(search::Verdict::Unused);
            say(out, format!("node status[{id}]: {}", verdict as u8));
            if verdict == search::Verdict::Invalid {
                say(out, format!("pgpool_main: invalid node found {id}"));
                invalid.push(id);
            }
        }
        for node in invalid {
            // A refusal has been logged; nobody else waits for it.
            let _ = self.take(Request::Down { node }, Source::Main, now, out);
        }
    }

    /// A server that answers is not down: health checks that asked for its end were wrong, or it
    /// has come back.
    fn drop_disproved(&mut self, answers: &[Option<Answer>], out: &mut Vec<Action>) {
        let answered = |id: NodeId| {
            !matches!(
                answers.get(id),
                None | Some(None | Some(Answer::Unreachable(_)))
            )
        };
        self.queue.retain(|queued| {
            let node = queued.request.node();
            let disproved = queued.may_be_outdated() && answered(node);
            if disproved {
                say(
                    out,
                    format!(
                        "degenerate backend request for node_id: {node} is dropped because the server has answered since"
                    ),
                );
            }
            !disproved
        });
    }

    /// A node was promoted, or turned into a standby, and nobody told us.
    fn roles_differ(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.started || self.is_busy() || !self.view.has_primary() {
            return;
        }
        say(
            out,
            format!(
                "the servers have other roles than known here (primary node {}): searching the primary node",
                number(self.view.primary)
            ),
        );
        self.operation = Some(Operation {
            kind: Kind::Search,
            old_main: self.main,
            old_primary: self.view.primary,
            new_main: self.view.main_node(),
            hold: false,
            all_were_down: false,
            stage: Stage::Hook { call: 0 },
        });
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

    fn address(&self, id: NodeId) -> (String, u16) {
        self.view
            .node(id)
            .map_or_else(Default::default, |n| (n.hostname.clone(), n.port))
    }

    /// The words of the original for what happens to sessions. Here those that use the node end,
    /// and no others.
    fn say_restart(&self, out: &mut Vec<Action>, id: NodeId, partial: Option<&str>) {
        let Some(doing) = partial else {
            say(out, "Restart all children");
            return;
        };
        let (host, port) = self.address(id);
        let and_so = if doing == "failing back" {
            " and not all backends were down"
        } else {
            ""
        };
        say(
            out,
            format!(
                "Do not restart children because we are {doing} node id {id} host: {host} port: {port} and we are in streaming replication mode{and_so}"
            ),
        );
    }

    /// `text H(P)`; from 4.4 on framed and with a capital letter.
    fn say_framed(&self, out: &mut Vec<Action>, text: &str, id: NodeId) {
        let (host, port) = self.address(id);
        let line = format!("{text} {host}({port})");
        say(
            out,
            if self.settings.dialect >= Release::V4_4 {
                let mut chars = line.chars();
                let first = chars.next().map(|c| c.to_ascii_uppercase());
                format!(
                    "=== {}{} ===",
                    first.map(String::from).unwrap_or_default(),
                    chars.as_str()
                )
            } else {
                line
            },
        );
    }
}

fn say(out: &mut Vec<Action>, message: impl Into<String>) {
    out.push(Action::Log(Entry::log(Source::Main, message)));
}

fn number(id: Option<NodeId>) -> String {
    id.map_or_else(|| "-1".to_owned(), |id| id.to_string())
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

fn lines_of(answers: &[Option<Answer>], judgement: &Judgement) -> Vec<Entry> {
    let mut lines = Vec::new();
    for (id, answer) in answers.iter().enumerate() {
        if let Some(Answer::Unreachable(why) | Answer::Refused(why)) = answer {
            lines.push(
                Entry::log(
                    Source::Main,
                    format!(
                        "find_primary_node: make_persistent_db_connection_noerror failed on node {id}"
                    ),
                )
                .with_detail(why.clone()),
            );
        }
    }
    let verdicts =
        judgement
            .verdicts
            .iter()
            .enumerate()
            .filter_map(|(id, verdict)| match verdict {
                search::Verdict::Primary => {
                    Some(format!("find_primary_node: primary node is {id}"))
                }
                search::Verdict::Standby => {
                    Some(format!("find_primary_node: standby node is {id}"))
                }
                search::Verdict::Invalid => Some(format!("find_primary_node: invalid node {id}")),
                search::Verdict::Unused => None,
            });
    lines.extend(
        judgement
            .remarks
            .iter()
            .cloned()
            .chain(verdicts)
            .map(|text| Entry::log(Source::Main, text)),
    );
    lines
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
