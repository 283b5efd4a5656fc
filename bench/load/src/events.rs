//! An event stream as it comes: HTTP/1.1, chunked, lines. Only what a server of the benchmark may send is understood.

use memchr::memchr;

use crate::{Failure, handshake::head_end, ring::Ring};

/// The state between two reads.
#[derive(Debug, Default)]
pub(crate) struct EventStream {
    place: Place,
    /// A head, a chunk's size or a line that is not complete.
    begun: Vec<u8>,
    has_data: bool,
    number: u64,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Head,
    Size,
    Chunk {
        left: usize,
    },
    /// The line end behind a chunk.
    End {
        left: usize,
    },
}

impl EventStream {
    /// Whether the head has come.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.place, Place::Head)
    }

    /// Events that came whole.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], ring: &Ring) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match &mut self.place {
                Place::Head => {
                    let before = self.begun.len();
                    self.begun.extend_from_slice(bytes);
                    let Some(end) = head_end(&self.begun) else {
                        return Ok(());
                    };
                    check(&self.begun[..end])?;
                    bytes = &bytes[end - before..];
                    self.begun.clear();
                    self.place = Place::Size;
                }
                Place::Size => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.begun.extend_from_slice(bytes);
                        return Ok(());
                    };
                    self.begun.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    let size = str::from_utf8(&self.begun)?.trim_end();
                    let left = usize::from_str_radix(size, 16)
                        .map_err(|_| format!("`{size}` is no chunk's size"))?;
                    if left == 0 {
                        return Err("the server has ended a stream".into());
                    }
                    // A line may go on from chunk to chunk, but sizes have taken its place: it is kept apart.
                    self.begun.clear();
                    self.place = Place::Chunk { left };
                }
                Place::Chunk { left } => {
                    let some = (*left).min(bytes.len());
                    let (part, rest) = bytes.split_at(some);
                    let left = *left - some;
                    bytes = rest;
                    self.lines(part, ring)?;
                    self.place = if left > 0 {
                        Place::Chunk { left }
                    } else if self.begun.is_empty() {
                        Place::End { left: 2 }
                    } else {
                        return Err("a chunk ends within a line".into());
                    };
                }
                Place::End { left } => {
                    let some = (*left).min(bytes.len());
                    bytes = &bytes[some..];
                    *left -= some;
                    if *left == 0 {
                        self.place = Place::Size;
                    }
                }
            }
        }
        Ok(())
    }

    fn lines(&mut self, mut part: &[u8], ring: &Ring) -> Result<(), Failure> {
        while let Some(end) = memchr(b'\n', part) {
            if self.begun.is_empty() {
                line(&part[..end], &mut self.has_data, &mut self.number, ring)?;
            } else {
                self.begun.extend_from_slice(&part[..end]);
                line(&self.begun, &mut self.has_data, &mut self.number, ring)?;
                self.begun.clear();
            }
            part = &part[end + 1..];
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }
}

fn check(head: &[u8]) -> Result<(), Failure> {
    let head = str::from_utf8(head)?.to_ascii_lowercase();
    let first = head.lines().next().unwrap_or_default();
    if !first.starts_with("http/1.1 200") {
        return Err(format!("no event stream: {first}").into());
    }
    if !head.contains("\r\ntransfer-encoding: chunked\r\n") {
        return Err("an event stream that is not chunked".into());
    }
    Ok(())
}

fn line(line: &[u8], has_data: &mut bool, number: &mut u64, ring: &Ring) -> Result<(), Failure> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        *number += u64::from(std::mem::take(has_data));
    } else if let Some(data) = line.strip_prefix(b"data:") {
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if data != ring.payload(*number) || *has_data {
            return Err(format!("event {number} came changed").into());
        }
        *has_data = true;
    } else if line.starts_with(b"event:") {
        return Err(format!("an event of its own: {}", String::from_utf8_lossy(line)).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn stream(ring: &Ring) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        for number in 0..3 {
            let mut event = b": comment\n\nid: 7\ndata: ".to_vec();
            event.extend(ring.payload(number));
            event.extend(b"\n\n");
            bytes.extend(format!("{:x}\r\n", event.len()).as_bytes());
            bytes.extend(event);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[test]
    fn the_same_however_it_is_cut() {
        let ring = Ring::new(Kind::Text, 64, 1, None).unwrap();
        let bytes = stream(&ring);
        for step in 1..=bytes.len() {
            let mut events = EventStream::default();
            for part in bytes.chunks(step) {
                events.feed(part, &ring).unwrap();
            }
            assert_eq!(events.number(), 3);
        }
    }

    #[test]
    fn a_changed_event_is_told() {
        let ring = Ring::new(Kind::Text, 64, 1, None).unwrap();
        let mut bytes = stream(&ring);
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        assert!(EventStream::default().feed(&bytes, &ring).is_err());
    }
}
