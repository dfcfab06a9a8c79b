//! `wraps_service!`: access to the service inside another one.

/// Gives a service with the field `inner` the methods by which its caller reaches the wrapped service.
macro_rules! wraps_service {
    ($Service:ident<S $(, $Other:ident)?>) => {
        impl<S $(, $Other)?> $Service<S $(, $Other)?> {
            /// Returns a reference to the wrapped service.
            pub fn get_ref(&self) -> &S {
                &self.inner
            }

            /// Returns a mutable reference to the wrapped service.
            pub fn get_mut(&mut self) -> &mut S {
                &mut self.inner
            }

            /// Returns the wrapped service, alone.
            pub fn into_inner(self) -> S {
                self.inner
            }
        }
    };
}

pub(crate) use wraps_service;
