//! The metrics in the text format of Prometheus, without a dependency on an exporter: the crate has counters and gauges only.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, counter, describe_counter,
    describe_gauge, gauge,
};
use metrics_util::registry::{AtomicStorage, Registry};

/// The content type of the text format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const RELOADS: &str = "standalone_reloads_total";
const LAST_RELOAD: &str = "standalone_last_reload_timestamp_seconds";

/// Records the metrics of this process, and renders them.
#[derive(Clone)]
pub(crate) struct Prometheus(Arc<Inner>);

struct Inner {
    registry: Registry<Key, AtomicStorage>,
    descriptions: Mutex<HashMap<String, String>>,
}

impl Prometheus {
    /// Makes a recorder the one of this process. Returns an error if the process has one already.
    pub(crate) fn install() -> Result<Self, String> {
        let inner = Arc::new(Inner { registry: Registry::atomic(), descriptions: Mutex::default() });
        metrics::set_global_recorder(inner.clone()).map_err(|error| error.to_string())?;
        #[cfg(feature = "metrics")]
        tower_client_credentials::metrics::describe();
        describe_counter!(RELOADS, "Reloads of the configuration and of the certificate");
        describe_gauge!(LAST_RELOAD, Unit::Seconds, "Time of the last successful reload, or of the start");
        for outcome in ["done", "failed"] {
            counter!(RELOADS, "outcome" => outcome).absolute(0); // so that the first failure is an increase
        }
        loaded_now();
        Ok(Self(inner))
    }

    /// Renders all metrics, sorted by name and labels.
    pub(crate) fn render(&self) -> String {
        let Inner { registry, descriptions } = &*self.0;
        let counters = registry.get_counter_handles();
        let gauges = registry.get_gauge_handles();
        let mut series: BTreeMap<String, (&str, BTreeMap<String, String>)> = BTreeMap::new();
        let mut add = |key: &Key, kind, value: String| {
            let (_, samples) = series.entry(key.name().to_owned()).or_insert_with(|| (kind, BTreeMap::new()));
            samples.insert(labels(key), value);
        };
        counters.iter().for_each(|(key, value)| add(key, "counter", load(value).to_string()));
        gauges.iter().for_each(|(key, value)| add(key, "gauge", number(f64::from_bits(load(value)))));

        let descriptions = descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, (kind, samples)) in series {
            if let Some(description) = descriptions.get(&name) {
                let _ = writeln!(text, "# HELP {name} {}", description.replace('\\', "\\\\").replace('\n', "\\n"));
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

fn load(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}

/// Returns `{name="value",…}`, or nothing for a metric without labels.
fn labels(key: &Key) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<_> = key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value()))).collect();
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
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

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry.get_or_create_counter(key, |value| value.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry.get_or_create_gauge(key, |value| value.clone().into())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Counts a reload.
pub(crate) fn reloaded(succeeded: bool) {
    counter!(RELOADS, "outcome" => if succeeded { "done" } else { "failed" }).increment(1);
    if succeeded {
        loaded_now();
    }
}

fn loaded_now() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    gauge!(LAST_RELOAD).set(now.as_secs_f64());
}
