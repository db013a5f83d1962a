//! What pgpool does in a history: its core, the hooks that it runs, its end by SIGKILL.

use super::{checks::arguments, *};

impl World {
    /// pgpool starts, for the first time or after it was killed.
    pub(super) fn start(&mut self) {
        self.note_what_is_left();
        self.life += 1;
        let mut view = testing::view(self.servers.len());
        let reporter = Reporter::new("main");
        let statuses = self
            .file
            .as_ref()
            .map(|text| status_file::interpret(text.as_bytes(), &reporter))
            .unwrap_or_default();
        for node in &mut view.nodes {
            node.status = statuses
                .get(node.id)
                .copied()
                .unwrap_or(NodeStatus::Waiting);
        }
        view.primary_search_running = view.main_node().is_some();
        assert!(view.main_node().is_some(), "a restart has a node to try");
        self.main = view.main_node();
        self.published = view.clone();
        self.core = Core::new(self.settings.clone(), view).resuming(self.unfinished.clone());
        self.checks.clear();
        self.ongoing = None;
        self.following = None;
        self.follow_call = None;
        self.promotions.clear();
        self.wish = None;
        self.open.clear();
        self.wanted.fill(None);
        self.answers.clear();
        self.crash_in = None;
        let actions = self.core.handle(Event::Start, self.now());
        self.carry_out(actions);
    }

