//! What WebSocket says of the request: RFC 6455, RFC 7692, and HTTP's upgrade.

use super::{BASE64, Cases, Expected, Expected::Refused, KEY, Request, accepted, accepted_with};

/// RFC 6455 §4.2.1 (5): the base64 of 16 bytes, alone.
pub(super) fn keys(cases: &mut Cases) {
    let valid = Request::valid();
    // Bits behind the last byte may be set: RFC 6455 §4.1 has such a key.
    for last in BASE64 {
        let key = format!("dGhlIHNhbXBsZSBub25jZ{}==", char::from(*last));
        let request = valid.clone().with("Sec-WebSocket-Key", &[&key]);
        cases.add(format!("key {key}"), &request, accepted_with(&key));
    }
    for length in (0..=40).filter(|length| *length != 16) {
        let key = base64_of(length);
        let request = valid.clone().with("Sec-WebSocket-Key", &[&key]);
        cases.add(format!("key of {length} bytes"), &request, Refused(400));
    }
    for wrong in b"-_ \t=,;:.!\"#$%&'()*<>?@[\\]^`{|}~\x80\xC3\xFF" {
        for at in [1, 11, 21] {
            let mut key = KEY.as_bytes().to_vec();
            key[at] = *wrong;
            let request = valid.clone().with("Sec-WebSocket-Key", &[key]);
            let wrong = wrong.escape_ascii();
            cases.add(format!("key with {wrong} at {at}"), &request, Refused(400));
        }
    }
    for (name, values) in [
        ("key and an empty key", &[KEY, ""][..]),
        ("empty key and a key", &["", KEY]),
        ("three keys", &[KEY, KEY, KEY]),
        ("key and a comma", &["dGhlIHNhbXBsZSBub25jZQ==,"]),
        ("comma and a key", &[",dGhlIHNhbXBsZSBub25jZQ=="]),
        ("key with a parameter", &["dGhlIHNhbXBsZSBub25jZQ==;a=b"]),
        ("key with its padding inside", &["dGhlIHNhbXBs=SBub25jZQ=="]),
        ("key of padding", &["========================"]),
        ("key with three of padding", &["dGhlIHNhbXBsZSBub25jZ==="]),
        (
            "key with its padding in front",
            &["==dGhlIHNhbXBsZSBub25jZQ"],
        ),
        ("key with a comment", &["dGhlIHNhbXBsZSBub25jZQ== (mine)"]),
        ("key with escapes", &["dGhlIHNhbXBsZSBub25jZQ%3D%3D"]),
    ] {
        let request = valid.clone().with("Sec-WebSocket-Key", values);
        cases.add(name, &request, Refused(400));
    }
    let request = valid.clone().with("Sec-WebSocket-Key", &["A".repeat(4000)]);
    cases.add("key of 4,000 characters", &request, Refused(400));
    let request = valid.with("Sec-WebSocket-Accept", &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    cases.add("the answer's header in the request", &request, accepted());
}

fn base64_of(length: usize) -> String {
    let mut text = "A".repeat((length * 8).div_ceil(6));
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// RFC 9110 §7.8: a list of protocols, over any number of lines.
pub(super) fn upgrades(cases: &mut Cases) {
    for (name, values) in [
        ("in upper case", &["WEBSOCKET"][..]),
        ("in mixed case", &["wEbSoCkEt"]),
        ("with white space", &["\t websocket \t"]),
        ("twice", &["websocket", "websocket"]),
        ("on the second line", &["h2c", "websocket"]),
        ("on the first line", &["websocket", "h2c"]),
        ("on the third line", &["h2c", "foo/1", "websocket"]),
        ("behind an empty line", &["", "websocket"]),
    ] {
        let request = Request::valid().with("Upgrade", values);
        cases.add(format!("upgrade {name}"), &request, accepted());
    }
    // actix-http hands over its raw stream only where a line has the token alone.
    for (name, values) in [
        ("first of a list", &["websocket, h2c"][..]),
        ("last of a list", &["h2c, websocket"]),
        ("in the middle of a list", &["a, websocket, b"]),
        ("in a list without spaces", &["a,websocket,b"]),
        ("in a list with tabs", &["a\t,\twebsocket\t"]),
        ("in a list with versions", &["foo/1.1, websocket, bar/2"]),
        ("in a list with empty elements", &[",, ,websocket, ,"]),
        ("twice in a list", &["websocket, websocket"]),
        ("in upper case in a list", &["h2c, WEBSOCKET"]),
        ("in a list on a second line", &["h2c", "foo, websocket"]),
    ] {
        let request = Request::valid().with("Upgrade", values);
        cases.add(format!("upgrade {name}"), &request, accepted());
        cases.actix(Refused(426));
    }
    for (name, value) in [
        ("as the end of a word", "notwebsocket"),
        ("as the beginning of a word", "websockets"),
        ("with a hyphen", "web-socket"),
        ("with a version", "websocket/13"),
        ("as a version", "foo/websocket"),
        ("with a parameter", "websocket; a=b"),
        ("as a parameter", "foo; websocket"),
        ("in quotes", "\"websocket\""),
        ("in a quoted list", "\"a, websocket\""),
        ("in a comment", "foo (websocket)"),
        ("with a space inside", "web socket"),
        ("behind a space", "foo websocket"),
        ("in other letters", "websoc\u{212a}et"),
        ("with a semicolon for a comma", "foo;websocket"),
        ("cut", "websocke"),
        ("as ws", "ws"),
        ("as another token", "h2c"),
        ("as a list of others", "h2c, TLS/1.0"),
        ("empty", ""),
        ("as commas", ",,,"),
        ("with a slash behind it", "websocket/"),
    ] {
        let request = Request::valid().with("Upgrade", &[value]);
        cases.add(format!("upgrade {name}"), &request, Refused(426));
    }
    let request = Request::valid().with("Upgrade", &["h2c", "foo"]);
    cases.add(
        "upgrade over lines without the token",
        &request,
        Refused(426),
    );
    let request = Request::valid().with::<&str>("Upgrade", &[]);
    cases.add("no upgrade, all else", &request, Refused(426));
}

/// RFC 9110 §7.6.1: a list of options, over any number of lines.
pub(super) fn connections(cases: &mut Cases) {
    for (name, values) in [
        ("in lower case", &["upgrade"][..]),
        ("in mixed case", &["uPGRADE"]),
        ("with white space", &[" \tUpgrade\t "]),
        ("twice", &["Upgrade", "Upgrade"]),
        ("twice in a list", &["Upgrade, upgrade"]),
        ("behind keep-alive", &["keep-alive, Upgrade"]),
        ("in front of keep-alive", &["Upgrade, keep-alive"]),
        ("without spaces", &["keep-alive,Upgrade"]),
        ("with tabs", &["keep-alive\t,\tUpgrade"]),
        ("with empty elements", &[", ,Upgrade,,"]),
        ("behind an empty line", &["", "Upgrade"]),
        ("in front of an empty line", &["Upgrade", ""]),
        ("on a second line", &["keep-alive", "Upgrade"]),
        ("on the first line", &["Upgrade", "keep-alive"]),
        (
            "with the names of headers",
            &["Upgrade, Sec-WebSocket-Key, TE"],
        ),
        ("among many", &["a, b, c, d, e, f, g, upgrade, h"]),
        ("beside close", &["Upgrade, close"]),
        ("behind close", &["close, Upgrade"]),
        ("with close on a line of its own", &["close", "Upgrade"]),
    ] {
        let request = Request::valid().with("Connection", values);
        cases.add(format!("connection {name}"), &request, accepted());
    }
    for (name, values) in [
        ("as the end of a word", &["notupgrade"][..]),
        ("as the beginning of a word", &["upgrades"]),
        ("with a hyphen", &["upgrade-insecure-requests"]),
        ("behind a hyphen", &["x-upgrade"]),
        ("with a parameter", &["Upgrade; a=b"]),
        ("as a value", &["a=Upgrade"]),
        ("in quotes", &["\"Upgrade\""]),
        ("behind a space", &["keep-alive Upgrade"]),
        ("behind a semicolon", &["keep-alive; Upgrade"]),
        ("with a version", &["Upgrade/1"]),
        ("in a comment", &["(Upgrade)"]),
        ("cut over lines", &["Up", "grade"]),
        ("cut by a comma", &["Up,grade"]),
        ("as close", &["close"]),
        ("as keep-alive", &["keep-alive"]),
        ("as the protocol", &["websocket"]),
        ("empty", &[""]),
        ("as commas", &[", ,"]),
        ("not there", &[]),
    ] {
        let request = Request::valid().with("Connection", values);
        cases.add(format!("connection {name}"), &request, Refused(400));
    }
}

/// RFC 6455 §4.4: anything but 13 is told what there is.
pub(super) fn versions(cases: &mut Cases) {
    for version in ["13", " 13", "13 ", "\t13\t", "   13   "] {
        let request = Request::valid().with("Sec-WebSocket-Version", &[version]);
        cases.add(format!("version {version:?}"), &request, accepted());
    }
    for version in [
        "",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
        "14",
        "15",
        "21",
        "99",
        "100",
        "113",
        "130",
        "131",
        "255",
        "256",
        "1000",
        "013",
        "0013",
        "13.0",
        "13.",
        ".13",
        "+13",
        "-13",
        "1 3",
        "13a",
        "a13",
        "0x0d",
        "0xd",
        "\"13\"",
        "'13'",
        "13;",
        "13;q=1",
        "(13)",
        "13,",
        ",13",
        "13, 8",
        "8, 13",
        "13, 13",
        "13 13",
        "thirteen",
        "\u{661}\u{663}",
        "1e1",
        "*",
        "13\u{a0}",
    ] {
        let request = Request::valid().with("Sec-WebSocket-Version", &[version]);
        cases.add(format!("version {version:?}"), &request, Refused(426));
    }
    for (name, values) in [
        ("missing", &[][..]),
        ("twice the same", &["13", "13"]),
        ("13 and 8", &["13", "8"]),
        ("8 and 13", &["8", "13"]),
        ("empty and 13", &["", "13"]),
        ("13 and empty", &["13", ""]),
    ] {
        let request = Request::valid().with("Sec-WebSocket-Version", values);
        cases.add(format!("version {name}"), &request, Refused(426));
    }
    // Who asks for another version hears of it, whatever else is wrong with the request.
    let request = Request::valid()
        .with("Sec-WebSocket-Version", &["8"])
        .with::<&str>("Sec-WebSocket-Key", &[]);
    cases.add("version 8 without a key", &request, Refused(426));
}

/// RFC 6455 §4.1, §4.2.2: tokens, none twice; the server's favourite is chosen.
pub(super) fn protocols(cases: &mut Cases) {
    let offering = |lines: &[&str]| Request::to("/protocols").with("Sec-WebSocket-Protocol", lines);
    for (lines, protocol) in [
        (&[][..], None),
        (&["chat.v1"], Some("chat.v1")),
        (&["chat.v2"], Some("chat.v2")),
        (&["chat.v1, chat.v2"], Some("chat.v2")),
        (&["chat.v2, chat.v1"], Some("chat.v2")),
        (&["chat.v1", "chat.v2"], Some("chat.v2")),
        (&["chat.v2", "chat.v1"], Some("chat.v2")),
        (&["a, b, chat.v1"], Some("chat.v1")),
        (&["a, chat.v1, b"], Some("chat.v1")),
        (&["a", "b", "chat.v1, c"], Some("chat.v1")),
        (&["a,chat.v2"], Some("chat.v2")),
        (&["a\t,\tchat.v2\t"], Some("chat.v2")),
        (&[",,chat.v1,,"], Some("chat.v1")),
        (&["", "chat.v1"], Some("chat.v1")),
        (&["chat.v1", ""], Some("chat.v1")),
        (&["CHAT.V1"], None),
        (&["Chat.v2, chat.v1"], Some("chat.v1")),
        (&["chat.v1, CHAT.V1"], Some("chat.v1")),
        (&["chat"], None),
        (&["chat.v"], None),
        (&["chat.v11"], None),
        (&["xchat.v1"], None),
        (&["chat_v1"], None),
        (&["none"], None),
        (&["!#$%&'*+-.^_`|~, chat.v1"], Some("chat.v1")),
        (&["0123456789, chat.v1"], Some("chat.v1")),
    ] {
        let expected = Expected::Accepted {
            key: KEY.to_owned(),
            protocol,
        };
        cases.add(format!("protocols {lines:?}"), &offering(lines), expected);
    }
    // What is no character of a token (RFC 9110 §5.6.2).
    for wrong in b"()/:;<=>?@[\\]{}\" \t\x80\xE9\xFF" {
        for (place, mut name) in [
            ("inside", b"chat.v1x".to_vec()),
            ("in an offer behind ours", b"chat.v1, ax".to_vec()),
        ] {
            let last = name.len() - 1;
            name.splice(last..last, [*wrong]);
            let request = Request::to("/protocols").with("Sec-WebSocket-Protocol", &[name]);
            let wrong = wrong.escape_ascii();
            cases.add(
                format!("protocol with {wrong} {place}"),
                &request,
                Refused(400),
            );
        }
    }
    for lines in [
        &[""][..],
        &[",,"],
        &["", ""],
        &["chat.v1, chat.v1"],
        &["chat.v1,chat.v1"],
        &["chat.v1", "chat.v1"],
        &["chat.v2, a, b, c, chat.v2"],
        &["a, chat.v1", "b, a"],
        &["a, a"],
        &["chat.v1 chat.v2"],
        &["chat.v1;chat.v2"],
        &["\"chat.v1\""],
        &["\"chat.v1, chat.v2\""],
        &["chat.v1; q=1"],
        &["chat/v1"],
        &["chat.v1, (comment)"],
    ] {
        cases.add(
            format!("protocols {lines:?}"),
            &offering(lines),
            Refused(400),
        );
    }
    let many: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
    let many = many.join(", ");
    let request = offering(&[&format!("{many}, chat.v1")]);
    let expected = Expected::Accepted {
        key: KEY.to_owned(),
        protocol: Some("chat.v1"),
    };
    cases.add("a thousand protocols", &request, expected);
    let request = offering(&[&format!("{many}, p999")]);
    cases.add(
        "a thousand protocols, the last one twice",
        &request,
        Refused(400),
    );
}

/// RFC 6455 §9.1, RFC 7692 §5: what is not known or not understood is declined.
pub(super) fn extensions(cases: &mut Cases) {
    for lines in [
        &["foo"][..],
        &["foo, bar"],
        &["foo; a"],
        &["foo; a=1; b=\"c\""],
        &["foo", "bar; x=y"],
        &["x-webkit-deflate-frame"],
        &["deflate-frame, foo"],
        &["permessage-bzip2; blocksize=1"],
        &["permessage-deflatex"],
        &["xpermessage-deflate"],
        &["permessage-deflate; unknown"],
        &["permessage-deflate; server_max_window_bits=7"],
        &["permessage-deflate; server_max_window_bits=16"],
        &["permessage-deflate; server_max_window_bits"],
        &["permessage-deflate; server_max_window_bits=08"],
        &["permessage-deflate; server_max_window_bits=+9"],
        &["permessage-deflate; server_max_window_bits=\"16\""],
        &["permessage-deflate; client_max_window_bits=0"],
        &["permessage-deflate; client_max_window_bits=a"],
        &["permessage-deflate; client_max_window_bits; client_max_window_bits"],
        &["permessage-deflate; client_no_context_takeover=0"],
        &["permessage-deflate; server_no_context_takeover=true"],
        &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
        &[""],
        &[","],
        &[";"],
        &["="],
        &["; a=b"],
        &["foo;"],
        &["foo;;a"],
        &["foo; =b"],
        &["foo; a="],
        &["foo bar"],
        &["foo; a b"],
        &["foo; a=\"b"],
        &["foo; a=\"\\"],
        &["\"foo\""],
        &["(foo)"],
        &["foo/bar"],
        &["permessage-deflate/1"],
        &["\"permessage-deflate\""],
    ] {
        let request = Request::valid().with("Sec-WebSocket-Extensions", lines);
        cases.add(format!("extensions {lines:?}"), &request, accepted());
    }
}
