//! Heartbeats: datagrams to all destinations, and those that come in.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::UdpSocket, sync::mpsc};

use super::{listen, task::Happened};
use crate::{
    control::backend_client,
    observe::Reporter,
    sys::errors,
    watchdog::{
        codec::heartbeat::Heartbeat,
        lifecheck::Event,
        settings::{Destination, Settings},
    },
};

/// Larger than any heartbeat, so that what is too long is seen to be.
const LARGEST: usize = 1024;
/// A name that cannot be looked up by then gets no heartbeat this time.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Where heartbeats of this node go.
#[derive(Debug)]
pub struct Sender {
    routes: Vec<Rc<Route>>,
    reporter: Reporter,
}

#[derive(Debug)]
struct Route {
    destination: Destination,
    /// Empty: any.
    device: String,
    /// The last one is still on its way, as with a name server that does not answer.
    busy: Cell<bool>,
    /// The last one could not be sent, and that was logged.
    failing: Cell<bool>,
}

impl Sender {
    pub fn new(settings: &Settings, reporter: Reporter) -> Sender {
        let devices = listen::may_use_devices();
        let routes = settings.heartbeat.destinations.iter().map(|destination| {
            Rc::new(Route {
                device: if devices {
                    destination.device.clone()
                } else {
                    String::new()
                },
                destination: destination.clone(),
                busy: Cell::new(false),
                failing: Cell::new(false),
            })
        });
        Sender {
            routes: routes.collect(),
            reporter,
        }
    }

    /// One to every destination, with the wall clock's time.
    pub fn send(&self, settings: &Settings) {
        let heartbeat = Heartbeat {
            host: settings.own.host.clone(),
            pgpool_port: settings.own.pgpool_port,
            sent: now(),
        };
        let Ok(bytes) = heartbeat.encode(settings.heartbeat.size, &settings.authkey) else {
            // The host name is too long, which the start has warned of.
            return;
        };
        for route in &self.routes {
            if route.busy.replace(true) {
                continue;
            }
            let (route, bytes, reporter) = (Rc::clone(route), bytes.clone(), self.reporter.clone());
            drop(tokio::task::spawn_local(async move {
                let sent = route.send(&bytes).await;
                route.busy.set(false);
                route.tell(sent, &reporter);
            }));
        }
    }
}

impl Route {
    async fn send(&self, bytes: &[u8]) -> Result<(), String> {
        let Destination { host, port, .. } = &self.destination;
        // While no name server answers, the addresses that were found before count.
        let found = backend_client::resolve(host, *port, Some(LOOKUP_LIMIT * 2)).await;
        let addresses = found.map_err(|failure| failure.to_string())?;
        self.send_to_all(bytes, &addresses).await
    }

    /// Where the node listens on the addresses of its name is not known here: stock nodes before 4.6 do so on
    /// those of IPv4 alone.
    async fn send_to_all(&self, bytes: &[u8], addresses: &[SocketAddr]) -> Result<(), String> {
        let mut first_error = None;
        let mut sent = false;
        for to in addresses {
            match self.send_to(bytes, *to).await {
                Ok(()) => sent = true,
                Err(why) => {
                    first_error.get_or_insert(why);
                }
            }
        }
        match first_error {
            _ if sent => Ok(()),
            Some(why) => Err(why),
            None => Err("its name has no address".to_owned()),
        }
    }

    async fn send_to(&self, bytes: &[u8], to: SocketAddr) -> Result<(), String> {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into(),
            SocketAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0).into(),
        };
        // A new socket each time costs little, and knows of addresses and devices that have changed.
        let sent = async {
            let socket = listen::udp(any, &self.device)?;
            socket.send_to(bytes, to).await
        };
        sent.await.map(|_| ()).map_err(|e| errors::message(&e))
    }

    /// Once when it begins to fail, and once when it works again.
    fn tell(&self, sent: Result<(), String>, reporter: &Reporter) {
        let Destination { host, port, .. } = &self.destination;
        let was_failing = self.failing.replace(sent.is_err());
        match sent {
            Err(why) if !was_failing => reporter.emit(
                crate::observe::Severity::Warning,
                format_args!("heartbeats to {host}:{port} cannot be sent"),
                &why,
                "that node takes this one for dead after wd_heartbeat_deadtime; look at the network and at its name",
            ),
            Ok(()) if was_failing => {
                reporter.log(format_args!("heartbeats to {host}:{port} are sent again"));
            }
            _ => {}
        }
    }
}

fn now() -> (u32, u32) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    (seconds, since.subsec_micros())
}

