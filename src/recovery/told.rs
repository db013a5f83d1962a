//! What the history is told of online recoveries: who wanted one, each script, and the end.

use std::time::Instant;

use super::{
    core::{Answer, Work},
    request::Ongoing,
};
use crate::{
    cluster::NodeId,
    control::Refusal,
    events::{History, HookRun, Kind, Note, Origin, Step},
};

/// The recovery that goes on, as it was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Of the latest recovery.
    number: u64,
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    target: NodeId,
    began: Instant,
    script: Option<(HookRun, Instant)>,
}

pub(super) fn refused(events: &History, node: NodeId, by: String, refusal: &Refusal) {
    let note = Note::of_node(Kind::Recovery, Step::Refused, node)
        .with_cause(by, "")
        .with_result(refusal.in_one_line());
    events.record(None, note);
}

impl Told {
    pub(super) fn begins(&mut self, events: &History, ongoing: Option<Ongoing>, by: String) {
        let Some(Ongoing { target, source, .. }) = ongoing else {
            return;
        };
        self.number += 1;
        self.run = Some(Run {
            target,
            began: Instant::now(),
            script: None,
        });
        let note = Note::of_node(Kind::Recovery, Step::Began, target)
            .with_cause(by, format!("the node is rebuilt from node {source}"));
        self.record(events, note);
    }

    /// `script`: the parameter that names it; `None` for work that is no script of the operator.
    pub(super) fn script_begins(
        &mut self,
        events: &History,
        script: Option<&'static str>,
        work: &Work,
    ) {
        let (Some(run), Some(name), Work::Run { statements }) = (&mut self.run, script, work)
        else {
            return;
        };
        // The last statement is the call; without one there is no script.
        let Some(call) = statements.last() else {
            return;
        };
        let hook = HookRun::begins(name, call);
        run.script = Some((hook.clone(), Instant::now()));
        let note = Note {
            hook: Some(hook),
            ..Note::of_node(Kind::Recovery, Step::Hook, run.target)
        };
        self.record(events, note);
    }

    pub(super) fn script_ended(&mut self, events: &History, result: &Result<Answer, String>) {
        let Some((target, (hook, began))) = self
            .run
            .as_mut()
            .and_then(|run| Some((run.target, run.script.take()?)))
        else {
            return;
        };
        let hook = HookRun {
            error: result.as_ref().err().cloned().unwrap_or_default(),
            ..hook
        };
        let note = Note {
            hook: Some(hook),
            seconds: Some(began.elapsed().as_secs_f64()),
            ..Note::of_node(Kind::Recovery, Step::HookEnded, target)
        };
        self.record(events, note);
    }

    pub(super) fn ended(&mut self, events: &History, result: &Result<(), Refusal>) {
        let Some(run) = self.run.take() else {
            return;
        };
        let result = match result {
            Ok(()) => "done".to_owned(),
            Err(refusal) => format!("failed: {}", refusal.in_one_line()),
        };
        let note = Note {
            seconds: Some(run.began.elapsed().as_secs_f64()),
            ..Note::of_node(Kind::Recovery, Step::Ended, run.target).with_result(result)
        };
        self.record(events, note);
    }

    fn record(&self, events: &History, note: Note) {
        events.record(Some((Origin::Recovery, self.number)), note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Query, text};

    #[test]
    fn a_recovery_is_told_from_its_begin_to_its_end() {
        let (events, mut told) = (History::default(), Told::default());
        let ongoing = Ongoing {
            target: 1,
            source: 0,
            attaching: false,
        };
        let run = |statement: &str| Work::Run {
            statements: vec!["SET x".to_owned(), statement.to_owned()],
        };
        told.begins(&events, Some(ongoing), "an operator".to_owned());
        told.script_begins(&events, None, &run("CHECKPOINT"));
        told.script_ended(&events, &Ok(Answer::Done));
        told.script_begins(
            &events,
            Some("recovery_1st_stage_command"),
            &run("SELECT 1"),
        );
        told.script_ended(&events, &Err("it said no".to_owned()));
        told.ended(&events, &Err(Refusal::error("1st stage")));
        told.ended(&events, &Ok(()));
        let all = events.events(Query::default());
        let sentences: Vec<String> = all
            .iter()
            .map(|e| text::sentence(&e.note))
            .map(|s| s.split(" after ").next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            sentences,
            [
                "online recovery of node 1 begins",
                "recovery_1st_stage_command for node 1 is run",
                "recovery_1st_stage_command failed",
                "online recovery of node 1: failed: 1st stage",
            ]
        );
        assert!(all.iter().all(|e| e.operation == all[0].id));
        let hook = all[2].note.hook.clone().unwrap();
        assert_eq!((&*hook.command, &*hook.error), ("SELECT 1", "it said no"));
    }
}
