//! Our side of a SCRAM dialogue with a client.

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::error::ErrorStack;

use super::{ClientKey, GS2_BOUND, KEY_LEN, Verifier, attribute, decode_key, is_nonce};
use crate::auth::password::same_bytes;

/// The client's first message is awaited.
#[derive(Debug)]
pub struct ServerDialogue {
    /// Random, printable, without commas; appended to the client's.
    pub nonce: String,
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub binding: Binding,
}

/// What has been offered and chosen about channel binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// There is no TLS, so it was not offered.
    NotOffered,
    /// It was offered, and the client has chosen the mechanism without it.
    Declined,
    /// The client has chosen it; `tls-server-end-point` of our certificate.
    EndPoint(Vec<u8>),
}

/// The salt is sent, the client's proof is awaited.
#[derive(Debug)]
pub struct Challenging {
    nonce: String,
    /// What the client must repeat, in base64: its GS2 header and the channel that it is bound to.
    repeated: String,
    bound: bool,
    first_messages: String,
}

/// The client's proof is here; only the keys are needed to judge it.
#[derive(Debug)]
pub struct Claimed {
    auth_message: String,
    proof: [u8; KEY_LEN],
}

/// The client broke the rules; the text is the original's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientFault(pub &'static str);

const MALFORMED: ClientFault = ClientFault("malformed SCRAM message");

impl ServerDialogue {
    /// Takes client-first-message, gives the data of AuthenticationSASLContinue.
    ///
    /// # Errors
    ///
    /// When the message is malformed or wants what is not offered.
    pub fn challenge(self, client_first: &[u8]) -> Result<(String, Challenging), ClientFault> {
        let text = std::str::from_utf8(client_first).map_err(|_| MALFORMED)?;
        let (flag, rest) = text.split_once(',').ok_or(MALFORMED)?;
        match (flag, &self.binding) {
            ("n", Binding::NotOffered | Binding::Declined) => {}
            // The client could bind channels and believes that we cannot, which is right.
            ("y", Binding::NotOffered) => {}
            // Or wrong: then somebody between us has struck the offer out.
            ("y", Binding::Declined) => {
                return Err(ClientFault("SCRAM channel binding negotiation error"));
            }
            ("p=tls-server-end-point", Binding::EndPoint(_)) => {}
            (_, Binding::NotOffered) if flag.starts_with("p=") => {
                return Err(ClientFault(
                    "client requires SCRAM channel binding, but it is not supported",
                ));
            }
            (_, Binding::EndPoint(_)) if flag.starts_with("p=") => {
                return Err(ClientFault("unsupported SCRAM channel-binding type"));
            }
            // Also a mechanism with channel binding and a message without, and the other way round.
            _ => return Err(MALFORMED),
        }
        let (identity, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        if identity.starts_with("a=") {
            return Err(ClientFault(
                "client uses authorization identity, but it is not supported",
            ));
        }
        if !identity.is_empty() {
            return Err(MALFORMED);
        }
        if bare.starts_with("m=") {
            return Err(ClientFault(
                "client requires an unsupported SCRAM extension",
            ));
        }
        // The name is that of the start-up packet; what stands here is ignored, as in PostgreSQL.
        let (_, rest) = attribute(bare, 'n').ok_or(MALFORMED)?;
        let (client_nonce, _) = rest.and_then(|r| attribute(r, 'r')).ok_or(MALFORMED)?;
        if !is_nonce(client_nonce) {
            return Err(ClientFault("non-printable characters in SCRAM nonce"));
        }
        let nonce = format!("{client_nonce}{}", self.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            BASE64_STANDARD.encode(&self.salt),
            self.iterations
        );
        Ok((
            server_first.clone(),
            Challenging {
                nonce,
                repeated: match &self.binding {
                    Binding::EndPoint(hash) => {
                        BASE64_STANDARD.encode([GS2_BOUND.as_bytes(), hash].concat())
                    }
                    _ => BASE64_STANDARD.encode(format!("{flag},,")),
                },
                bound: matches!(self.binding, Binding::EndPoint(_)),
                first_messages: format!("{bare},{server_first}"),
            },
        ))
    }
}

impl Challenging {
    /// Takes client-final-message.
    ///
    /// # Errors
    ///
    /// When the message is malformed or does not belong to this dialogue.
    pub fn claim(self, client_final: &[u8]) -> Result<Claimed, ClientFault> {
        let text = std::str::from_utf8(client_final).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let (binding, rest) = attribute(without_proof, 'c').ok_or(MALFORMED)?;
        if !same_bytes(binding.as_bytes(), self.repeated.as_bytes()) {
            return Err(ClientFault(if self.bound {
                "SCRAM channel binding check failed"
            } else {
                "unexpected SCRAM channel-binding attribute in client-final-message"
            }));
        }
        let (nonce, _) = rest.and_then(|r| attribute(r, 'r')).ok_or(MALFORMED)?;
        if !same_bytes(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ClientFault("invalid SCRAM response"));
        }
        Ok(Claimed {
            auth_message: format!("{},{without_proof}", self.first_messages),
            proof: decode_key(proof).ok_or(MALFORMED)?,
        })
    }
}

