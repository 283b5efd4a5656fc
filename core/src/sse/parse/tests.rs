use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::sse::{Event, KeepAlive, Sse};

const CASES: &str = include_str!("../../../tests/cases/sse_parse.json");

struct Case {
    name: String,
    input: Vec<u8>,
    events: Vec<MessageEvent>,
    retry: Option<Duration>,
    last_event_id: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn case(case: &Value) -> Case {
    let input = text(&case["input"]);
    let event = |event: &Value| MessageEvent {
        event: text(&event["type"]),
        data: text(&event["data"]),
        id: text(&event["id"]),
    };
    Case {
        name: text(&case["name"]),
        input: match case.get("encoding").map(text).as_deref() {
            Some("base64") => BASE64_STANDARD.decode(input).unwrap(),
            Some(other) => panic!("unknown encoding {other}"),
            None => input.into_bytes(),
        },
        events: case["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(event)
            .collect(),
        retry: case["retry"].as_u64().map(Duration::from_millis),
        last_event_id: text(&case["last_event_id"]),
    }
}

fn cases() -> Vec<Case> {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert_eq!(cases.len(), 114);
    cases.iter().map(case).collect()
}

fn events(parser: &mut Parser) -> Vec<MessageEvent> {
    std::iter::from_fn(|| parser.poll_event()).collect()
}

/// Parses the parts and compares; what is not `Ok` shows the case's name.
fn check<'a>(case: &Case, parts: impl IntoIterator<Item = &'a [u8]>) {
    let mut parser = Parser::new();
    for part in parts {
        parser.receive(part).unwrap();
    }
    assert_eq!(events(&mut parser), case.events, "{}", case.name);
    assert_eq!(parser.retry(), case.retry, "{}", case.name);
    assert_eq!(parser.last_event_id(), case.last_event_id, "{}", case.name);
}

#[test]
fn every_case_whole() {
    for case in cases() {
        check(&case, [&case.input[..]]);
    }
}

#[test]
fn every_case_byte_by_byte() {
    for case in cases() {
        check(&case, case.input.chunks(1));
    }
}

#[test]
fn every_case_split_in_two_at_every_position() {
    for case in cases() {
        for at in 0..=case.input.len() {
            let (first, second) = case.input.split_at(at);
            check(&case, [first, second]);
        }
    }
}

#[test]
fn an_event_of_exactly_the_limit_passes() {
    for chunk in [1, 7, 100] {
        let parse = |input: &[u8]| {
            let mut parser = Parser::new().max_event_size(20);
            let received = input
                .chunks(chunk)
                .try_for_each(|part| parser.receive(part));
            (received, events(&mut parser).len())
        };
        // The line is the most that is held: `data: ` and 14 bytes.
        assert_eq!(parse(b"data: 12345678901234\n\n"), (Ok(()), 1));
        let too_big = Err(EventTooBig { max: 20 });
        assert_eq!(parse(b"data: 123456789012345\n\n"), (too_big, 0));
        assert_eq!(parse(b"data: 1\n\ndata: 123456789012345\n\n"), (too_big, 1));
        // Lines add up; so does what replaces bytes that are not UTF-8.
        assert_eq!(parse(b"data: 12345678\ndata: 123456\n\n"), (too_big, 0));
        assert_eq!(
            parse(b"data: \xFF\xFF\xFF\xFF\xFF\xFF\xFF\n\n"),
            (too_big, 0)
        );
        // Events do not.
        assert_eq!(parse(&b"data: 12345678\n\n".repeat(9)), (Ok(()), 9));
    }
}

#[test]
fn nothing_is_parsed_after_an_error() {
    let mut parser = Parser::new().max_event_size(8);
    assert!(parser.receive(b"data: too big").is_err());
    assert!(parser.receive(b"\n\ndata:a\n\n").is_err());
    assert_eq!(parser.poll_event(), None);
}

#[test]
fn a_reconnect_inherits_the_last_id() {
    let mut parser = Parser::new().resume("7");
    parser.receive(b"data: a\n\n").unwrap();
    assert_eq!(parser.poll_event().unwrap().id, "7");
    assert_eq!(parser.last_event_id(), "7");
}

#[test]
fn a_retry_beyond_all_time_is_the_longest() {
    let mut parser = Parser::new();
    parser.receive(b"retry: 99999999999999999999999\n").unwrap();
    assert_eq!(parser.retry(), Some(Duration::from_millis(u64::MAX)));
}

fn any_text() -> impl Strategy<Value = String> {
    // Line ends, colons and spaces are what can break a stream; the other separators and
    // marks are what must not.
    prop_oneof![
        any::<String>(),
        "[\r\n: a\u{FEFF}\u{2028}\u{2029}\u{85}\u{B}\u{C}\0é🦀]{0,12}",
        "( |\u{FEFF}|\r|\n|\r\n|data|id|event|retry|:|: |0|é){0,8}",
    ]
}

/// What an application says of an event, in its order.
#[derive(Clone, Debug)]
enum Said {
    Id(String),
    Name(String),
    Data(String),
    Comment(String),
    Retry(u32),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        any_text().prop_map(|id| Said::Id(one_line(&id).replace('\0', ""))),
        any_text().prop_map(|name| Said::Name(one_line(&name))),
        any_text().prop_map(Said::Data),
        any_text().prop_map(Said::Comment),
        any::<u32>().prop_map(Said::Retry),
    ]
}

