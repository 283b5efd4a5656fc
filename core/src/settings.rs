//! How a setting is taken: by a method that panics, for constants, and by its `try_` twin,
//! for values from outside.

use std::time::Duration;

/// Longer times than this would overflow the clock: thirty years.
pub(crate) const LONGEST: Duration = Duration::from_secs(86_400 * 365 * 30);

/// What no clock can hold is for ever.
pub(crate) fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}

/// A pair of builder methods whose value must not be zero.
macro_rules! nonzero {
    ($(#[doc = $doc:literal])* const fn $($rest:tt)*) => {
        $crate::settings::nonzero!(@ [const] $(#[doc = $doc])* $($rest)*);
    };
    ($(#[doc = $doc:literal])* fn $($rest:tt)*) => {
        $crate::settings::nonzero!(@ [] $(#[doc = $doc])* $($rest)*);
    };
    (
        @ [$($const:tt)?] $(#[doc = $doc:literal])*
        $name:ident, $try_name:ident: $value:ty, $zero:pat, $error:ident
        => $($place:ident).+ = $stored:expr
    ) => {
        $(#[doc = $doc])*
        ///
        /// # Panics
        /// On zero.
        pub $($const)? fn $name(mut self, value: $value) -> Self {
            assert!(
                !matches!(value, $zero),
                concat!(stringify!($name), " must not be zero")
            );
            self.$($place).+ = $stored(value);
            self
        }

        #[doc = concat!("As [`", stringify!($name), "`](Self::", stringify!($name), "), for values from outside.")]
        ///
        /// # Errors
        /// On zero.
        pub $($const)? fn $try_name(self, value: $value) -> Result<Self, $error> {
            if matches!(value, $zero) {
                return Err($error::Zero(stringify!($name)));
            }
            Ok(self.$name(value))
        }
    };
}

/// A pair of builder methods for a time that must not be zero, or for none.
macro_rules! optional_time {
    (
        $(#[doc = $doc:literal])*
        fn $name:ident, $try_name:ident: $error:ident => $($place:ident).+ = $stored:expr
    ) => {
        $(#[doc = $doc])*
        ///
        /// # Panics
        /// On zero.
        pub fn $name(mut self, time: impl Into<Option<Duration>>) -> Self {
            let time = time.into();
            assert!(
                time != Some(Duration::ZERO),
                concat!(stringify!($name), " must not be zero")
            );
            self.$($place).+ = $stored(time.map($crate::settings::bounded));
            self
        }

        #[doc = concat!("As [`", stringify!($name), "`](Self::", stringify!($name), "), for values from outside.")]
        ///
        /// # Errors
        /// On zero.
        pub fn $try_name(self, time: impl Into<Option<Duration>>) -> Result<Self, $error> {
            match time.into() {
                Some(Duration::ZERO) => Err($error::Zero(stringify!($name))),
                time => Ok(self.$name(time)),
            }
        }
    };
}

/// A pair of builder methods for a number of percent, or for none.
macro_rules! optional_percent {
    (
        $(#[doc = $doc:literal])*
        fn $name:ident, $try_name:ident: $error:ident => $($place:ident).+
    ) => {
        $(#[doc = $doc])*
        ///
        /// # Panics
        /// On zero, and on more than 100.
        pub fn $name(mut self, percent: impl Into<Option<u8>>) -> Self {
            let percent = percent.into();
            assert!(
                percent.is_none_or(|percent| (1..=100).contains(&percent)),
                concat!(stringify!($name), " must be from 1 to 100")
            );
            self.$($place).+ = Some(percent);
            self
        }

        #[doc = concat!("As [`", stringify!($name), "`](Self::", stringify!($name), "), for values from outside.")]
        ///
        /// # Errors
        /// On zero, and on more than 100.
        pub fn $try_name(self, percent: impl Into<Option<u8>>) -> Result<Self, $error> {
            match percent.into() {
                Some(0 | 101..) => Err($error::OutOfRange {
                    name: stringify!($name),
                    from: 1,
                    to: 100,
                }),
                percent => Ok(self.$name(percent)),
            }
        }
    };
}

pub(crate) use {nonzero, optional_percent, optional_time};
