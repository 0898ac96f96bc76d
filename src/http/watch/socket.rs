//! A watch over a WebSocket (RFC 6455): one text message an event, `{"event", "data", "id"}`, and
//! pings as heartbeats. A client that is to go elsewhere is told so before the close (1001, going
//! away: RFC 6455, section 7.4.1). What a client sends is read and passed over.

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::SinkExt;

use super::stream::{Event, Output, Watch};

/// Largest message that a client may send, in bytes: it has nothing to say.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A client that was not heard of for this many heartbeats is gone.
const SILENT_HEARTBEATS_MAX: u32 = 3;

/// The answer that upgrades the connection.
pub(super) fn answer(upgrade: WebSocketUpgrade, watch: Watch) -> Response {
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        // It is there from the start, for every watch.
        .read_buffer_size(MESSAGE_BYTES_MAX)
        .on_upgrade(|socket| run(socket, watch))
}

async fn run(mut socket: WebSocket, mut watch: Watch) {
    let mut silent_heartbeats = 0;
    loop {
        let output = tokio::select! {
            biased;
            heard = socket.recv() => match heard {
                // The answer to a close is waiting to be sent (RFC 6455, section 5.5.1); after an
                // error this says nothing more.
                Some(Ok(Message::Close(_))) | Some(Err(_)) | None => {
                    let _ = SinkExt::close(&mut socket).await;
                    return;
                }
                Some(Ok(_)) => {
                    silent_heartbeats = 0;
                    continue;
                }
            },
            output = watch.next() => output,
        };
        let sent = match output {
            Output::Events(events) => send_all(&mut socket, &events).await,
            Output::Heartbeat(id) => {
                silent_heartbeats += 1;
                if silent_heartbeats > SILENT_HEARTBEATS_MAX {
                    return;
                }
                let data = Bytes::from_static(b"{}");
                let moved = id.map(|id| Event { kind: "heartbeat", data, id: Some(id) });
                match send_all(&mut socket, moved.as_slice()).await {
                    Ok(()) => socket.send(Message::Ping(Bytes::new())).await,
                    failed => failed,
                }
            }
            Output::Moved(event) => match send_all(&mut socket, &[event]).await {
                Ok(()) => close(&mut socket, close_code::AWAY, "moved").await,
                failed => failed,
            },
            Output::Expired => close(&mut socket, close_code::POLICY, "the token expired").await,
            Output::TooSlow => close(&mut socket, close_code::AGAIN, "read too slowly").await,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn send_all(socket: &mut WebSocket, events: &[Event]) -> Result<(), axum::Error> {
    for event in events {
        socket.send(Message::Text(encode(event).into())).await?;
    }
    Ok(())
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) -> Result<(), axum::Error> {
    let frame = CloseFrame { code, reason: reason.into() };
    socket.send(Message::Close(Some(frame))).await?;
    Err(axum::Error::new("closed"))
}

fn encode(event: &Event) -> String {
    let data = String::from_utf8_lossy(&event.data);
    match &event.id {
        None => format!("{{\"event\":\"{}\",\"data\":{data}}}", event.kind),
        Some(id) => format!("{{\"event\":\"{}\",\"data\":{data},\"id\":\"{id}\"}}", event.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_json_object() {
        let data = Bytes::from_static(b"{\"a\":1}");
        let event = Event { kind: "put", data, id: Some("s1".into()) };
        assert_eq!(encode(&event), r#"{"event":"put","data":{"a":1},"id":"s1"}"#);
        let event = Event { id: None, ..event };
        assert_eq!(encode(&event), r#"{"event":"put","data":{"a":1}}"#);
    }
}
