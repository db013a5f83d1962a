//! The simulated network: TCP connections that stall, break and are refused, datagrams that are lost,
//! late or doubled, hosts that are cut off, in one direction too.

use std::{collections::VecDeque, time::Duration};

use super::{Due, Input, World};
use crate::watchdog::{
    codec::{Message, heartbeat::Heartbeat},
    core::{Conn, Event},
    lifecheck,
};

/// Pauses between attempts to connect, as the kernel makes them.
const SYN: [u64; 4] = [1, 2, 4, 8];

/// The two ends of a connection: who, in which life, and what the core calls it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub node: usize,
    pub life: u32,
    pub conn: Conn,
    pub open: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    pub established: bool,
    /// The opener and the other.
    pub ends: [End; 2],
    /// What is under way to each end; `None`: the end of the stream.
    queue: [VecDeque<Option<(u32, Message)>>; 2],
    last: [Duration; 2],
    /// Packets that wait for a cut to end.
    stalled: [u32; 2],
}

impl World {
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut[from][to] > 0 || !self.nodes[from].host_up || !self.nodes[to].host_up
    }

    pub(super) fn connect(&mut self, node: usize, conn: Conn, to: usize) {
        let life = self.nodes[node].life;
        let end = |node, life, conn| End {
            node,
            life,
            conn,
            open: true,
        };
        self.links.push(Link {
            established: false,
            ends: [end(node, life, conn), end(to, 0, Conn::In(0))],
            queue: Default::default(),
            last: [Duration::ZERO; 2],
            stalled: [0; 2],
        });
        let link = self.links.len() - 1;
        self.nodes[node].conns.insert(conn, link);
        let delay = self.delay();
        self.due(delay, Due::Syn { link, attempt: 0 });
    }

    pub(super) fn syn(&mut self, link: usize, attempt: usize) {
        let [from, to] = self.links[link].ends;
        if !from.open || self.nodes[from.node].life != from.life {
            return;
        }
        if self.is_cut(from.node, to.node) || self.is_cut(to.node, from.node) {
            match SYN.get(attempt) {
                Some(seconds) => {
                    let attempt = attempt + 1;
                    self.due(Duration::from_secs(*seconds), Due::Syn { link, attempt });
                }
                None => self.close_end(link, 0),
            }
            return;
        }
        if !self.nodes[to.node].up {
            return self.close_end(link, 0);
        }
        self.last_inbound += 1;
        let conn = Conn::In(self.last_inbound);
        let life = self.nodes[to.node].life;
        self.links[link].established = true;
        self.links[link].ends[1].conn = conn;
        self.links[link].ends[1].life = life;
        self.nodes[to.node].conns.insert(conn, link);
        let source = format!("10.0.0.{}", from.node);
        self.input(to.node, Input::Core(Event::Accepted { conn, source }));
        self.input(from.node, Input::Core(Event::Connected { conn: from.conn }));
    }

    pub(super) fn tcp_send(&mut self, node: usize, conn: Conn, id: u32, message: Message) {
        let Some(&link) = self.nodes[node].conns.get(&conn) else {
            return;
        };
        let to = usize::from(self.links[link].ends[0].node == node);
        self.push(link, to, Some((id, message)));
    }

    fn push(&mut self, link: usize, to: usize, what: Option<(u32, Message)>) {
        let delay = self.delay();
        let line = &mut self.links[link];
        line.queue[to].push_back(what);
        let at = (self.time + delay).max(line.last[to]);
        line.last[to] = at;
        self.due_at(at, Due::Tcp { link, to });
    }

    pub(super) fn tcp(&mut self, link: usize, to: usize) {
        let [a, b] = self.links[link].ends;
        let (from, target) = if to == 1 { (a, b) } else { (b, a) };
        if self.is_cut(from.node, target.node) {
            self.links[link].stalled[to] += 1;
            return;
        }
        let Some(what) = self.links[link].queue[to].pop_front() else {
            return;
        };
        if !target.open || self.nodes[target.node].life != target.life {
            // The kernel there knows nothing of the connection any more, and says so.
            let (end, after) = (1 - to, self.delay());
            return self.due(after, Due::HalfOpen { link, end });
        }
        match what {
            Some((id, message)) => {
                let conn = target.conn;
                self.nodes[target.node].contact[from.node] = self.time;
                self.input(
                    target.node,
                    Input::Core(Event::Received { conn, id, message }),
                );
            }
            None => self.close_end(link, to),
        }
    }

    pub(super) fn forget_end(&mut self, link: usize, end: usize) {
        self.close_end(link, end);
    }

    /// An end learns that the connection is over.
    fn close_end(&mut self, link: usize, end: usize) {
        let End {
            node,
            life,
            conn,
            open,
        } = self.links[link].ends[end];
        self.links[link].ends[end].open = false;
        if open && self.nodes[node].life == life && self.nodes[node].up {
            self.nodes[node].conns.remove(&conn);
            self.input(node, Input::Core(Event::Closed { conn }));
        }
    }

    /// An end closes the connection; the other one learns of it behind what was sent.
    pub(super) fn tcp_close(&mut self, node: usize, conn: Conn) {
        let Some(link) = self.nodes[node].conns.remove(&conn) else {
            return;
        };
        let own = usize::from(self.links[link].ends[0].node != node);
        self.links[link].ends[own].open = false;
        if self.links[link].established {
            self.push(link, 1 - own, None);
        }
    }

    /// The kernel closes the connections of a process that has ended.
    pub(super) fn close_all(&mut self, node: usize) {
        let conns: Vec<Conn> = self.nodes[node].conns.keys().copied().collect();
        for conn in conns {
            self.tcp_close(node, conn);
        }
    }

    /// A connection between these breaks, if it is still stalled.
    pub(super) fn expect_breaks(&mut self, a: usize, b: usize) {
        for link in 0..self.links.len() {
            let nodes = self.links[link].ends.map(|end| end.node);
            let is_it = nodes == [a, b] || nodes == [b, a];
            if !is_it || !self.links[link].ends.iter().any(|end| end.open) {
                continue;
            }
            for end in 0..2 {
                // Kernels try again for a quarter of an hour, unless somebody is more impatient.
                let after = if self.random.chance(60) {
                    self.random.millis(5_000, 30_000)
                } else {
                    self.random.millis(30_000, 900_000)
                };
                self.due(after, Due::Break { link, end });
            }
        }
    }

    pub(super) fn break_link(&mut self, link: usize, end: usize) {
        let [a, b] = self.links[link].ends.map(|end| end.node);
        if self.is_cut(a, b) || self.is_cut(b, a) {
            self.close_end(link, end);
        }
    }

    /// A connection breaks without any reason.
    pub(super) fn reset_some_link(&mut self) {
        let open: Vec<usize> = (0..self.links.len())
            .filter(|link| self.links[*link].ends.iter().all(|end| end.open))
            .collect();
        if !open.is_empty() {
            let link = open[self.random.node(open.len())];
            self.close_end(link, 0);
            self.close_end(link, 1);
        }
    }

    pub(super) fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        if cut {
            self.cut[from][to] += 1;
            self.expect_breaks(from, to);
        } else {
            self.cut[from][to] -= 1;
            self.unstall();
        }
    }

    /// What waited for a cut goes on.
    pub(super) fn unstall(&mut self) {
        for link in 0..self.links.len() {
            for to in 0..2 {
                for _ in 0..std::mem::take(&mut self.links[link].stalled[to]) {
                    let delay = self.delay();
                    let at = (self.time + delay).max(self.links[link].last[to]);
                    self.links[link].last[to] = at;
                    self.due_at(at, Due::Tcp { link, to });
                }
            }
        }
    }

    pub(super) fn send_heartbeats(&mut self, node: usize) {
        let wall = 1_000_000 + self.nodes[node].wall_offset;
        let wall = u64::try_from(wall).expect("small offsets") + self.time.as_secs();
        let heartbeat = Heartbeat {
            host: format!("10.0.0.{node}"),
            pgpool_port: 9999,
            sent: (
                u32::try_from(wall).expect("small"),
                self.time.subsec_micros(),
            ),
        };
        for to in 0..self.nodes.len() {
            if to == node || self.is_cut(node, to) || self.random.chance(2) {
                continue;
            }
            let copies = 1 + u32::from(self.random.chance(2));
            for _ in 0..copies {
                let delay = if self.random.chance(1) {
                    self.random.millis(100, 8_000)
                } else {
                    self.delay()
                };
                let event = lifecheck::Event::Heartbeat {
                    heartbeat: heartbeat.clone(),
                    source: String::new(),
                    signed: true,
                };
                self.due(
                    delay,
                    Due::Datagram {
                        node: to,
                        event: Box::new(event),
                    },
                );
            }
        }
    }

    pub(super) fn delay(&mut self) -> Duration {
        if self.random.chance(2) {
            self.random.millis(20, 900)
        } else {
            self.random.millis(1, 8)
        }
    }
}
