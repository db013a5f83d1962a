//! What is said of a recovery, and how it is told that it has failed.

use super::{Action, Next};
use crate::{
    control::Refusal,
    failover::request::{Entry, Source},
};

pub(super) fn stage_failed(stage: &str, script: &str, why: &str) -> Next {
    failed(
        format!("executing recovery, execution of command failed at \"{stage}\""),
        format!("command:\"{script}\": {why}"),
    )
}

pub(super) fn remote_start_failed(why: &str) -> Next {
    failed(
        format!("executing remote start failed with error: \"{why}\""),
        "",
    )
}

pub(super) fn failed(message: impl Into<String>, detail: impl Into<String>) -> Next {
    Next::End(Err(Refusal {
        detail: detail.into(),
        ..Refusal::error(message)
    }))
}

pub(super) fn say(out: &mut Vec<Action>, message: impl Into<String>) {
    out.push(Action::Log(Entry::log(Source::Pcp, message)));
}

pub(super) fn say_more(out: &mut Vec<Action>, message: &str, detail: impl Into<String>) {
    out.push(Action::Log(
        Entry::log(Source::Pcp, message).with_detail(detail),
    ));
}
