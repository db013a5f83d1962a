//! The control plane's own thread and runtime, so that health checks and management are never
//! late because sessions are busy.
//!
//! A panic there ends the process: a pgpool that looks alive and no longer checks its servers is
//! worse than a restart.

use std::{
    cell::Cell,
    future::Future,
    io, panic,
    sync::Once,
    thread::{self, JoinHandle},
};

use tokio::task::LocalSet;

use crate::observe::{Reporter, Severity};

thread_local! {
    static IS_CONTROL_PLANE: Cell<bool> = const { Cell::new(false) };
}

static PANIC_HOOK: Once = Once::new();

/// Starts the thread. It ends when the future that `main` gives ends; tasks that are left are dropped.
///
/// `tokio::task::spawn_local` works in it.
///
/// # Errors
///
/// When the thread or its runtime cannot be made.
pub fn start<M, F>(main: M) -> io::Result<JoinHandle<()>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    abort_on_panic_in_control_plane();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control-blocking")
        .build()?;
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || {
            IS_CONTROL_PLANE.set(true);
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async move { main().await });
            drop(tasks);
            // A hook or a name lookup may still run; nobody waits for it at the end.
            runtime.shutdown_background();
        })
}

/// Also for panics inside tasks, which the runtime would swallow.
fn abort_on_panic_in_control_plane() {
    PANIC_HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            previous(info);
            if IS_CONTROL_PLANE.try_with(Cell::get).unwrap_or(false) {
                Reporter::new("main").emit(
                    Severity::Panic,
                    format_args!("the control plane failed: {info}"),
                    "pgpool ends, because it could not check its servers any more",
                    "restart pgpool and report this message",
                );
                std::process::abort();
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_tasks_run_and_the_thread_ends_with_its_future() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = start(move || async move {
            let task = tokio::task::spawn_local(async { 7 });
            tokio::task::spawn_local(std::future::pending::<()>());
            sender
                .send(task.await.expect("no panic"))
                .expect("a receiver");
        })
        .expect("a thread");
        assert_eq!(receiver.recv(), Ok(7));
        thread.join().expect("no panic");
    }
}