/// Hands on what comes in, for as long as the process lives. What is no heartbeat is dropped.
pub async fn receive(
    socket: UdpSocket,
    settings: std::sync::Arc<Settings>,
    events: mpsc::Sender<Happened>,
) {
    let mut datagram = [0; LARGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            // Errors of other datagrams are told here, too.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let datagram = datagram.get(..length).unwrap_or_default();
        // What is not signed is nobody's, and must not wait in front of what other nodes send.
        let Ok((heartbeat, true)) = Heartbeat::decode(datagram, &settings.authkey) else {
            continue;
        };
        let event = Event::Heartbeat {
            heartbeat,
            source: from.ip().to_string(),
            signed: true,
        };
        if events.send(Happened::Lifecheck(event)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{task::LocalSet, time::timeout};

    use super::*;
    use crate::watchdog::{
        codec::{AuthKey, heartbeat::Size},
        testing,
    };

    /// As of a name with an address of IPv6, where a stock node does not listen, before one of IPv4.
    #[test]
    fn heartbeats_go_to_every_address_of_a_name() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let bind = || UdpSocket::bind("127.0.0.1:0");
            let (first, second) = (bind().await.unwrap(), bind().await.unwrap());
            let route = Route {
                destination: Destination {
                    host: "both".to_owned(),
                    port: 1,
                    device: String::new(),
                },
                device: String::new(),
                busy: Cell::new(false),
                failing: Cell::new(false),
            };
            let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
            assert_eq!(route.send_to_all(b"beat", &addresses).await, Ok(()));
            for socket in [first, second] {
                let mut got = [0; 8];
                let length = timeout(Duration::from_secs(20), socket.recv(&mut got)).await;
                assert_eq!(&got[..length.unwrap().unwrap()], b"beat");
            }
            // One that cannot be sent to does not keep the others from it.
            let third = bind().await.unwrap();
            let nowhere = "[::ffff:240.0.0.1]:0".parse().unwrap();
            let addresses = [nowhere, third.local_addr().unwrap()];
            assert_eq!(route.send_to_all(b"beat", &addresses).await, Ok(()));
            assert!(route.send_to_all(b"beat", &[nowhere]).await.is_err());
            assert!(route.send_to_all(b"beat", &[]).await.is_err());
        });
    }

    #[test]
    fn heartbeats_without_the_key_are_dropped_where_they_come_in() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let socket = listen::udp("127.0.0.1:0".parse().unwrap(), "").unwrap();
            let port = socket.local_addr().unwrap().port();
            let mut settings = testing::settings(1, 3);
            settings.authkey = AuthKey::new("k");
            // A flood would block behind the first of these.
            let (events, mut happened) = mpsc::channel(1);
            drop(tokio::task::spawn_local(receive(
                socket,
                Arc::new(settings),
                events,
            )));
            let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let beat = |sent: u32| Heartbeat {
                host: "10.0.0.2".to_owned(),
                pgpool_port: 9999,
                sent: (sent, 0),
            };
            for (sent, key) in [(1, ""), (2, "other"), (3, "k")] {
                let bytes = beat(sent).encode(Size::Long, &AuthKey::new(key)).unwrap();
                sender.send_to(&bytes, ("127.0.0.1", port)).await.unwrap();
            }
            let got = timeout(Duration::from_secs(20), happened.recv()).await;
            let Some(Happened::Lifecheck(Event::Heartbeat { heartbeat, .. })) = got.unwrap() else {
                panic!("no heartbeat");
            };
            assert_eq!(heartbeat.sent, (3, 0));
        });
    }

    #[test]
    fn heartbeats_of_both_sizes_arrive_and_noise_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let socket = listen::udp("127.0.0.1:0".parse().unwrap(), "").unwrap();
            let port = socket.local_addr().unwrap().port();
            let mut settings = testing::settings(1, 3);
            settings.heartbeat.destinations = vec![Destination {
                host: "localhost".to_owned(),
                port,
                device: String::new(),
            }];
            let (events, mut happened) = mpsc::channel(4);
            drop(tokio::task::spawn_local(receive(
                socket,
                Arc::new(settings.clone()),
                events,
            )));
            let noise = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            for bytes in [&b""[..], b"x", &[0xff; 352], &[0; 1500]] {
                noise.send_to(bytes, ("127.0.0.1", port)).await.unwrap();
            }
            for size in [Size::Long, Size::Short] {
                settings.heartbeat.size = size;
                let sender = Sender::new(&settings, Reporter::new("watchdog"));
                sender.send(&settings);
                let got = timeout(Duration::from_secs(20), happened.recv()).await;
                let Some(Happened::Lifecheck(Event::Heartbeat {
                    heartbeat, source, ..
                })) = got.unwrap()
                else {
                    panic!("no heartbeat");
                };
                assert_eq!(source, "127.0.0.1");
                assert_eq!(heartbeat.host, "10.0.0.1");
            }
        });
    }
}
