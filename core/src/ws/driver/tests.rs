//! The rules of the driver, each by its name (`docs/driver.md`).

mod ends;
mod idle;
mod peer;
mod rules;
