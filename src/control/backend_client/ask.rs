//! What a server asks of a user before it lets it in: for `pgpool --check-auth`.
//!
//! Sends the start-up packet, reads the answer and leaves. No password is needed, and none is sent.

use std::time::Duration;

use postgres_protocol::message::{backend::Message, frontend};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{Address, Client, Failure, Received, ServerError, broken, server_error, unexpected};
use crate::auth::{
    messages::{self, Authentication, SCRAM_SHA_256},
    scram::client::{Binding, ClientDialogue},
};

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
        loop {
            return Ok(match self.next().await? {
                Next::Authentication(message) => match message {
                    // Whether the database and the role are there is told after that.
                    Authentication::Ok => continue,
                    Authentication::CleartextPassword => Asked::Password,
                    Authentication::Md5Password { .. } => Asked::Md5,
                    Authentication::Sasl { mechanisms } => {
                        if !mechanisms.iter().any(|name| name == SCRAM_SHA_256) {
                            Asked::Other(10)
                        } else if want_salt {
                            Asked::Scram(self.salt().await?)
                        } else {
                            Asked::Scram(None)
                        }
                    }
                    Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
                        return Err(unexpected());
                    }
                    Authentication::Other(kind) => Asked::Other(kind),
                },
                Next::Message(Message::ErrorResponse(body)) => {
                    Asked::Refused(server_error(body.fields()))
                }
                Next::Message(Message::ReadyForQuery(_)) => Asked::Nothing,
                Next::Message(_) => continue,
            });
        }
    }

    /// Begins a SCRAM exchange, as far as the server's part.
    async fn salt(&mut self) -> Result<Option<ScramSalt>, Failure> {
        let scram = ClientDialogue::new("pgpool-check-auth".to_owned(), Binding::Impossible);
        let first = scram.first_message();
        let bytes = messages::sasl_initial_response(SCRAM_SHA_256, first.as_bytes());
        self.stream.write_all(&bytes).await.map_err(broken)?;
        let Next::Authentication(Authentication::SaslContinue(data)) = self.next().await? else {
            return Err(unexpected());
        };
        Ok(scram.challenge(&data).ok().map(|c| ScramSalt {
            salt: c.salt,
            iterations: c.iterations,
        }))
    }

    async fn next(&mut self) -> Result<Next, Failure> {
        match self.receive().await.map_err(broken)? {
            Received::Authentication(body) => Authentication::decode(&body)
                .map(Next::Authentication)
                .ok_or_else(unexpected),
            Received::Message(message) => Ok(Next::Message(message)),
            Received::OldError(text) => Err(Failure::Unreachable(text)),
            Received::End => Err(Failure::Unreachable(
                "the server closed the connection without an answer".to_owned(),
            )),
        }
    }
}

enum Next {
    Authentication(Authentication),
    Message(Message),
}
