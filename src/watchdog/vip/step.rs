//! The steps that escalation and de-escalation are made of, and how long each may take.

use std::time::Duration;

/// `ip`, `arping` and `sudo` end at once, or hang at a name server.
const QUICK: Duration = Duration::from_secs(10);
/// Three pings a second apart, and the time that `ping` waits for the last answer.
const PING: Duration = Duration::from_secs(20);
/// Others take the address over meanwhile.
const DOWN: Duration = Duration::from_secs(5);
/// Programs of the operator may have to fence a machine or to talk to a cloud.
const ESCALATION: Duration = Duration::from_secs(30);
/// Whoever stops pgpool waits for all of it (`WATCHDOG_TIME` in `crate::process::start`).
const AT_STOP: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Is the address here, before anything is done?
    Leftover,
    EscalationCommand,
    Up,
    /// `success`: of the command before, as its status says.
    UpLook {
        success: bool,
    },
    Arping,
    Ping {
        attempt: u32,
    },
    DeEscalationCommand,
    Down {
        attempt: u32,
    },
    /// `success`: as in [`Step::UpLook`].
    DownLook {
        attempt: u32,
        success: bool,
    },
}

impl Step {
    pub fn is_up(self) -> bool {
        matches!(
            self,
            Step::EscalationCommand
                | Step::Up
                | Step::UpLook { .. }
                | Step::Arping
                | Step::Ping { .. }
        )
    }

    /// A program of the operator, which is never killed: he may rely on its end.
    pub fn is_the_operators(self) -> bool {
        matches!(self, Step::EscalationCommand | Step::DeEscalationCommand)
    }

    /// `deadtime`: so long after the last sign of life other nodes take the address.
    pub fn limit(self, deadtime: Duration, stopping: bool) -> Duration {
        let limit = match self {
            Step::EscalationCommand => ESCALATION.max(deadtime),
            // Half of it is left for if_down_cmd, before two hosts have had the address for too long.
            Step::DeEscalationCommand => (deadtime / 2).max(DOWN),
            Step::Down { .. } => DOWN,
            Step::Ping { .. } => PING,
            Step::Up | Step::Arping | Step::UpLook { .. } => QUICK,
            Step::Leftover | Step::DownLook { .. } => QUICK,
        };
        if stopping { limit.min(AT_STOP) } else { limit }
    }
}
