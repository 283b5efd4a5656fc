//! Nothing but `benches/micro.rs`.
