//! Accepted connections whose other end is not known yet: how many there may be, for how long, and what the log
//! says of them. Whoever reaches the port may open one; none of it may keep members out or fill the log.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Conn, Core};

/// From the begin of a connection until it is known whose it is; nodes introduce themselves at once.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// At a time.
const STRANGERS: usize = 256;
const OF_ONE_ADDRESS: usize = 32;
/// Younger ones are not closed in favour of the next.
const FAIR: Duration = Duration::from_secs(1);
/// The same refusal is not told again so soon.
const SAID_FOR: Duration = Duration::from_secs(3600);
/// Lines in a minute, whatever changes from one to the next.
const LINES: usize = 10;
/// Longer texts of others are cut.
const LONGEST: usize = 80;

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Free,
    /// When this one is closed.
    Instead(Conn),
    None,
}

/// Refusals that the log has, with their sources.
#[derive(Debug, Default)]
pub(super) struct Refusals(VecDeque<(Instant, String, String)>);

impl Refusals {
    fn is_news(&mut self, source: &str, text: &str, now: Instant) -> bool {
        let age = |at: Instant| now.saturating_duration_since(at);
        self.0.retain(|(at, ..)| age(*at) < SAID_FOR);
        let known = |(_, s, t): &(Instant, String, String)| s == source && t == text;
        let minute = Duration::from_secs(60);
        let lately = self.0.iter().filter(|(at, ..)| age(*at) < minute);
        if lately.count() >= LINES || self.0.iter().any(known) {
            return false;
        }
        self.0.push_back((now, source.to_owned(), text.to_owned()));
        true
    }

    fn forget(&mut self, source: &str) {
        self.0.retain(|(_, known, _)| known != source);
    }
}

impl Core {
    /// Is there a place for a connection from this address?
    pub fn place_for(&self, source: &str, now: Instant) -> Place {
        let strangers = || self.links.strangers();
        let of_source = strangers().filter(|(_, inbound)| inbound.source == source);
        if of_source.count() >= OF_ONE_ADDRESS {
            return Place::None;
        }
        if strangers().count() < STRANGERS {
            return Place::Free;
        }
        let oldest = strangers().min_by_key(|(_, inbound)| inbound.since);
        match oldest {
            Some((conn, inbound)) if now.saturating_duration_since(inbound.since) >= FAIR => {
                Place::Instead(conn)
            }
            _ => Place::None,
        }
    }

    pub(super) fn turned_away(&mut self, source: &str) {
        self.say_refusal(
            source,
            format!("too many connections that do not say whose they are: one from {source} is closed"),
            "somebody who is no watchdog node connects to wd_port; let a firewall keep it for the other nodes",
        );
    }

    pub(super) fn say_refusal(&mut self, source: &str, text: String, hint: &str) {
        if self.refusals.is_news(source, &text, self.now) {
            self.warn(text, hint);
        }
    }

    pub(super) fn is_welcome(&mut self, source: &str) {
        self.refusals.forget(source);
    }

    pub(super) fn close_strangers(&mut self) {
        let late = |since: Instant| since + INTRODUCTION <= self.now;
        let late: Vec<Conn> = self
            .links
            .strangers()
            .filter(|(_, inbound)| late(inbound.since))
            .map(|(conn, _)| conn)
            .collect();
        for conn in late {
            self.close(conn);
        }
    }

    pub(super) fn next_stranger(&self) -> Option<Instant> {
        let since = self.links.strangers().map(|(_, inbound)| inbound.since);
        since.min().map(|since| since + INTRODUCTION)
    }
}

/// What others say of themselves, for a line of the log.
pub(super) fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(LONGEST).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    cut
}
