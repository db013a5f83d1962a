//! The packets without a type byte that open a connection.

/// Packets of 10000 bytes and more are refused, as by stock (`MAX_STARTUP_PACKET_LENGTH`,
/// `src/protocol/child.c @ V4_3_5`) and PostgreSQL.
pub const MAX_STARTUP_LEN: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What a client may send first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    SslRequest,
    GssEncRequest,
    Cancel {
        pid: u32,
        key: u32,
    },
    Startup(StartupPacket),
    /// Protocol 2.0: understood well enough to be answered.
    Version2,
}

/// StartupMessage of protocol 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupPacket {
    /// As asked for by the client; more than zero is answered with NegotiateProtocolVersion.
    pub minor: u16,
    pub user: String,
    /// The user's name when the client named no database.
    pub database: String,
    /// All other parameters, sorted by name; protocol options (`_pq_.`) are not among them.
    pub parameters: Vec<(String, String)>,
    /// Names of protocol options (`_pq_.`) that nobody here knows.
    pub unknown_options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The number is the length without the field itself, as stock logs it.
    #[error("incorrect packet length ({0})")]
    Length(i64),
    #[error("invalid major no: {major} in startup packet")]
    Version { major: u16 },
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    #[error("startup packet is malformed: {0}")]
    Malformed(&'static str),
}

/// The length of the packet that starts with `bytes`, itself included; `None`: fewer than four bytes are there.
///
/// # Errors
///
/// Lengths that no packet can have.
pub fn packet_len(bytes: &[u8]) -> Result<Option<usize>, StartupError> {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i64::from(i32::from_be_bytes(*length));
    match usize::try_from(length) {
        Ok(n) if (8..MAX_STARTUP_LEN).contains(&n) => Ok(Some(n)),
        _ => Err(StartupError::Length(length - 4)),
    }
}

/// Reads one whole packet, its length field included.
///
/// # Errors
///
/// Whatever makes the packet useless; the caller answers or logs it.
pub fn parse(packet: &[u8]) -> Result<FirstPacket, StartupError> {
    let Some((&[_, _, _, _, a, b, c, d], rest)) = packet.split_first_chunk::<8>() else {
        return Err(StartupError::Length(
            i64::try_from(packet.len()).unwrap_or(i64::MAX) - 4,
        ));
    };
    match u32::from_be_bytes([a, b, c, d]) {
        SSL_REQUEST => Ok(FirstPacket::SslRequest),
        GSSENC_REQUEST => Ok(FirstPacket::GssEncRequest),
        CANCEL_REQUEST => match rest {
            &[p1, p2, p3, p4, k1, k2, k3, k4] => Ok(FirstPacket::Cancel {
                pid: u32::from_be_bytes([p1, p2, p3, p4]),
                key: u32::from_be_bytes([k1, k2, k3, k4]),
            }),
            _ => Err(StartupError::Malformed("cancel request of a wrong length")),
        },
        _ => {
            let major = u16::from_be_bytes([a, b]);
            match major {
                3 => startup(u16::from_be_bytes([c, d]), rest).map(FirstPacket::Startup),
                2 => Ok(FirstPacket::Version2),
                _ => Err(StartupError::Version { major }),
            }
        }
    }
}

fn startup(minor: u16, mut rest: &[u8]) -> Result<StartupPacket, StartupError> {
    let mut packet = StartupPacket {
        minor,
        user: String::new(),
        database: String::new(),
        parameters: Vec::new(),
        unknown_options: Vec::new(),
    };
    loop {
        let name = cstr(&mut rest)?;
        if name.is_empty() {
            break;
        }
        let value = cstr(&mut rest)?;
        match name.as_str() {
            "user" => packet.user = value,
            "database" => packet.database = value,
            option if option.starts_with("_pq_.") => packet.unknown_options.push(name),
            _ => packet.parameters.push((name, value)),
        }
    }
    if packet.user.is_empty() {
        return Err(StartupError::NoUser);
    }
    if packet.database.is_empty() {
        packet.database.clone_from(&packet.user);
    }
    packet.parameters.sort();
    Ok(packet)
}

