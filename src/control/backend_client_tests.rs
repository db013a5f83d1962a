//! The client against servers that say odd things.

use tokio::net::TcpListener;

use super::*;
use crate::auth::passwd::Secret;

fn login(secret: Option<Secret>) -> Login {
    Login {
        user: "carol".into(),
        database: "postgres".into(),
        credential: Credential::usable(secret),
    }
}

/// Answers the startup packet with `answer`, then each further message of the client likewise.
async fn server(answers: Vec<Vec<u8>>) -> (Address, tokio::task::JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        for answer in answers {
            let mut buffer = vec![0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            buffer.truncate(n);
            heard.push(buffer);
            stream.write_all(&answer).await.unwrap();
        }
        let mut rest = Vec::new();
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut rest).await;
        heard.push(rest);
        heard
    });
    (
        Address {
            hostname: "127.0.0.1".into(),
            port,
            connect_timeout: Some(Duration::from_secs(1)),
            tls: BackendTls::default(),
        },
        heard,
    )
}

async fn connect(answers: Vec<Vec<u8>>, secret: Option<Secret>) -> Result<Client, Failure> {
    let (address, _heard) = server(answers).await;
    Client::connect(&address, &login(secret), Some(Duration::from_secs(2))).await
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn ready() -> Vec<u8> {
    [message(b'R', &[0, 0, 0, 0]), message(b'Z', b"I")].concat()
}

#[tokio::test]
async fn the_startup_packet_holds_user_and_database_only_and_nothing_else_is_sent() {
    let (address, heard) = server(vec![ready()]).await;
    let client = Client::connect(&address, &login(None), None).await;
    client.ok().unwrap().close().await;
    assert_eq!(
        heard.await.unwrap(),
        [
            b"\0\0\0\x26\0\x03\0\0user\0carol\0database\0postgres\0\0".to_vec(),
            b"X\0\0\0\x04".to_vec()
        ]
    );
}

#[tokio::test]
async fn an_md5_entry_answers_an_md5_request() {
    let salt = message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]);
    for secret in [
        Secret::Clear("secret".into()),
        Secret::Md5("7c53eaf86052083b816bfc7c7a6edf5d".into()),
    ] {
        let (address, heard) = server(vec![salt.clone(), ready()]).await;
        let client = Client::connect(&address, &login(Some(secret)), None).await;
        client.ok().unwrap().close().await;
        let heard = heard.await.unwrap();
        assert_eq!(
            heard[1],
            message(b'p', b"md5c83a30266a4edc1b26fc9ff4ce50ee17\0"),
            "{}",
            String::from_utf8_lossy(&heard[1])
        );
    }
}

#[tokio::test]
async fn a_password_that_is_not_known_is_our_fault_and_not_the_servers() {
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    for (secret, why) in [
        (None, "no password is known"),
        (
            Some(Secret::Md5("0".repeat(32))),
            "only an md5 hash is known",
        ),
        (
            Some(Secret::Undecryptable),
            "the AES entry cannot be decrypted",
        ),
    ] {
        let Err(Failure::Login(text)) = connect(vec![scram.clone()], secret).await else {
            panic!("not a login failure");
        };
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_scram_must_prove_that_it_knows_the_password() {
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let at_once = connect(
        vec![scram.clone(), ready()],
        Some(Secret::Clear("pw".into())),
    );
    let Err(Failure::Login(text)) = at_once.await else {
        panic!("an impostor was believed");
    };
    assert!(text.contains("authkind:0"), "{text}");
}

#[tokio::test]
async fn a_server_cannot_keep_us_busy_with_rounds_without_number() {
    let (address, _heard) = scram_server(u32::MAX).await;
    let login = login(Some(Secret::Clear("pw".into())));
    let Err(Failure::Login(text)) = Client::connect(&address, &login, None).await else {
        panic!("not a login failure");
    };
    assert!(text.contains("iteration count"), "{text}");
}

/// Continues the client's nonce as it must, and asks for so many rounds.
async fn scram_server(rounds: u32) -> (Address, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        assert_ne!(stream.read(&mut buffer).await.unwrap(), 0);
        let request = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        stream.write_all(&request).await.unwrap();
        let n = stream.read(&mut buffer).await.unwrap();
        let first = String::from_utf8_lossy(&buffer[..n]).into_owned();
        let nonce = first.split_once("r=").unwrap().1;
        let answer = format!("\0\0\0\x0br={nonce}more,s=c2FsdA==,i={rounds}");
        stream
            .write_all(&message(b'R', answer.as_bytes()))
            .await
            .unwrap();
        let _ = stream.read(&mut buffer).await;
    });
    let address = Address {
        hostname: "127.0.0.1".into(),
        port,
        connect_timeout: Some(Duration::from_secs(1)),
        tls: BackendTls::default(),
    };
    (address, heard)
}

