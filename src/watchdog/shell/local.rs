//! The local socket, for `wd_cli` and external lifechecks: one request per connection.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

use super::task::Happened;
use crate::watchdog::codec::ipc::take_ipc_frame;

/// Connections at a time; the others wait in the kernel.
const AT_A_TIME: usize = 32;
/// A tool sends its request at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves for as long as the process lives.
pub async fn serve(listener: UnixListener, events: mpsc::Sender<Happened>) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let events = events.clone();
                drop(tokio::task::spawn_local(async move {
                    // A tool that is slow or gone ends its own connection only.
                    let _ = timeout(PATIENCE, answer(stream, &events)).await;
                    drop(place);
                }));
            }
            // Out of descriptors, most likely.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// `None`: the tool has gone, or gets no answer.
async fn answer(mut stream: UnixStream, events: &mpsc::Sender<Happened>) -> Option<()> {
    let mut input = BytesMut::new();
    let request = loop {
        if let Some(frame) = take_ipc_frame(&mut input).ok()? {
            break frame;
        }
        if stream.read_buf(&mut input).await.ok()? == 0 {
            return None;
        }
    };
    let (reply, judged) = oneshot::channel();
    let happened = Happened::Asked { request, reply };
    events.send(happened).await.ok()?;
    let frame = judged.await.ok()??;
    stream.write_all(&frame.bytes()).await.ok()
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::watchdog::codec::{ipc::IpcFrame, ipc_answer::IpcAnswer};

    #[test]
    fn a_request_in_pieces_gets_one_answer_and_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let (events, mut happened) = mpsc::channel(4);
            let listener = UnixListener::bind(&path).unwrap();
            drop(tokio::task::spawn_local(serve(listener, events)));
            drop(tokio::task::spawn_local(async move {
                while let Some(Happened::Asked { request, reply }) = happened.recv().await {
                    assert_eq!((request.kind, request.payload.len()), (b'3', 2));
                    let _ = reply.send(IpcAnswer::Ok.encode().ok());
                }
            }));
            // One that sends nothing sensible, and one that goes at once, are in nobody's way.
            let mut odd = UnixStream::connect(&path).await.unwrap();
            odd.write_all(b"3\xff\xff\xff\xff").await.unwrap();
            drop(UnixStream::connect(&path).await.unwrap());
            let mut tool = UnixStream::connect(&path).await.unwrap();
            for byte in b"3\0\0\0\x02{}" {
                tool.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let mut got = Vec::new();
            timeout(Duration::from_secs(20), tool.read_to_end(&mut got))
                .await
                .unwrap()
                .unwrap();
            let expected = IpcFrame {
                kind: b'7',
                payload: Vec::new(),
            };
            assert_eq!(got, expected.bytes());
        });
    }
}
