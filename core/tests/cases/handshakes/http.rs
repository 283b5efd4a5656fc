//! What HTTP says of the request: RFC 9110, RFC 9112.

use super::{
    Cases,
    Expected::{Malformed, Refused},
    Request, accepted,
};

/// RFC 9112 §3.2: one host, and one that is a host.
pub(super) fn hosts(cases: &mut Cases) {
    for host in [
        "a",
        "SERVER.EXAMPLE",
        "server.example.",
        "server.example:",
        "server.example:0",
        "server.example:00080",
        "server.example:65535",
        "127.0.0.1",
        "127.0.0.1:9001",
        "[::1]",
        "[2001:db8::1]:443",
        "[::ffff:192.0.2.1]",
        "xn--caf-dma.example",
        "under_score.example",
        "%41.example",
        "a-b.c~d",
        "server.example;a",
        "!$&'()*+=.example",
        "\tserver.example ",
    ] {
        let request = Request::valid().with("Host", &[host]);
        cases.add(format!("host {host:?}"), &request, accepted());
    }
    for host in [
        "",
        ":80",
        "http://server.example",
        "server.example/",
        "server.example?a",
        "server.example#a",
        "user@server.example",
        "user:password@server.example",
        "server.example:80:80",
        "server.example:-1",
        "server.example:+80",
        "server.example:0x50",
        "server.example:99999",
        "server.example: 80",
        "server.example, other.example",
        "a b",
        "[::1",
        "::1",
        "[::1]x",
        "[]",
        "[server.example]",
        "server\\.example",
        "\"server.example\"",
        "<server.example>",
        "%4.example",
        "%zz.example",
        "caf\u{e9}.example",
        "server.example|",
        "^",
        "{a}",
    ] {
        let request = Request::valid().with("Host", &[host]);
        cases.add(format!("host {host:?}"), &request, Refused(400));
    }
    for (name, values) in [
        ("missing", &[][..]),
        ("twice", &["server.example", "server.example"]),
        ("and an empty one", &["server.example", ""]),
        ("thrice", &["a", "b", "c"]),
    ] {
        let request = Request::valid().with("Host", values);
        cases.add(format!("host {name}"), &request, Refused(400));
        cases.actix(Malformed(&[400]));
    }
}

/// RFC 6455 §4.2.1 (1): a GET of HTTP/1.1 or later.
pub(super) fn methods(cases: &mut Cases) {
    for method in [
        "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "Get", "GETT", "GE",
        "CHAT", "PROPFIND", "UPGRADE",
    ] {
        let mut request = Request::valid();
        request.line = format!("{method} /echo HTTP/1.1");
        cases.add(format!("method {method}"), &request, Malformed(&[405]));
    }
    let mut request = Request::valid();
    request.line = "GET /echo HTTP/1.0".to_owned();
    cases.add("an upgrade of HTTP/1.0", &request, Refused(426));
    let request = request.with::<&str>("Host", &[]);
    cases.add(
        "an upgrade of HTTP/1.0 without a host",
        &request,
        Refused(426),
    );
    for line in [
        "GET /echo HTTP/1.2",
        "GET /echo HTTP/2",
        "GET /echo HTTP/2.0",
        "GET /echo HTTP/3.0",
        "GET /echo HTTP/0.9",
        "GET /echo HTTP/1",
        "GET /echo HTTP/11",
        "GET /echo http/1.1",
        "GET /echo HTTPS/1.1",
        "GET /echo HTTP/1.1 HTTP/1.1",
        "GET /echo",
        "GET",
        "GET /echo WS/1.1",
    ] {
        let mut request = Request::valid();
        request.line = line.to_owned();
        cases.add(
            format!("request line {line:?}"),
            &request,
            Malformed(&[400, 505]),
        );
    }
}

/// RFC 6455 §4.2.1: a handshake has no content.
pub(super) fn contents(cases: &mut Cases) {
    for length in ["0", "00", " 0\t"] {
        let request = Request::valid().with("Content-Length", &[length]);
        cases.add(format!("content-length {length:?}"), &request, accepted());
    }
    for length in ["1", "5", "05", "1000000", "18446744073709551614"] {
        let request = Request::valid().with("Content-Length", &[length]);
        cases.add(format!("content-length {length:?}"), &request, Refused(400));
        if length.len() == 20 {
            // hyper has no room for it, and says so of the whole head.
            cases.hyper(Malformed(&[431]));
        }
    }
    for length in [
        "",
        "-1",
        "+0",
        "0x0",
        "zero",
        "0.0",
        "0, 5",
        "5, 0",
        "0 0",
        "\"0\"",
        "99999999999999999999",
    ] {
        let request = Request::valid().with("Content-Length", &[length]);
        cases.add(
            format!("content-length {length:?}"),
            &request,
            Malformed(&[400, 413]),
        );
    }
    for (name, values) in [("0 and 5", ["0", "5"]), ("5 and 0", ["5", "0"])] {
        let request = Request::valid().with("Content-Length", &values);
        cases.add(
            format!("content-lengths {name}"),
            &request,
            Malformed(&[400]),
        );
    }
    for coding in ["chunked", "Chunked", "CHUNKED"] {
        let request = Request::valid().with("Transfer-Encoding", &[coding]);
        cases.add(
            format!("transfer-encoding {coding:?}"),
            &request,
            Refused(400),
        );
        for length in ["0", "5"] {
            let request = request.clone().with("Content-Length", &[length]);
            cases.add(
                format!("transfer-encoding {coding:?} and content-length {length}"),
                &request,
                Refused(400),
            );
            cases.actix(Malformed(&[400]));
        }
    }
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "",
        "x",
        "chunked;a=b",
    ] {
        let request = Request::valid().with("Transfer-Encoding", &[coding]);
        cases.add(
            format!("transfer-encoding {coding:?}"),
            &request,
            Malformed(&[400, 501]),
        );
    }
    let request = Request::valid().with("Transfer-Encoding", &["chunked", "chunked"]);
    cases.add("transfer-encoding twice", &request, Malformed(&[400]));
}

