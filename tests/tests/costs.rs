//! What the design costs, held so that each guarantee shows its price as it lands:
//! `docs/costs.md` has the figures and what they are made of.

#![expect(clippy::panic, reason = "what is not as expected fails the test")]

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, FlushCompress};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;

/// Instructions of one echoed message of 16 bytes; a tenth above what was measured.
const TEXT: u64 = 1_060;
const BINARY: u64 = 1_020;

/// What a compressed broadcast of 1 KiB to 1,000 sockets may cost, in percent of a
/// plain one: it is compressed once.
const COMPRESSED_PERCENT: u64 = 130;

/// Instructions of an event's way to one of 1,000 streams, where one is in flight and
/// where eight are; a tenth above what was measured.
const STREAM: u64 = 1_830;
const STREAM_BURST: u64 = 680;

/// Bytes of an idle connection's share of the resident memory; measured and 15 %.
const IDLE_AXUM: usize = 2_200;
const IDLE_ACTIX: usize = 17_200;

/// The same of one that has agreed on compression.
const IDLE_DEFLATE_AXUM: usize = 2_900;
const IDLE_DEFLATE_ACTIX: usize = 16_000;

/// Connections that warm the server up, and those that are measured.
const FIRST: usize = 200;
const MEASURED: usize = 2_000;

/// Whatever is awaited comes within this.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn an_echoed_message_costs_so_many_instructions() {
    let program = example("echo_cost");
    for (kind, bound) in [("text", TEXT), ("binary", BINARY)] {
        // The difference of two runs: what starting and ending cost cancels out.
        let (few, many) = (8_000, 40_000);
        let difference = instructions(&program, many, kind) - instructions(&program, few, kind);
        let each = difference / (many - few);
        println!("{kind}: {each} instructions a message");
        assert!(each <= bound, "{kind}: {each} instructions, past {bound}");
        // A program that does not echo would pass every upper bound.
        assert!(each > 100, "{kind}: {each} instructions");
    }
}

#[test]
fn a_compressed_broadcast_costs_little_more_than_a_plain_one() {
    let program = example("fanout_cost");
    let [plain, compressed] = ["plain", "compressed"].map(|kind| {
        let (few, many) = (4, 20);
        let difference = instructions(&program, many, kind) - instructions(&program, few, kind);
        let each = difference / (many - few) / 1000;
        println!("{kind}: {each} instructions a delivery");
        // The program itself fails where one is not delivered, or not compressed.
        assert!(each > 100, "{kind}: {each} instructions");
        each
    });
    let percent = compressed * 100 / plain;
    println!("compressed: {percent} % of plain");
    assert!(percent <= COMPRESSED_PERCENT, "{percent} %");
}

#[test]
fn an_event_costs_a_stream_so_many_instructions() {
    let program = example("fanout_sse_cost");
    for (kind, bound) in [("plain", STREAM), ("burst", STREAM_BURST)] {
        let (few, many) = (8, 24);
        let difference = instructions(&program, many, kind) - instructions(&program, few, kind);
        let each = difference / (many - few) / 1000;
        println!("event stream, {kind}: {each} instructions a delivery");
        assert!(each <= bound, "{kind}: {each} instructions, past {bound}");
        // The program itself fails where one is not delivered.
        assert!(each > 100, "{kind}: {each} instructions");
    }
}

#[test]
fn an_idle_connection_costs_so_many_bytes() {
    let program = example("idle_echo");
    for (framework, bound) in [("axum", IDLE_AXUM), ("actix", IDLE_ACTIX)] {
        let (unused, used) = idle(&program, &[framework], echo);
        println!("{framework}: {unused} bytes a connection, {used} once it was used");
        assert!(unused <= bound, "{framework}: {unused} bytes, past {bound}");
        assert!(used <= bound, "{framework}: {used} bytes, past {bound}");
        assert!(unused > 500, "{framework}: {unused} bytes");
    }
}

/// No context is taken over by default, so none is owned between messages: one would
/// be 48 KB for what is inflated and 250 KB and more for what is compressed.
#[test]
fn an_idle_connection_that_has_compressed_costs_little_more() {
    let program = example("idle_echo");
    for (framework, bound) in [("axum", IDLE_DEFLATE_AXUM), ("actix", IDLE_DEFLATE_ACTIX)] {
        let (unused, used) = idle(&program, &[framework, "deflate"], compressed_echo);
        println!("{framework}: {unused} bytes a connection, {used} once it has compressed");
        assert!(unused <= bound, "{framework}: {unused} bytes, past {bound}");
        assert!(used <= bound, "{framework}: {used} bytes, past {bound}");
        assert!(used > 500, "{framework}: {used} bytes");
    }
}