impl Claimed {
    /// The data of AuthenticationSASLFinal when the proof is right, else `None`; and the client's
    /// key, which the proof has shown.
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn judge(&self, verifier: &Verifier) -> Result<Option<(String, ClientKey)>, ErrorStack> {
        let message = self.auth_message.as_bytes();
        let Some(client) = verifier.keys.accepts(&self.proof, message)? else {
            return Ok(None);
        };
        let signature = BASE64_STANDARD.encode(verifier.keys.signature(message)?);
        let key = ClientKey {
            client,
            verifier: verifier.clone(),
        };
        Ok(Some((format!("v={signature}"), key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{
        keys::KeyRequest,
        password::Password,
        scram::{ServerKeys, client, client::ClientDialogue},
    };

    /// The server of RFC 7677, section 3.
    fn rfc_server() -> ServerDialogue {
        ServerDialogue {
            nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            salt: BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            iterations: 4096,
            binding: Binding::NotOffered,
        }
    }

    fn verifier(password: &str) -> Verifier {
        let server = rfc_server();
        let salted = KeyRequest {
            password: Password::new(password),
            salt: server.salt.clone(),
            iterations: server.iterations,
        }
        .derive()
        .unwrap();
        Verifier {
            iterations: server.iterations,
            salt: server.salt,
            keys: ServerKeys::of(&salted).unwrap(),
        }
    }

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_client_of_rfc_7677_is_let_in() {
        let (challenge, challenging) = rfc_server().challenge(FIRST).unwrap();
        assert_eq!(
            challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let claimed = challenging.claim(FINAL).unwrap();
        let (answer, _) = claimed.judge(&verifier("pencil")).unwrap().unwrap();
        assert_eq!(answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(claimed.judge(&verifier("pencils")).unwrap(), None);
    }

    #[test]
    fn our_client_and_our_server_agree() {
        for (right, sent, welcome) in [("pw", "pw", true), ("pw", "PW", false), ("pw", "", false)] {
            let client = ClientDialogue::new("abc".to_owned(), client::Binding::Impossible);
            let first = client.first_message();
            let (challenge, challenging) = rfc_server().challenge(first.as_bytes()).unwrap();
            let challenged = client.challenge(challenge.as_bytes()).unwrap();
            let salted = KeyRequest {
                password: Password::new(sent),
                salt: challenged.salt.clone(),
                iterations: challenged.iterations,
            }
            .derive()
            .unwrap();
            let (answer, proven) = challenged.prove(&salted).unwrap();
            let verdict = challenging
                .claim(answer.as_bytes())
                .unwrap()
                .judge(&verifier(right))
                .unwrap();
            assert_eq!(verdict.is_some(), welcome, "{sent}");
            if let Some((signature, _)) = verdict {
                assert_eq!(proven.verify(signature.as_bytes()), Ok(()));
            }
        }
    }

    /// What a man in the middle cannot do: carry the proof of one channel over to another.
    #[test]
    fn the_channel_of_the_client_must_be_ours() {
        let bound = |hash: &[u8]| ServerDialogue {
            binding: Binding::EndPoint(hash.to_vec()),
            ..rfc_server()
        };
        for (seen, shown, welcome) in [("a", "a", true), ("a", "b", false), ("", "a", false)] {
            let seen = client::Binding::EndPoint(seen.as_bytes().to_vec());
            let client = ClientDialogue::new("abc".to_owned(), seen);
            let first = client.first_message();
            assert!(first.starts_with("p=tls-server-end-point,,"), "{first}");
            let (challenge, challenging) =
                bound(shown.as_bytes()).challenge(first.as_bytes()).unwrap();
            let challenged = client.challenge(challenge.as_bytes()).unwrap();
            let salted = KeyRequest {
                password: Password::new("pw"),
                salt: challenged.salt.clone(),
                iterations: challenged.iterations,
            }
            .derive()
            .unwrap();
            let (answer, _) = challenged.prove(&salted).unwrap();
            match challenging.claim(answer.as_bytes()) {
                Ok(claimed) => {
                    assert!(claimed.judge(&verifier("pw")).unwrap().is_some());
                    assert!(welcome);
                }
                Err(fault) => {
                    assert_eq!(fault.0, "SCRAM channel binding check failed");
                    assert!(!welcome);
                }
            }
        }
    }

    #[test]
    fn a_downgrade_is_noticed_and_mechanism_and_message_must_agree() {
        let bound = Binding::EndPoint(b"hash".to_vec());
        for (binding, first, fault) in [
            (Binding::Declined, "n,,n=,r=a", None),
            (
                Binding::Declined,
                "y,,n=,r=a",
                Some("SCRAM channel binding negotiation error"),
            ),
            (
                Binding::Declined,
                "p=tls-server-end-point,,n=,r=a",
                Some(MALFORMED.0),
            ),
            (bound.clone(), "p=tls-server-end-point,,n=,r=a", None),
            (
                bound.clone(),
                "p=tls-unique,,n=,r=a",
                Some("unsupported SCRAM channel-binding type"),
            ),
            (bound.clone(), "n,,n=,r=a", Some(MALFORMED.0)),
            (bound, "y,,n=,r=a", Some(MALFORMED.0)),
        ] {
            let server = ServerDialogue {
                binding: binding.clone(),
                ..rfc_server()
            };
            let found = server.challenge(first.as_bytes()).err().map(|f| f.0);
            assert_eq!(found, fault, "{binding:?} {first}");
        }
    }

    /// The key that a proof shows opens a server with the same verifier, and no other.
    #[test]
    fn the_key_of_a_client_logs_in_where_the_secret_is_the_same() {
        let (_, challenging) = rfc_server().challenge(FIRST).unwrap();
        let claimed = challenging.claim(FINAL).unwrap();
        let (_, key) = claimed.judge(&verifier("pencil")).unwrap().unwrap();

        let client = ClientDialogue::new("abc".to_owned(), client::Binding::Impossible);
        let first = client.first_message();
        let (challenge, challenging) = rfc_server().challenge(first.as_bytes()).unwrap();
        let challenged = client.challenge(challenge.as_bytes()).unwrap();
        assert!(challenged.asks_for(&key));
        let (answer, proven) = challenged.prove_by_key(&key).unwrap();
        let claimed = challenging.claim(answer.as_bytes()).unwrap();
        let (signature, again) = claimed.judge(&verifier("pencil")).unwrap().unwrap();
        assert_eq!(proven.verify(signature.as_bytes()), Ok(()));
        assert!(again == key);

        for (salt, iterations) in [("b3RoZXI=", 4096), ("W22ZaJ0SNY7soEsUEjb6gQ==", 4097)] {
            let client = ClientDialogue::new("abc".to_owned(), client::Binding::Impossible);
            let text = format!("r=abcdef,s={salt},i={iterations}");
            let challenged = client.challenge(text.as_bytes()).unwrap();
            assert!(!challenged.asks_for(&key), "{text}");
        }
        assert_eq!(format!("{key:?}"), "ClientKey(...)");
    }

    #[test]
    fn a_client_that_believes_us_unable_of_channel_binding_is_let_in() {
        let (_, challenging) = rfc_server().challenge(b"y,,n=,r=abc").unwrap();
        let nonce = challenging.nonce.clone();
        assert!(
            challenging
                .claim(format!("c=eSws,r={nonce},p={}", BASE64_STANDARD.encode([0; 32])).as_bytes())
                .is_ok()
        );
    }

    #[test]
    fn first_messages_that_break_the_rules_are_refused() {
        for (message, fault) in [
            (&b""[..], MALFORMED.0),
            (b"n", MALFORMED.0),
            (b"x,,n=,r=a", MALFORMED.0),
            (b"n,,r=a", MALFORMED.0),
            (b"n,,n=u", MALFORMED.0),
            (b"n,b,n=,r=a", MALFORMED.0),
            (b"\xff", MALFORMED.0),
            (
                b"p=tls-server-end-point,,n=,r=a",
                "client requires SCRAM channel binding, but it is not supported",
            ),
            (
                b"n,a=root,n=,r=a",
                "client uses authorization identity, but it is not supported",
            ),
            (
                b"n,,m=x,n=,r=a",
                "client requires an unsupported SCRAM extension",
            ),
            (b"n,,n=,r=", "non-printable characters in SCRAM nonce"),
            (b"n,,n=,r=a b", "non-printable characters in SCRAM nonce"),
        ] {
            assert_eq!(
                rfc_server().challenge(message).map(|_| ()),
                Err(ClientFault(fault)),
                "{message:?}"
            );
        }
    }

    #[test]
    fn final_messages_that_break_the_rules_are_refused() {
        let text = std::str::from_utf8(FINAL).unwrap();
        for message in [
            String::new(),
            "p=".to_owned(),
            text.replace("c=biws", "c=eSws"),
            text.replace("k0,p", "k1,p"),
            text.replace("r=rO", "r=RO"),
            text.replace("p=dHzb", "p="),
            text.replace(",p=", ",q="),
        ] {
            let (_, challenging) = rfc_server().challenge(FIRST).unwrap();
            assert!(challenging.claim(message.as_bytes()).is_err(), "{message}");
        }
    }
}
