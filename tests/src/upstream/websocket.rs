//! A vendor's side of a WebSocket: as little of RFC 6455 as a conversation with an SDK needs. Messages are text in one
//! frame each.

use std::io;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use tokio::io::AsyncReadExt as _;

use super::{
    Vendor,
    wire::{Request, Socket, write},
};

/// The head that agrees to the request's handshake; picks the first subprotocol that was offered.
pub(super) fn agreement(request: &Request) -> String {
    let key = request.header("sec-websocket-key").unwrap_or_default();
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let offered = request.header("sec-websocket-protocol").and_then(|offered| offered.split(',').next());
    let protocol = offered.map(|name| format!("Sec-WebSocket-Protocol: {}\r\n", name.trim())).unwrap_or_default();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n{protocol}\r\n",
        STANDARD.encode(digest)
    )
}

/// Talks as the vendor does until the client says farewell (`true`) or is gone (`false`).
pub(super) async fn talk(stream: &mut impl Socket, buffer: &mut BytesMut, vendor: Vendor) -> io::Result<bool> {
    for event in vendor.realtime_greeting() {
        write(stream, &frame(1, event.to_string().as_bytes())).await?;
    }
    loop {
        let Some((opcode, payload)) = read(stream, buffer).await? else { return Ok(false) };
        match opcode {
            1 | 2 => {
                let said: Value = serde_json::from_slice(&payload).map_err(io::Error::other)?;
                for event in vendor.realtime_answers(&said) {
                    write(stream, &frame(1, event.to_string().as_bytes())).await?;
                }
            }
            8 => {
                write(stream, &frame(8, &payload)).await?;
                return Ok(true);
            }
            9 => write(stream, &frame(10, &payload)).await?,
            _ => {}
        }
    }
}

/// One frame, unmasked, as servers send them.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()) {
        Ok(short @ 0..126) => frame.push(u8::try_from(short).expect("less than 126")),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The next frame's opcode and what it says; `None`: the client is gone.
async fn read(stream: &mut impl Socket, buffer: &mut BytesMut) -> io::Result<Option<(u8, Vec<u8>)>> {
    loop {
        if let Some(frame) = take(buffer)? {
            return Ok(Some(frame));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn take(buffer: &mut BytesMut) -> io::Result<Option<(u8, Vec<u8>)>> {
    let [first, second, ..] = **buffer else { return Ok(None) };
    if first & 0x80 == 0 || first & 0x70 != 0 || second & 0x80 == 0 {
        return Err(io::Error::other("not a whole, plain and masked frame"));
    }
    let extended = match second & 0x7f {
        0x7e => 2,
        0x7f => 8,
        _ => 0,
    };
    let head = 2 + extended + 4;
    if buffer.len() < head {
        return Ok(None);
    }
    let length = match extended {
        0 => usize::from(second & 0x7f),
        _ => buffer[2..2 + extended].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    if buffer.len() < head + length {
        return Ok(None);
    }
    let mask: [u8; 4] = buffer[head - 4..head].try_into().expect("four bytes");
    buffer.advance(head);
    let payload = buffer.split_to(length);
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(Some((first & 0xf, payload)))
}
