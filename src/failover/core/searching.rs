//! The search for the primary: rounds of questions to the servers, and when they end.

use std::time::{Duration, Instant};

use super::{Action, Core, Kind, Now, Operation, Search, Stage, texts::say};
use crate::{
    cluster::{NodeId, NodeStatus},
    config::settings::ClusteringMode,
    failover::{
        request::{Entry, Request, Source},
        search::{self, Answer, Judgement},
    },
};

/// Pause between two rounds of questions, as in the original.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);
/// The same at first: a hook that does not wait for the end of the promotion must not cost the
/// writers a second.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// For how long.
const FIRST_ROUNDS: Duration = Duration::from_secs(5);
/// How long the other servers may still answer once one has said that it is the primary.
const SEARCH_GRACE: Duration = Duration::from_secs(1);
/// The search of a start ends after this time even with `search_primary_node_timeout = 0`.
const LONGEST_START: Duration = Duration::from_secs(300);
/// An attach that waits for a search in vain ends it after this time.
const SEARCH_BEFORE_ATTACH: Duration = Duration::from_secs(10);

impl Core {
    pub(super) fn search_or_finish(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(operation) = &self.operation else {
            return;
        };
        // A primary in quarantine is out of reach here and nowhere else: there is none to be found.
        let in_quarantine = self.quarantined_primary.is_some();
        let primary_stays = match operation.kind {
            Kind::Down(_) => self.view.primary.is_some() || in_quarantine,
            Kind::Up(_) => in_quarantine,
            Kind::Start | Kind::Search | Kind::Promote(_) => false,
        };
        if !self.view.has_primary() || primary_stays {
            let primary = self.view.primary;
            self.because(self.rule_of_mode());
            self.finish(primary, None, now, out);
            return;
        }
        if self.view.main_node().is_none() {
            say(
                out,
                "find_primary_node_repeatedly: all of the backends are down. Giving up finding primary node",
            );
            self.because("all nodes are down");
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
            self.because("it has the flag ALWAYS_PRIMARY");
            self.finish(always_primary, None, now, out);
            return;
        }
        self.sweep(now.instant, Vec::new(), now, out);
    }

    /// Asks all valid nodes, for a promotion the one that it is about.
    pub(super) fn sweep(
        &mut self,
        began: Instant,
        said: Vec<Entry>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let sweep = self.ticket();
        let Some(operation) = &mut self.operation else {
            return;
        };
        let nodes: Vec<NodeId> = match operation.kind {
            Kind::Promote(node) => vec![node],
            _ => self.view.valid_nodes().collect(),
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

    pub(super) fn answered(
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

    pub(super) fn timer(&mut self, now: Now, out: &mut Vec<Action>) {
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
        let mut answers = std::mem::take(&mut search.answers);
        for (id, answer) in answers.iter_mut().enumerate() {
            if !self.view.is_valid(id) {
                // Asked, and taken down since: the command that had it follow another server has ended.
                *answer = None;
            }
        }
        let kind = operation.kind;
        if let Kind::Promote(node) = kind {
            let silence = Answer::Unreachable("no answer".to_owned());
            let answer = answers.get(node).and_then(Option::as_ref);
            self.promotion_answered(node, answer.unwrap_or(&silence), now, out);
            return;
        }
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
            self.because(rule_of_judgement(&judgement, primary, standing));
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
            self.because("it did not answer and stays: its health check decides");
            self.finish(Some(primary), Some(judgement), now, out);
            return;
        }
        let waited = now.instant.saturating_duration_since(began);
        if kind == Kind::Search {
            // The next replication check asks again.
            self.because("no server says that it is the primary");
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
            let seconds = waited.as_secs();
            self.because(format!(
                "no server said that it is the primary, searched for {seconds} s (search_primary_node_timeout)"
            ));
            self.finish(None, Some(judgement), now, out);
            return;
        }
        if self.is_hopeless(waited) {
            say(
                out,
                "find_primary_node_repeatedly: gives up because another request waits that changes the nodes",
            );
            self.because(
                "the search was given up, because another request waits that changes the nodes",
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
            let pause = if waited < FIRST_ROUNDS {
                FIRST_PAUSE
            } else {
                SEARCH_PAUSE
            };
            let next = now.instant + pause;
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

    /// The search found nothing so far, and what waits changes what can be found: the node that was to
    /// be promoted is down itself, all nodes are, or a node is to be attached; or the primary was about
    /// to be detached when pgpool was killed.
    fn is_hopeless(&self, waited: Duration) -> bool {
        let Some(operation) = &self.operation else {
            return false;
        };
        let waiting = self.waiting();
        let goes_down = |id: NodeId| waiting.contains(&&Request::Down { node: id });
        (operation.kind == Kind::Start && self.was_to_go.is_some())
            || operation.new_main.is_some_and(goes_down)
            || self.view.valid_nodes().all(goes_down)
            || (waited >= SEARCH_BEFORE_ATTACH
                && waiting.iter().any(|r| matches!(r, Request::Up { .. })))
    }
}

/// Why this primary, of what the servers have said.
fn rule_of_judgement(
    judgement: &Judgement,
    primary: NodeId,
    standing: Option<NodeId>,
) -> &'static str {
    let claims = judgement
        .verdicts
        .iter()
        .filter(|verdict| **verdict == search::Verdict::Primary);
    match (claims.count(), standing == Some(primary)) {
        (1, false) => "its server says that it takes writes",
        (1, true) => "it was the primary, and its server says so",
        (_, true) => "it was the primary and says so; other servers say that, too",
        (_, false) => "of the servers that say that they take writes it has the highest number",
    }
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
