//! What the rest of pgpool has of the watchdog: orders go in, wishes come out, a picture for all to read.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::watchdog::codec::{
    function::{ClusterCommand, FailoverRequest, FailoverResult},
    ipc_answer::NodeList,
    status::BackendStatus,
};

/// What other parts tell the watchdog.
#[derive(Debug)]
pub enum Order {
    /// An operator's command, for all other nodes.
    ClusterCommand(ClusterCommand),
    /// An online recovery begins or ends: nobody is called dead meanwhile.
    Recovering(bool),
    /// The end, in order: told when all nodes know, and the address is given up.
    Stop { done: oneshot::Sender<()> },
}

/// What the watchdog wants of the supervisor.
#[derive(Debug)]
pub enum Wish {
    /// Another one leads than before, or nobody. `coordinates`: this node, and it decides.
    Leader {
        coordinates: bool,
    },
    /// This node leads, or has joined a leader, for the first time: clients may be let in. `leads`:
    /// no picture of the backends will come from anybody else.
    Settled {
        leads: bool,
    },
    /// The backends as the leader sees them; [`super::Near::adopted`] says when that is done.
    Adopt {
        number: u64,
        status: BackendStatus,
    },
    /// Do it; the watchdog has agreed.
    Failover(FailoverRequest),
    /// To [`super::Near::request`].
    Answer {
        ticket: u64,
        result: FailoverResult,
    },
    /// Vote again for the backends that are quarantined here.
    VoteForQuarantined,
    ReleaseQuarantined,
    /// Somebody has seen a backend fail: let the health checks look at once.
    LookAtBackends,
    /// What they have seen so far may come from a cut of the network: let the health checks begin anew.
    CheckBackends,
    /// The lifecheck has lost the pgpool of this host: look at the backends there.
    LookAtHost(String),
    /// An operator's command that was given at another node.
    Run {
        command: ClusterCommand,
        from_leader: bool,
    },
    /// End pgpool: this node has no business to go on.
    Exit {
        reason: String,
    },
}

/// One for the process, in [`crate::control::Shared`].
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) picture: Arc<ArcSwap<NodeList>>,
    /// Why pgpool has to end, once it has.
    pub(super) end: Arc<OnceLock<String>>,
}

impl Handle {
    /// The watchdog lives as long as the control plane; at the end of the process nobody needs it.
    pub fn send(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Why the watchdog has ended pgpool; `None`: it has not.
    pub fn end(&self) -> Option<&str> {
        self.end.get().map(String::as_str)
    }

    /// The cluster as this node sees it now.
    pub fn picture(&self) -> Arc<NodeList> {
        self.picture.load_full()
    }
}
