//! Every option that is malformed or not supported ends the program with one line.

use std::net::TcpListener;

use towpath_tests::{on_both, process::Framework as Testbed, ws::WebSocket};

/// Arguments that end the program, and what the line names.
const MALFORMED: &[(&[&str], &str)] = &[
    (&["--addr", "127.0.0.1"], "--addr"),
    (&["--addr", "127.0.0.1:port"], "--addr"),
    (&["--addr", "127.0.0.1:65536"], "--addr"),
    (&["--addr", ":0"], "--addr"),
    (&["--threads", "0"], "--threads"),
    (&["--threads", "many"], "--threads"),
    (&["--threads", "-1"], "--threads"),
    (&["--threads", "1000000"], "--threads"),
    (&["--threads"], "--threads"),
    (&["--threads", "1", "--threads", "2"], "--threads"),
    (&["--tls", "cert.pem"], "--tls"),
    (&["--broker", "memory"], "--broker"),
    (&["--broker", "redis://nowhere"], "--broker"),
    (&["--broker", "kafka://127.0.0.1:1"], "--broker"),
    (&["--history", "0"], "--history"),
    (&["--history", "1.5"], "--history"),
    (&["--max-message-size", "0"], "--max-message-size"),
    (&["--max-message-size", "1GB"], "--max-message-size"),
    (&["--max-message-size", "KiB"], "--max-message-size"),
    (
        &["--max-message-size", "18446744073709551615MiB"],
        "--max-message-size",
    ),
    (&["--max-frame-size", "0KiB"], "--max-frame-size"),
    (&["--max-frame-size", "-5"], "--max-frame-size"),
    (&["--max-fragments", "0"], "--max-fragments"),
    (&["--max-fragments", "x"], "--max-fragments"),
    (&["--max-connections", "x"], "--max-connections"),
    (&["--max-connections", "0"], "--max-connections"),
    (&["--max-per-user", "x"], "--max-per-user"),
    (&["--max-per-user", "0"], "--max-per-user"),
    (&["--queue", "0"], "--queue"),
    (&["--queue", "x"], "--queue"),
    (&["--queue", "1025"], "--queue"),
    (&["--queue", "6", "--history", "5"], "--queue"),
    (&["--overflow", "explode"], "--overflow"),
    (&["--overflow", ""], "--overflow"),
    (&["--buffer-budget", "x"], "--buffer-budget"),
    (&["--buffer-budget", "0"], "--buffer-budget"),
    (&["--handshake-timeout-ms", "0"], "--handshake-timeout-ms"),
    (&["--handshake-timeout-ms", "1s"], "--handshake-timeout-ms"),
    (&["--heartbeat-ms", "-1"], "--heartbeat-ms"),
    (&["--heartbeat-ms", "99999999999"], "--heartbeat-ms"),
    (&["--keep-alive-ms", "x"], "--keep-alive-ms"),
    (&["--idle-timeout-ms", "x"], "--idle-timeout-ms"),
    (&["--close-timeout-ms", "x"], "--close-timeout-ms"),
    (&["--write-timeout-ms", "x"], "--write-timeout-ms"),
    (&["--allow-origin", "chat.example"], "--allow-origin"),
    (
        &["--allow-origin", "https://chat.example/path"],
        "--allow-origin",
    ),
    (&["--drain-ms", "x"], "--drain-ms"),
    (&["--no-such-option", "1"], "--no-such-option"),
];

const UNSUPPORTED: &[(&[&str], &str)] = &[(&["--broker", "nats://127.0.0.1:4222"], "--broker")];

/// The one line on standard error of a testbed that does not start.
async fn line(framework: Testbed, arguments: &[&str]) -> String {
    let output = framework.output(arguments).await;
    assert!(!output.status.success(), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let text = String::from_utf8(output.stderr).expect("text");
    let line = text.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n'), "{arguments:?}: {text:?}");
    line.to_owned()
}

on_both! {
    async fn malformed_options_are_named(framework: Framework) {
        for &(arguments, option) in MALFORMED {
            let line = line(framework, arguments).await;
            assert!(line.contains(option), "{arguments:?}: {line}");
            assert!(!line.contains("not supported"), "{arguments:?}: {line}");
        }
    }

    async fn unsupported_options_are_named(framework: Framework) {
        for &(arguments, option) in UNSUPPORTED {
            let line = line(framework, arguments).await;
            assert!(line.contains(option), "{arguments:?}: {line}");
            assert!(line.ends_with("is not supported yet"), "{arguments:?}: {line}");
        }
    }

    async fn an_address_that_is_taken_is_named(framework: Framework) {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("bound").to_string();
        let line = line(framework, &["--addr", &address]).await;
        assert!(line.contains("--addr") && line.contains(&address), "{line}");
    }

    async fn all_that_is_supported_starts_together(framework: Framework) {
        let arguments = [
            "--addr=localhost:0",
            "--threads=1",
            "--broker=memory:",
            "--history=10",
            "--max-message-size=1MiB",
            "--max-frame-size=64KiB",
            "--max-fragments=100",
            "--max-connections=10",
            "--max-per-user=5",
            "--queue=10",
            "--overflow=conflate",
            "--handshake-timeout-ms=1000",
            "--heartbeat-ms=0",
            "--keep-alive-ms=0",
            "--close-timeout-ms=0",
            "--write-timeout-ms=0",
            "--idle-timeout-ms=60000",
            "--allow-origin=https://a.example",
            "--allow-origin=https://*.b.example",
            "--drain-ms=100",
        ];
        let testbed = framework.start(&arguments).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        socket.send("hello").await;
        assert_eq!(socket.text().await, "hello");
    }

    async fn help_is_no_failure(framework: Framework) {
        let output = framework.output(&["--help"]).await;
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("--drain-ms"));
    }
}
