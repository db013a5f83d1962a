//! Addresses of host names, also while nobody can tell them.
//!
//! A name server that is silent, that fails, or that denies a name which it knew a moment ago says nothing
//! of the server behind the name. So addresses that were found are kept: without an end for the time when
//! there is no answer, and for [`GONE_AFTER`] when the answer is that there is no such name, since a file
//! or a zone may be about to be written anew.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{net::lookup_host, time::timeout};

use super::Failure;
use crate::sys::errors;

/// How long a name server may take when we know addresses from before, or need not know them now.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// For so long a name that was found must be denied until we believe it.
const GONE_AFTER: Duration = Duration::from_secs(60);

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// What was found before. Its names are those of the configuration.
#[derive(Debug, Default)]
struct Known(HashMap<String, (Instant, Vec<IpAddr>)>);

impl Known {
    fn remember(&mut self, host: &str, found: &[SocketAddr], now: Instant) {
        let addresses = found.iter().map(SocketAddr::ip).collect();
        self.0.insert(host.to_owned(), (now, addresses));
    }

    /// `denied`: a name server has said that there is no such name.
    fn addresses(&self, host: &str, denied: bool, now: Instant) -> Option<&[IpAddr]> {
        let (found, addresses) = self.0.get(host)?;
        let is_old = now.saturating_duration_since(*found) >= GONE_AFTER;
        (!denied || !is_old).then_some(addresses)
    }
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At least one address, in the order of the name server. `limit`: of the whole connect.
///
/// # Errors
///
/// [`Failure::Unreachable`] for a name that is gone, [`Failure::Local`] for one that nobody can tell us.
pub(crate) async fn resolve(
    host: &str,
    port: u16,
    limit: Option<Duration>,
) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // Half of the time is left for the server itself.
    let lookup_limit = limit.map_or(LOOKUP_LIMIT, |l| (l / 2).min(LOOKUP_LIMIT));
    let (denied, why) = match timeout(lookup_limit, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            known().remember(host, &found, Instant::now());
            return Ok(found);
        }
        Ok(Err(e)) => (!is_temporary(&e), errors::message(&e)),
        Err(_) => (
            false,
            format!(
                "looking up \"{host}\" took more than {} seconds",
                lookup_limit.as_secs_f64()
            ),
        ),
    };
    match known().addresses(host, denied, Instant::now()) {
        Some(known) => Ok(known.iter().map(|&ip| SocketAddr::new(ip, port)).collect()),
        None if denied => Err(Failure::Unreachable(why)),
        None => Err(Failure::Local(why)),
    }
}

/// `EAI_AGAIN` and `EAI_SYSTEM`; the standard library gives only their texts.
fn is_temporary(e: &io::Error) -> bool {
    let text = e.to_string();
    text.contains("Temporary failure") || text.contains("System error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_as_gone_when_it_has_been_denied_for_a_while() {
        let (mut known, now) = (Known::default(), Instant::now());
        let found: SocketAddr = "10.0.0.1:5432".parse().unwrap();
        known.remember("db0", &[found], now);
        let at = |seconds| now + Duration::from_secs(seconds);
        let addresses = [found.ip()];
        let addresses = Some(addresses.as_slice());
        assert_eq!(known.addresses("db0", true, at(59)), addresses);
        assert_eq!(known.addresses("db0", true, at(60)), None);
        assert_eq!(known.addresses("db0", false, at(86_400)), addresses);
        assert_eq!(known.addresses("db1", false, now), None);
        known.remember("db0", &[found], at(100));
        assert_eq!(known.addresses("db0", true, at(159)), addresses);
    }
}
