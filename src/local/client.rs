//! Asks the running pgpool, for the sub-commands.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::protocol::{self, Ask, Line, Question};
use crate::sys::errors;

/// For each line of the answer; a running pgpool needs milliseconds.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody listens on the socket, or it is not there.
    NobodyRuns,
    /// The socket belongs to another account.
    NotAllowed,
    /// Somebody listens and does not answer.
    Silent(String),
    /// Somebody answers something else than a pgpool.
    Stranger,
    /// The running pgpool says no.
    Refused { message: String, hint: String },
    /// What was asked for by the caller's own function.
    Stopped(io::Error),
}

/// Asks, and hands each line on but the first and the last. With [`Question::Events`] and `follow` it
/// returns when the pgpool ends.
///
/// # Errors
///
/// Also whatever `each` returns.
pub fn ask(
    path: &Path,
    question: Question,
    mut each: impl FnMut(Line) -> io::Result<()>,
) -> Result<(), NoAnswer> {
    let follow = matches!(question, Question::Events { follow: true, .. });
    let silent = |error: &io::Error| NoAnswer::Silent(errors::message(error));
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NoAnswer::NobodyRuns,
        io::ErrorKind::PermissionDenied => NoAnswer::NotAllowed,
        _ => silent(&error),
    })?;
    stream
        .set_read_timeout(Some(ANSWER_TIME))
        .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME)))
        .and_then(|()| stream.write_all(&protocol::encode(&Ask::new(question))))
        .map_err(|error| silent(&error))?;
    let mut lines = BufReader::new(stream);
    let mut greeted = false;
    loop {
        let mut bytes = Vec::new();
        match lines.read_until(b'\n', &mut bytes) {
            Ok(0) if greeted && follow => return Ok(()),
            Ok(0) => return Err(NoAnswer::Silent("it has closed the connection".to_owned())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {
                return Err(NoAnswer::Silent(format!(
                    "no answer within {} seconds",
                    ANSWER_TIME.as_secs()
                )));
            }
            Err(_) if greeted && follow => return Ok(()),
            Err(error) => return Err(silent(&error)),
        }
        match serde_json::from_slice(&bytes) {
            Ok(Line::Hello { .. }) if !greeted => {
                greeted = true;
                if follow {
                    // The next event may come in a month.
                    let patient = lines.get_ref().set_read_timeout(None);
                    patient.map_err(|error| silent(&error))?;
                }
            }
            Ok(Line::End {}) if greeted => return Ok(()),
            Ok(Line::Error { message, hint }) if greeted => {
                return Err(NoAnswer::Refused { message, hint });
            }
            Ok(line) if greeted => each(line).map_err(NoAnswer::Stopped)?,
            // A newer pgpool may send lines that we do not know.
            Err(_) if greeted => {}
            Ok(_) | Err(_) => return Err(NoAnswer::Stranger),
        }
    }
}
