//! Whether an address of a record is that of the client.

use std::net::IpAddr;

use super::{Address, Origin};
use crate::observe::Reporter;

/// An address of this machine with its network mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    pub address: IpAddr,
    pub mask: IpAddr,
}

/// What matching needs to know of the network; a trait, so that tests have their own.
pub trait Network {
    fn interfaces(&mut self) -> Vec<Interface>;
    /// The name of an address, if it has one.
    fn name_of(&mut self, address: IpAddr) -> Option<String>;
    fn addresses_of(&mut self, name: &str) -> Vec<IpAddr>;
}

/// The real network. Name look-ups block for as long as the resolver likes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn interfaces(&mut self) -> Vec<Interface> {
        match crate::sys::interfaces::addresses() {
            Ok(found) => found
                .into_iter()
                .map(|(address, mask)| Interface { address, mask })
                .collect(),
            Err(e) => {
                Reporter::new("child").log(format_args!(
                    "error enumerating network interfaces: {}",
                    crate::sys::errors::message(&e)
                ));
                Vec::new()
            }
        }
    }

    fn name_of(&mut self, address: IpAddr) -> Option<String> {
        crate::sys::interfaces::name_of(address)
    }

    fn addresses_of(&mut self, name: &str) -> Vec<IpAddr> {
        use std::net::ToSocketAddrs;
        (name, 0)
            .to_socket_addrs()
            .map(|found| found.map(|a| a.ip()).collect())
            .unwrap_or_default()
    }
}

/// A client and what has been found out about its address; nothing is asked twice.
pub(super) struct Peer<'a> {
    origin: Origin,
    network: &'a mut dyn Network,
    interfaces: Option<Vec<Interface>>,
    name: Option<Option<String>>,
    /// The name leads back to the address.
    confirmed: Option<bool>,
}

impl<'a> Peer<'a> {
    pub fn new(origin: Origin, network: &'a mut dyn Network) -> Peer<'a> {
        Peer {
            origin,
            network,
            interfaces: None,
            name: None,
            confirmed: None,
        }
    }

    pub fn origin(&self) -> Origin {
        self.origin
    }

    pub fn matches(&mut self, wanted: &Address) -> bool {
        let Origin::Host { address, .. } = self.origin else {
            return false;
        };
        let address = address.to_canonical();
        match wanted {
            Address::All => true,
            Address::Network { network, mask } => in_network(address, *network, *mask),
            Address::SameHost => self.interfaces().iter().any(|i| i.address == address),
            Address::SameNet => self
                .interfaces()
                .iter()
                .any(|i| in_network(address, i.address, i.mask)),
            Address::Name(name) => self.has_name(address, name),
        }
    }

    fn interfaces(&mut self) -> &[Interface] {
        let network = &mut *self.network;
        self.interfaces.get_or_insert_with(|| network.interfaces())
    }

    /// The name of the address must fit the record and lead back to the address.
    /// Source: `check_hostname`.
    fn has_name(&mut self, address: IpAddr, wanted: &str) -> bool {
        let network = &mut *self.network;
        let Some(name) = self.name.get_or_insert_with(|| network.name_of(address)) else {
            return false;
        };
        if !name_fits(wanted, name) {
            return false;
        }
        *self.confirmed.get_or_insert_with(|| {
            let back = network
                .addresses_of(name)
                .iter()
                .any(|a| a.to_canonical() == address);
            if !back {
                log::trace!(
                    "pool_hba.conf host name \"{wanted}\" rejected because address resolution did not return a match with IP address of client"
                );
            }
            back
        })
    }
}

fn name_fits(wanted: &str, name: &str) -> bool {
    if wanted.starts_with('.') {
        name.len() >= wanted.len()
            && name
                .get(name.len() - wanted.len()..)
                .is_some_and(|end| end.eq_ignore_ascii_case(wanted))
    } else {
        name.eq_ignore_ascii_case(wanted)
    }
}

fn in_network(address: IpAddr, network: IpAddr, mask: IpAddr) -> bool {
    match (address, network, mask) {
        (IpAddr::V4(a), IpAddr::V4(n), IpAddr::V4(m)) => {
            (a.to_bits() ^ n.to_bits()) & m.to_bits() == 0
        }
        (IpAddr::V6(a), IpAddr::V6(n), IpAddr::V6(m)) => {
            (a.to_bits() ^ n.to_bits()) & m.to_bits() == 0
        }
        _ => false,
    }
}
