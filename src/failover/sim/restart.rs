//! A pgpool that was killed and starts again: what it must go on with, and what it must not repeat.

use super::{
    checks::{arguments, expected_line},
    follow::Following,
    *,
};

/// The failover or failback that was going on.
#[derive(Clone, Debug)]
pub(super) struct Resumed {
    node: NodeId,
    what: What,
    old_primary: Option<NodeId>,
    /// The call that the killed pgpool owes, and no other.
    owed: Option<String>,
}

impl World {
    /// At the moment of the kill: what the servers, the files and the calls so far say of it.
    pub(super) fn note_what_is_left(&mut self) {
        let remembered = self.unfinished.hook.clone();
        let begun = remembered
            .as_ref()
            .is_some_and(|h| h.stage != unfinished::Stage::Due);
        let is_done = remembered.as_ref().is_some_and(|hook| {
            let line = self.file.as_ref().and_then(|f| f.lines().nth(hook.node));
            line == Some(match hook.kind {
                HookKind::Failback => "up",
                HookKind::Failover | HookKind::Follow => "down",
            })
        });
        let owed = self.resumed.take().and_then(|r| r.owed);
        self.was_to_go = None;
        if let Some(ongoing) = self.ongoing.take() {
            let is_known = remembered.as_ref().is_some_and(|h| h.node == ongoing.node);
            assert!(
                is_known || !ongoing.written || ongoing.what == What::Promote,
                "the status file says more than the record"
            );
            if is_known && is_done {
                self.resumed = self.left_of(&ongoing, begun);
            }
        } else if let Some(hook) = remembered.as_ref().filter(|_| is_done) {
            // Killed during a start that went on with it, or when it was as good as done.
            assert!(
                !begun || owed.is_none(),
                "a hook that has not begun is forgotten"
            );
            self.resumed = Some(Resumed {
                node: hook.node,
                what: match hook.kind {
                    HookKind::Failback => What::Up,
                    HookKind::Failover | HookKind::Follow => What::Down,
                },
                old_primary: hook.old_primary,
                owed,
            });
        }
        if let Some(hook) = remembered.filter(|_| !is_done && !begun)
            && hook.kind == HookKind::Failover
            && hook.old_primary == Some(hook.node)
        {
            self.was_to_go = hook.old_primary;
        }
        self.note_commands_left();
        self.awaited.clear();
    }

    /// `begun`: as the record says.
    fn left_of(&self, ongoing: &Ongoing, begun: bool) -> Option<Resumed> {
        let node = ongoing.node;
        let mut after = ongoing.before.clone();
        after.nodes[node].status = match ongoing.what {
            What::Down => NodeStatus::Down,
            What::Up => NodeStatus::Waiting,
            What::Promote => return None,
        };
        let has_hook = match ongoing.what {
            What::Up => !self.settings.failback_command.is_empty(),
            What::Down | What::Promote => true,
        };
        assert!(
            !has_hook || begun == (ongoing.hook_calls > 0),
            "the record is not true"
        );
        let owed =
            (has_hook && !begun).then(|| expected_line(&arguments(ongoing, &after, self.main)));
        Some(Resumed {
            node,
            what: ongoing.what,
            old_primary: ongoing.before.primary,
            owed,
        })
    }

    fn note_commands_left(&mut self) {
        let remembered = self.unfinished.follow;
        let seen = self.following.take().or(self.left.take());
        if let Some((_, node)) = self.follow_call {
            let running = remembered.and_then(|follow| follow.running);
            assert_eq!(running, Some(node), "the command that runs is forgotten");
        }
        let Some(follow) = remembered else {
            assert!(
                seen.is_none() || self.follow_call.is_none(),
                "the commands for {seen:?} are forgotten"
            );
            self.left = None;
            return;
        };
        let next = follow.next.unwrap_or(usize::MAX);
        if let Some(seen) = seen.filter(|seen| seen.primary == follow.primary) {
            assert!(
                next == seen.next || follow.next.is_none(),
                "{follow:?} is remembered of {seen:?}"
            );
        }
        self.left = follow.next.map(|next| Following {
            primary: follow.primary,
            old_primary: follow.old_primary,
            next,
        });
    }

    pub(super) fn check_resumed_call(&mut self, call: &HookCall) {
        let resumed = self.resumed.as_mut().expect("a hook belongs to something");
        let owed = resumed.owed.take().expect("a hook is run twice");
        assert_eq!(call.line, owed, "arguments of the hook that was owed");
        assert_eq!(call.node, resumed.node);
    }

    /// The search of the start is over, and with it what was resumed.
    pub(super) fn resumed_start_is_over(&mut self) {
        let left = self.left.take();
        if self.published.primary.is_some() {
            self.was_to_go = None;
        }
        if let Some(resumed) = self.resumed.take() {
            assert_eq!(resumed.owed, None, "a hook is lost");
            let has_command = !self.settings.follow_primary_command.is_empty();
            if let Some(primary) = self.published.primary
                && resumed.what == What::Down
                && has_command
                && resumed.old_primary != Some(primary)
                && resumed.node != primary
            {
                self.following_begins(primary, resumed.old_primary);
                return;
            }
        }
        self.following = left.filter(|left| self.published.primary == Some(left.primary));
    }

    pub(super) fn await_hook(&mut self, call: u64, kind: HookKind) {
        let follows = kind == HookKind::Follow;
        let life = self.life;
        if follows {
            let node = self.unfinished.follow.and_then(|f| f.running);
            self.follow_call = Some((call, node.expect("its command had begun")));
        }
        let runs =
            |hook: &Hook| hook.life < life && (hook.call.kind == HookKind::Follow) == follows;
        let found = self
            .hooks
            .iter()
            .filter(|(_, hook)| runs(hook))
            .map(|(&run, _)| run)
            .max();
        match found {
            Some(run) => {
                self.note(|| format!("waits for the hook {run} of an earlier life"));
                self.awaited.insert(run, call);
            }
            None => self.due(Duration::ZERO, Due::HookIsOver { call, life }),
        }
    }

    pub(super) fn awaited_hook_ends(&mut self, call: u64) {
        self.follow_call.take_if(|(running, _)| *running == call);
        let actions = self.core.handle(Event::HookFinished { call }, self.now());
        self.carry_out(actions);
    }
}
