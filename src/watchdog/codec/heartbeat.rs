//! Heartbeats: one UDP datagram each, a C structure as 64-bit little-endian machines lay it out.
//!
//! The host name grew from 128 to 254 bytes within 4.0, 4.1 and 4.2, and the datagram with it. A stock
//! receiver does not look at the length and misreads the other size; ours takes both.

use super::{AuthKey, DecodeError, EncodeError};

/// Offsets of one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 4.0.15, 4.1.8, 4.2.4 and later: 352 bytes.
    Long,
    /// Before: 224 bytes.
    Short,
}

impl Size {
    pub fn bytes(self) -> usize {
        match self {
            Size::Long => 352,
            Size::Short => 224,
        }
    }

    /// The release's size.
    pub fn of_release(major: u8, minor: u8, patch: u8) -> Size {
        let first_long = match (major, minor) {
            (..=3, _) => return Size::Short,
            (4, 0) => 15,
            (4, 1) => 8,
            (4, 2) => 4,
            _ => 0,
        };
        if patch < first_long {
            Size::Short
        } else {
            Size::Long
        }
    }

    /// In bytes; a longer name fits into no heartbeat.
    pub fn longest_host(self) -> usize {
        self.host() - 1
    }

    fn host(self) -> usize {
        match self {
            Size::Long => 254,
            Size::Short => 128,
        }
    }

    fn port(self) -> usize {
        match self {
            Size::Long => 256,
            Size::Short => 128,
        }
    }

    fn seconds(self) -> usize {
        self.port() + 8
    }

    fn microseconds(self) -> usize {
        self.port() + 16
    }

    fn hash(self) -> usize {
        self.port() + 24
    }
}

const HASH: usize = 64;

/// One sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// `hostname` or `wd_hostname` of the sender, as configured there.
    pub host: String,
    /// Where the sender takes clients.
    pub pgpool_port: u16,
    /// By the sender's wall clock: seconds and microseconds.
    pub sent: (u32, u32),
}

impl Heartbeat {
    fn signed(&self) -> String {
        let (seconds, microseconds) = self.sent;
        format!("tv_sec={seconds} tv_usec={microseconds} from={}", self.host)
    }

    /// Undefined bytes of the structure are zero.
    ///
    /// # Errors
    ///
    /// The host name does not fit.
    pub fn encode(&self, size: Size, key: &AuthKey) -> Result<Vec<u8>, EncodeError> {
        let host = self.host.as_bytes();
        if host.len() >= size.host() {
            return Err(EncodeError::TooLong {
                key: "the host name",
                bytes: host.len(),
                max: size.host() - 1,
            });
        }
        if host.contains(&0) {
            return Err(EncodeError::Nul("the host name"));
        }
        let mut out = vec![0; size.bytes()];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, host);
        put(size.port(), &u32::from(self.pgpool_port).to_be_bytes());
        put(size.seconds(), &self.sent.0.to_be_bytes());
        put(size.microseconds(), &self.sent.1.to_be_bytes());
        if let Some(hash) = key.sign(&self.signed()) {
            put(size.hash(), hash.as_bytes());
        }
        Ok(out)
    }

    /// Reads a datagram; the flag says whether its hash is right.
    ///
    /// # Errors
    ///
    /// It is no heartbeat.
    pub fn decode(datagram: &[u8], key: &AuthKey) -> Result<(Heartbeat, bool), DecodeError> {
        let size = match datagram.len() {
            352 => Size::Long,
            224 => Size::Short,
            other => return Err(DecodeError::HeartbeatSize(other)),
        };
        let number = |at: usize| {
            let bytes = datagram.get(at..at + 4).and_then(|b| b.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        let host = datagram[..size.host()].split(|byte| *byte == 0).next();
        let host = host
            .filter(|host| host.len() < size.host())
            .and_then(|host| std::str::from_utf8(host).ok())
            .ok_or(DecodeError::HeartbeatHost)?;
        let heartbeat = Heartbeat {
            host: host.to_owned(),
            pgpool_port: u16::try_from(number(size.port()))
                .map_err(|_| DecodeError::HeartbeatPort)?,
            sent: (number(size.seconds()), number(size.microseconds())),
        };
        let hash = std::str::from_utf8(&datagram[size.hash()..size.hash() + HASH]).ok();
        let right = key.accepts(&heartbeat.signed(), hash);
        Ok((heartbeat, right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            host: "10.77.0.1".to_owned(),
            pgpool_port: 9999,
            sent: (1_795_383_764, 979_877),
        }
    }

    #[test]
    fn both_sizes_are_read_by_their_length() {
        let key = AuthKey::new("SpecKey123");
        for size in [Size::Long, Size::Short] {
            let bytes = heartbeat().encode(size, &key).unwrap();
            assert_eq!(bytes.len(), size.bytes());
            assert_eq!(Heartbeat::decode(&bytes, &key), Ok((heartbeat(), true)));
            let other = AuthKey::new("other");
            assert_eq!(Heartbeat::decode(&bytes, &other), Ok((heartbeat(), false)));
        }
    }

    #[test]
    fn the_size_follows_the_patch_level_within_three_series() {
        for (release, size) in [
            ((4, 0, 14), Size::Short),
            ((4, 0, 15), Size::Long),
            ((4, 1, 7), Size::Short),
            ((4, 2, 3), Size::Short),
            ((4, 2, 4), Size::Long),
            ((4, 0, 25), Size::Long),
            ((4, 3, 0), Size::Long),
            ((3, 7, 26), Size::Short),
        ] {
            let (major, minor, patch) = release;
            assert_eq!(Size::of_release(major, minor, patch), size, "{release:?}");
        }
    }

    #[test]
    fn a_host_name_that_does_not_fit_is_an_error_and_not_cut() {
        let mut long = heartbeat();
        long.host = "h".repeat(253);
        assert!(long.encode(Size::Long, &AuthKey::default()).is_ok());
        assert!(long.encode(Size::Short, &AuthKey::default()).is_err());
        long.host.push('h');
        assert!(long.encode(Size::Long, &AuthKey::default()).is_err());
    }
}