fn event_of(said: &[Said]) -> Event {
    said.iter().fold(Event::new(), |event, said| match said {
        Said::Id(id) => event.id(id),
        Said::Name(name) => event.event(name),
        Said::Data(data) => event.data(data),
        Said::Comment(text) => event.comment(text),
        Said::Retry(time) => event.retry(Duration::from_millis(u64::from(*time))),
    })
}

/// What a reader has to make of it: the events, the last id, and the retry time.
type Read = (Vec<MessageEvent>, String, Option<Duration>);

fn reading_of(events: &[Vec<Said>]) -> Read {
    let mut read = Read::default();
    let (dispatched, last_id, retry) = &mut read;
    for said in events {
        let mut name = String::new();
        let mut data = Vec::new();
        for said in said {
            match said {
                Said::Id(id) => last_id.clone_from(id),
                Said::Name(new) => name.clone_from(new),
                Said::Data(more) => data.push(lf(more)),
                Said::Comment(_) => {}
                Said::Retry(time) => *retry = Some(Duration::from_millis(u64::from(*time))),
            }
        }
        if data.is_empty() {
            continue;
        }
        if name.is_empty() {
            "message".clone_into(&mut name);
        }
        dispatched.push(MessageEvent {
            event: name,
            data: data.join("\n"),
            id: last_id.clone(),
        });
    }
    read
}

fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut parser = Parser::new();
    for part in parts {
        parser.receive(part).unwrap();
    }
    let dispatched = events(&mut parser);
    (
        dispatched,
        parser.last_event_id().to_owned(),
        parser.retry(),
    )
}

fn lf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], "")
}

proptest! {
    #[test]
    fn parse_of_encode_is_the_same(
        parts in prop::collection::vec((any_text(), any_text(), any_text(), any_text()), 0..6),
        cut in 1_usize..40,
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (id, name, data, comment) in &parts {
            let (id, name) = (one_line(id).replace('\0', ""), one_line(name));
            let event = Event::new().comment(comment).id(&id).event(&name).data(data);
            stream.extend_from_slice(&event.encode().unwrap());
            let event = if name.is_empty() { "message".to_owned() } else { name };
            expected.push(MessageEvent { event, data: lf(data), id });
        }
        let mut parser = Parser::new();
        for part in stream.chunks(cut) {
            parser.receive(part).unwrap();
        }
        prop_assert_eq!(events(&mut parser), expected);
    }

    /// Whatever was said, in any order, and however the bytes are cut.
    #[test]
    fn a_reader_reads_what_was_said(
        said in prop::collection::vec(prop::collection::vec(said(), 0..5), 0..4),
    ) {
        let encode = |said: &Vec<Said>| event_of(said).encode().unwrap();
        let stream = said.iter().map(encode).collect::<Vec<_>>().concat();
        let expected = reading_of(&said);
        prop_assert_eq!(read([&stream[..]]), expected.clone());
        prop_assert_eq!(read(stream.chunks(1)), expected.clone());
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            prop_assert_eq!(read([first, second]), expected.clone(), "cut at {}", at);
        }
    }

    /// The same of the body of a response, with all that it says by itself.
    #[test]
    fn a_reader_of_the_body_reads_what_was_said(
        said in prop::collection::vec(prop::collection::vec(said(), 0..5), 0..20),
        comment in any_text(),
    ) {
        let events = said.iter().map(|said| event_of(said)).collect::<Vec<_>>();
        let sse = Sse::new(futures_util::stream::iter(events))
            .keep_alive(KeepAlive::new().text(comment));
        let body = sse.into_body().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let body = runtime.unwrap().block_on(body.collect()).unwrap().to_bytes();
        prop_assert_eq!(read([&body[..]]), reading_of(&said));
    }

    #[test]
    fn any_bytes_in_any_split_are_the_same(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "(data|id|event|retry|[\r\n: 0\u{FEFF}\0é]){0,60}".prop_map(String::into_bytes),
        ],
        cut in 1_usize..20,
        max in 1_usize..60,
    ) {
        let parse = |size: usize| {
            let mut parser = Parser::new().max_event_size(max);
            let received = bytes.chunks(size.max(1)).try_for_each(|part| parser.receive(part));
            (received, events(&mut parser), parser.retry(), parser.last_event_id().to_owned())
        };
        prop_assert_eq!(parse(cut), parse(bytes.len()));
    }
}
