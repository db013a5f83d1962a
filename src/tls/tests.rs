//! Both sides against each other and against a plain OpenSSL, with certificates made here.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    task::Poll,
    time::Duration,
};

use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslStream, SslVersion},
    x509::{
        X509, X509Name, X509NameRef,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    config::settings::{BackendSslMode, BackendSslSettings},
    dataplane::stream::{BareStream, Stream},
};

struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(cn: &str) -> X509Name {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, cn).unwrap();
    name.build()
}

/// Signed by `issuer`, or by itself. `names` become alternative names: addresses or DNS names.
fn identity(cn: &str, issuer: Option<&Identity>, names: &[&str]) -> Identity {
    let key = key();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(7).unwrap();
    let serial = Asn1Integer::from_bn(&serial).unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name(cn)).unwrap();
    let own = name(cn);
    let by: &X509NameRef = issuer.map_or(&own, |i| i.certificate.subject_name());
    builder.set_issuer_name(by).unwrap();
    builder.set_pubkey(&key).unwrap();
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(2));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    if issuer.is_none() {
        let authority = BasicConstraints::new().critical().ca().build();
        builder.append_extension(authority.unwrap()).unwrap();
    }
    if !names.is_empty() {
        let mut san = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<IpAddr>().is_ok() {
                san.ip(name);
            } else {
                san.dns(name);
            }
        }
        let context = builder.x509v3_context(None, None);
        let extension = san.build(&context).unwrap();
        builder.append_extension(extension).unwrap();
    }
    let signer = issuer.map_or(&key, |i| &i.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    Identity {
        certificate: builder.build(),
        key,
    }
}

struct Lab {
    folder: tempfile::TempDir,
    authority: Identity,
}

impl Lab {
    /// A CA, and a server of 127.0.0.1 and localhost.
    fn new() -> Lab {
        let lab = Lab {
            folder: tempfile::tempdir().unwrap(),
            authority: identity("the authority", None, &[]),
        };
        lab.write("ca.crt", &lab.authority.certificate.to_pem().unwrap());
        lab.put("server", &["127.0.0.1", "localhost"]);
        lab
    }

    fn put(&self, cn: &str, names: &[&str]) -> Identity {
        let made = identity(cn, Some(&self.authority), names);
        self.write(&format!("{cn}.crt"), &made.certificate.to_pem().unwrap());
        let key = made.key.private_key_to_pem_pkcs8().unwrap();
        self.write(&format!("{cn}.key"), &key);
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.path(name), bytes).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    /// ssl = on, with one backend of these settings.
    fn config(&self, backend: BackendSslSettings) -> Config {
        let text = "ssl = on\nbackend_hostname0 = '127.0.0.1'\nbackend_port0 = 5432\n";
        let mut config = Config::from_text(text).unwrap().0;
        config.settings.tls.cert = self.path("server.crt");
        config.settings.tls.key = self.path("server.key");
        config.settings.tls.ca_cert = self.path("ca.crt");
        config.settings.backends[0].tls = backend;
        config
    }

    fn tls(&self, backend: BackendSslSettings) -> Tls {
        let (tls, findings) = Tls::load(&self.config(backend), Passphrase::Ask);
        assert_eq!(findings, []);
        tls
    }
}

