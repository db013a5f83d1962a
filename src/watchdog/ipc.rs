//! The local socket: what a request gets for an answer, and what it tells the cores.
//!
//! `wd_cli`, external lifechecks and other tools come here with `wd_authkey`. The requests that a stock
//! pgpool's own processes make need a secret that only they share; ours ask the core directly, so
//! nobody has it and these are always refused. A connection is closed after its answer.

use super::{
    codec::{
        AuthKey, DecodeError,
        function::FailoverResult,
        ipc::{IpcFrame, IpcRequest},
        ipc_answer::{
            INVALID_DATA, INVALID_KEY, IpcAnswer, UNKNOWN_TYPE, UNKNOWN_VARIABLE, Variable,
        },
    },
    core::{Core, PeerId},
};

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Answer(IpcAnswer),
    /// Close without an answer.
    Silence,
    /// The same, and [`super::core::Event::Lifecheck`].
    Lifecheck {
        peer: PeerId,
        alive: bool,
    },
    /// The same, and [`super::core::Event::LocalDead`].
    LocalDead {
        reason: String,
    },
}

pub fn judge(core: &Core, key: &AuthKey, frame: &IpcFrame) -> Verdict {
    let request = match IpcRequest::decode(frame) {
        Ok(request) => request,
        Err(DecodeError::UnknownType(_)) => {
            return Verdict::Answer(IpcAnswer::Bad(Some(UNKNOWN_TYPE)));
        }
        Err(_) => return Verdict::Answer(IpcAnswer::Bad(Some(INVALID_DATA))),
    };
    if matches!(request, IpcRequest::Indication { .. }) {
        return Verdict::Answer(IpcAnswer::Result(FailoverResult::NotAllowed));
    }
    let may = !key.is_set() || key.is(request.credentials().auth_key.as_deref());
    if !may || !request.is_for_tools() {
        return Verdict::Answer(IpcAnswer::Bad(Some(INVALID_KEY)));
    }
    match request {
        IpcRequest::NodeStatus {
            node,
            alive,
            message,
            ..
        } => match core.peer_numbered(node) {
            Some(Ok(peer)) => Verdict::Lifecheck { peer, alive },
            Some(Err(())) if alive => Verdict::Silence,
            Some(Err(())) => Verdict::LocalDead { reason: message },
            None => Verdict::Answer(IpcAnswer::Bad(None)),
        },
        IpcRequest::NodeList { node, .. } => {
            let only = (node >= 0).then_some(node);
            Verdict::Answer(IpcAnswer::NodeList(core.node_list(only)))
        }
        IpcRequest::Variable { name, .. } => Verdict::Answer(variable(core, &name)),
        _ => Verdict::Silence,
    }
}

fn variable(core: &Core, name: &str) -> IpcAnswer {
    IpcAnswer::Variable(match name.to_ascii_lowercase().as_str() {
        "wdstate" => Variable::Int(core.state().number()),
        "quorumstate" => Variable::Int(core.node_list(None).quorum),
        "escalated" => Variable::Bool(core.is_escalated()),
        _ => return IpcAnswer::Bad(Some(UNKNOWN_VARIABLE)),
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::*;
    use crate::watchdog::{codec::node_info::State, testing};

    fn core() -> Core {
        let settings = Arc::new(testing::settings(1, 3));
        Core::new(settings, "10.0.0.1:9999 Linux x".to_owned(), Instant::now())
    }

    fn ask(key: &str, kind: u8, body: &str) -> Verdict {
        let frame = IpcFrame {
            kind,
            payload: body.as_bytes().to_vec(),
        };
        judge(&core(), &AuthKey::new(key), &frame)
    }

    fn bad(text: &'static str) -> Verdict {
        Verdict::Answer(IpcAnswer::Bad(Some(text)))
    }

    #[test]
    fn tools_need_the_key_if_there_is_one() {
        let body = r#"{"VarName":"wdSTATE","IPCAuthKey":"k"}"#;
        let state = Verdict::Answer(IpcAnswer::Variable(Variable::Int(State::Dead.number())));
        assert_eq!(ask("k", b'v', body), state);
        assert_eq!(ask("", b'v', r#"{"VarName":"WDState"}"#), state);
        assert_eq!(ask("other", b'v', body), bad(INVALID_KEY));
        assert_eq!(ask("k", b'3', r#"{"NodeID":1}"#), bad(INVALID_KEY));
    }

    #[test]
    fn what_only_a_stock_pgpools_processes_ask_is_refused() {
        let body = r#"{"IPCSharedKey":1,"IPCAuthKey":"k","DataRequestType":"BackendStatus"}"#;
        assert_eq!(ask("k", b'd', body), bad(INVALID_KEY));
        assert_eq!(
            ask("k", b'i', r#"{"FailoverFuncState":0}"#),
            Verdict::Answer(IpcAnswer::Result(FailoverResult::NotAllowed))
        );
    }

    #[test]
    fn a_lifecheck_from_outside_is_handed_on() {
        let tell = |node: i32, status: i32| {
            ask(
                "",
                b'2',
                &format!("{{\"NodeID\":{node},\"NodeStatus\":{status},\"Message\":\"m\"}}"),
            )
        };
        assert_eq!(
            tell(2, 1),
            Verdict::Lifecheck {
                peer: 1,
                alive: false
            }
        );
        assert_eq!(
            tell(0, 2),
            Verdict::Lifecheck {
                peer: 0,
                alive: true
            }
        );
        assert_eq!(
            tell(1, 1),
            Verdict::LocalDead {
                reason: "m".to_owned()
            }
        );
        assert_eq!(tell(1, 2), Verdict::Silence);
        assert_eq!(tell(9, 1), Verdict::Answer(IpcAnswer::Bad(None)));
        assert_eq!(tell(1, 3), bad(INVALID_DATA));
    }

    #[test]
    fn odd_requests_get_the_originals_texts() {
        assert_eq!(ask("k", b'Z', "{}"), bad(UNKNOWN_TYPE));
        assert_eq!(ask("k", b'3', "no json"), bad(INVALID_DATA));
        assert_eq!(
            ask("", b'v', r#"{"VarName":"Nope"}"#),
            bad(UNKNOWN_VARIABLE)
        );
    }
}
