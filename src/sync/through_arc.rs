//! [`through_arc!`]: a trait for `Arc<dyn Trait>`.

/// Implements a trait for an `Arc` by the methods of the value behind it.
macro_rules! through_arc {
    ($trait:ident {
        $(fn $name:ident $(<$life:lifetime>)? (&$($self_life:lifetime)? $self:ident $(, $argument:ident: $type:ty)*) -> $answer:ty;)*
    }) => {
        impl<T: $trait + ?Sized> $trait for std::sync::Arc<T> {
            $(fn $name $(<$life>)? (&$($self_life)? $self $(, $argument: $type)*) -> $answer {
                (**$self).$name($($argument),*)
            })*
        }
    };
}
pub(crate) use through_arc;
