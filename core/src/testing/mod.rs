//! Sockets and event streams in memory, for tests.
//!
//! A [`TestServer`] serves a tower service with hyper over an in-memory pipe, as
//! a real server would over TCP: HTTP/1.1 with upgrades, and HTTP/2 with
//! extended CONNECT (RFC 8441). [`TestSocket`] and [`TestStream`] are a client's
//! ends, and a [`Fault`] is what happens to the connection between the two. All
//! of it works with tokio's paused time, so that a test of a time-out takes none.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use http::{Request, Response};
//! use tower_layer::Layer;
//! use towpath::{Stats, testing::TestServer, ws::{WsLayer, WsUpgrade}};
//!
//! async fn chat<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
//!     let (mut parts, _) = request.into_parts();
//!     Ok(match WsUpgrade::from_parts(&mut parts) {
//!         Err(rejection) => Response::from(&rejection),
//!         Ok(upgrade) => upgrade.on_upgrade(|mut socket| async move {
//!             while let Some(message) = socket.recv().await? { socket.send(message).await?; }
//!             Ok(())
//!         }),
//!     })
//! }
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let stats = Stats::new();
//! let layer = WsLayer.heartbeat(Duration::from_secs(30)).stats(stats.clone());
//! let server = TestServer::new(layer.layer(tower::service_fn(chat)));
//! let mut socket = server.get("/chat").socket().await?;
//! socket.send("hello").await?;
//! assert_eq!(socket.message().await?, "hello".into());
//! socket.fault().half_open(); // the peer vanishes: two heartbeats later it is found
//! tokio::time::sleep(Duration::from_secs(61)).await;
//! assert_eq!(stats.snapshot().websockets, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod client;
mod error;
mod fault;
mod request;
mod server;
mod socket;
mod stream;

pub use error::{RequestError, StreamError};
pub use fault::{Fault, FaultyIo};
pub use request::TestRequest;
pub use server::TestServer;
pub use socket::TestSocket;
pub use stream::TestStream;
