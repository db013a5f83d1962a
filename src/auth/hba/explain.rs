//! Why a record of pool_hba.conf does not apply to a client: for `pgpool --check-auth`.

use super::{Address, Connection, Hba, Listed, Network, Origin, Record, network::Peer};

/// What [`Hba::explain`] has found out.
#[derive(Debug)]
pub struct Explained<'a> {
    /// The record that [`Hba::find`] gives.
    pub found: Option<&'a Record>,
    /// The others that come nearest, with what keeps each from matching; those before the found one
    /// only, and at most [`NEAREST`].
    pub near: Vec<(&'a Record, Vec<Mismatch>)>,
}

/// How many records are named as near.
pub const NEAREST: usize = 3;

/// One thing that keeps a record from matching, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub text: String,
    /// A record that names the user is likelier to be the one that was meant.
    weight: usize,
}

impl Hba {
    /// The record that matches, or why none does. Blocks as [`Hba::find`] does.
    pub fn explain(
        &self,
        origin: Origin,
        user: &str,
        database: &str,
        network: &mut dyn Network,
    ) -> Explained<'_> {
        let mut peer = Peer::new(origin, network);
        let mut near = Vec::new();
        let mut found = None;
        for record in &self.records {
            let mismatches = record.mismatches(&mut peer, user, database);
            if mismatches.is_empty() {
                found = Some(record);
                break;
            }
            near.push((record, mismatches));
        }
        let distance = |(_, mismatches): &(&Record, Vec<Mismatch>)| -> usize {
            mismatches.iter().map(|m| m.weight).sum()
        };
        // A stable sort: among equals the order of the file stays.
        near.sort_by_key(distance);
        let least = near.first().map_or(0, distance);
        near.retain(|near| distance(near) <= least + 1);
        near.truncate(NEAREST);
        Explained { found, near }
    }
}

impl Record {
    /// Empty: the record matches.
    fn mismatches(&self, peer: &mut Peer<'_>, user: &str, database: &str) -> Vec<Mismatch> {
        let mut found = Vec::new();
        let mut add = |weight, text: String| found.push(Mismatch { text, weight });
        let origin = peer.origin();
        if !self.matches_connection(origin) {
            let (weight, text) = match (self.connection, origin) {
                (Connection::Local, _) => {
                    (4, "local is for clients that come through a unix socket")
                }
                (_, Origin::Local) => (
                    4,
                    "only local is for clients that come through a unix socket",
                ),
                (Connection::HostSsl, _) => (1, "hostssl is for clients with TLS"),
                _ => (1, "hostnossl is for clients without TLS"),
            };
            add(weight, text.to_owned());
        } else if self.connection != Connection::Local && !peer.matches(&self.address) {
            add(1, self.address_in_words());
        }
        for (weight, what, name, listed) in [
            (1, "database", database, self.lists_database(database, user)),
            (2, "user", user, self.lists_user(user)),
        ] {
            match listed {
                Listed::Yes => {}
                Listed::No => add(weight, format!("{what} \"{name}\" is not in its list")),
                Listed::BehindGroup => add(
                    1,
                    format!(
                        "{what} \"{name}\" stands behind a group, which Pgpool-II does not support: a group never matches and ends its list"
                    ),
                ),
            }
        }
        found
    }

    fn address_in_words(&self) -> String {
        match &self.address {
            Address::All => "the address does not match".to_owned(),
            Address::SameHost => "the address is none of this machine".to_owned(),
            Address::SameNet => {
                "the address is in no network that this machine is connected to".to_owned()
            }
            Address::Network { network, mask } => {
                format!("the address is not in {network} with mask {mask}")
            }
            Address::Name(name) => format!(
                "the name of the address, looked up there and back, does not match \"{name}\""
            ),
        }
    }
}
