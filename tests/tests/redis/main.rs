//! Redis as the broker: the suite that every broker passes, and two testbeds with one
//! server that breaks.

#![allow(clippy::print_stdout, reason = "what was seen is the test's report")]

mod conformance;
mod faults;
mod testbeds;
