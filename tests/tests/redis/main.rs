//! Redis as the broker: the suite that every broker passes, and two testbeds with one
//! server that breaks.

mod conformance;
mod faults;
mod testbeds;
