//! Asks the running pgpool, for the sub-commands.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
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
    // Ours lets nobody else in. The directory may be /tmp, where others can make sockets, too.
    let open_to_others = |found: fs::Metadata| {
        found.file_type().is_socket() && found.permissions().mode() & 0o077 != 0
    };
    if fs::metadata(path).is_ok_and(open_to_others) {
        return Err(NoAnswer::Stranger);
    }
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

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::net::UnixListener, thread};

    use super::*;

    /// What comes of it when the server says `answer` and closes.
    fn asked(answer: &'static [u8], mode: u32) -> (Result<(), NoAnswer>, Vec<Line>) {
        let dir = tempfile::tempdir().unwrap();
        let path = super::super::path(dir.path(), 1);
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut ask = String::new();
            BufReader::new(&stream).read_line(&mut ask).unwrap();
            let _ = (&stream).write_all(answer);
            ask
        });
        let mut lines = Vec::new();
        let question = Question::WhatIf {
            requests: "down 0".into(),
        };
        let result = ask(&path, question, |line| {
            lines.push(line);
            Ok(())
        });
        if mode == 0o600 {
            assert!(server.join().unwrap().contains("what-if"));
        }
        (result, lines)
    }

    const HELLO: &str = r#"{"hello":{"version":1,"pid":7}}"#;

    fn answer(rest: &str) -> &'static [u8] {
        format!("{HELLO}\n{rest}").leak().as_bytes()
    }

    #[test]
    fn lines_come_between_the_first_and_the_last_and_unknown_ones_are_left_out() {
        let all = answer("{\"text\":\"a\"}\n{\"vote\":1}\n{\"end\":{}}\n");
        let (result, lines) = asked(all, 0o600);
        assert!(result.is_ok());
        assert_eq!(lines, [Line::Text("a".into())]);
    }

    #[test]
    fn an_answer_without_an_end_is_none() {
        let (result, _) = asked(answer("{\"text\":\"a\"}\n"), 0o600);
        assert!(matches!(result, Err(NoAnswer::Silent(_))), "{result:?}");
        let (result, _) = asked(
            answer("{\"error\":{\"message\":\"m\",\"hint\":\"h\"}}\n"),
            0o600,
        );
        assert!(
            matches!(result, Err(NoAnswer::Refused { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let (result, lines) = asked(b"220 ready\n", 0o600);
        assert!(matches!(result, Err(NoAnswer::Stranger)), "{result:?}");
        assert_eq!(lines, []);
        let (result, _) = asked(answer("{\"end\":{}}\n"), 0o666);
        assert!(matches!(result, Err(NoAnswer::Stranger)), "{result:?}");
    }

    #[test]
    fn without_a_socket_nobody_runs() {
        let dir = tempfile::tempdir().unwrap();
        let question = Question::WhatIf {
            requests: "down 0".into(),
        };
        let result = ask(&dir.path().join("none"), question, |_| Ok(()));
        assert!(matches!(result, Err(NoAnswer::NobodyRuns)), "{result:?}");
    }
}