    fn crash(&mut self) {
        self.note(|| "pgpool is killed and started again".to_owned());
        self.start();
    }

    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        let life = self.life;
        for action in actions {
            if let Some(steps) = &mut self.crash_in {
                if *steps == 0 {
                    self.crash();
                    return;
                }
                *steps -= 1;
            }
            self.carry_out_one(action);
            if self.life != life {
                return;
            }
        }
        self.check_at_rest();
        self.check_records();
    }

    fn carry_out_one(&mut self, action: Action) {
        match action {
            Action::Log(entry) => self.heard(&entry.message),
            Action::Record(told) => self.recorded(told),
            Action::WriteStatusFile(text) => {
                self.file = Some(text);
                if let Some(ongoing) = &mut self.ongoing {
                    ongoing.written = true;
                }
            }
            Action::Publish(view) => self.publish(view),
            Action::RunHook { hook, begun } => {
                self.unfinished = begun;
                self.run_hook(hook);
            }
            Action::Remember(unfinished) => self.unfinished = unfinished,
            Action::AwaitHook { call, kind } => self.await_hook(call, kind),
            Action::Ask { sweep, nodes } => {
                let life = self.life;
                for node in nodes {
                    let after = match self.servers[node].state {
                        ServerState::Hung => Duration::from_secs(10),
                        _ => self.random.millis(1, 60),
                    };
                    self.due(after, Due::Answer { life, sweep, node });
                }
            }
            Action::WakeAt(at) => {
                let after = (at - self.base).saturating_sub(self.time);
                self.due(after, Due::CoreTimer);
            }
            Action::RestartReplicationCheck | Action::AskToBegin { .. } => {}
            Action::LookAgain { node } => {
                // Its request is not lost: the check asks again if the reason still holds.
                self.wanted[node] = None;
                self.bad_probes[node] = 0;
                self.looked[node] = true;
                self.health(node, health::Event::Look(health::Cause::Waited));
            }
            Action::Started => {
                self.resumed_start_is_over();
                let count = self.servers.len();
                self.checks = (0..count)
                    .map(|node| {
                        health::HealthCheck::new(
                            node,
                            self.health_settings.clone(),
                            HealthStats::default(),
                        )
                    })
                    .collect();
                for node in 0..count {
                    self.bad_probes[node] = 0;
                    self.looked[node] = false;
                    self.wake_health(node, Duration::ZERO);
                }
            }
        }
    }

    fn publish(&mut self, view: ClusterView) {
        let old = std::mem::replace(&mut self.published, view);
        let new = self.published.clone();
        assert!(new.version >= old.version, "versions grow");
        let valid = |v: &ClusterView| v.valid_nodes().collect::<Vec<_>>();
        if valid(&old) != valid(&new)
            || old.primary != new.primary
            || old.primary_search_running != new.primary_search_running
        {
            assert!(new.version > old.version, "a change has a new version");
        }
        if let Some(primary) = new.primary {
            assert!(new.is_valid(primary), "the primary is a valid node");
            if old.primary != new.primary {
                let answer = self.answers.get(&primary);
                assert!(
                    matches!(answer, Some((_, true))),
                    "node {primary} became primary without having said so: {answer:?}"
                );
            }
        }
        if let (Some(a), Some(b)) = (old.primary, new.primary)
            && a != b
            // It may say of one that feeds no standby that it is a false one.
            && !self.settings.detach_false_primary
        {
            let last = self.answers.values().map(|(sweep, _)| *sweep).max();
            let answer = self.answers.get(&a);
            let says_so = answer.is_some_and(|(sweep, primary)| Some(*sweep) == last && *primary);
            assert!(
                !new.is_valid(a) || !says_so,
                "node {b} takes the writes of node {a}, which is attached and says that it is the primary"
            );
        }
        match (new.write_node(), new.primary) {
            (Some(writes), Some(primary)) => {
                assert_eq!(writes, primary, "writes go to the primary")
            }
            (Some(writes), None) => {
                // The search was in vain, and the lowest node gets what comes.
                let last = self.answers.values().map(|(sweep, _)| *sweep).max();
                let said = |id: NodeId| {
                    self.answers
                        .get(&id)
                        .is_some_and(|(sweep, primary)| Some(*sweep) == last && *primary)
                };
                assert!(
                    !old.primary_search_running || !new.valid_nodes().any(said),
                    "node {writes} is written to although a primary has answered"
                );
            }
            (None, _) => {}
        }
        if let Some(ongoing) = &self.ongoing
            && ongoing.what == What::Down
            && ongoing.before.primary == Some(ongoing.node)
            && ongoing.hook_calls == 0
        {
            assert_eq!(new.write_node(), None, "nobody is promoted yet");
        }
        if new.primary_search_running {
            assert_eq!(new.write_node(), None, "nobody writes during a search");
            assert!(self.core.is_busy(), "somebody searches");
        }
        for id in 0..self.servers.len() {
            if new.is_valid(id) && !old.is_valid(id) {
                self.bad_probes[id] = 0;
                self.looked[id] = false;
                self.health(id, health::Event::Attached);
            }
        }
    }

    fn run_hook(&mut self, call: HookCall) {
        if call.kind == HookKind::Follow {
            self.check_follow_call(&call);
        } else if self.ongoing.is_none() {
            self.check_resumed_call(&call);
        } else {
            let ongoing = self
                .ongoing
                .as_mut()
                .expect("a hook belongs to an operation");
            ongoing.hook_calls += 1;
            assert_eq!(ongoing.node, call.node);
            let kind = match ongoing.what {
                What::Down => HookKind::Failover,
                What::Up => HookKind::Failback,
                What::Promote => panic!("a promotion has no hook"),
            };
            assert_eq!(call.kind, kind);
            let expected = expected_line(&arguments(ongoing, &self.published, self.main));
            assert_eq!(call.line, expected, "arguments of the hook");
        }
        self.note(|| format!("hook: {}", call.line));
        self.last_run += 1;
        let after = match (self.random.below(20), call.kind) {
            (0, HookKind::Follow) => self.random.millis(20_000, 400_000),
            (0 | 1, _) => self.random.millis(2000, 20_000),
            _ => self.random.millis(5, 300),
        };
        if call.kind == HookKind::Follow && self.random.chance(30) {
            let node = call.node;
            self.due(after / 2, Due::ScriptAttaches { node });
        }
        let run = self.last_run;
        let life = self.life;
        self.hooks.insert(run, Hook { call, life });
        self.due(after, Due::HookEnds { run });
    }

    /// The operator's script: promotes the new main node when the primary has failed.
    pub(super) fn hook_ends(&mut self, run: u64) {
        let Some(Hook { call, life }) = self.hooks.remove(&run) else {
            return;
        };
        let words: Vec<&str> = call.line.split(' ').collect();
        if call.kind == HookKind::Follow {
            let primary = words[5].parse().expect("a node");
            if self.script_follows(call.node, primary) {
                let _ = self.request(Request::Up { node: call.node }, Source::Pcp, None);
            }
        }
        let mut new = words[5].parse::<NodeId>();
        if self.random.chance(5) {
            // The script promotes what it likes.
            new = Ok(self.random.node(self.servers.len()));
        }
        if call.kind == HookKind::Failover
            && words[1] == words[8]
            && let Ok(new) = new
            && self.random.chance(85)
            && self.servers[new].state == ServerState::Running
        {
            self.note(|| format!("server {new} is promoted"));
            self.servers[new].primary = true;
            if let Ok(old) = words[1].parse::<NodeId>()
                && self.servers[old].state != ServerState::Running
            {
                // Comes back as a standby, most of the time.
                self.servers[old].primary = self.random.chance(20);
            }
        }
        if let Some(call) = self.awaited.remove(&run) {
            self.awaited_hook_ends(call);
        }
        if life == self.life {
            if call.kind == HookKind::Follow {
                let running = self.follow_call.take();
                assert_eq!(running, Some((call.call, call.node)), "the one that ran");
            }
            let outdated = call.kind == HookKind::Follow && self.is_outdated(&call);
            let actions = self
                .core
                .handle(Event::HookFinished { call: call.call }, self.now());
            self.carry_out(actions);
            assert!(
                !outdated || life != self.life || !self.published.is_valid(call.node),
                "node {} follows a server that is not the primary any more",
                call.node
            );
        }
    }

    pub(super) fn request(
        &mut self,
        request: Request,
        source: Source,
        evidence: Option<u64>,
    ) -> Result<(), Refusal> {
        self.note(|| format!("{source:?} requests {request:?}"));
        let life = self.life;
        let (result, actions) = self
            .core
            .request(request.clone(), source, evidence, self.now());
        if result.is_ok() {
            match request {
                Request::Up { node } => self.wanted[node] = Some(true),
                Request::Down { node } => self.wanted[node] = Some(false),
                Request::Switchover { .. } | Request::Promote { .. } => {
                    if !self.promotions.contains(&request) {
                        self.promotions.push(request);
                    }
                }
            }
        }
        self.carry_out(actions);
        if self.life != life {
            return Err(Refusal::error("killed"));
        }
        result
    }
}
