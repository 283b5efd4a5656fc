use std::process::ExitCode;

/// How a server that was run by [`Drain::run`](super::Drain::run) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it tells whether the drain was clean"]
pub struct DrainOutcome<T = ()> {
    output: Option<T>,
    clean: bool,
}

impl<T> DrainOutcome<T> {
    pub(super) fn new(output: Option<T>, clean: bool) -> Self {
        Self { output, clean }
    }

    /// Whether nothing was cut by the deadline. True also where the server
    /// ended without a drain: what it returned is then the thing to look at.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// 0 where it was clean, else 1.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.clean {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// What the server returned; `None` where the deadline came first.
    pub fn into_output(self) -> Option<T> {
        self.output
    }
}
