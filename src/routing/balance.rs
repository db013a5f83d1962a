//! Which node is the load balance node of a session or statement.

use super::{
    pattern::{BadPattern, Pattern},
    settings::Settings,
};
use crate::{
    cluster::{ClusterView, NodeId, NodeReplication},
    config::settings::ClusteringMode,
};

/// Where a redirect list sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Primary,
    Standby,
    Node(NodeId),
}

#[derive(Debug)]
struct Redirect {
    pattern: Pattern,
    target: Target,
    /// How probable it is that the target is taken, 0 to 1.
    ratio: f64,
}

/// `app_name_`, `database_` or `user_redirect_preference_list`.
#[derive(Debug, Default)]
pub struct RedirectList {
    entries: Vec<Redirect>,
}

/// What is wrong with an entry of a redirect list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadRedirect {
    /// Stock does not start.
    Pattern(BadPattern),
    /// Neither a node id nor primary nor standby: stock does not start.
    Target(String),
    /// There is no colon in it: it ends the list, without a word.
    NoTarget(String),
}

impl RedirectList {
    /// `pattern:node` or `pattern:node(ratio)`, separated by commas
    /// (`src/utils/regex_array.c @ V4_3_5`). Nothing is trimmed: a blank is part of a pattern.
    pub fn new(text: &str) -> (RedirectList, Vec<BadRedirect>) {
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        for entry in text.split(',').filter(|e| !e.is_empty()) {
            let Some((pattern, target)) = entry.split_once(':') else {
                bad.push(BadRedirect::NoTarget(entry.to_owned()));
                break;
            };
            let (node, ratio) = match target.split_once('(') {
                Some((node, ratio)) => (node, leading_number(ratio)),
                None => (target, 1.0),
            };
            match (Pattern::new(pattern), self::target(node)) {
                (Ok(pattern), Some(target)) => entries.push(Redirect {
                    pattern,
                    target,
                    ratio,
                }),
                (Err(error), _) => bad.push(BadRedirect::Pattern(error)),
                (_, None) => bad.push(BadRedirect::Target(node.to_owned())),
            }
        }
        (RedirectList { entries }, bad)
    }

    fn find(&self, name: &[u8]) -> Option<&Redirect> {
        self.entries.iter().find(|r| r.pattern.matches(name))
    }
}

/// Stock accepts the two words in any case, but knows them in lower case only: others become the
/// number 0.
fn target(word: &str) -> Option<Target> {
    match word {
        "primary" => Some(Target::Primary),
        "standby" => Some(Target::Standby),
        _ if word.eq_ignore_ascii_case("primary") || word.eq_ignore_ascii_case("standby") => {
            Some(Target::Node(0))
        }
        _ if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Target::Node(word.parse().unwrap_or(NodeId::MAX)))
        }
        _ => None,
    }
}

fn leading_number(text: &str) -> f64 {
    let number = text.trim_start();
    let end = number
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    if text.trim_end_matches(')').is_empty() {
        1.0
    } else {
        number[..end].parse().unwrap_or(0.0)
    }
}

/// Names of the startup packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    pub user: &'a [u8],
    pub database: &'a [u8],
    pub application_name: &'a [u8],
}

/// What is known of the nodes at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub view: &'a ClusterView,
    /// By node id; missing ones have no delay.
    pub replication: &'a [NodeReplication],
}

impl Situation<'_> {
    /// Whether this standby lags more than allowed. The primary, a node that is down and one that
    /// has not been measured never do.
    pub fn is_delayed(&self, settings: &Settings, node: NodeId) -> bool {
        if self.view.mode != ClusteringMode::StreamingReplication
            || self.view.primary == Some(node)
            || !self.view.is_valid(node)
        {
            return false;
        }
        let Some(replication) = self.replication.get(node) else {
            return false;
        };
        match (settings.delay_threshold_by_time, settings.delay_threshold) {
            (Some(limit), _) => replication.delay_time > limit,
            (None, Some(limit)) => replication.delay_bytes > limit,
            (None, None) => false,
        }
    }

    fn weight(&self, node: NodeId) -> f64 {
        self.view.node(node).map_or(0.0, |n| n.weight)
    }
}

