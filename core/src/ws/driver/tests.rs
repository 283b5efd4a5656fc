//! The rules of the driver, each by its name (`docs/driver.md`).

mod ends;
mod peer;
mod rules;
