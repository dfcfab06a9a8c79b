//! `debug_fields!`: an implementation of `Debug` that shows some fields only.

/// Implements `Debug` with these fields. The others are secret, or large, or cannot be shown.
macro_rules! debug_fields {
    ($Type:ident $(<$($parameter:ident),+>)? { $($field:ident),* }) => {
        impl $(<$($parameter),+>)? std::fmt::Debug for $Type $(<$($parameter),+>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($Type))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        }
    };
    ($Type:ident, |$this:ident| { $($field:ident: $shown:expr),+ $(,)? }) => {
        impl std::fmt::Debug for $Type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $this = self;
                f.debug_struct(stringify!($Type))$(.field(stringify!($field), &$shown))+.finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use debug_fields;
