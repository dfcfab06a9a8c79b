//! Whether the settings of the server make acknowledged writes durable.

use std::collections::HashMap;

use redis::Pipeline;

use super::link::Link;

/// The settings: name, required value, and the consequence of another value.
const NEEDED: [(&str, &str, &str); 3] = [
    ("appendonly", "yes", "a restart of the server loses acknowledged writes"),
    ("appendfsync", "always", "a crash loses the acknowledged writes of the last second or more"),
    ("maxmemory-policy", "noeviction", "a full server evicts entries instead of refusing new ones"),
];

/// Returns a text for each setting with another value than required, and how to fix it.
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
                "{setting} cannot be read (CONFIG GET is refused): make sure that it is `{needed}`; otherwise {cost}"
            )),
        }
    }
    problems
}

/// Logs a warning for each problem.
pub(super) fn warn(problems: &[String]) {
    for problem in problems {
        tracing::warn!("Redis may lose acknowledged writes: {problem}");
    }
}

/// Reads the settings with `CONFIG GET`, which managed servers often refuse.
async fn config(link: &Link) -> Option<[Option<String>; 3]> {
    let mut pipeline = Pipeline::new();
    for (setting, ..) in NEEDED {
        pipeline.cmd("CONFIG").arg("GET").arg(setting);
    }
    // With the RESP3 protocol each answer is a map, otherwise a list of two.
    let [a, b, c] = link.pipeline::<[HashMap<String, String>; 3]>(&pipeline).await.ok()?;
    let value = |pair: HashMap<String, String>| pair.into_values().next();
    Some([value(a), value(b), value(c)])
}

/// Reads the settings with `INFO`, which does not include `appendfsync`.
async fn info(link: &Link) -> [Option<String>; 3] {
    let Ok(text) = link.command::<String>(&redis::cmd("INFO")).await else { return [None, None, None] };
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let appends = value("aof_enabled").map(|on| if on == "1" { "yes" } else { "no" }.to_owned());
    [appends, None, value("maxmemory_policy").map(str::to_owned)]
}
