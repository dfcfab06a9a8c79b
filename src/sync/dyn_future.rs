//! [`DynFuture`]: the future that a method of an object-safe trait returns.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of a method of a trait whose implementations are used behind a pointer, such as `Arc<dyn ClientStore>`.
///
/// It is either a boxed future, or a value that is there already. A value needs no allocation.
///
/// ```
/// use tower_client_credentials::store::DynFuture;
///
/// fn look_up(cached: Option<u32>) -> DynFuture<'static, u32> {
///     match cached {
///         Some(value) => DynFuture::ready(value),
///         None => DynFuture::new(async { 5 }),
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!((look_up(Some(1)).await, look_up(None).await), (1, 5));
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct DynFuture<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> DynFuture<'a, T> {
    /// Boxes a future, usually an `async move` block.
    pub fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(State::Boxed(Box::pin(future)))
    }

    /// Returns a future that completes at once with this value.
    pub const fn ready(value: T) -> Self {
        Self(State::Ready(Some(value)))
    }

    /// Returns the value if it is there already, or the future to wait for.
    pub(crate) fn into_ready(self) -> Result<T, Self> {
        match self.0 {
            State::Ready(Some(value)) => Ok(value),
            state => Err(Self(state)),
        }
    }
}

/// The value of a future that is ready is never pinned.
impl<T> Unpin for DynFuture<'_, T> {}

impl<T> Future for DynFuture<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            #[expect(clippy::expect_used, reason = "a future must not be polled after it completed")]
            State::Ready(value) => Poll::Ready(value.take().expect("DynFuture polled after completion")),
            State::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T> fmt::Debug for DynFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DynFuture")
    }
}
