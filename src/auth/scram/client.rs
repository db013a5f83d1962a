//! Our side of a SCRAM dialogue with a backend.

use base64::{Engine, prelude::BASE64_STANDARD};
use openssl::{error::ErrorStack, sha::sha256};

use super::{ClientKey, GS2_BOUND, MAX_ITERATIONS, attribute, hmac, is_nonce, xor};
use crate::auth::{
    keys::SaltedPassword,
    password::{same_bytes, wipe},
};

/// What we say about channel binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// There is no TLS.
    Impossible,
    /// There is TLS, and the server does not offer it. A server that did offer it takes this for
    /// what it is: somebody between us.
    NotOffered,
    /// `tls-server-end-point` of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn gs2_header(&self) -> &'static str {
        match self {
            Binding::Impossible => "n,,",
            Binding::NotOffered => "y,,",
            Binding::EndPoint(_) => GS2_BOUND,
        }
    }

    /// The attribute `c` of the last message.
    fn repeated(&self) -> String {
        let mut bytes = self.gs2_header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = self {
            bytes.extend(hash);
        }
        BASE64_STANDARD.encode(bytes)
    }
}

/// The dialogue up to the server's salt.
#[derive(Debug)]
pub struct ClientDialogue {
    nonce: String,
    binding: Binding,
    first_bare: String,
}

/// The server has told its salt; the key of the password is needed now.
#[derive(Debug)]
pub struct Challenged {
    pub salt: Vec<u8>,
    pub iterations: u32,
    without_proof: String,
    auth_message: String,
}

/// Our proof is sent; the server has to prove that it knows the password, too.
#[derive(Debug)]
pub struct Proven {
    signature: [u8; super::KEY_LEN],
}

/// The backend broke the rules; the text is the original's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFault(pub &'static str);

impl ClientDialogue {
    /// `nonce` must be random, printable and without commas.
    pub fn new(nonce: String, binding: Binding) -> ClientDialogue {
        ClientDialogue {
            first_bare: format!("n=,r={nonce}"),
            nonce,
            binding,
        }
    }

    /// The data of SASLInitialResponse.
    pub fn first_message(&self) -> String {
        format!("{}{}", self.binding.gs2_header(), self.first_bare)
    }

    /// # Errors
    ///
    /// When the server-first-message is malformed or answers somebody else.
    pub fn challenge(self, server_first: &[u8]) -> Result<Challenged, ServerFault> {
        let malformed = ServerFault("malformed SCRAM message");
        let text = std::str::from_utf8(server_first).map_err(|_| malformed.clone())?;
        let (nonce, rest) = attribute(text, 'r').ok_or(malformed.clone())?;
        if !is_nonce(nonce) || nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ServerFault(
                "invalid SCRAM response from server(nonce mismatch)",
            ));
        }
        let (salt, rest) = rest
            .and_then(|r| attribute(r, 's'))
            .ok_or(malformed.clone())?;
        let salt = BASE64_STANDARD
            .decode(salt)
            .map_err(|_| malformed.clone())?;
        let (iterations, rest) = rest.and_then(|r| attribute(r, 'i')).ok_or(malformed)?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|n| (1..=MAX_ITERATIONS).contains(n))
            .ok_or(ServerFault(
                "malformed SCRAM message from server (invalid iteration count)",
            ))?;
        if rest.is_some() {
            return Err(ServerFault(
                "malformed SCRAM message from server (garbage at end of server-first-message)",
            ));
        }
        let without_proof = format!("c={},r={nonce}", self.binding.repeated());
        Ok(Challenged {
            salt,
            iterations,
            auth_message: format!("{},{text},{without_proof}", self.first_bare),
            without_proof,
        })
    }
}

impl Challenged {
    /// The data of SASLResponse.
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn prove(self, salted: &SaltedPassword) -> Result<(String, Proven), ErrorStack> {
        let mut client_key = hmac(salted.as_bytes(), b"Client Key")?;
        let server_key = hmac(salted.as_bytes(), b"Server Key")?;
        let answer = self.answer(&client_key, &server_key);
        wipe(&mut client_key);
        answer
    }

    /// Whether the server has asked for the secret that `key` belongs to.
    pub fn asks_for(&self, key: &ClientKey) -> bool {
        let known = &key.verifier;
        self.salt == known.salt && self.iterations == known.iterations
    }

    /// The data of SASLResponse, without knowing the password; see [`Challenged::asks_for`].
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses to work.
    pub fn prove_by_key(self, key: &ClientKey) -> Result<(String, Proven), ErrorStack> {
        self.answer(&key.client, &key.verifier.keys.server)
    }

    fn answer(
        self,
        client_key: &[u8; super::KEY_LEN],
        server_key: &[u8; super::KEY_LEN],
    ) -> Result<(String, Proven), ErrorStack> {
        let client_signature = hmac(&sha256(client_key), self.auth_message.as_bytes())?;
        let proof = BASE64_STANDARD.encode(xor(client_key, &client_signature));
        Ok((
            format!("{},p={proof}", self.without_proof),
            Proven {
                signature: hmac(server_key, self.auth_message.as_bytes())?,
            },
        ))
    }
}

impl Proven {
    /// # Errors
    ///
    /// When the server-final-message does not prove that the server knows the password.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ServerFault> {
        let signature = std::str::from_utf8(server_final)
            .ok()
            .and_then(|text| attribute(text, 'v'))
            .and_then(|(value, _)| BASE64_STANDARD.decode(value).ok());
        match signature {
            Some(signature) if same_bytes(&signature, &self.signature) => Ok(()),
            _ => Err(ServerFault(
                "malformed SCRAM message from server (invalid server signature)",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{keys::KeyRequest, password::Password};

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

    /// The example of RFC 7677, section 3, with its user name put in.
    fn rfc_dialogue() -> ClientDialogue {
        ClientDialogue {
            nonce: NONCE.to_owned(),
            binding: Binding::Impossible,
            first_bare: format!("n=user,r={NONCE}"),
        }
    }

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn salted(challenged: &Challenged, password: &str) -> SaltedPassword {
        KeyRequest {
            password: Password::new(password),
            salt: challenged.salt.clone(),
            iterations: challenged.iterations,
        }
        .derive()
        .unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677_is_answered() {
        let dialogue = rfc_dialogue();
        assert_eq!(dialogue.first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");

        let challenged = dialogue.challenge(SERVER_FIRST).unwrap();
        let key = salted(&challenged, "pencil");
        let (answer, proven) = challenged.prove(&key).unwrap();

        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            proven.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        let challenged = rfc_dialogue().challenge(SERVER_FIRST).unwrap();
        let key = salted(&challenged, "other");
        let (_, proven) = challenged.prove(&key).unwrap();
        assert!(
            proven
                .verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
                .is_err()
        );
    }

    #[test]
    fn malformed_messages_of_a_server_are_refused() {
        for text in [
            &b""[..],
            b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999",
            b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,x=y",
            b"r=rOprNGfwEbeRWgbNEkqOx",
            b"\xff",
        ] {
            assert!(rfc_dialogue().challenge(text).is_err(), "{text:?}");
        }
    }
}
