//! What stock nodes have sent, given to our core in the place of each of them: what it answers is compared
//! with what the stock node has answered.
//!
//! Ids of its own requests are others than recorded, so that answers to them do not count as such, and its
//! time-outs run; therefore it may be behind the recording by some seconds in an election.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::BytesMut;
use serde_json::Value;

use super::*;
use crate::watchdog::codec::{AuthKey, Frame, take_frame};

/// Within so long an answer was recorded, and is given.
const SOON: f64 = 2.0;

/// Node `own` of the recorded cluster.
fn settings(own: usize) -> Settings {
    let mut settings = testing::settings(own, 3);
    let host = |node: usize| format!("10.77.0.{}", node + 1);
    settings.own.host = host(own);
    let others = (0..3).filter(|node| *node != own);
    for (member, node) in settings.others.iter_mut().zip(others) {
        member.host = host(node);
    }
    settings.priority = 3 - i32::try_from(own).unwrap();
    settings.authkey = AuthKey::new("SpecKey123");
    settings
}

struct Line {
    time: f64,
    from: String,
    to: String,
    conn: String,
    event: Option<String>,
    frame: Option<Frame>,
}

fn lines(file: &Path) -> Vec<Line> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let frame = line["hex"].as_str().filter(|_| line["proto"] == "tcp");
        let frame = frame.map(|hex| {
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            let frame = take_frame(&mut BytesMut::from(&bytes[..]));
            frame.unwrap().unwrap()
        });
        Line {
            time: line["t"].as_f64().unwrap_or_default(),
            from: word("from"),
            to: word("to"),
            conn: word("conn"),
            event: line["event"].as_str().map(str::to_owned),
            frame,
        }
    });
    lines.filter(|line| !line.conn.is_empty()).collect()
}

/// One of the recorded node's answers: to this packet, by this letter.
struct Answer {
    time: f64,
    peer: String,
    id: u32,
    request: u8,
    answer: u8,
}

fn recorded_answers(lines: &[Line], me: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let Some(request) = line.frame.as_ref().filter(|_| line.to == me) else {
            continue;
        };
        if !b"ABSCJMYd".contains(&request.kind) {
            continue;
        }
        let later = lines[place..].iter();
        let answer = later
            .take_while(|later| later.time <= line.time + SOON)
            .filter(|later| later.from == me && later.to == line.from)
            .filter_map(|later| later.frame.as_ref())
            .find(|frame| frame.id == request.id && b"GREIZD".contains(&frame.kind));
        answers.extend(answer.map(|answer| Answer {
            time: line.time,
            peer: line.from.clone(),
            id: request.id,
            request: request.kind,
            answer: answer.kind,
        }));
    }
    answers
}

/// Our core in the place of a node.
struct Player {
    core: Core,
    base: Instant,
    /// By the name of the recording.
    conns: BTreeMap<String, Conn>,
    /// Our attempts to connect that nothing was heard of.
    dialled: BTreeMap<PeerId, Conn>,
    /// Time, peer, id and letter.
    sent: Vec<(f64, PeerId, u32, u8)>,
    owners: BTreeMap<Conn, PeerId>,
}

impl Player {
    /// `start`: when the node dials for the first time.
    fn new(own: usize, start: f64) -> Player {
        let base = Instant::now();
        let mut core = Core::new(Arc::new(settings(own)), "x".to_owned(), base);
        let _ = core.handle(
            Event::Backends(BackendStatus {
                nodes: vec![RemoteStatus::Up, RemoteStatus::Up],
                primary: 0,
                quarantined_primary: None,
                node_name: String::new(),
            }),
            base,
        );
        let mut player = Player {
            core,
            base,
            conns: BTreeMap::new(),
            dialled: BTreeMap::new(),
            sent: Vec::new(),
            owners: BTreeMap::new(),
        };
        player.event(
            start,
            Event::Start {
                memory: Memory::default(),
            },
        );
        player
    }

    fn event(&mut self, time: f64, event: Event) {
        self.event_at(self.base + Duration::from_secs_f64(time), event);
    }

    fn event_at(&mut self, now: Instant, event: Event) {
        let time = now.saturating_duration_since(self.base).as_secs_f64();
        let mut adopted = Vec::new();
        for action in self.core.handle(event, now) {
            match action {
                Action::Send { conn, id, message } => {
                    assert!(message.encode(id).is_ok(), "{message:?}");
                    if let Some(peer) = self.owners.get(&conn) {
                        self.sent.push((time, *peer, id, message.kind()));
                    }
                }
                Action::Connect { conn, peer } => {
                    self.dialled.insert(peer, conn);
                    self.owners.insert(conn, peer);
                }
                Action::Adopt { number, .. } => adopted.push(number),
                _ => {}
            }
        }
        for number in adopted {
            self.event_at(now, Event::Adopted { number });
        }
    }

