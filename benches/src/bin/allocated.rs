//! Counts the allocations of a server for a wrong secret, for `growth`. It is a separate binary, because counting allocations
//! takes time.

use std::hint::black_box;

use benches::forms::{self, Guesses};

fn main() {
    let guesses = Guesses::new();
    let bodies = forms::bodies();
    let allocated = bodies.each_ref().map(|(_, body)| {
        black_box(guesses.status(guesses.request(body)));
        let request = guesses.request(body);
        let allocated = allocation_counter::measure(|| {
            black_box(guesses.status(request));
        });
        allocated.bytes_total
    });
    let figures: Vec<_> =
        bodies.iter().zip(&allocated).map(|((name, _), bytes)| format!("{name}: {bytes} B")).collect();
    let most = allocated.iter().max().unwrap() / 1024;
    let what = forms::WHAT;
    println!("8\t{what}\t{}\tmaximum allocated by one request\t{most} KiB\tno copy; was 2.1 MB", figures.join("; "));
}
