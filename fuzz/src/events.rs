//! Event streams, against WHATWG HTML §9.2.6 read off once more.

use std::time::Duration;

use towpath::sse::{Event, EventTooBig, MessageEvent, Parser};

use crate::{
    input::{Cuts, Input},
    memory,
};

/// What a reader has seen of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Name, data and id.
    events: Vec<(String, String, String)>,
    last_event_id: String,
    retry: Option<u128>,
}

/// The algorithm of the specification, over a whole stream.
fn interpret(bytes: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    let mut seen = Seen::default();
    let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
    let mut rest = text;
    // What has no end is no line: a stream that ends there drops it.
    while let Some(end) = rest.find(['\r', '\n']) {
        let line = &rest[..end];
        rest = &rest[end..];
        rest = rest.strip_prefix("\r\n").unwrap_or(&rest[1..]);
        if line.is_empty() {
            seen.last_event_id.clone_from(&id);
            let (name, mut data) = (std::mem::take(&mut name), std::mem::take(&mut data));
            if data.pop().is_some() {
                let name = if name.is_empty() {
                    "message".to_owned()
                } else {
                    name
                };
                seen.events.push((name, data, id.clone()));
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                seen.retry = Some(value.parse().unwrap_or(u128::MAX).min(u64::MAX.into()));
            }
            _ => {}
        }
    }
    seen
}

fn parse<'a>(
    max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Seen, Option<EventTooBig>) {
    let mut parser = Parser::new().max_event_size(max);
    let mut events = Vec::new();
    let mut failed = None;
    for piece in pieces {
        let received = parser.receive(piece);
        while let Some(MessageEvent {
            event, data, id, ..
        }) = parser.poll_event()
        {
            events.push((event, data, id));
        }
        failed = received.err();
        if failed.is_some() {
            break;
        }
    }
    let seen = Seen {
        events,
        last_event_id: parser.last_event_id().to_owned(),
        retry: parser.retry().map(|retry| retry.as_millis()),
    };
    (seen, failed)
}

/// `sse_parse`: a bound, a seed for the cuts, then a stream.
pub fn parse_any(data: &[u8]) {
    let mut input = Input::new(data);
    let max = input.choose(&[1 << 20, 0, 1, 10, 100, 1000]);
    let seed = input.word();
    let stream = input.rest();
    let (whole, failed) = parse(max, [stream]);
    let mut cuts = Cuts::new(seed);
    let pieces = parse(max, cuts.pieces(stream));
    assert_eq!((&whole, failed), (&pieces.0, pieces.1));
    let bytes = parse(max, stream.chunks(1));
    assert_eq!((&whole, failed), (&bytes.0, bytes.1));
    let expected = interpret(stream);
    if failed.is_none() {
        assert_eq!(whole, expected);
    } else {
        assert!(expected.events.starts_with(&whole.events));
    }
    if max > stream.len() * 4 {
        assert_eq!(failed, None, "a stream below the bound");
    }
    // An event that nobody takes is the caller's; here each is taken at once.
    let mut parser = Parser::new().max_event_size(max);
    let most = memory::most(|| {
        for byte in stream.chunks(1) {
            if parser.receive(byte).is_err() {
                break;
            }
            drop(parser.poll_event());
        }
    });
    let bound = 1024 + 8 * max.min(stream.len());
    // A line that is not UTF-8 grows threefold, and its buffers double; the last
    // event id is held three times.
    assert!(most <= 3 * bound, "{most} bytes for {}", stream.len());
}

/// What a reader makes of a text's line breaks.
fn normalized(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// `sse_round_trip`: events of any text, encoded and read again.
pub fn round_trip(data: &[u8]) {
    let mut input = Input::new(data);
    let seed = input.word();
    let mut stream = Vec::new();
    let mut expected = Seen::default();
    let mut id = String::new();
    while !input.is_empty() {
        let mut event = Event::new();
        let (mut name, mut lines) = (String::new(), Vec::new());
        let mut new_id = None;
        let mut retry = None;
        for _ in 0..=input.byte() & 3 {
            let kind = input.byte();
            let len = usize::from(input.byte());
            let text = String::from_utf8_lossy(input.take(len)).into_owned();
            let breaks = text.contains(['\r', '\n']);
            event = match kind % 6 {
                0 | 1 => {
                    lines.push(normalized(&text));
                    event.data(&text)
                }
                2 => match event.clone().try_id(&text) {
                    Ok(event) => {
                        assert!(!breaks && !text.contains('\0'), "{text:?} is no id");
                        new_id = Some(text);
                        event
                    }
                    Err(_) => {
                        assert!(breaks || text.contains('\0'), "{text:?} is an id");
                        event
                    }
                },
                3 => match event.clone().try_event(&text) {
                    Ok(event) => {
                        assert!(!breaks, "{text:?} is no name");
                        name = text;
                        event
                    }
                    Err(_) => {
                        assert!(breaks, "{text:?} is a name");
                        event
                    }
                },
                4 => {
                    let time = Duration::from_millis(u64::from(input.word()) << (kind & 31));
                    retry = Some(time.as_millis());
                    event.retry(time)
                }
                _ => event.comment(&text),
            };
        }
        stream.extend_from_slice(&event.encode().expect("no error was kept"));
        if let Some(new_id) = new_id {
            id = new_id;
        }
        expected.retry = retry.or(expected.retry);
        if !lines.is_empty() {
            let name = if name.is_empty() {
                "message".to_owned()
            } else {
                name
            };
            expected.events.push((name, lines.join("\n"), id.clone()));
        }
    }
    expected.last_event_id = id;
    assert_eq!(
        interpret(&stream),
        expected,
        "as the specification reads it"
    );
    let pieces = Cuts::new(seed).pieces(&stream);
    assert_eq!(parse(usize::MAX, pieces), (expected, None), "as we read it");
}
