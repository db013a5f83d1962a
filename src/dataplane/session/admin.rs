//! Statements that pgpool answers itself: carried out on the runtime for admin SQL, since they may
//! ask servers, while the session holds back what the client sends.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::task::JoinHandle;

use super::{
    owed::Owed,
    relay::{Held, Relay},
    statements::StatementLog,
};
use crate::{
    admin,
    control::Shared,
    dataplane::info::SlotStatus,
    protocol::{messages, messages::ErrorMessage},
};

pub(super) type AdminAnswer = JoinHandle<AdminDone>;

pub(super) struct AdminDone {
    settings: Box<admin::SessionSettings>,
    /// With ReadyForQuery.
    answer: Vec<u8>,
    /// For the log; the answer says it to the client.
    refused: Option<ErrorMessage>,
}

/// What becomes of a Query that may be an admin command.
pub(super) enum Turn {
    /// It is the servers'.
    NotOurs,
    /// It has its turn when the answers before it are given.
    Later,
    /// It is being carried out.
    Begun,
}

impl Relay {
    /// `message` is a whole Query, `behind` what the client has sent behind it.
    pub(super) fn admin_turn(
        &mut self,
        cx: &mut Context<'_>,
        message: &[u8],
        behind: &[u8],
    ) -> Turn {
        let dialect = self.worker.shared.config.load().dialect;
        if self.owed().is_some_and(Owed::is_in_sequence) {
            return Turn::NotOurs;
        }
        let text = query_text(message);
        let Some(command) = admin::parse(text, dialect) else {
            return Turn::NotOurs;
        };
        if self.owed().is_some_and(Owed::owes_ready) {
            self.held = [message, behind].concat();
            self.held_until = Held::Answers;
            return Turn::Later;
        }
        let explained = match &command {
            admin::AdminCommand::Explain(sql) if self.transaction() != b'E' => {
                let Some(answer) = self.explain(cx, sql) else {
                    // It has its turn again when the primary has answered.
                    self.held = [message, behind].concat();
                    self.held_until = Held::Router;
                    return Turn::Later;
                };
                Some(answer)
            }
            _ => None,
        };
        // What stands behind it has its turn when the answer is written.
        self.held = behind.to_vec();
        self.held_until = if behind.is_empty() {
            Held::More
        } else {
            Held::Answers
        };
        self.statements
            .admin(&self.reporter, &String::from_utf8_lossy(text));
        match explained {
            Some(mut answer) => {
                messages::ready_for_query(self.transaction(), &mut answer);
                self.to_client.push(&answer);
            }
            None => self.start_admin(command, text.to_vec()),
        }
        Turn::Begun
    }

    fn start_admin(&mut self, command: admin::AdminCommand, text: Vec<u8>) {
        self.control.status.set(SlotStatus::ExecuteCommand);
        let shared: Arc<Shared> = self.worker.shared.clone();
        let mut settings = self.settings.take().unwrap_or_default();
        let state = self.transaction();
        let facts = admin::SessionFacts {
            load_balance_node: self.control.load_balance_node.get(),
        };
        // The state is true at the end, too: nothing of this session goes on meanwhile.
        self.admin = Some(self.worker.plane.admin.spawn(async move {
            let mut answer = Vec::new();
            let mut refused = None;
            if state == b'E' {
                admin::aborted_transaction(&text).encode(&mut answer);
            } else {
                match admin::execute(&command, &shared, &mut settings, &facts).await {
                    Ok(whole) => answer = whole,
                    Err(error) => {
                        error.encode(&mut answer);
                        refused = Some(error);
                    }
                }
            }
            messages::ready_for_query(state, &mut answer);
            AdminDone {
                settings,
                answer,
                refused,
            }
        }));
    }

    pub(super) fn poll_admin(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(future) = &mut self.admin else {
            return false;
        };
        let Poll::Ready(done) = Pin::new(future).poll(cx) else {
            return false;
        };
        let done = done.unwrap_or_else(|_| {
            let mut answer = Vec::new();
            ErrorMessage::error("XX000", "the command failed inside pgpool")
                .hint("The log has more. Report it, please.")
                .encode(&mut answer);
            messages::ready_for_query(self.transaction(), &mut answer);
            AdminDone {
                settings: Box::default(),
                answer,
                refused: None,
            }
        });
        self.admin = None;
        if let Some(error) = done.refused {
            StatementLog::refused(&self.reporter, &error);
        }
        self.to_client.push(&done.answer);
        self.configure(done.settings);
        self.settle();
        true
    }
}

/// The text of a whole Query message.
fn query_text(message: &[u8]) -> &[u8] {
    let body = message
        .get(crate::protocol::frame::HEADER_LEN..)
        .unwrap_or_default();
    body.strip_suffix(b"\0").unwrap_or(body)
}
