//! Our side of a SCRAM dialogue with a client.

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::error::ErrorStack;

use super::{KEY_LEN, ServerKeys, attribute, decode_key, is_nonce};
use crate::auth::password::same_bytes;

/// The client's first message is awaited.
#[derive(Debug)]
pub struct ServerDialogue {
    /// Random, printable, without commas; appended to the client's.
    pub nonce: String,
    pub salt: Vec<u8>,
    pub iterations: u32,
}

/// The salt is sent, the client's proof is awaited.
#[derive(Debug)]
pub struct Challenging {
    nonce: String,
    /// What the client must repeat as channel binding: its GS2 header in base64.
    binding: String,
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
        match flag {
            // `y`: the client could bind channels and believes that we cannot, which is right.
            "n" | "y" => {}
            _ if flag.starts_with("p=") => {
                return Err(ClientFault(
                    "client requires SCRAM channel binding, but it is not supported",
                ));
            }
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
                binding: BASE64_STANDARD.encode(format!("{flag},,")),
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
        if binding != self.binding {
            return Err(ClientFault(
                "unexpected SCRAM channel-binding attribute in client-final-message",
            ));
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
    /// The data of AuthenticationSASLFinal when the proof is right, else `None`.
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn judge(&self, keys: &ServerKeys) -> Result<Option<String>, ErrorStack> {
        let message = self.auth_message.as_bytes();
        if !keys.accepts(&self.proof, message)? {
            return Ok(None);
        }
        let signature = BASE64_STANDARD.encode(keys.signature(message)?);
        Ok(Some(format!("v={signature}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{keys::KeyRequest, password::Password, scram::client::ClientDialogue};

    /// The server of RFC 7677, section 3.
    fn rfc_server() -> ServerDialogue {
        ServerDialogue {
            nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
            salt: BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            iterations: 4096,
        }
    }

    fn keys(password: &str) -> ServerKeys {
        let server = rfc_server();
        let salted = KeyRequest {
            password: Password::new(password),
            salt: server.salt,
            iterations: server.iterations,
        }
        .derive()
        .unwrap();
        ServerKeys::of(&salted).unwrap()
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
        assert_eq!(
            claimed.judge(&keys("pencil")).unwrap().as_deref(),
            Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        );
        assert_eq!(claimed.judge(&keys("pencils")).unwrap(), None);
    }

    #[test]
    fn our_client_and_our_server_agree() {
        for (right, sent, welcome) in [("pw", "pw", true), ("pw", "PW", false), ("pw", "", false)] {
            let client = ClientDialogue::new("abc".to_owned());
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
                .judge(&keys(right))
                .unwrap();
            assert_eq!(verdict.is_some(), welcome, "{sent}");
            if let Some(signature) = verdict {
                assert_eq!(proven.verify(signature.as_bytes()), Ok(()));
            }
        }
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