fn cstr(rest: &mut &[u8]) -> Result<String, StartupError> {
    let end = rest
        .iter()
        .position(|&b| b == 0)
        .ok_or(StartupError::Malformed("a string has no end"))?;
    let (text, tail) = rest.split_at(end);
    *rest = tail.get(1..).unwrap_or_default();
    // PostgreSQL takes any bytes here. Names that are not UTF-8 are too rare to carry bytes
    // through every log line and table, and a lossy name could match a wrong record.
    String::from_utf8(text.to_vec())
        .map_err(|_| StartupError::Malformed("a name or value is not UTF-8"))
}

impl StartupPacket {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The packet for a backend: protocol 3.0, parameters in order of their names.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend_from_slice(&super::PROTOCOL_3_0.to_be_bytes());
        let named = [("user", &self.user), ("database", &self.database)];
        let all = named
            .into_iter()
            .chain(self.parameters.iter().map(|(n, v)| (n.as_str(), v)));
        for (name, value) in all {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.extend_from_slice(value.as_bytes());
            out.push(0);
        }
        out.push(0);
        let len = u32::try_from(out.len()).unwrap_or(u32::MAX);
        if let Some(field) = out.first_chunk_mut::<4>() {
            *field = len.to_be_bytes();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, body: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(body.len() + 8)
            .unwrap()
            .to_be_bytes()
            .to_vec();
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn the_database_defaults_to_the_user_and_parameters_are_sorted() {
        let bytes = packet(
            3 << 16,
            b"user\0bob\0options\0-c x=1\0application_name\0psql\0\0",
        );
        let Ok(FirstPacket::Startup(p)) = parse(&bytes) else {
            panic!("not a startup packet")
        };
        assert_eq!((p.user.as_str(), p.database.as_str()), ("bob", "bob"));
        assert_eq!(p.parameter("application_name"), Some("psql"));
        assert_eq!(p.parameters[0].0, "application_name");
    }

    #[test]
    fn an_encoded_packet_is_read_back_the_same() {
        let bytes = packet(3 << 16, b"user\0bob\0database\0db\0a\0b\0\0");
        let Ok(FirstPacket::Startup(p)) = parse(&bytes) else {
            panic!("not a startup packet")
        };
        assert_eq!(parse(&p.encode()), Ok(FirstPacket::Startup(p)));
    }

    #[test]
    fn protocol_options_are_kept_apart() {
        let bytes = packet((3 << 16) | 2, b"user\0bob\0_pq_.x\0on\0\0");
        let Ok(FirstPacket::Startup(p)) = parse(&bytes) else {
            panic!("not a startup packet")
        };
        assert_eq!(p.minor, 2);
        assert_eq!(p.unknown_options, ["_pq_.x"]);
        assert!(p.parameters.is_empty());
    }

    #[test]
    fn requests_of_other_kinds_are_told_apart() {
        assert_eq!(
            parse(&packet(SSL_REQUEST, b"")),
            Ok(FirstPacket::SslRequest)
        );
        assert_eq!(
            parse(&packet(GSSENC_REQUEST, b"")),
            Ok(FirstPacket::GssEncRequest)
        );
        assert_eq!(
            parse(&packet(CANCEL_REQUEST, &[0, 0, 0, 7, 0, 0, 0, 9])),
            Ok(FirstPacket::Cancel { pid: 7, key: 9 })
        );
        assert_eq!(
            parse(&packet(2 << 16, &[0; 288])),
            Ok(FirstPacket::Version2)
        );
        assert_eq!(
            parse(&packet(4 << 16, b"\0")),
            Err(StartupError::Version { major: 4 })
        );
    }

    #[test]
    fn lengths_and_strings_out_of_bounds_are_refused() {
        assert_eq!(packet_len(&[0, 0]), Ok(None));
        assert_eq!(packet_len(&[0, 0, 0, 4]), Err(StartupError::Length(0)));
        assert_eq!(
            packet_len(&10_000u32.to_be_bytes()),
            Err(StartupError::Length(9996))
        );
        assert!(packet_len(&[0xff; 4]).is_err());
        assert_eq!(
            parse(&packet(3 << 16, b"user\0bob")),
            Err(StartupError::Malformed("a string has no end"))
        );
        assert_eq!(
            parse(&packet(3 << 16, b"database\0db\0\0")),
            Err(StartupError::NoUser)
        );
    }
}
