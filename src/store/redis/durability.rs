//! Whether the server keeps what it acknowledges, as its settings say.

use std::collections::HashMap;

use redis::Pipeline;

use super::link::Link;

/// What each setting must be, and what it costs when it is not.
const NEEDED: [(&str, &str, &str); 3] = [
    ("appendonly", "yes", "a server that ends forgets what it acknowledged"),
    ("appendfsync", "always", "a crash loses what was acknowledged in the last second or more"),
    ("maxmemory-policy", "noeviction", "a full server throws entries away instead of refusing new ones"),
];

/// What is not as it must be, each with its mend.
pub(super) async fn problems(link: &Link) -> Vec<String> {
    let mut problems = Vec::new();
    let told = match config(link).await {
        Some(told) => told,
        None => info(link).await,
    };
    for ((setting, needed, cost), actual) in NEEDED.into_iter().zip(told) {
        match actual {
            Some(actual) if actual == needed => {}
            Some(actual) => problems.push(format!("{setting} is {actual}: {cost}; set `{setting} {needed}`")),
            None => problems.push(format!(
                "{setting} cannot be read (CONFIG GET is refused): see to it that it is `{needed}`, else {cost}"
            )),
        }
    }
    problems
}

/// Logs a warning for each.
pub(super) fn warn(problems: &[String]) {
    for problem in problems {
        tracing::warn!("Redis may forget what it acknowledged: {problem}");
    }
}

/// By `CONFIG GET`, which managed servers often refuse.
async fn config(link: &Link) -> Option<[Option<String>; 3]> {
    let mut pipeline = Pipeline::new();
    for (setting, ..) in NEEDED {
        pipeline.cmd("CONFIG").arg("GET").arg(setting);
    }
    // With the protocol RESP3 each answer is a map, else a list of two.
    let [a, b, c] = link.pipeline::<[HashMap<String, String>; 3]>(&pipeline).await.ok()?;
    let value = |pair: HashMap<String, String>| pair.into_values().next();
    Some([value(a), value(b), value(c)])
}

/// By `INFO`, which does not tell how often the file is synced.
async fn info(link: &Link) -> [Option<String>; 3] {
    let Ok(text) = link.command::<String>(&redis::cmd("INFO")).await else { return [None, None, None] };
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let appends = value("aof_enabled").map(|on| if on == "1" { "yes" } else { "no" }.to_owned());
    [appends, None, value("maxmemory_policy").map(str::to_owned)]
}
