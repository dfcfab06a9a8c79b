//! An HTTP/2 client that sends hand-made frames (RFC 9113), including frames that no library would send.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `SETTINGS_HEADER_TABLE_SIZE` (§6.5.2) of 0: the server refers to no earlier status.
const NO_HEADER_TABLE: [u8; 6] = [0, 1, 0, 0, 0, 0];

/// `SETTINGS_INITIAL_WINDOW_SIZE` of 0: the server may send no DATA.
pub const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// After this time without reading, the server counts as stalled.
const STALL: Duration = Duration::from_millis(500);

/// A frame with a payload of any length.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals without Huffman codes and without an index (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| [&[0], &*string(name), &*string(value)].concat();
    fields.iter().flat_map(field).collect()
}

/// RFC 7541 §5.2.
pub fn string(text: &str) -> Vec<u8> {
    let mut length = text.len();
    let mut encoded = vec![u8::try_from(length.min(127)).unwrap()];
    if length >= 127 {
        length -= 127;
        while length >= 128 {
            encoded.push(u8::try_from(length % 128).unwrap() + 128);
            length /= 128;
        }
        encoded.push(u8::try_from(length).unwrap());
    }
    [&encoded, text.as_bytes()].concat()
}

/// The head of a request, with the fields of a target and further ones.
pub fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let target = [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)];
    block(&[&target, more].concat())
}

pub struct Http2 {
    stream: TcpStream,
}

/// The outcome of sending bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sent {
    Whole,
    /// The server stopped reading.
    Stalled,
    /// The server closed the connection.
    Closed,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The end of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Status(u16),
    /// `RST_STREAM`, with its code (§7).
    Reset(u32),
    /// The connection was closed.
    Closed,
}

/// Everything that a server sent on a connection.
#[derive(Debug, Default)]
pub struct Seen {
    pub frames: BTreeMap<u8, usize>,
    pub statuses: BTreeMap<u16, usize>,
    /// By their code (§7).
    pub resets: BTreeMap<u32, usize>,
}

impl Http2 {
    pub fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(STALL)).unwrap();
        let mut connection = Self { stream };
        let settings = [&NO_HEADER_TABLE, settings].concat();
        connection.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(SETTINGS, 0, 0, &settings)].concat());
        connection
    }

    pub fn send(&mut self, bytes: &[u8]) -> Sent {
        match self.stream.write_all(bytes) {
            Ok(()) => Sent::Whole,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Sent::Stalled,
            Err(_) => Sent::Closed,
        }
    }

    /// Returns the next frame, or `None` at the end of the connection. Acknowledges frames that require it.
    pub fn receive(&mut self) -> Option<Frame> {
        let frame = receive(&mut self.stream)?;
        if matches!(frame.kind, SETTINGS | PING) && frame.flags & ACK == 0 {
            let echo = if frame.kind == PING { frame.payload.as_slice() } else { &[] };
            self.send(&self::frame(frame.kind, ACK, 0, echo));
        }
        Some(frame)
    }

    /// Returns the next frame of this kind on the connection.
    pub fn wait_for(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.receive().expect("a frame before the end of the connection");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Acknowledges PINGs until the server closes the connection, and returns the kinds of frames received.
    pub fn until_closed(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.receive()).map(|frame| frame.kind).collect()
    }

    /// Waits for the end of one request.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.receive() {
            match frame.kind {
                GOAWAY => return Outcome::Closed,
                HEADERS if frame.stream == stream => return Outcome::Status(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(code(&frame.payload)),
                _ => {}
            }
        }
        Outcome::Closed
    }

    /// Reads and counts what the server sends, in a thread, until the connection is closed.
    pub fn watch(&self) -> JoinHandle<Seen> {
        let mut stream = self.stream.try_clone().unwrap();
        thread::spawn(move || {
            let mut seen = Seen::default();
            while let Some(frame) = receive(&mut stream) {
                *seen.frames.entry(frame.kind).or_default() += 1;
                match frame.kind {
                    HEADERS => *seen.statuses.entry(status(&frame.payload)).or_default() += 1,
                    RST_STREAM => *seen.resets.entry(code(&frame.payload)).or_default() += 1,
                    _ => {}
                }
            }
            seen
        })
    }

    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn receive(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no frame and no end of the connection"),
        Err(_) => return None,
        Ok(()) => {}
    }
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(id), payload })
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// Returns the status at the start of a header block. It is an entry of the static table, or a literal under one of its names
/// (RFC 7541 appendix A), with digits in plain text or in Huffman codes of 5 and 6 bits (appendix B).
pub fn status(block: &[u8]) -> u16 {
    // An update of the size of the dynamic table may come first (§6.3).
    let block = &block[block.iter().take_while(|byte| **byte & 0xE0 == 0x20).count()..];
    match *block {
        [entry @ 0x88..=0x8E, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(entry - 0x88)],
        [_, length, ref rest @ ..] if length & 0x80 != 0 => {
            let bits: u64 =
                rest.iter().take(usize::from(length & 0x7F)).fold(0, |bits, byte| bits << 8 | u64::from(*byte));
            let mut left = 8 * u32::from(length & 0x7F);
            (0..3).fold(0, |status, _| {
                let next = |width: u32| u16::try_from(bits >> (left - width) & ((1 << width) - 1)).unwrap();
                let (digit, width) = if next(5) < 3 { (next(5), 5) } else { (next(6) - 0x16, 6) };
                left -= width;
                status * 10 + digit
            })
        }
        [_, 3, ref digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        ref other => panic!("no status in {other:02x?}"),
    }
}
