//! The one test command of the project.
fn main() {}
