//! Heartbeats: datagrams to all destinations, and those that come in.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::{UdpSocket, lookup_host},
    sync::mpsc,
    time::timeout,
};

use super::{listen, task::Happened};
use crate::{
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
        let to = self.address().await?;
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

    async fn address(&self) -> Result<SocketAddr, String> {
        let Destination { host, port, .. } = &self.destination;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok((ip, *port).into());
        }
        match timeout(LOOKUP_LIMIT, lookup_host((host.as_str(), *port))).await {
            Ok(Ok(mut found)) => found.next().ok_or_else(|| "no address".to_owned()),
            Ok(Err(e)) => Err(errors::message(&e)),
            Err(_) => Err("the name server does not answer".to_owned()),
        }
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
        let Ok((heartbeat, signed)) = Heartbeat::decode(datagram, &settings.authkey) else {
            continue;
        };
        let event = Event::Heartbeat {
            heartbeat,
            source: from.ip().to_string(),
            signed,
        };
        if events.send(Happened::Lifecheck(event)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::LocalSet;

    use super::*;
    use crate::watchdog::{codec::heartbeat::Size, testing};

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
