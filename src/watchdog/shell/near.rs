//! The watchdog as the supervisor has it, on the same thread: what the one says takes effect before the
//! other goes on.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::Notify;

use super::task::Shell;
use crate::watchdog::{
    clock,
    codec::{function::FailoverRequest, status::BackendStatus},
    core::Event,
};

#[derive(Clone)]
pub struct Near {
    pub(super) shell: Rc<RefCell<Shell>>,
    /// The task has to look at its timers again.
    pub(super) changed: Rc<Notify>,
}

impl Near {
    /// The backends as they are about to be published.
    pub fn backends(&self, status: BackendStatus) {
        self.tell(Event::Backends(status));
    }

    /// [`super::Wish::Adopt`] has been carried out, whether there was anything to change or not.
    pub fn adopted(&self, number: u64) {
        self.tell(Event::Adopted { number });
    }

    /// May this failover, which was agreed on, begin at this moment?
    pub fn may_begin(&self, request: &FailoverRequest) -> bool {
        let mut shell = self.shell.borrow_mut();
        shell.core.may_still_begin(request, clock::now())
    }

    /// What was agreed on begins, or has ended.
    pub fn failover(&self, begins: bool) {
        self.tell(if begins {
            Event::FailoverBegins
        } else {
            Event::FailoverEnds
        });
    }

    /// May this be? The answer is [`super::Wish::Answer`], when the leader has said so, or when there is
    /// nobody to ask.
    pub fn request(&self, ticket: u64, request: FailoverRequest) {
        self.tell(Event::Request { ticket, request });
    }

    /// What was agreed on is not done after all.
    pub fn dropped(&self, request: FailoverRequest) {
        self.tell(Event::FailoverDropped(request));
    }

    fn tell(&self, event: Event) {
        self.shell.borrow_mut().core(event);
        self.changed.notify_one();
    }
}
