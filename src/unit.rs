//! Whole numbers that cannot be taken for one another.
//!
//! A number crosses a module's boundary with its unit: [`unit!`] makes the type, and what each may be added to is
//! said where it is made.

/// Makes a type of its own for an `i64`. In JSON it is the number, and printed unless that is left to it.
macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $crate::unit::unit!($(#[$doc])* $name, without Display);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
    ($(#[$doc:meta])* $name:ident, without Display) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(i64);

        impl $name {
            /// The number with this unit.
            pub const fn new(number: i64) -> $name {
                $name(number)
            }

            /// The number alone.
            pub const fn get(self) -> i64 {
                self.0
            }
        }
    };
}

pub(crate) use unit;
