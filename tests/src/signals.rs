use std::{io, sync::mpsc, thread, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use towpath::Drain;

/// Past the deadline the server has so long to end by itself.
const MARGIN: Duration = Duration::from_millis(250);

/// Starts `drain` at the first SIGTERM; ends the process at the second, or when the
/// drain's deadline has passed and it still stands.
///
/// It has a thread of its own: a handler that blocks its worker must not keep the
/// process from ending. SIGTERM is caught when this returns.
///
/// # Errors
/// Where the signal cannot be caught.
pub fn drain_on_sigterm(drain: Drain) -> io::Result<()> {
    let (caught, when_caught) = mpsc::channel();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let result = runtime.map(|runtime| runtime.block_on(watch(&drain, &caught)));
            let _ = caught.send(result.and_then(|result| result));
        })?;
    when_caught
        .recv()
        .map_err(|_| io::Error::other("the signal thread ended"))?
}

async fn watch(drain: &Drain, caught: &mpsc::Sender<io::Result<()>>) -> io::Result<()> {
    let mut sigterm = signal(SignalKind::terminate())?;
    // Whoever waits for it waits no longer only where it has failed itself.
    let _ = caught.send(Ok(()));
    sigterm.recv().await;
    drain.start();
    let over = async {
        if let Some(deadline) = drain.deadline() {
            tokio::time::sleep_until(deadline + MARGIN).await;
        }
    };
    tokio::select! {
        _ = sigterm.recv() => {}
        () = over => {}
    }
    #[expect(clippy::exit, reason = "at once, whatever the server's threads do")]
    std::process::exit(1)
}