/// What callgrind counts in a run of `program` over so many messages.
fn instructions(program: &Path, messages: u64, kind: &str) -> u64 {
    let name = program.file_name().unwrap_or_default().display();
    let counts =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{kind}-{messages}.callgrind"));
    let mut out = std::ffi::OsString::from("--callgrind-out-file=");
    out.push(&counts);
    let run = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(out)
        .arg(program)
        .args([&*messages.to_string(), kind])
        .output();
    let run = run.unwrap_or_else(|error| {
        assert_ne!(
            error.kind(),
            io::ErrorKind::NotFound,
            "valgrind is missing: apt-get install -y valgrind"
        );
        panic!("valgrind: {error}")
    });
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}: {said}", program.display());
    let counts = fs::read_to_string(&counts).expect("callgrind's counts");
    let total = counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.parse().ok()).expect("a total")
}

/// Bytes of resident memory that a connection adds: behind its handshake, and when
/// every one has echoed a message.
fn idle(program: &Path, arguments: &[&str], echo: fn(&mut TcpStream)) -> (usize, usize) {
    allow_files((FIRST + MEASURED + 64) as u64);
    let server = Server::start(program, arguments);
    let mut sockets: Vec<_> = (0..FIRST).map(|_| server.connect()).collect();
    // The thread's own buffers and contexts.
    sockets.iter_mut().for_each(echo);
    server.until_live(FIRST);
    let before = server.resident();
    sockets.extend((0..MEASURED).map(|_| server.connect()));
    server.until_live(FIRST + MEASURED);
    let unused = server.resident().saturating_sub(before) / MEASURED;
    sockets.iter_mut().for_each(echo);
    let used = server.resident().saturating_sub(before) / MEASURED;
    (unused, used)
}

fn echo(socket: &mut TcpStream) {
    // RFC 6455 §5.2: a text frame, masked with a key of zeros, and its echo without.
    let sent = b"\x81\x84\0\0\0\0ping";
    socket.write_all(sent).expect("it takes a frame");
    let mut echoed = [0; 6];
    socket.read_exact(&mut echoed).expect("it echoes");
    assert_eq!(&echoed, b"\x81\x04ping");
}

/// A text of 1,000 letters each way, compressed.
fn compressed_echo(socket: &mut TcpStream) {
    let mut body = Vec::with_capacity(100);
    Compress::new(Compression::new(6), false)
        .compress_vec(&[b'a'; 1000], &mut body, FlushCompress::Sync)
        .expect("room for it");
    // RFC 7692 §7.2.1: without the tail of the flush.
    body.truncate(body.len() - 4);
    let len = u8::try_from(body.len()).expect("a short frame");
    let sent = [&[0xC1, 0x80 | len, 0, 0, 0, 0], &body[..]].concat();
    socket.write_all(&sent).expect("it takes a frame");
    let mut header = [0; 2];
    socket.read_exact(&mut header).expect("it echoes");
    assert!(header[0] == 0xC1 && header[1] < 30, "{header:x?}");
    let mut echoed = vec![0; header[1].into()];
    socket.read_exact(&mut echoed).expect("it echoes");
}

/// The server in a process of its own; it ends with its standard input.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("it says where it listens");
        let address = line.trim_end().strip_prefix("listening on http://");
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{arguments:?}: {line:?}"));
        Self { child, address }
    }

    /// A socket, its handshake behind it.
    fn connect(&self) -> TcpStream {
        let mut socket = self.request(
            "/echo",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n",
        );
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            socket
                .read_exact(&mut byte)
                .expect("the head of a response");
            head.extend(byte);
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101 "),
            "{}",
            head.escape_ascii()
        );
        socket
    }

    /// Asks until so many sockets live: the answer to a handshake comes before its
    /// driver runs.
    fn until_live(&self, count: usize) {
        let start = Instant::now();
        loop {
            let mut response = String::new();
            let mut stream = self.request("/live", "Connection: close\r\n");
            stream.read_to_string(&mut response).expect("a response");
            if response.ends_with(&format!("\r\n\r\n{count}")) {
                return;
            }
            assert!(start.elapsed() < SOON, "{count} do not live: {response}");
        }
    }

    fn request(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(SOON)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            self.address
        );
        stream
            .write_all(request.as_bytes())
            .expect("it takes a request");
        stream
    }

    /// `VmRSS`, in bytes.
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("Linux tells a process's memory");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("a number of KiB")
            * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It is gone, or it ends with the pipe.
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files, for this process and those it starts.
fn allow_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{wanted} open files are needed: ulimit -Hn {wanted}"
    );
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("below the hard limit");
}

/// The example, optimised as the testbeds are: out of the folder that
/// `TOWPATH_EXAMPLES` names, else built first.
fn example(name: &str) -> PathBuf {
    #[derive(Deserialize)]
    struct Artifact {
        executable: Option<PathBuf>,
    }
    if let Some(built) = env::var_os("TOWPATH_EXAMPLES") {
        return Path::new(&built).join(name);
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--profile",
            "testbed",
            "--package",
            "towpath-tests",
        ])
        .args([
            "--examples",
            "--locked",
            "--quiet",
            "--message-format",
            "json",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the examples do not build");
    let said = String::from_utf8_lossy(&output.stdout);
    let built = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok()?.executable)
        .find(|path| path.ends_with(name));
    built.unwrap_or_else(|| panic!("{name} was not built"))
}
