//! Cancel requests: which session has this key, and which of its backends has to be told.
//!
//! Served at once, whether slots are free or not. Only the node that owes the session an answer
//! is told (stock tells each node, a second apart). The key is a secret as long as the connection to
//! the backend lives, and stands in no log.

use std::{rc::Rc, time::Duration};

use tokio::sync::oneshot;

use super::{
    connect,
    session::CancelTarget,
    table::SlotIndex,
    worker::{Worker, WorkerMessage},
};
use crate::{observe::Reporter, protocol::messages::cancel_request};

/// A server that does not take a cancel request in this time is not waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// Answers a CancelRequest. The client learns nothing but the close of its connection, which
/// comes when the server has been told, as with PostgreSQL.
pub async fn serve(worker: &Worker, pid: u32, key: u32) {
    let Some(slot) = worker.plane.cancel_target(pid, key) else {
        Reporter::new("child").log(format_args!("invalid cancel key: pid:{pid}"));
        return;
    };
    let (done, told) = oneshot::channel();
    worker.plane.send_to_owner(
        slot,
        WorkerMessage::Cancel {
            slot,
            pid,
            key,
            done,
        },
    );
    let _ = told.await;
}

/// On the session's worker: tells the backend.
pub fn forward(
    worker: &Rc<Worker>,
    slot: SlotIndex,
    pid: u32,
    key: u32,
    done: oneshot::Sender<()>,
) {
    // The key belongs to a session that may just have ended; its successor in the slot has another.
    if worker.plane.cancel_target(pid, key) != Some(slot) {
        return;
    }
    let target = worker
        .with_slot(slot, |s| {
            s.session.as_ref().and_then(|c| c.cancel_target.get())
        })
        .flatten();
    // The client knows one key; the process that works for it may be another.
    let Some(CancelTarget { node, pid, key }) = target else {
        return;
    };
    let worker = worker.clone();
    super::worker::spawn(async move {
        let reporter = Reporter::new("child").with_pid(super::slot_pid(slot));
        reporter.emit(
            crate::observe::Severity::Log,
            "forwarding cancel request to backend",
            &format!("canceling backend pid:{pid}"),
            "",
        );
        let view = worker.shared.view.load_full();
        let config = worker.shared.config.load_full();
        let told = async {
            let backend = view.nodes.get(node)?;
            let settings = config.settings.backends.get(node)?;
            let limit = settings.health_check.connect_timeout;
            let mut stream = connect::to_backend(&worker.shared, backend, limit)
                .await
                .ok()?;
            stream.write_all(&cancel_request(pid, key)).await.ok()?;
            // The server closes when it has sent the signal.
            let mut end = Vec::new();
            let _ = stream.read_some(&mut end, 1).await;
            Some(())
        };
        if !matches!(tokio::time::timeout(LIMIT, told).await, Ok(Some(()))) {
            reporter.warning(format_args!(
                "could not forward a cancel request to DB node {node}: it did not take the connection"
            ));
        }
        let _ = done.send(());
    });
}
