//! The metrics in the text format of Prometheus, without a dependency on an exporter.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, counter, describe_counter,
    describe_gauge, gauge,
};
use metrics_util::registry::{AtomicStorage, Registry};

use crate::histogram::{BOUNDS, Buckets};

/// The content type of the text format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const RELOADS: &str = "standalone_reloads_total";
const LAST_RELOAD: &str = "standalone_last_reload_timestamp_seconds";
const BUILD_INFO: &str = "standalone_build_info";
const CERTIFICATE_EXPIRY: &str = "standalone_tls_certificate_expiry_timestamp_seconds";

/// Records the metrics of this process, and renders them.
#[derive(Clone)]
pub(crate) struct Prometheus(Arc<Inner>);

struct Inner {
    /// The counters and gauges. Its histograms would keep each value.
    registry: Registry<Key, AtomicStorage>,
    histograms: Mutex<HashMap<Key, Arc<Buckets>>>,
    descriptions: Mutex<HashMap<String, String>>,
}

impl Prometheus {
    /// Makes a recorder the one of this process. Returns an error if the process has one already.
    pub(crate) fn install() -> Result<Self, String> {
        let (histograms, descriptions) = (Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { registry: Registry::atomic(), histograms, descriptions });
        metrics::set_global_recorder(inner.clone()).map_err(|error| error.to_string())?;
        #[cfg(feature = "metrics")]
        tower_client_credentials::metrics::describe();
        describe_counter!(RELOADS, "Reloads of the configuration and of the certificate");
        describe_gauge!(LAST_RELOAD, Unit::Seconds, "Time of the last successful reload, or of the start");
        describe_gauge!(BUILD_INFO, "1, with the version of this program");
        describe_gauge!(CERTIFICATE_EXPIRY, Unit::Seconds, "Time at which the first of the TLS certificates expires");
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        for outcome in ["done", "failed"] {
            counter!(RELOADS, "outcome" => outcome).absolute(0); // so that the first failure is an increase
        }
        loaded_now();
        Ok(Self(inner))
    }

    /// Renders all metrics, sorted by name and labels.
    pub(crate) fn render(&self) -> String {
        let Inner { registry, histograms, descriptions } = &*self.0;
        let counters = registry.get_counter_handles();
        let gauges = registry.get_gauge_handles();
        let mut series: BTreeMap<String, (&str, BTreeMap<String, String>)> = BTreeMap::new();
        // `lines` are the samples of the key, with their names.
        let mut add = |key: &Key, kind, lines: String| {
            let (_, samples) = series.entry(key.name().to_owned()).or_insert_with(|| (kind, BTreeMap::new()));
            samples.insert(labels(key), lines);
        };
        let one = |key: &Key, value: String| format!("{}{} {value}\n", key.name(), labels(key));
        counters.iter().for_each(|(key, value)| add(key, "counter", one(key, load(value).to_string())));
        gauges.iter().for_each(|(key, value)| add(key, "gauge", one(key, number(f64::from_bits(load(value))))));
        let histograms = histograms.lock().unwrap_or_else(PoisonError::into_inner);
        histograms.iter().for_each(|(key, buckets)| add(key, "histogram", lines_of(key, buckets)));
        drop(histograms);

        let descriptions = descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, (kind, samples)) in series {
            if let Some(description) = descriptions.get(&name) {
                let _ = writeln!(text, "# HELP {name} {}", description.replace('\\', "\\\\").replace('\n', "\\n"));
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            text.extend(samples.into_values());
        }
        text
    }
}

fn load(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

/// Returns `{name="value",…}`, or nothing for a metric without labels.
fn labels(key: &Key) -> String {
    in_braces(&pairs(key))
}

fn pairs(key: &Key) -> Vec<String> {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value()))).collect()
}

fn in_braces(pairs: &[String]) -> String {
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

/// Returns the samples of a histogram.
fn lines_of(key: &Key, buckets: &Buckets) -> String {
    let (name, pairs, counted) = (key.name(), pairs(key), buckets.counted());
    let up_to = BOUNDS.into_iter().chain([f64::INFINITY]).zip(counted.up_to.into_iter().chain([counted.count]));
    let mut lines = String::new();
    for (bound, count) in up_to {
        let labels = [&pairs[..], &[format!("le=\"{}\"", number(bound))]].concat();
        let _ = writeln!(lines, "{name}_bucket{} {count}", in_braces(&labels));
    }
    let labels = in_braces(&pairs);
    let _ = writeln!(lines, "{name}_sum{labels} {}", number(counted.sum));
    let _ = writeln!(lines, "{name}_count{labels} {}", counted.count);
    lines
}

/// Rust writes `inf`, and Prometheus reads `+Inf`.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

impl Inner {
    fn describe(&self, name: &KeyName, description: SharedString) {
        let mut descriptions = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        descriptions.insert(name.as_str().to_owned(), description.into_owned());
    }
}

impl Recorder for Inner {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(&name, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry.get_or_create_counter(key, |value| value.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry.get_or_create_gauge(key, |value| value.clone().into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        histograms.entry(key.clone()).or_default().clone().into()
    }
}

/// Counts a reload.
pub(crate) fn reloaded(succeeded: bool) {
    counter!(RELOADS, "outcome" => if succeeded { "done" } else { "failed" }).increment(1);
    if succeeded {
        loaded_now();
    }
}

/// Tells when the certificate that is served expires.
pub(crate) fn certificate_expires(at: std::time::Duration) {
    gauge!(CERTIFICATE_EXPIRY).set(at.as_secs_f64());
}

fn loaded_now() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    gauge!(LAST_RELOAD).set(now.as_secs_f64());
}