fn mode(mode: BackendSslMode) -> BackendSslSettings {
    BackendSslSettings {
        mode,
        ..BackendSslSettings::default()
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// The backend's part: waits for an SSLRequest, answers `answer`, and serves TLS after an `S`.
async fn serve(tls: &Tls, mut stream: TcpStream, answer: &[u8]) -> Option<Stream> {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await.ok()?;
    assert_eq!(request, crate::protocol::messages::SSL_REQUEST);
    stream.write_all(answer).await.unwrap();
    if answer != b"S" {
        return None;
    }
    let context = tls.server().unwrap();
    let stream = accept(context, stream, Vec::new(), false).await.ok()?;
    Some(Stream::Tls(Box::new(stream)))
}

/// Client and server end of one TLS connection.
async fn connected(tls: &Tls) -> (Stream, Stream) {
    let (near, far) = pair().await;
    let backend = tls.backend(0);
    let (near, far) = tokio::join!(backend.secure(near, "127.0.0.1"), serve(tls, far, b"S"));
    let Ok(Secured::Tls(near)) = near else {
        panic!("{near:?}")
    };
    (Stream::Tls(near), far.unwrap())
}

#[tokio::test]
async fn both_sides_know_version_cipher_and_the_same_end_point() {
    let lab = Lab::new();
    let (near, far) = connected(&lab.tls(mode(BackendSslMode::VerifyFull))).await;
    let (near, far) = (near.tls().unwrap(), far.tls().unwrap());
    assert_eq!(near, far);
    assert_eq!(near.version, "TLSv1.3");
    assert!(near.cipher.starts_with("TLS_"), "{near:?}");
    assert_eq!(near.end_point.len(), 32);
    assert_eq!(near.client_name, None);
}

#[tokio::test]
async fn the_name_in_a_client_certificate_reaches_the_server() {
    let lab = Lab::new();
    lab.put("alice", &[]);
    let mut settings = mode(BackendSslMode::VerifyCa);
    settings.cert = lab.path("alice.crt");
    settings.key = lab.path("alice.key");
    let (near, far) = connected(&lab.tls(settings)).await;
    assert_eq!(far.tls().unwrap().client_name.as_deref(), Some("alice"));
    assert_eq!(near.tls().unwrap().client_name, None);
}

#[tokio::test]
async fn versions_before_1_2_are_refused_whatever_the_ciphers_allow() {
    const ALL: &str = "ALL:@SECLEVEL=0";
    let lab = Lab::new();
    let mut config = lab.config(mode(BackendSslMode::Disable));
    config.settings.tls.ciphers = ALL.to_owned();
    let (tls, findings) = Tls::load(&config, Passphrase::Ask);
    assert_eq!(findings, []);
    for (version, taken) in [(SslVersion::TLS1_1, false), (SslVersion::TLS1_2, true)] {
        let (near, far) = pair().await;
        let client = tokio::task::spawn_blocking(move || {
            let near = near.into_std().unwrap();
            near.set_nonblocking(false).unwrap();
            let mut context = SslContext::builder(SslMethod::tls()).unwrap();
            context.set_cipher_list(ALL).unwrap();
            context.set_min_proto_version(Some(version)).unwrap();
            context.set_max_proto_version(Some(version)).unwrap();
            let ssl = Ssl::new(&context.build()).unwrap();
            ssl.connect(near).is_ok()
        });
        let served = accept(tls.server().unwrap(), far, Vec::new(), false).await;
        assert_eq!(served.is_ok(), taken, "{version:?}");
        assert_eq!(client.await.unwrap(), taken, "{version:?}");
    }
}

/// More than OpenSSL and both sockets hold: writes stop in the middle and go on in another buffer.
#[tokio::test]
async fn megabytes_pass_unchanged_however_slowly_they_are_read() {
    const LEN: usize = 24 * 1024 * 1024;
    let lab = Lab::new();
    let (mut near, mut far) = connected(&lab.tls(mode(BackendSslMode::Require))).await;
    let sent: Vec<u8> = (0..LEN)
        .map(|i| u8::try_from(i / 7 % 251).unwrap())
        .collect();
    let writing = async {
        let mut rest = sent.as_slice();
        let mut waited = false;
        while !rest.is_empty() {
            // Another buffer each time, as the relay has it.
            let copy = rest[..rest.len().min(100_000)].to_vec();
            let n = std::future::poll_fn(|cx| {
                let polled = near.poll_write(cx, &copy);
                waited |= polled.is_pending();
                polled
            });
            rest = &rest[n.await.unwrap()..];
        }
        assert!(waited);
        near.shutdown().await;
    };
    let reading = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut got = Vec::new();
        while far.read_some(&mut got, 64 * 1024).await.unwrap() > 0 {}
        got
    };
    let ((), got) = tokio::join!(writing, reading);
    assert!(got == sent, "{} bytes arrived", got.len());
}

#[tokio::test]
async fn one_read_takes_the_records_that_are_there() {
    let lab = Lab::new();
    let (mut near, mut far) = connected(&lab.tls(mode(BackendSslMode::Require))).await;
    for _ in 0..4 {
        near.write_all(&[7; 1000]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut got = Vec::new();
    assert_eq!(far.read_some(&mut got, 64 * 1024).await.unwrap(), 4000);
}

/// What OpenSSL has read ahead moves with the stream; no event of epoll will tell of it.
#[test]
fn a_stream_moves_to_another_runtime_with_all_that_it_holds() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let lab = Lab::new();
    let (first, second) = (runtime(), runtime());
    let (far, bare) = first.block_on(async {
        let (mut near, mut far) = connected(&lab.tls(mode(BackendSslMode::Require))).await;
        near.write_all(b"one").await.unwrap();
        near.write_all(b"two").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut got = Vec::new();
        far.read_some(&mut got, 2).await.unwrap();
        assert_eq!(got, b"on");
        near.write_all(b"three").await.unwrap();
        (near, far.deregister().unwrap())
    });
    assert!(matches!(bare, BareStream::Tls(_)));
    second.block_on(async {
        let mut stream = bare.register().unwrap();
        let mut got = Vec::new();
        while got.len() < 9 {
            stream.read_some(&mut got, 100).await.unwrap();
        }
        assert_eq!(got, b"etwothree");
        stream.write_all(b"back").await.unwrap();
    });
    first.block_on(async {
        let (mut near, mut got) = (far, Vec::new());
        near.read_some(&mut got, 100).await.unwrap();
        assert_eq!(got, b"back");
    });
}

/// A server of OpenSSL's defaults, which sends session tickets behind the handshake.
fn server_with_tickets(
    lab: &Lab,
    alpn: bool,
) -> (
    u16,
    std::thread::JoinHandle<()>,
    std::sync::mpsc::Sender<Vec<u8>>,
) {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor
        .set_certificate_chain_file(lab.path("server.crt"))
        .unwrap();
    acceptor
        .set_private_key_file(lab.path("server.key"), openssl::ssl::SslFiletype::PEM)
        .unwrap();
    if alpn {
        acceptor.set_alpn_select_callback(|_, offered| {
            openssl::ssl::select_next_proto(context::ALPN, offered)
                .ok_or(openssl::ssl::AlpnError::NOACK)
        });
    }
    let acceptor = acceptor.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (say, words) = std::sync::mpsc::channel::<Vec<u8>>();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        if !alpn {
            socket.read_exact(&mut [0; 8]).unwrap();
            socket.write_all(b"S").unwrap();
        }
        let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), socket).unwrap();
        if stream.accept().is_err() {
            return;
        }
        for words in words {
            stream.write_all(&words).unwrap();
        }
        let _ = stream.shutdown();
    });
    (port, thread, say)
}

