//! What a server asks of a user before it lets it in: for `pgpool --check-auth`.
//!
//! Sends the start-up packet, reads the answer and leaves. No password is needed, and none is sent.

use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::{
    authentication::sasl::SCRAM_SHA_256,
    message::{backend::Message, frontend},
};
use tokio::time::timeout;

use super::{Address, Client, Failure, Received, ServerError, broken, server_error, unexpected};
use crate::auth::scram::client::{Binding, ClientDialogue};

/// The answer to a start-up packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It lets the user in.
    Nothing,
    Password,
    Md5,
    /// The salt and rounds of the user's secret there, when they were wanted.
    Scram(Option<ScramSalt>),
    /// A kind of authentication request that nobody here answers.
    Other(i32),
    Refused(ServerError),
}

/// What a server tells anybody about its SCRAM secret of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramSalt {
    pub salt: Vec<u8>,
    pub iterations: u32,
}

/// Asks the server at `address`. `limit` covers everything; with `want_salt` a SCRAM exchange is begun.
///
/// # Errors
///
/// When there is no answer, see [`Failure`].
pub async fn ask(
    address: &Address,
    user: &str,
    database: &str,
    want_salt: bool,
    limit: Duration,
) -> Result<Asked, Failure> {
    let work = async {
        let mut client = Client::open(address, Some(limit)).await?;
        let asked = client.ask(user, database, want_salt).await?;
        if asked == Asked::Nothing {
            client.close().await;
        }
        Ok(asked)
    };
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Failure::TimedOut(format!(
            "no answer within {} seconds",
            limit.as_secs_f64()
        )))
    })
}

impl Client {
    async fn ask(&mut self, user: &str, database: &str, want_salt: bool) -> Result<Asked, Failure> {
        let parameters = [("user", user), ("database", database)];
        self.send(|out| frontend::startup_message(parameters, out))
            .await
            .map_err(broken)?;
        let nonce = "pgpool-check-auth";
        let scram = ClientDialogue::new(nonce.to_owned(), Binding::Impossible);
        loop {
            return Ok(match self.next().await? {
                Message::AuthenticationCleartextPassword => Asked::Password,
                Message::AuthenticationMd5Password(_) => Asked::Md5,
                Message::AuthenticationSasl(body) => {
                    let offered = body
                        .mechanisms()
                        .any(|name| Ok(name == SCRAM_SHA_256))
                        .map_err(broken)?;
                    if !offered {
                        Asked::Other(10)
                    } else if want_salt {
                        let first = scram.first_message();
                        self.send(|out| {
                            frontend::sasl_initial_response(SCRAM_SHA_256, first.as_bytes(), out)
                        })
                        .await
                        .map_err(broken)?;
                        let Message::AuthenticationSaslContinue(body) = self.next().await? else {
                            return Err(unexpected());
                        };
                        Asked::Scram(scram.challenge(body.data()).ok().map(|c| ScramSalt {
                            salt: c.salt,
                            iterations: c.iterations,
                        }))
                    } else {
                        Asked::Scram(None)
                    }
                }
                Message::AuthenticationKerberosV5 => Asked::Other(2),
                Message::AuthenticationScmCredential => Asked::Other(6),
                Message::AuthenticationGss => Asked::Other(7),
                Message::AuthenticationSspi => Asked::Other(9),
                Message::ErrorResponse(body) => Asked::Refused(server_error(body.fields())),
                // It lets us in; whether the database and the role are there is told after that.
                Message::ReadyForQuery(_) => Asked::Nothing,
                _ => continue,
            });
        }
    }

    async fn next(&mut self) -> Result<Message, Failure> {
        match self.receive().await.map_err(broken)? {
            Received::Message(message) => Ok(message),
            Received::OldError(text) => Err(Failure::Unreachable(text)),
            Received::End => Err(Failure::Unreachable(
                "the server closed the connection without an answer".to_owned(),
            )),
        }
    }
}
