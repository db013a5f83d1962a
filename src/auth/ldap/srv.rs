//! LDAP servers by DNS: the SRV records of `_ldap._tcp.DOMAIN` (RFC 2782).
//!
//! The system's resolver asks, so that resolv.conf counts; its answer is read here.

use crate::sys;

/// SRV of RFC 2782.
const TYPE_SRV: u16 = 33;

/// More servers than this are not tried.
const MAX_SERVERS: usize = 32;

/// Hosts and ports, those to be tried first in front; empty when there are none. May take seconds.
pub(super) async fn look_up(domain: String) -> Vec<(String, u16)> {
    let work = move || {
        let name = format!("_ldap._tcp.{domain}");
        let answer = sys::resolver::query(&name, TYPE_SRV).unwrap_or_default();
        in_order(records(&answer).unwrap_or_default())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    port: u16,
    target: String,
}

/// By priority; within one the heavier first, so that the order is the same every time.
fn in_order(mut records: Vec<Record>) -> Vec<(String, u16)> {
    records.sort_by_key(|r| (r.priority, std::cmp::Reverse(r.weight)));
    records
        .into_iter()
        .take(MAX_SERVERS)
        .map(|r| (r.target, r.port))
        .collect()
}

/// The SRV records of a DNS message (RFC 1035); `None`: it is cut off or malformed.
fn records(message: &[u8]) -> Option<Vec<Record>> {
    let questions = number(message, 4)?;
    let answers = number(message, 6)?;
    let mut at = 12;
    for _ in 0..questions {
        at = name(message, at)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        let (_, fixed) = name(message, at)?;
        let data = fixed + 10;
        let length = usize::from(number(message, fixed + 8)?);
        if number(message, fixed)? == TYPE_SRV {
            let (target, _) = name(message, data + 6)?;
            // "." says that the service is decidedly not there.
            if !target.is_empty() {
                found.push(Record {
                    priority: number(message, data)?,
                    weight: number(message, data + 2)?,
                    port: number(message, data + 4)?,
                    target,
                });
            }
        }
        at = data + length;
    }
    Some(found)
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// A name, and where the message goes on behind it.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels: Vec<String> = Vec::new();
    let (mut at, mut behind) = (start, None);
    // A name has at most 127 labels; pointers in a circle end here, too.
    for _ in 0..256 {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((labels.join("."), behind.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + length;
            }
            0xc0.. => {
                behind = behind.or(Some(at + 2));
                at = usize::from(number(message, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question for `_ldap._tcp.x.org` and two answers whose names point to it.
    fn answer() -> Vec<u8> {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 3, 0, 0, 0, 0];
        message.extend(b"\x05_ldap\x04_tcp\x01x\x03org\0");
        message.extend([0, 33, 0, 1]);
        for (priority, weight, port, target) in [
            (10, 1, 389, &b"\x01b\xc0\x17"[..]),
            (5, 0, 390, &b"\x01a\xc0\x17"[..]),
            (10, 9, 391, &b"\x01c\x03net\0"[..]),
        ] {
            message.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60]);
            let length = u16::try_from(6 + target.len()).unwrap();
            message.extend(length.to_be_bytes());
            for value in [priority, weight, port] {
                message.extend(u16::to_be_bytes(value));
            }
            message.extend(target);
        }
        message
    }

    #[test]
    fn servers_come_by_priority_and_weight() {
        assert_eq!(
            in_order(records(&answer()).unwrap()),
            [
                ("a.x.org".to_owned(), 390),
                ("c.net".to_owned(), 391),
                ("b.x.org".to_owned(), 389)
            ]
        );
    }

    #[test]
    fn a_message_that_is_cut_off_is_none() {
        let whole = answer();
        for length in 0..whole.len() {
            assert_eq!(records(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_name_that_points_to_itself_ends() {
        assert_eq!(name(&[0xc0, 0], 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = records(&message);
        }

        #[test]
        fn any_change_of_an_answer_is_read_or_refused(at in 0usize..100, byte: u8) {
            let mut message = answer();
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            let _ = records(&message);
        }
    }
}
