//! Programs that a user of towpath would copy. What they share between axum and
//! actix-web is in modules here, the programs themselves in `src/bin/`.

pub mod chat;
