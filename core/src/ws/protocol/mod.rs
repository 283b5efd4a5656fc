//! The WebSocket protocol without input or output (RFC 6455).
