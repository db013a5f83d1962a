//! One event, as it lies in the file and goes over the socket: an object of JSON on one line.
//!
//! Readers ignore members that they do not know, and take unknown words for [`Kind::Unknown`] and
//! [`Step::Unknown`], so that a file of a newer release can be read after going back.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cluster::NodeId;

/// The result of an attach that was not needed.
pub const ALREADY_ATTACHED: &str = "the node is attached already";

/// A note with its place in history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event, over restarts as well.
    pub id: u64,
    #[serde(with = "rfc3339")]
    pub time: SystemTime,
    /// Of the pgpool that did it.
    pub pid: u32,
    /// The id of the first event of the operation that this one belongs to.
    pub operation: u64,
    #[serde(flatten)]
    pub note: Note,
}

/// What has happened. Empty texts mean that there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub kind: Kind,
    pub step: Step,
    /// The node that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Who wanted it, or what made us do it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// What was seen: the last error, the number of attempts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookRun>,
    /// At the end of an operation: the main node, and why it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<NodeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<NodeId>,
    /// Why this primary, or why none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// How it ended, or why nothing was done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub result: String,
    /// Since the beginning of what ends here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// What kind of operation it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Start,
    Stop,
    Reload,
    Failover,
    Failback,
    Switchover,
    Promotion,
    /// The servers have other roles than known: a search for the primary and nothing else.
    Search,
    /// The standbys are pointed to a new primary.
    Follow,
    Recovery,
    /// One pgpool node of several does not reach a node, and takes it from its sessions.
    Quarantine,
    /// The picture of the pgpool node that leads becomes this one's.
    Adoption,
    /// Who leads the pgpool nodes, whether they can decide, and who has the virtual IP.
    Watchdog,
    /// Of a newer release.
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Asked for and not done.
    Refused,
    /// Taken, and waits for the end of another operation.
    Waits,
    /// Taken, and not done after all.
    Dropped,
    Began,
    /// A command of the operator begins.
    Hook,
    HookEnded,
    Ended,
    /// Of a newer release.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A command of the operator; `status` to `output` are known at its end only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HookRun {
    /// The parameter that it comes from.
    pub name: String,
    /// What the shell was given; of an online recovery the statement that was run.
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be run, or what its server said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Of one that failed: the last lines that it has printed, or where they are to be found.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

impl Note {
    pub fn new(kind: Kind, step: Step) -> Note {
        Note {
            kind,
            step,
            ..Note::default()
        }
    }

    pub fn of_node(kind: Kind, step: Step, node: NodeId) -> Note {
        Note {
            node: Some(node),
            ..Note::new(kind, step)
        }
    }

    pub fn with_result(mut self, result: impl Into<String>) -> Note {
        self.result = result.into();
        self
    }

    pub fn with_cause(mut self, cause: impl Into<String>, evidence: impl Into<String>) -> Note {
        self.cause = cause.into();
        self.evidence = evidence.into();
        self
    }
}

impl HookRun {
    pub fn begins(name: impl Into<String>, command: impl Into<String>) -> HookRun {
        HookRun {
            name: name.into(),
            command: command.into(),
            ..HookRun::default()
        }
    }
}

/// `2026-11-28T07:23:46.123+01:00`: local time, for people, with its offset, for programs.
mod rfc3339 {
    use std::time::SystemTime;

    use chrono::{DateTime, Local, SecondsFormat};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        let local = DateTime::<Local>::from(*at);
        to.serialize_str(&local.to_rfc3339_opts(SecondsFormat::Millis, false))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        DateTime::parse_from_rfc3339(&text)
            .map(SystemTime::from)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event() -> Event {
        Event {
            id: 17,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            pid: 4711,
            operation: 16,
            note: Note {
                node: Some(0),
                hook: Some(HookRun {
                    status: Some(1),
                    ..HookRun::begins("failover_command", "sh -c 'a\n\"b\"' \u{1}")
                }),
                seconds: Some(2.5),
                ..Note::new(Kind::Failover, Step::HookEnded)
            },
        }
    }

    #[test]
    fn an_event_is_one_line_and_is_read_back_as_it_was() {
        let line = serde_json::to_string(&event()).unwrap();
        assert!(!line.contains(['\n', '\u{1}']), "{line}");
        assert!(line.starts_with(r#"{"id":17,"time":"20"#), "{line}");
        assert!(!line.contains("evidence"), "nothing to say: {line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event());
    }

    #[test]
    fn words_and_members_of_a_newer_release_do_not_hide_an_event() {
        let line = r#"{"id":1,"time":"2026-11-28T07:23:46+01:00","pid":2,"operation":1,
            "kind":"election","step":"voted","votes":3}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(
            (event.note.kind, event.note.step),
            (Kind::Unknown, Step::Unknown)
        );
        assert_eq!(event.id, 1);
    }
}
