//! How many tests passed and failed, read from the closing lines of the test runners.

use std::{ops::AddAssign, process::ExitCode};

/// A count of tests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Tally {
    /// A step that is no collection of tests.
    pub(crate) const ONE_PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };

    /// Prints the very last line of a run, and says how the program ends.
    pub(crate) fn print_end(self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// The sum of all closing lines in a runner's output: nextest's, libtest's and the plain `N passed, N failed`.
    /// `None` when there is none, so that a runner that died is not taken for one that passed.
    pub(crate) fn read(output: &str) -> Option<Self> {
        let mut sum = None;
        // nextest shows what a failed test said, and that ends with libtest's own count.
        let nextest = output.lines().any(|line| is_nextests(line.trim()));
        for line in output.lines().map(str::trim) {
            if nextest && !is_nextests(line) {
                continue;
            }
            if let Some(tally) = Self::read_line(line) {
                *sum.get_or_insert_with(Self::default) += tally;
            }
        }
        sum
    }

    fn read_line(line: &str) -> Option<Self> {
        if is_nextests(line) {
            let (_, counts) = line.split_once(" run: ")?;
            return Some(Self::sum_counts(&without_parentheses(counts), ','));
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            let (_, counts) = result.split_once(". ")?;
            return Some(Self::sum_counts(counts, ';'));
        }
        let (passed, failed) = line.split_once(" passed, ")?;
        Some(Self {
            passed: passed.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    }

    /// Adds up `3 passed, 1 failed, 1 timed out, 2 skipped`.
    fn sum_counts(counts: &str, separator: char) -> Self {
        let mut tally = Self::default();
        for count in counts.split(separator) {
            let Some((number, kind)) = count.trim().split_once(' ') else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match kind.trim() {
                "passed" => tally.passed += number,
                "failed" | "timed out" | "exec failed" => tally.failed += number,
                // Skipped, ignored, measured, filtered out, or a time.
                _ => {}
            }
        }
        tally
    }
}

fn is_nextests(line: &str) -> bool {
    line.starts_with("Summary [")
}

/// Removes what nextest adds to a count, `(1 slow, 2 leaky)`, whose commas are not separators.
fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let mut kept = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => kept.push(character),
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_read(output: &str, passed: u32, failed: u32) {
        assert_eq!(
            Tally::read(output),
            Some(Tally { passed, failed }),
            "{output}"
        );
    }

    #[test]
    fn reads_nextest() {
        assert_read(
            "     Summary [   0.012s] 5 tests run: 5 passed, 0 skipped",
            5,
            0,
        );
        assert_read(
            "     Summary [   0.012s] 1 test run: 1 passed, 0 skipped",
            1,
            0,
        );
        assert_read(
            "Summary [  61.9s] 9 tests run: 5 passed (1 slow, 2 leaky), 2 failed, 1 exec failed, 1 timed out, 3 skipped",
            5,
            4,
        );
    }

    #[test]
    fn counts_a_test_that_nextest_shows_once() {
        let output = "\
    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 2.60s
     Summary [ 108.578s] 750 tests run: 749 passed, 1 failed, 0 skipped";
        assert_read(output, 749, 1);
    }

    #[test]
    fn adds_up_libtest() {
        let output = "\
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_read(output, 7, 1);
    }

    #[test]
    fn reads_the_plain_line() {
        assert_read("ok 1\n12 passed, 3 failed\n", 12, 3);
    }

    #[test]
    fn no_closing_line_is_no_tally() {
        assert_eq!(
            Tally::read("panicked before 3 tests\nall passed, none failed"),
            None
        );
    }
}