/// RFC 9112 §3.2: the forms of a request target.
pub(super) fn targets(cases: &mut Cases) {
    for target in ["/echo?", "/echo?a=b", "/echo?a=%20&b=/?"] {
        cases.add(format!("target {target}"), &Request::to(target), accepted());
    }
    for target in [
        "http://server.example/echo",
        "http://server.example:8080/echo?a",
    ] {
        cases.add(format!("target {target}"), &Request::to(target), accepted());
    }
    for target in ["http://other.example/echo", "ws://server.example/echo"] {
        cases.add(format!("target {target}"), &Request::to(target), accepted());
    }
    for target in ["/nowhere", "/", "/echo/", "//echo", "*"] {
        cases.add(
            format!("target {target}"),
            &Request::to(target),
            Malformed(&[400, 404]),
        );
    }
    for target in ["", "echo", "/ec ho", "/echo\t", "http://", "/\u{0}"] {
        cases.add(
            format!("target {target:?}"),
            &Request::to(target),
            Malformed(&[400, 404]),
        );
    }
}

/// RFC 9112 §2.2, §5: what is no header is refused, whatever it would mean.
pub(super) fn syntax(cases: &mut Cases) {
    let inject = |line: &[u8]| {
        let mut bytes = Request::valid().bytes();
        let end = bytes.len() - 2;
        bytes.splice(end..end, line.iter().copied());
        bytes
    };
    for (name, line) in [
        ("a folded line", &b"X-Folded: a\r\n b\r\n"[..]),
        ("a folded line with a tab", b"X-Folded: a\r\n\tb\r\n"),
        ("a line without a colon", b"X-Line\r\n"),
        ("a line without a name", b": a\r\n"),
        ("a space in front of the colon", b"X-Name : a\r\n"),
        ("a tab in front of the colon", b"X-Name\t: a\r\n"),
        ("a space in a name", b"X Name: a\r\n"),
        ("a line that begins with a space", b" X-Name: a\r\n"),
        ("NUL in a name", b"X-\0Name: a\r\n"),
        ("NUL in a value", b"X-Name: a\0b\r\n"),
        ("a bare CR in a value", b"X-Name: a\rb\r\n"),
        ("a bare CR in a name", b"X-\rName: a\r\n"),
        ("a control character in a value", b"X-Name: a\x01b\r\n"),
        ("DEL in a value", b"X-Name: a\x7fb\r\n"),
        ("a bracket in a name", b"X-[Name]: a\r\n"),
        (
            "a character that is not ASCII in a name",
            b"X-N\xC3\xA4me: a\r\n",
        ),
        ("a slash in a name", b"X/Name: a\r\n"),
        ("NUL for a line", b"\0\r\n"),
    ] {
        cases.raw(name, inject(line), Malformed(&[400]));
    }
    for (name, line) in [
        ("white space around a value", &b"X-Name: \t a \t \r\n"[..]),
        ("no white space in front of a value", b"X-Name:a\r\n"),
        ("an empty value", b"X-Name:\r\n"),
        ("a tab in a value", b"X-Name: a\tb\r\n"),
        ("bytes above ASCII in a value", b"X-Name: \xC3\xA4\xFF\r\n"),
        (
            "every character of a token in a name",
            b"!#$%&'*+-.^_`|~09azAZ: a\r\n",
        ),
        ("a colon in a value", b"X-Name: a: b\r\n"),
        (
            "a long name",
            b"X-Name-Name-Name-Name-Name-Name-Name-Name-Name-Name-Name-Name: a\r\n",
        ),
    ] {
        cases.raw(name, inject(line), accepted());
    }
    for name in [
        "Sec-WebSocket-Key",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Version",
    ] {
        for (what, injected) in [("NUL", 0), ("CR", b'\r'), ("a control character", 1)] {
            let mut request = Request::valid();
            for (found, value) in &mut request.headers {
                if found == name {
                    value.insert(2, injected);
                }
            }
            cases.add(format!("{what} in {name}"), &request, Malformed(&[400]));
        }
    }
    let mut bytes = b"\r\n".to_vec();
    bytes.extend(Request::valid().bytes());
    cases.raw("an empty line in front", bytes, accepted());
    let mut bytes = b" ".to_vec();
    bytes.extend(Request::valid().bytes());
    cases.raw("a space in front", bytes, Malformed(&[400]));
    for (length, name) in [(1000, "1,000"), (8000, "8,000"), (60_000, "60,000")] {
        let request = Request::valid().with("X-Long", &["x".repeat(length)]);
        cases.add(
            format!("a header of {name} characters"),
            &request,
            accepted(),
        );
    }
    let mut request = Request::valid();
    for number in 0..80 {
        request.headers.push((format!("X-{number}"), b"a".to_vec()));
    }
    cases.add("eighty headers more", &request, accepted());
    for number in 80..200 {
        request.headers.push((format!("X-{number}"), b"a".to_vec()));
    }
    cases.add("two hundred headers more", &request, Malformed(&[400, 431]));
}
