//! `named!`: an enum whose variants have fixed names, for metrics, traces, logs and answers.

/// Declares an enum with the name of each variant, the function that returns the name, and the list of all variants.
macro_rules! named {
    (
        $(#[$of_enum:meta])*
        pub enum $Enum:ident {
            $($(#[$of_variant:meta])* $Variant:ident = $text:literal,)+
        }

        $(#[$of_name:meta])*
        pub const fn $name:ident();
    ) => {
        $(#[$of_enum])*
        pub enum $Enum {
            $($(#[$of_variant])* $Variant,)+
        }

        impl $Enum {
            #[allow(dead_code, reason = "only some enums are listed")]
            pub(crate) const ALL: &[Self] = &[$(Self::$Variant),+];

            $(#[$of_name])*
            #[must_use]
            pub const fn $name(self) -> &'static str {
                match self {
                    $(Self::$Variant => $text,)+
                }
            }
        }
    };
}

pub(crate) use named;
