//! The client under test against servers of others: Autobahn's fuzzing server, and echoes.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks to its user"
)]

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use tokio::time::timeout;
use towpath::{
    client::{self, Connect},
    ws::{CloseCode, Deflate, Message, WebSocket},
};

/// What one case or check may take, so that a server that falls silent is a failure.
const LIMIT: Duration = Duration::from_secs(240);

/// The largest message; Autobahn's are of 16 MiB, and so are ours.
const MAX_MESSAGE: usize = 64 << 20;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all cases of Autobahn's fuzzing server at ADDRESS.
    Autobahn {
        /// Host and port.
        address: String,
        /// The name in its reports.
        agent: String,
        /// Offers compression.
        #[arg(long)]
        deflate: bool,
    },
    /// Sends messages of all sizes to an echo at URL, and expects them back.
    Echo {
        /// As `ws://127.0.0.1:9001/echo`.
        url: String,
        /// The server compresses: every combination of our settings is tried.
        #[arg(long)]
        deflate: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Autobahn {
            address,
            agent,
            deflate,
        } => match autobahn(&address, &agent, deflate).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        },
        Command::Echo { url, deflate } => echoes(&url, deflate).await,
    }
}

fn connect(url: &str, deflate: Option<Deflate>) -> Connect {
    client::connect(url)
        .connect_timeout(Duration::from_secs(60))
        .configure(|config| config.max_message_size(MAX_MESSAGE).deflate(deflate))
}

async fn autobahn(address: &str, agent: &str, deflate: bool) -> Result<(), Failure> {
    let base = format!("ws://{address}");
    let mut socket = connect(&format!("{base}/getCaseCount"), None).await?;
    let count = socket.recv().await?.ok_or("no count of cases")?;
    let count: u32 = count.as_text().unwrap_or_default().parse()?;
    drop(socket);
    let deflate = deflate.then(|| Deflate::new().threshold(0).context_takeover(true));
    for case in 1..=count {
        let url = format!("{base}/runCase?case={case}&agent={agent}");
        // How a case ends is the server's to judge; both ways to drive a socket are held
        // to it.
        let ran = if case % 2 == 0 {
            timeout(LIMIT, connect(&url, deflate).run(echo)).await
        } else {
            let run = async {
                let _ = echo(connect(&url, deflate).await?).await;
                Ok(())
            };
            timeout(LIMIT, run).await
        };
        ran.map_err(|_| format!("case {case}: not done after {LIMIT:?}"))??;
    }
    let mut socket = connect(&format!("{base}/updateReports?agent={agent}"), None).await?;
    while socket.recv().await?.is_some() {}
    println!("{count} cases run");
    Ok(())
}

async fn echo(mut socket: WebSocket) -> Result<(), towpath::ws::HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    // The server's close is answered before the next case begins.
    socket.closed().await;
    Ok(())
}

async fn echoes(url: &str, deflate: bool) -> ExitCode {
    let mut forms = vec![None];
    if deflate {
        for keeps in [false, true] {
            // npm's `ws` and zlib itself take no window of 8.
            forms.extend([9, 12, 15].map(|bits| {
                let form = Deflate::new().threshold(0).window_bits(bits);
                Some(form.context_takeover(keeps))
            }));
        }
    }
    let (mut passed, mut failed) = (0, 0);
    for form in forms {
        match timeout(LIMIT, all_sizes(url, form)).await {
            Ok(Ok(())) => passed += 1,
            Ok(Err(failure)) => {
                failed += 1;
                eprintln!("FAILED {form:?}: {failure}");
            }
            Err(_) => {
                failed += 1;
                eprintln!("FAILED {form:?}: not done after {LIMIT:?}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn all_sizes(url: &str, deflate: Option<Deflate>) -> Result<(), Failure> {
    let (mut socket, response) = connect(url, deflate).open().await?;
    let agreed = response.headers().contains_key("sec-websocket-extensions");
    if agreed != deflate.is_some() {
        return Err(format!("compression: asked {}, agreed {agreed}", deflate.is_some()).into());
    }
    for size in [
        0,
        1,
        125,
        126,
        127,
        1000,
        65_535,
        65_536,
        65_537,
        1 << 20,
        16 << 20,
    ] {
        let text = "and all the others who read this, Grüße. ";
        let text = text.repeat(size / text.len() + 1);
        let end = text.floor_char_boundary_at(size);
        let mut random = fastrand::Rng::with_seed(size as u64);
        let bytes: Vec<_> = std::iter::repeat_with(|| random.u8(..))
            .take(size)
            .collect();
        for message in [
            Message::text(text[..end].to_owned()),
            Message::binary(bytes),
        ] {
            socket.send(message.clone()).await?;
            let echoed = socket.recv().await?.ok_or_else(|| closed(&socket))?;
            if echoed != message {
                return Err(format!("the echo of {size} bytes differs").into());
            }
        }
    }
    // Many at once, so that they come in pieces.
    let (mut sender, mut receiver) = socket.split();
    let sending = tokio::spawn(async move {
        for number in 0..10_000_u32 {
            sender.send(format!("message {number}")).await?;
        }
        Ok::<_, towpath::ws::Error>(sender)
    });
    for number in 0..10_000_u32 {
        let message = receiver.recv().await?.ok_or("closed")?;
        if message.as_text() != Some(&format!("message {number}")) {
            return Err(format!("message {number} is another").into());
        }
    }
    let mut sender = sending.await??;
    sender.close(CloseCode::NORMAL, "done").await?;
    if let Some(message) = receiver.recv().await? {
        return Err(format!("{} bytes in place of the close", message.len()).into());
    }
    match receiver.close_frame() {
        Some(frame) if frame.code == CloseCode::NORMAL => Ok(()),
        other => Err(format!("closed with {other:?}").into()),
    }
}

fn closed(socket: &WebSocket) -> String {
    format!("closed with {:?}", socket.close_frame())
}

/// The largest boundary of a character that is not behind `at`.
trait Boundary {
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl Boundary for str {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        (0..=at.min(self.len()))
            .rev()
            .find(|&at| self.is_char_boundary(at))
            .unwrap_or(0)
    }
}