/// Chooses the load balance node; `None` if no node is valid. `random` gives numbers from 0 up to,
/// not including, 1 (`select_load_balancing_node` of `src/protocol/pool_pg_utils.c @ V4_3_5`).
pub fn choose(
    settings: &Settings,
    situation: &Situation<'_>,
    who: &Who<'_>,
    random: &mut dyn FnMut() -> f64,
) -> Option<NodeId> {
    let view = situation.view;
    let main = view.main_node()?;
    let primary = view.primary.filter(|&p| view.is_valid(p));
    let mut excluded = None;
    let mut standbys_only = false;
    let redirect = redirect(settings, who).and_then(|r| {
        let node = match r.target {
            Target::Primary => view.primary.or(Some(main)),
            Target::Standby => None,
            Target::Node(node) if node < view.nodes.len() => Some(node),
            Target::Node(_) => Some(main),
        };
        // A node that is down is no preference.
        node.is_none_or(|n| view.is_valid(n))
            .then_some((node, r.ratio))
    });
    match redirect {
        Some((Some(node), _))
            if settings.prefer_lower_delay_standby && situation.is_delayed(settings, node) =>
        {
            return least_delayed(settings, situation, random)
                .or(primary)
                .or(Some(main));
        }
        Some((Some(node), ratio)) => {
            if random() < ratio {
                return Some(node);
            }
            excluded = Some(node);
        }
        Some((None, ratio)) => {
            if random() >= ratio {
                return primary.or(Some(main));
            }
            standbys_only = true;
        }
        None => {}
    }
    let allowed = |node: NodeId| {
        view.is_valid(node)
            && Some(node) != excluded
            && !(standbys_only && Some(node) == view.primary)
    };
    let chosen = by_weight(situation, allowed, random).unwrap_or(main);
    if settings.prefer_lower_delay_standby && situation.is_delayed(settings, chosen) {
        return least_delayed(settings, situation, random)
            .or(primary)
            .or(Some(main));
    }
    Some(chosen)
}

/// Application name beats database beats user.
fn redirect<'a>(settings: &'a Settings, who: &Who<'_>) -> Option<&'a Redirect> {
    let app = (!who.application_name.is_empty())
        .then(|| settings.app_names.find(who.application_name))
        .flatten();
    app.or_else(|| settings.databases.find(who.database))
        .or_else(|| settings.users.find(who.user))
}

fn by_weight(
    situation: &Situation<'_>,
    allowed: impl Fn(NodeId) -> bool,
    random: &mut dyn FnMut() -> f64,
) -> Option<NodeId> {
    let nodes =
        || (0..situation.view.nodes.len()).filter(|&n| allowed(n) && situation.weight(n) > 0.0);
    let total: f64 = nodes().map(|n| situation.weight(n)).sum();
    let mut left = random() * total;
    let mut last = None;
    for node in nodes() {
        last = Some(node);
        left -= situation.weight(node);
        if left < 0.0 {
            break;
        }
    }
    last
}

/// The standby with the smallest delay, if that is within the threshold.
pub fn least_delayed(
    settings: &Settings,
    situation: &Situation<'_>,
    random: &mut dyn FnMut() -> f64,
) -> Option<NodeId> {
    let view = situation.view;
    let delay = |node: NodeId| -> u128 {
        let Some(r) = situation.replication.get(node) else {
            return 0;
        };
        if settings.delay_threshold_by_time.is_some() {
            r.delay_time.as_nanos()
        } else {
            r.delay_bytes.into()
        }
    };
    let fit = |node: NodeId| {
        view.is_valid(node)
            && Some(node) != view.primary
            && situation.weight(node) > 0.0
            && !situation.is_delayed(settings, node)
    };
    let least = (0..view.nodes.len()).filter(|&n| fit(n)).map(delay).min()?;
    by_weight(situation, |n| fit(n) && delay(n) == least, random)
}

#[cfg(test)]
mod tests;
