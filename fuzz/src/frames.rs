//! The decoder of frames, against what was written: the fields are known, so the
//! verdict needs no second decoder.

use towpath::ws::{
    Outbox,
    protocol::{Event, Extensions, Role},
};

use crate::{
    input::Input,
    model::Said,
    terms::{Agreed, Terms, UNLIMITED},
    wire::{Frame, PING, TEXT},
};

/// `frames`: frames with whatever fields; each must be refused at the very
/// byte that is wrong, or be read as it was written.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let role = if flags & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let agreed = (flags & 2 != 0).then(|| Agreed::take(&mut Input::new(&[])));
    let terms = Terms {
        role,
        limits: UNLIMITED,
        agreed,
    };
    let extensions = agreed.map_or_else(Extensions::default, |agreed| agreed.extensions());
    let mut connection = terms.connection(extensions);
    let mut message: Option<(bool, Vec<u8>)> = None;
    let mut compressed = false;
    let mut total = 0;
    while !input.is_empty() && total < 128 * 1024 {
        let (first, second) = (input.byte(), input.byte());
        let key = input.word().to_be_bytes();
        let payload = input.payload();
        total += payload.len();
        let frame = Frame {
            fin: first & 0x80 != 0,
            rsv: first >> 4 & 7,
            opcode: first & 0xF,
            mask: (second & 0x80 != 0).then_some(key),
            payload: payload.to_vec(),
        };
        let shortest = match payload.len() {
            0..=125 => 0,
            126..=0xFFFF => 2,
            _ => 8,
        };
        let form = shortest.max([0, 0, 2, 8][usize::from(second & 3)]);
        let data = matches!(frame.opcode, 1 | 2);
        let wrong_at = if frame.rsv != 0 && !(frame.rsv == 4 && data && agreed.is_some())
            || !matches!(frame.opcode, 0..=2 | 8..=10)
            || frame.opcode >= 8 && !frame.fin
        {
            Some(0)
        } else if frame.mask.is_some() != (role == Role::Server)
            || frame.opcode == 0 && message.is_none()
            || data && message.is_some()
            || frame.opcode >= 8 && form > 0
        {
            Some(1)
        } else {
            (form != shortest).then_some(1 + form)
        };
        let mut bytes = Vec::new();
        frame.encode_as(form, &mut bytes);
        if let Some(at) = wrong_at {
            let mut out = Outbox::default();
            for (index, byte) in bytes[..=at].iter().enumerate() {
                let event = connection.receive(&mut &[*byte][..], &mut out);
                if index < at {
                    assert_eq!(event, Ok(None), "byte {index} of {frame:?} is right");
                } else {
                    let error = event.expect_err("a byte that is wrong");
                    assert_eq!(error.close_code().get(), 1002);
                }
            }
            return;
        }
        if data && frame.rsv != 0 {
            compressed = true;
        }
        // What is compressed, and text that is none, is for the other targets.
        if compressed && frame.opcode < 8 {
            return;
        }
        let mut out = Outbox::default();
        let mut rest = &bytes[..];
        let event = connection.receive(&mut rest, &mut out);
        if let 0..=2 = frame.opcode {
            let (text, so_far) = message.get_or_insert((frame.opcode == TEXT, Vec::new()));
            so_far.extend_from_slice(&payload);
            let said = Said::Message {
                text: *text,
                payload: so_far.clone(),
            };
            let wrong = *text
                && std::str::from_utf8(so_far)
                    .is_err_and(|error| error.error_len().is_some() || frame.fin);
            if wrong {
                let error = event.expect_err("text that is not UTF-8");
                assert_eq!(error.close_code().get(), 1007);
                return;
            }
            let event = event.expect("a good frame");
            if !frame.fin {
                assert_eq!(event, None);
                continue;
            }
            message = None;
            let Some(Event::Message(read)) = event else {
                panic!("no message: {event:?}");
            };
            let read = Said::Message {
                text: read.as_text().is_some(),
                payload: read.as_bytes().to_vec(),
            };
            assert!(read == said, "another message");
        } else if frame.opcode == 8 {
            match event {
                Ok(Some(Event::Close(Some(close)))) => {
                    let mut said = close.code.get().to_be_bytes().to_vec();
                    said.extend_from_slice(close.reason.as_bytes());
                    assert_eq!(said, payload);
                }
                Ok(Some(Event::Close(None))) => assert!(payload.is_empty()),
                Err(_) => assert!(!payload.is_empty()),
                other => panic!("{other:?}"),
            }
            return;
        } else {
            assert_eq!(event, Ok(None));
            assert_eq!(out.is_empty(), frame.opcode != PING);
        }
        assert!(rest.is_empty(), "all of the frame is used");
    }
}
