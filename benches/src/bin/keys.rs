//! The cost of reading a key ring for each token: one whose keys never change, one in a file, and a managed one with a lease.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml --features keys --bin keys
//! ```
//!
//! The rings are measured in turn, so that disturbances of the machine affect all of them equally. A thread remembers the key of one ring,
//! so the last line is for a thread that signs with two rings alternately.
//!
//! In nanoseconds for each token, on 2 cores of x86-64, where one atomic read-modify-write takes 5.2: 1.7 for a fixed ring, 2.7 in a file and
//! 3.3 managed. Before threads remembered the key, the latter two took 12.7 and 21.6.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use tower_client_credentials::KeyRing;
use tower_client_credentials::keys::rotation::{KeyEncryptionKey, KeyFile, KeyManager, MemoryKeyStore};

const ROUNDS: usize = 2_000;
const READS: u32 = 10_000;

/// The target for the difference to a ring whose keys never change.
const TARGET: f64 = 5.0;

/// Nanoseconds for a read.
fn read(ring: &KeyRing, now: SystemTime) -> f64 {
    let start = Instant::now();
    for _ in 0..READS {
        assert!(black_box(ring).has_signing_key_at(black_box(now)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(READS)
}

/// Nanoseconds for a read by a thread that remembers the key of the other ring each time.
fn read_in_turn(one: &KeyRing, other: &KeyRing, now: SystemTime) -> f64 {
    let start = Instant::now();
    for _ in 0..READS / 20 {
        assert!(black_box(one).has_signing_key_at(black_box(now)));
        assert!(black_box(other).has_signing_key_at(black_box(now)));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(READS / 10)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let folder = std::env::temp_dir().join(format!("tcc-bench-keys-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let file = KeyFile::builder(folder.join("signing.pem")).open().unwrap();
    let by = KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap();
    let managed = KeyManager::builder(MemoryKeyStore::default(), by).lease(Duration::from_secs(3_600));
    let managed = managed.connect().await.unwrap();
    let rings = [("fixed", KeyRing::generate().unwrap()), ("in a file", file.ring()), ("managed", managed.ring())];
    std::fs::remove_dir_all(folder).unwrap();

    let measured = tokio::task::spawn_blocking(move || {
        let mut figures = vec![Vec::with_capacity(ROUNDS); rings.len()];
        let mut allocated = 0;
        for _ in 0..ROUNDS {
            let now = SystemTime::now();
            for ((_, ring), figures) in rings.iter().zip(&mut figures) {
                figures.push(read(ring, now));
            }
        }
        let alternating: Vec<f64> = (0..ROUNDS).map(|_| read_in_turn(&rings[1].1, &rings[2].1, SystemTime::now())).collect();
        figures.push(alternating);
        for (_, ring) in &rings {
            let now = SystemTime::now();
            // The thread read another ring before.
            read(ring, now);
            let counted = allocation_counter::measure(|| assert!(ring.has_signing_key_at(now)));
            allocated += counted.count_total;
        }
        (rings.map(|(name, _)| name).into_iter().chain(["both in turn"]), figures, allocated)
    });
    let (names, mut figures, allocated) = measured.await.unwrap();
    let medians: Vec<f64> = figures.iter_mut().map(|figures| median(figures)).collect();
    for (name, median) in names.zip(&medians) {
        println!("{name:>12}: {median:5.1} ns for each token, {:+5.1} ns", median - medians[0]);
    }
    println!("target: at most {TARGET:+.1} ns and no allocation; {allocated} allocations");
}
