//! Measures the cost of a token for a request of the client role: time and allocations beyond the inner service, alone and on 8
//! threads. The same for Go's algorithm, a cache behind one mutex, and for the crates `huskarl` and `aliri_tokens`. The row "a ready
//! header" is the least that a token can cost: a header is cloned and inserted, without a check.
//!
//! Run `cargo run --release --bin calling --features calling-peers`. Prints rows of tab-separated figures.

use std::convert::Infallible;
use std::future::Ready;
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use benches::attached::{Inner, call, request, source};
use benches::calling_peers::{Aliri, Huskarl};
use benches::measure::{Figure, Work, interleaved, thread_time};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use tower::{Layer as _, Service};
use tower_client_credentials::ClientCredentialsLayer;

const API: &str = "https://api.example.com";
const TIME: Duration = Duration::from_millis(1_500);
const THREADS: usize = 8;
const CALLS: u32 = 200_000;

/// Go's `oauth2.ReuseTokenSource` and `Transport`: one lock for all callers. The lifetime is checked under it, and the header is built for each request.
#[derive(Clone)]
struct Mutexed {
    inner: Inner,
    token: Arc<Mutex<(String, Instant)>>,
}

impl Service<Request<()>> for Mutexed {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        let header = {
            let token = self.token.lock().expect("no panic under it");
            assert!(Instant::now() < token.1);
            HeaderValue::try_from(format!("Bearer {}", token.0)).expect("a token")
        };
        request.headers_mut().insert(AUTHORIZATION, header);
        self.inner.call(request)
    }
}

/// A peer that adds a header to a request.
#[derive(Clone)]
struct With<F>(F);

impl<F: Fn(&mut Request<()>)> Service<Request<()>> for With<F> {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<()>) -> Self::Future {
        (self.0)(&mut request);
        Inner.call(request)
    }
}

fn main() {
    let token = "x".repeat(800);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let source = runtime.block_on(source(&token));
    let layer = ClientCredentialsLayer::from_source(source, API).expect("an origin");
    let ours = layer.clone().layer(Inner);
    let without_repeat = layer.without_repeat().layer(Inner);
    let end = Instant::now() + Duration::from_secs(3_600);
    let mutexed = Mutexed { inner: Inner, token: Arc::new(Mutex::new((token, end))) };

    let mut header = HeaderValue::try_from(format!("Bearer {}", "x".repeat(800))).expect("a token");
    header.set_sensitive(true);
    let ready = With(move |request: &mut Request<()>| {
        request.headers_mut().insert(AUTHORIZATION, header.clone());
    });
    let huskarl = Huskarl::new(&"x".repeat(800));
    let huskarl = With(move |request: &mut Request<()>| huskarl.authorize(request));
    let aliri = runtime.block_on(Aliri::new(&"x".repeat(800)));
    let aliri = With(move |request: &mut Request<()>| aliri.authorize(request));

    let [bare, least, own, single, mutex, other, another] = interleaved(
        [
            work(Inner),
            work(ready),
            work(ours.clone()),
            work(without_repeat.clone()),
            work(mutexed.clone()),
            work(huskarl.clone()),
            work(aliri.clone()),
        ],
        TIME,
    );
    for (name, figure) in [
        ("a ready header", &least),
        ("ours", &own),
        ("ours, without repetition", &single),
        ("Go's algorithm", &mutex),
        ("huskarl", &other),
        ("aliri_tokens", &another),
    ] {
        let over = figure.more_than(&bare);
        println!("over the inner service\t{name}\t{:.0} ns\t{:.0}\t{:.0}", over.median, over.low, over.high);
    }
    for (name, allocations) in [
        ("inner service", allocations(Inner)),
        ("ours", allocations(ours.clone())),
        ("ours, without repetition", allocations(without_repeat.clone())),
        ("Go's algorithm", allocations(mutexed.clone())),
        ("huskarl", allocations(huskarl.clone())),
        ("aliri_tokens", allocations(aliri.clone())),
    ] {
        println!("allocations\t{name}\t{allocations}");
    }
    for (name, one, eight) in [
        ("inner service", on_threads(Inner, 1), on_threads(Inner, THREADS)),
        ("ours", on_threads(ours.clone(), 1), on_threads(ours, THREADS)),
        ("ours, without repetition", on_threads(without_repeat.clone(), 1), on_threads(without_repeat, THREADS)),
        ("Go's algorithm", on_threads(mutexed.clone(), 1), on_threads(mutexed, THREADS)),
        ("huskarl", on_threads(huskarl.clone(), 1), on_threads(huskarl, THREADS)),
        ("aliri_tokens", on_threads(aliri.clone(), 1), on_threads(aliri, THREADS)),
    ] {
        println!(
            "processor time per call\t{name}\t1 thread: {one:.0} ns\t{THREADS} threads: {eight:.0} ns\t{:.2}",
            eight / one
        );
    }
}

fn work<'a, S>(mut service: S) -> Work<'a>
where
    S: Service<Request<()>, Error: std::fmt::Debug> + 'a,
{
    Work::apart(request, move |request| call(&mut service, request))
}

fn allocations<S>(mut service: S) -> u64
where
    S: Service<Request<()>, Error: std::fmt::Debug>,
{
    call(&mut service, request());
    let request = request();
    allocation_counter::measure(|| call(&mut service, request)).count_total
}

/// Returns the processor time of one call on each of so many threads, each with a clone of the service.
fn on_threads<S>(service: S, threads: usize) -> f64
where
    S: Service<Request<()>, Error: std::fmt::Debug> + Clone + Send,
{
    let rounds = (0..9).map(|_| {
        let barrier = Barrier::new(threads);
        let times: Vec<f64> = thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|_| {
                    let (mut service, barrier) = (service.clone(), &barrier);
                    scope.spawn(move || {
                        let requests: Vec<_> = (0..1_000).map(|_| request()).collect();
                        barrier.wait();
                        let mut time = Duration::ZERO;
                        for _ in 0..CALLS / 1_000 {
                            let requests: Vec<_> = requests.clone();
                            let start = thread_time();
                            for request in requests {
                                call(&mut service, request);
                            }
                            time += thread_time() - start;
                        }
                        time.as_nanos() as f64 / f64::from(CALLS)
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
        });
        times.iter().sum::<f64>() / times.len() as f64
    });
    Figure::of(rounds.collect()).median
}