async fn to(port: u16, tls: &Tls) -> Result<Secured, TlsError> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tls.backend(0).secure(stream, "127.0.0.1").await
}

#[tokio::test]
async fn session_tickets_are_no_reason_to_give_a_cached_connection_up() {
    let lab = Lab::new();
    let tls = lab.tls(mode(BackendSslMode::VerifyFull));
    let (port, server, say) = server_with_tickets(&lab, false);
    let Ok(Secured::Tls(stream)) = to(port, &tls).await else {
        panic!("no connection")
    };
    let mut stream = Stream::Tls(stream);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let closed = std::future::poll_fn(|cx| Poll::Ready(stream.poll_closed(cx))).await;
    assert!(closed.is_pending());
    assert!(!stream.is_stale());
    say.send(b"asked by nobody".to_vec()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let closed = std::future::poll_fn(|cx| Poll::Ready(stream.poll_closed(cx))).await;
    assert!(closed.is_pending(), "bytes are no close");
    let mut got = Vec::new();
    stream.read_some(&mut got, 100).await.unwrap();
    assert_eq!(got, b"asked by nobody", "a look takes nothing away");
    assert!(!stream.is_stale());
    drop(say);
    tokio::time::timeout(Duration::from_secs(5), stream.closed())
        .await
        .unwrap();
    assert!(stream.is_stale());
    server.join().unwrap();
}

#[tokio::test]
async fn direct_tls_needs_a_server_that_chooses_the_protocol() {
    let lab = Lab::new();
    let mut settings = mode(BackendSslMode::VerifyFull);
    settings.direct = true;
    let tls = lab.tls(settings);
    let (port, server, say) = server_with_tickets(&lab, true);
    assert!(matches!(to(port, &tls).await, Ok(Secured::Tls(_))));
    drop(say);
    server.join().unwrap();
    // One that waits for an SSLRequest takes the handshake for one and answers with a byte.
    let (near, mut far) = pair().await;
    let backend = tls.backend(0);
    let (near, ()) = tokio::join!(backend.secure(near, "127.0.0.1"), async {
        far.read_exact(&mut [0; 8]).await.unwrap();
        far.write_all(b"N").await.unwrap();
        drop(far);
    });
    assert!(near.is_err());
}

async fn answered(settings: BackendSslSettings, answer: &[u8]) -> Result<Secured, TlsError> {
    let lab = Lab::new();
    let tls = lab.tls(settings);
    let (near, far) = pair().await;
    let backend = tls.backend(0);
    let (near, _) = tokio::join!(backend.secure(near, "127.0.0.1"), serve(&tls, far, answer));
    near
}

#[tokio::test]
async fn a_server_without_tls_is_taken_only_where_that_is_allowed() {
    for mode_ in [BackendSslMode::Stock, BackendSslMode::Prefer] {
        let got = answered(mode(mode_), b"N").await;
        assert!(matches!(got, Ok(Secured::Plain(_))), "{got:?}");
    }
    for mode_ in [
        BackendSslMode::Require,
        BackendSslMode::VerifyCa,
        BackendSslMode::VerifyFull,
    ] {
        let got = answered(mode(mode_), b"N").await;
        assert!(matches!(got, Err(TlsError::Refused(_))), "{got:?}");
    }
}

#[tokio::test]
async fn nothing_that_comes_in_plain_text_with_the_answer_is_believed() {
    for answer in [
        &b"SR\0\0\0\x08\0\0\0\0"[..],
        b"Nx",
        b"ESFATAL\0Mtrust me\0\0",
        b"H",
    ] {
        let got = answered(mode(BackendSslMode::Prefer), answer).await;
        let Err(TlsError::Refused(text)) = got else {
            panic!("{answer:?}: {got:?}")
        };
        assert!(!text.contains("trust me"));
    }
    let got = answered(mode(BackendSslMode::Prefer), b"").await;
    assert!(got.is_err());
}

async fn connects(tls: &Tls, host: &str) -> Result<(), String> {
    let (near, far) = pair().await;
    let backend = tls.backend(0);
    let (near, _) = tokio::join!(backend.secure(near, host), serve(tls, far, b"S"));
    match near {
        Ok(Secured::Tls(_)) => Ok(()),
        Ok(Secured::Plain(_)) => Err("plain".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn verify_full_compares_the_host_and_verify_ca_does_not() {
    let lab = Lab::new();
    let full = lab.tls(mode(BackendSslMode::VerifyFull));
    for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
        assert_eq!(connects(&full, host).await, Ok(()), "{host}");
    }
    for host in ["127.0.0.2", "otherhost", "localhost.example.org"] {
        let error = connects(&full, host).await.unwrap_err();
        assert!(error.contains("certificate verify failed"), "{error}");
        assert!(error.contains("mismatch"), "{error}");
    }
    let ca = lab.tls(mode(BackendSslMode::VerifyCa));
    assert_eq!(connects(&ca, "otherhost").await, Ok(()));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_wherever_one_is_known() {
    let lab = Lab::new();
    let other = identity("another authority", None, &[]);
    lab.write("other.crt", &other.certificate.to_pem().unwrap());
    for verify in [
        BackendSslMode::Prefer,
        BackendSslMode::Require,
        BackendSslMode::VerifyCa,
    ] {
        let mut settings = mode(verify);
        settings.ca_cert = lab.path("other.crt");
        let error = connects(&lab.tls(settings), "127.0.0.1").await.unwrap_err();
        assert!(error.contains("certificate verify failed"), "{error}");
    }
}

#[tokio::test]
async fn a_bad_new_certificate_keeps_the_old_one_and_a_good_one_takes_its_place() {
    let lab = Lab::new();
    let config = lab.config(mode(BackendSslMode::VerifyFull));
    let (tls, _) = Tls::load(&config, Passphrase::Ask);
    lab.write("server.crt", b"no certificate");
    lab.write("ca.crt", b"no certificate either");
    let (kept, findings) = tls.renewed(&config);
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|f| f.contains("could not load server certificate file")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|f| f.contains("old certificate")),
        "{said:?}"
    );
    assert_eq!(connects(&kept, "127.0.0.1").await, Ok(()));
    // Not with other settings: what they ask for would not be there.
    let mut wanted = config.clone();
    wanted.settings.backends[0].tls.cert = lab.path("server.crt");
    let (broken, _) = kept.renewed(&wanted);
    assert!(connects(&broken, "127.0.0.1").await.is_err());

    lab.write("ca.crt", &lab.authority.certificate.to_pem().unwrap());
    let renewed = lab.put("server", &["localhost"]);
    let (tls, findings) = kept.renewed(&config);
    assert_eq!(findings, []);
    assert_eq!(connects(&tls, "localhost").await, Ok(()));
    assert!(
        connects(&tls, "127.0.0.1").await.is_err(),
        "the new one has no address"
    );
    let shown = tls
        .server()
        .unwrap()
        .certificate()
        .unwrap()
        .to_der()
        .unwrap();
    assert_eq!(shown, renewed.certificate.to_der().unwrap());
}

#[test]
fn everything_that_is_wrong_with_the_files_is_told_at_once() {
    let lab = Lab::new();
    let mut config = lab.config(mode(BackendSslMode::Stock));
    config.settings.tls.cert = lab.path("nowhere.crt");
    config.settings.tls.ecdh_curve = "no-curve".to_owned();
    config.settings.tls.dh_params_file = lab.path("nowhere.dh");
    config.settings.tls.crl_file = lab.path("nowhere.crl");
    let (tls, findings) = Tls::load(&config, Passphrase::Ask);
    assert!(tls.server().is_none());
    let said: Vec<&str> = findings.iter().map(|f| f.text.as_str()).collect();
    for text in [
        "could not load server certificate file",
        "could not open DH parameters file",
        "ECDH: unrecognized curve name: no-curve",
        "could not load SSL certificate revocation list file",
    ] {
        assert!(said.iter().any(|s| s.starts_with(text)), "{text}: {said:?}");
    }
}

#[test]
fn an_encrypted_key_is_opened_by_the_command_and_counts_as_good_in_a_check() {
    let lab = Lab::new();
    let key = key();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let pem = key.private_key_to_pem_pkcs8_passphrase(cipher, b"secret");
    lab.write("server.key", &pem.unwrap());
    let made = {
        let mut builder = X509::builder().unwrap();
        builder.set_subject_name(&name("server")).unwrap();
        builder.set_issuer_name(&name("server")).unwrap();
        builder.set_pubkey(&key).unwrap();
        let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(2));
        builder.set_not_before(&from.unwrap()).unwrap();
        builder.set_not_after(&to.unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        builder.build()
    };
    lab.write("server.crt", &made.to_pem().unwrap());
    let mut config = lab.config(mode(BackendSslMode::Disable));
    let (tls, findings) = Tls::load(&config, Passphrase::Ask);
    assert!(tls.server().is_none());
    assert!(
        findings[0]
            .text
            .contains("cannot be reloaded because it requires a passphrase")
    );
    config.settings.tls.passphrase_command = "echo wrong".to_owned();
    assert_eq!(Tls::load(&config, Passphrase::Skip).1, []);
    config.settings.tls.passphrase_command = "echo secret".to_owned();
    assert!(Tls::load(&config, Passphrase::Ask).0.server().is_some());
    config.settings.tls.passphrase_command = "echo wrong".to_owned();
    let (tls, findings) = Tls::load(&config, Passphrase::Ask);
    assert!(tls.server().is_none());
    assert!(
        findings[0]
            .text
            .starts_with("could not load private key file")
    );
    assert!(!findings[0].to_string().contains("wrong"));
}

#[test]
fn verifying_without_an_authority_is_named_and_refused() {
    let lab = Lab::new();
    let mut config = lab.config(mode(BackendSslMode::VerifyFull));
    config.settings.tls.ca_cert = PathBuf::new();
    let (tls, findings) = Tls::load(&config, Passphrase::Ask);
    assert!(findings[0].text.contains("nothing to verify them with"));
    assert!(!tls.backend(0).is_plain());
    // A missing file of the original's own parameter costs the verification, as without it.
    let mut config = lab.config(mode(BackendSslMode::Stock));
    config.settings.tls.ca_cert = Path::new("/nowhere/ca.crt").to_owned();
    let (_, findings) = Tls::load(&config, Passphrase::Ask);
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn a_name_is_for_an_address_by_its_alternative_names_or_for_want_of_them_by_its_cn() {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
    let is_for = |cn: &str, names: &[&str]| {
        certificate::is_for_address(&identity(cn, None, names).certificate, address)
    };
    assert!(is_for("x", &["10.0.0.5"]));
    assert!(is_for("x", &["db1", "10.0.0.5"]));
    assert!(!is_for("x", &["10.0.0.6"]));
    assert!(is_for("10.0.0.5", &[]));
    assert!(!is_for("10.0.0.5", &["db1"]));
    assert!(!is_for("10.0.0.6", &[]));
}

#[test]
fn a_name_with_a_nul_in_it_is_no_name() {
    let good = identity("alice", None, &[]);
    assert_eq!(
        certificate::common_name(&good.certificate).as_deref(),
        Some("alice")
    );
    let bad = identity("alice\0.example.org", None, &[]);
    assert_eq!(certificate::common_name(&bad.certificate), None);
}
