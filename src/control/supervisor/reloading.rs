//! The configuration is read again, and what has changed is handed on.

use std::sync::Arc;

use super::{Internal, Reply, Supervisor, commands::answer, told::say};
use crate::{
    cluster::{NodeStatus, initial},
    config::Config,
    control::{Refusal, Reloaded},
    events::{Kind, Note, Step},
    failover::{
        core::{Now, Settings},
        request::{Entry, Source},
    },
    observe::Reporter,
};

impl Supervisor {
    pub(super) fn reload(&mut self, by: String, reply: Reply) {
        self.reporter.log("reload config files.");
        let (loader, to_me) = (Arc::clone(&self.loader), self.to_me.clone());
        let current = self.shared.config.load_full();
        tokio::task::spawn_local(async move {
            let reading = tokio::task::spawn_blocking(move || loader.reload(&current));
            match reading.await {
                Ok(reloaded) => {
                    // The supervisor has ended: the process does.
                    let reloaded = Box::new(reloaded);
                    let _ = to_me.send(Internal::Reloaded {
                        reloaded,
                        by,
                        reply,
                    });
                }
                Err(e) => {
                    say(Entry::warning(
                        Source::Main,
                        format!("reading the configuration failed: {e}"),
                    )
                    .with_hint("the running settings stay"));
                    answer(
                        reply,
                        Err(Refusal::error("process reload config request failed")),
                    );
                }
            }
        });
    }

    pub(super) async fn apply(&mut self, reloaded: Reloaded, by: String) -> Result<(), Refusal> {
        for (severity, text) in reloaded.findings {
            self.reporter.emit(severity, text, "", "");
        }
        if let Some(hba) = reloaded.hba {
            self.shared.hba.store(Arc::new(hba));
        }
        if let Some(passwd) = reloaded.passwd {
            self.shared.passwd.store(Arc::new(passwd));
        }
        if let Some(tls) = reloaded.tls {
            self.shared.tls.store(Arc::new(tls));
        }
        let Some(config) = reloaded.config else {
            let result = "nothing was changed; the log says why";
            self.record_reload(by, result);
            return Err(Refusal {
                detail: "the running settings stay; the log says why".to_owned(),
                ..Refusal::error("process reload config request failed")
            });
        };
        let config = Arc::new(config);
        let changed = config.changed_since(&self.shared.config.load());
        self.shared.config.store(Arc::clone(&config));
        self.record_reload(by, &changes_in_words(&changed));
        // A backend that was not there before has to be attached.
        let nodes = initial::nodes(
            &config.settings,
            |_| NodeStatus::Down,
            std::time::SystemTime::now(),
        );
        let actions = self
            .core
            .reload(settings(&config), nodes, Now::of_the_machine());
        self.carry_out(actions).await;
        for (&node, check) in &self.health {
            check.reload(&config, node);
            Reporter::new(format!("health_check{node}")).log("reloading config file");
        }
        if let Some(check) = &self.replication {
            check.restart();
            Reporter::new("sr_check_worker").log("reloading config file");
            self.start_health_checks();
        }
        if let Some(plane) = self.shared.dataplane() {
            plane.config_changed();
        }
        Ok(())
    }

    fn record_reload(&self, by: String, result: &str) {
        let note = Note::new(Kind::Reload, Step::Ended)
            .with_cause(by, "")
            .with_result(result);
        self.shared.events.record(None, note);
    }
}

/// Names only: values may be passwords.
fn changes_in_words(changed: &[String]) -> String {
    const SHOWN: usize = 20;
    match changed {
        [] => "no parameter has another value".to_owned(),
        few if few.len() <= SHOWN => format!("changed: {}", few.join(", ")),
        many => format!("{} parameters have changed", many.len()),
    }
}

/// What decides in the failover core, of the configuration.
pub(super) fn settings(config: &Config) -> Settings {
    let settings = &config.settings;
    Settings {
        dialect: config.dialect,
        failover_command: settings.failover_command.clone(),
        failback_command: settings.failback_command.clone(),
        follow_primary_command: settings.follow_primary_command.clone(),
        search_primary_node_timeout: settings.search_primary_node_timeout,
        detach_false_primary: settings.detach_false_primary,
        pid: std::process::id(),
    }
}