    /// Until then all timers fire when they are due.
    fn wait(&mut self, until: f64) {
        let end = self.base + Duration::from_secs_f64(until);
        while let Some(wake) = self.core.wake.filter(|wake| *wake <= end) {
            let before = self.core.wake;
            self.event_at(wake, Event::Timer);
            if self.core.wake == before {
                break;
            }
        }
        self.event(until, Event::Timer);
    }

    fn line(&mut self, line: &Line, me: &str, own: usize) {
        if line.to != me && line.from != me {
            return;
        }
        self.wait(line.time);
        let other = if line.to == me { &line.from } else { &line.to };
        let node: usize = other.trim_start_matches('n').parse::<usize>().unwrap() - 1;
        let peer = if node > own { node - 1 } else { node };
        let is_ours = line.conn.starts_with(&format!("10.77.0.{}:", own + 1));
        match line.event.as_deref() {
            Some("SYN-ACK") if is_ours => {
                if let Some(conn) = self.dialled.remove(&peer) {
                    self.conns.insert(line.conn.clone(), conn);
                    self.event(line.time, Event::Connected { conn });
                }
            }
            Some("SYN") if !is_ours => {
                let number = u64::try_from(self.conns.len()).unwrap();
                let conn = Conn::In(number);
                self.conns.insert(line.conn.clone(), conn);
                self.owners.insert(conn, peer);
                let source = format!("10.77.0.{}", node + 1);
                self.event(line.time, Event::Accepted { conn, source });
            }
            Some("RST" | "FIN") => {
                let known = self.conns.remove(&line.conn);
                let refused = is_ours.then(|| self.dialled.remove(&peer)).flatten();
                if let Some(conn) = known.or(refused) {
                    self.event(line.time, Event::Closed { conn });
                }
            }
            _ => {}
        }
        let conn = self.conns.get(&line.conn).copied();
        if let (Some(conn), Some(frame), true) = (conn, &line.frame, line.to == me) {
            let message = Message::decode(frame).unwrap();
            let id = frame.id;
            self.event(line.time, Event::Received { conn, id, message });
        }
    }
}

/// How often the answer was that of the stock node, by letters of request and answer.
type Score = BTreeMap<(char, char), (usize, usize)>;

fn play(file: &Path, own: usize, score: &mut Score) {
    let me = format!("n{}", own + 1);
    let lines = lines(file);
    let dials = |line: &&Line| line.from == me && line.event.as_deref() == Some("SYN");
    let start = lines.iter().find(dials).map_or(0.0, |line| line.time);
    let mut player = Player::new(own, start);
    for line in &lines {
        player.line(line, &me, own);
    }
    for answer in recorded_answers(&lines, &me) {
        let node: usize = answer
            .peer
            .trim_start_matches('n')
            .parse::<usize>()
            .unwrap()
            - 1;
        let peer = if node > own { node - 1 } else { node };
        let given = player.sent.iter().any(|(time, to, id, kind)| {
            (answer.time..=answer.time + SOON).contains(time)
                && (*to, *id, *kind) == (peer, answer.id, answer.answer)
        });
        let letters = (char::from(answer.request), char::from(answer.answer));
        let entry = score.entry(letters).or_default();
        entry.0 += usize::from(given);
        entry.1 += 1;
    }
}

/// Those that begin with the start of all nodes: in the others it is not recorded how they came to be as they are.
#[test]
fn our_core_answers_the_recorded_packets_as_stock_nodes_have() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/watchdog");
    let mut score = Score::new();
    for name in [
        "01-first-node-then-two-joins.jsonl",
        "08-simultaneous-start-election.jsonl",
    ] {
        for own in 0..3 {
            play(&folder.join(name), own, &mut score);
        }
    }
    let right: usize = score.values().map(|(right, _)| right).sum();
    let all: usize = score.values().map(|(_, all)| all).sum();
    assert!(all > 40, "{score:?}");
    assert!(right * 10 >= all * 9, "{right} of {all}: {score:?}");
    // These depend on no election.
    for letters in [('Y', 'Z'), ('B', 'I'), ('J', 'G'), ('d', 'D')] {
        if let Some((right, all)) = score.get(&letters) {
            assert_eq!(right, all, "{letters:?}: {score:?}");
        }
    }
}

#[test]
fn every_recording_can_be_played_to_every_node() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/watchdog");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            for own in 0..3 {
                play(&path, own, &mut Score::new());
            }
        }
    }
}