#[tokio::test]
async fn an_error_response_tells_a_living_server_from_one_that_does_not_accept_yet() {
    let error = |code: &str| message(b'E', format!("SFATAL\0C{code}\0Msorry\0\0").as_bytes());
    assert!(matches!(
        connect(vec![error("53300")], None).await,
        Err(Failure::Rejected(ServerError { sqlstate, message, .. }))
            if sqlstate == "53300" && message == "sorry"
    ));
    assert!(matches!(
        connect(vec![error("57P03")], None).await,
        Err(Failure::NotAccepting(_))
    ));
}

#[tokio::test]
async fn a_server_that_cannot_fork_is_alive() {
    let text = b"Ecould not fork new process for connection: Resource\n\0".to_vec();
    assert!(matches!(
        connect(vec![text], None).await,
        Err(Failure::Rejected(ServerError { message, .. })) if message.starts_with("could not fork")
    ));
}

#[tokio::test]
async fn who_closes_or_talks_nonsense_is_no_server() {
    for answer in [
        Vec::new(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        message(b'R', &[0, 0]),
        message(b'Z', b"")[..3].to_vec(),
        message(b'R', &[0, 0, 0, 11]),
        vec![0; 4000],
        [b'R', 0xff, 0xff, 0xff, 0xff].to_vec(),
        [b'Z', 0x7f, 0xff, 0xff, 0xff].to_vec(),
    ] {
        let result = connect(vec![answer.clone()], None).await;
        assert!(
            matches!(result, Err(Failure::Unreachable(_))),
            "{answer:?}: {:?}",
            result.err()
        );
    }
}

#[tokio::test]
async fn nobody_listening_is_refused_and_silence_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = Address {
        hostname: "127.0.0.1".into(),
        port,
        connect_timeout: None,
        tls: BackendTls::default(),
    };
    let limit = Some(Duration::from_millis(100));
    assert!(matches!(
        Client::connect(&address, &login(None), limit).await,
        Err(Failure::TimedOut(_))
    ));
    drop(listener);
    assert!(matches!(
        Client::connect(&address, &login(None), limit).await,
        Err(Failure::Refused(_))
    ));
    let nowhere = Address {
        hostname: "/nonexistent".into(),
        ..address
    };
    assert!(matches!(
        Client::connect(&nowhere, &login(None), limit).await,
        Err(Failure::Refused(text)) if text.contains("/nonexistent/.s.PGSQL.")
    ));
}

#[tokio::test]
async fn rows_nulls_and_errors_of_a_query_are_told_apart() {
    let row = message(b'D', b"\0\x02\0\0\0\x01t\xff\xff\xff\xff");
    let answer = [row, message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
    let error = [
        message(b'E', b"SERROR\0C55000\0Mrecovery is in progress\0\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let (address, _heard) = server(vec![ready(), answer, error]).await;
    let mut client = Client::connect(&address, &login(None), None)
        .await
        .ok()
        .unwrap();
    let second = Duration::from_secs(1);
    assert_eq!(
        client.query("SELECT 1", second).await,
        Ok(vec![vec![Some("t".to_owned()), None]])
    );
    assert!(matches!(
        client.query("SELECT 2", second).await,
        Err(QueryError::Server(e)) if e.message == "recovery is in progress"
    ));
    assert!(matches!(
        client.query("SELECT 3", second).await,
        Err(QueryError::Lost(_))
    ));
}
