//! Cluster service messages: the one byte in the body of a `#` packet.

use super::DecodeError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Neither sent nor handled by any release.
    QuorumLost,
    /// Neither sent nor handled by any release.
    QuorumFound,
    SplitBrain,
    NeedsElection,
    IAmTrueLeader,
    IAmNotTrueLeader,
    IResign,
    /// Ends a stock pgpool; never sent by us.
    InvalidVersion,
    RequireReload,
    YouAppearLost,
    YouAreFoundAgain,
}

impl Service {
    pub fn byte(self) -> u8 {
        match self {
            Service::QuorumLost => b'L',
            Service::QuorumFound => b'F',
            Service::SplitBrain => b'B',
            Service::NeedsElection => b'E',
            Service::IAmTrueLeader => b'M',
            Service::IAmNotTrueLeader => b'X',
            Service::IResign => b'R',
            Service::InvalidVersion => b'V',
            Service::RequireReload => b'I',
            Service::YouAppearLost => b'Y',
            Service::YouAreFoundAgain => b'Z',
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Service, DecodeError> {
        let [byte] = *body else {
            return Err(DecodeError::Body {
                kind: '#',
                bytes: body.len(),
            });
        };
        Ok(match byte {
            b'L' => Service::QuorumLost,
            b'F' => Service::QuorumFound,
            b'B' => Service::SplitBrain,
            b'E' => Service::NeedsElection,
            b'M' => Service::IAmTrueLeader,
            b'X' => Service::IAmNotTrueLeader,
            b'R' => Service::IResign,
            b'V' => Service::InvalidVersion,
            b'I' => Service::RequireReload,
            b'Y' => Service::YouAppearLost,
            b'Z' => Service::YouAreFoundAgain,
            other => return Err(DecodeError::UnknownService(other)),
        })
    }
}
