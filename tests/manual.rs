//! The README and the pages of `manual/`: their links lead somewhere, their commands run, and they agree with the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below a folder whose names end in `.EXTENSION`, as paths from the root of the crate.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the pages of the manual.
fn manual() -> Vec<String> {
    files("manual", "md")
}

/// Returns all pages for readers.
fn pages() -> Vec<String> {
    let mut pages = manual();
    pages.extend(["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    pages
}

/// Returns the text outside of code blocks, and the code blocks: language and text.
fn split(page: &str) -> (String, Vec<(String, String)>) {
    let (mut prose, mut blocks, mut block) = (String::new(), Vec::new(), None);
    for line in page.lines() {
        let fence = line.trim_start().strip_prefix("```");
        block = match (block, fence) {
            (None, Some(language)) => Some((language.to_owned(), String::new())),
            (Some(done), Some(_)) => {
                blocks.push(done);
                None
            }
            (Some((language, mut text)), None) => {
                text.extend([line, "\n"]);
                Some((language, text))
            }
            (None, None) => {
                prose.extend([line, "\n"]);
                None
            }
        };
    }
    assert!(block.is_none(), "a code block without an end");
    (prose, blocks)
}

/// Returns the text without code spans, and the code spans.
fn code_spans(prose: &str) -> (String, Vec<String>) {
    let (mut text, mut spans, mut rest) = (String::new(), Vec::new(), prose);
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].bytes().take_while(|byte| *byte == b'`').count();
        text.push_str(&rest[..start]);
        let after = &rest[start + ticks..];
        let mut at = 0;
        let end = loop {
            let next = after[at..].find('`').unwrap_or_else(|| panic!("a code span without an end: {after:.60}")) + at;
            let run = after[next..].bytes().take_while(|byte| *byte == b'`').count();
            if run == ticks {
                break next;
            }
            at = next + run;
        };
        let span = after[..end].replace('\n', " ");
        let inner = span.strip_prefix(' ').and_then(|inner| inner.strip_suffix(' ')).unwrap_or(&span);
        spans.push(inner.to_owned());
        text.push('.'); // A link may consist of code.
        rest = &after[end + ticks..];
    }
    text.push_str(rest);
    (text, spans)
}

/// Returns the targets of inline links, `[…](target)`.
fn inline_links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect()
}

/// Returns the names of reference links, `[…][name]`.
fn references(text: &str) -> Vec<&str> {
    text.split("][").skip(1).map(|rest| rest.split(']').next().unwrap()).collect()
}

/// Returns the definitions of reference links, `[name]: target`.
fn definitions(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect()
}

/// Returns the anchors of the headings, as GitHub and rustdoc make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let (prose, _) = split(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|kept| kept.is_alphanumeric() || " -_".contains(*kept));
            kept.map(|kept| if kept == ' ' { '-' } else { kept }).collect()
        })
        .collect()
}

/// Returns why a link of a page leads nowhere.
fn broken(page: &str, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { PathBuf::from(page) } else { Path::new(page).parent().unwrap().join(file) };
    let Ok(text) = fs::read_to_string(root().join(&path)) else {
        return Some(format!("{page}: `{target}` does not exist"));
    };
    let missing = anchor.filter(|anchor| !anchors(&text).contains(*anchor))?;
    Some(format!("{page}: `{target}`: there is no heading `{missing}`"))
}

fn assert_none(problems: Vec<String>, what: &str) {
    assert!(problems.is_empty(), "{what}:\n{}", problems.join("\n"));
}

#[test]
fn every_link_in_the_repository_leads_to_a_file_or_a_heading() {
    let mut problems = Vec::new();
    for page in pages() {
        let (prose, _) = split(&read(&page));
        let (text, _) = code_spans(&prose);
        let definitions = definitions(&text);
        let targets = inline_links(&text).into_iter().chain(definitions.values().copied());
        problems.extend(targets.filter_map(|target| broken(&page, target)));
        let undefined = references(&text).into_iter().filter(|name| !definitions.contains_key(name));
        problems.extend(undefined.map(|name| format!("{page}: add `[{name}]: FILE` at its end")));
    }
    assert_none(problems, "broken links");
}

/// A relative link to a file works on GitHub only, and a path of a module in rustdoc only. So the pages use references, which
/// are defined twice: see `src/manual/mod.rs`.
#[test]
fn every_page_is_a_rustdoc_page_whose_links_lead_to_rustdoc_pages() {
    let modules = read("src/manual/mod.rs");
    let links = read("src/manual/rustdoc-links.md");
    let in_rustdoc = definitions(&links);
    let index = read("manual/README.md");
    let mut problems = Vec::new();
    for page in manual() {
        let file = page.strip_prefix("manual/").unwrap();
        if file != "README.md" {
            if !modules.contains(&format!("= \"{file}\",")) {
                problems.push(format!("{page}: add it to src/manual/mod.rs"));
            }
            if !index.contains(&format!("]: {file}\n")) {
                problems.push(format!("{page}: add it to manual/README.md"));
            }
        }
        let (prose, _) = split(&read(&page));
        let (text, _) = code_spans(&prose);
        let relative = inline_links(&text).into_iter().filter(|target| !target.starts_with("http"));
        let relative = relative.filter(|target| !target.starts_with('#'));
        problems.extend(relative.map(|target| format!("{page}: `{target}`: use a reference, `[text][name]`")));
        for (name, target) in definitions(&text).into_iter().filter(|(_, target)| !target.starts_with("http")) {
            let module = in_rustdoc.get(name).and_then(|path| path.strip_prefix("crate::manual::"));
            if module.is_none_or(|module| !modules.contains(&format!("    {module} = \"{target}\","))) {
                problems.push(format!(
                    "{page}: `[{name}]`: define it in src/manual/rustdoc-links.md as the module of {target}"
                ));
            }
        }
    }
    assert_none(problems, "pages that are incomplete in rustdoc");
}

/// rustdoc reports paths of items that do not exist, but not links to files, which no rustdoc page has.
#[test]
fn no_rustdoc_page_links_to_a_file() {
    let mut problems = Vec::new();
    for file in files("src", "rs") {
        let text = read(&file);
        let docs: Vec<&str> = text.lines().map(str::trim_start).filter_map(|line| line.strip_prefix("//")).collect();
        let docs = docs.iter().filter_map(|line| line.strip_prefix(['/', '!'])).collect::<Vec<_>>().join("\n");
        let targets = inline_links(&docs).into_iter().filter(|target| target.contains('/') || target.contains(".md"));
        let targets = targets.filter(|target| !target.starts_with("https://"));
        problems.extend(targets.map(|target| format!("{file}: `{target}`")));
        if docs.contains("```mermaid") {
            problems.push(format!("{file}: a diagram that rustdoc shows as text"));
        }
    }
    assert_none(problems, "links to files");
}

#[test]
fn every_path_that_a_page_names_exists() {
    let folders = ["src/", "tests/", "examples/", "scripts/", "benches/", "manual/"];
    let mut problems = Vec::new();
    for page in pages().into_iter().filter(|page| page != "CHANGELOG.md") {
        let (prose, _) = split(&read(&page));
        let (_, spans) = code_spans(&prose);
        let paths = spans.iter().filter(|span| folders.iter().any(|folder| span.starts_with(folder)));
        let missing = paths.filter(|path| !root().join(path.trim_end_matches('/')).exists());
        problems.extend(missing.map(|path| format!("{page}: `{path}`")));
    }
    assert_none(problems, "paths that do not exist");
}

#[test]
fn the_readme_has_less_than_200_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines < 200, "{lines} lines");
}

#[test]
fn the_package_has_every_page_and_every_file_that_the_readme_links_to() {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let output = cargo.args(["package", "--list", "--allow-dirty", "--offline"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let packaged: BTreeSet<&str> = listed.lines().collect();
    let (prose, _) = split(&read("README.md"));
    let (text, _) = code_spans(&prose);
    let links = inline_links(&text).into_iter().filter(|target| !target.starts_with("http")).map(str::to_owned);
    let needed =
        manual().into_iter().chain(links).chain(["src/manual/rustdoc-links.md", "SECURITY.md"].map(str::to_owned));
    let missing = needed.filter(|path| !packaged.contains(path.as_str())).collect();
    assert_none(missing, "files that `include` in Cargo.toml leaves out");
}

/// A string literal, with `…` for each value that is formatted into it.
fn literal(source: &str) -> String {
    let (mut text, mut characters) = (String::new(), source.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('\n') => while characters.next_if(|next| next.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(escaped) => text.push(escaped),
                None => {}
            },
            '{' if characters.next_if_eq(&'{').is_some() => text.push('{'),
            '{' => {
                while characters.next().is_some_and(|next| next != '}') {}
                text.push('…');
            }
            other => text.push(other),
        }
    }
    text
}

/// Returns the position after the string literal whose content begins at `start`.
fn end_of_string(text: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    panic!("a string without an end");
}

/// Returns every string literal of the code, with its place. Comments are skipped. Raw strings are read like others, which is
/// sufficient for texts that people read.
fn literals(code: &str) -> Vec<(usize, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    let bytes = code.as_bytes();
    while at < bytes.len() {
        let rest = &code.as_bytes()[at..];
        if rest.starts_with(b"//") {
            at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"'\"'") || rest.starts_with(b"'\\\"'") {
            at += 3;
        } else if rest[0] == b'"' {
            let end = end_of_string(code, at + 1);
            found.push((at, literal(&code[at + 1..end - 1])));
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// Returns the code of a file up to its module of tests.
fn code(file: &str) -> String {
    let text = read(file);
    let mut end = text.len();
    for attribute in ["\n#[cfg(test)]\n", "\n#[cfg(all(test"] {
        for (at, _) in text.match_indices(attribute) {
            let mut lines = text[at + 1..].lines().skip_while(|line| line.starts_with("#["));
            if lines.next().is_some_and(|line| line.starts_with("mod ") && line.ends_with('{')) {
                end = end.min(at);
            }
        }
    }
    text[..end].to_owned()
}

fn sources() -> Vec<String> {
    let all = files("src", "rs").into_iter();
    all.filter(|file| !file.ends_with("tests.rs") && !file.contains("/conformance/")).collect()
}

/// Returns each message that the library logs, with its levels. Messages that consist of a value only are left out.
fn log_lines() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut lines: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in sources() {
        let code = code(&file);
        for level in ["error", "warn", "info", "debug", "trace"] {
            for (start, call) in code.match_indices(&format!("tracing::{level}!(")) {
                let (mut at, mut depth) = (start + call.len(), 1);
                while depth > 0 {
                    match code.as_bytes()[at] {
                        b'"' => at = end_of_string(&code, at + 1) - 1,
                        b'(' => depth += 1,
                        b')' => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                }
                let (_, message) = literals(&code[start..at]).pop().unwrap_or_else(|| panic!("{file}: no message"));
                if message != "…" {
                    lines.entry(message).or_default().insert(level);
                }
            }
        }
    }
    lines
}

/// Returns the rows of the tables under a heading, up to the next heading of the same or a higher level. A row is its cells.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (prose, _) = split(&read(page));
    let depth = heading.bytes().take_while(|byte| *byte == b'#').count();
    let lines = prose.lines().skip_while(|line| *line != heading).skip(1);
    let is_end = |line: &str| line.starts_with('#') && line.bytes().take_while(|byte| *byte == b'#').count() <= depth;
    let lines = lines.take_while(|line| !is_end(line)).filter(|line| line.starts_with("| "));
    let rows: Vec<Vec<String>> = lines
        .map(|line| {
            let cells = line.trim_start_matches("| ").trim_end_matches(" |").replace("\\|", "¦");
            cells.split(" | ").map(|cell| cell.replace('¦', "|").trim().to_owned()).collect()
        })
        .collect();
    assert!(rows.len() > 1, "{page}: no table under `{heading}`");
    rows
}

const OBSERVABILITY: &str = "manual/observability.md";
const TROUBLESHOOTING: &str = "manual/troubleshooting.md";

fn span(message: &str) -> String {
    if message.contains('`') { format!("`` {message} ``") } else { format!("`{message}`") }
}

#[test]
fn observability_lists_every_log_line_with_its_levels() {
    let logged = log_lines();
    assert!(logged.len() > 40, "{logged:#?}");
    let row = |levels: &BTreeSet<&str>, message: &str| {
        let levels = ["error", "warn", "info", "debug", "trace"].into_iter().filter(|level| levels.contains(level));
        format!("| {} | {} |", levels.collect::<Vec<_>>().join(", "), span(message))
    };
    let expected: BTreeSet<String> = logged.iter().map(|(message, levels)| row(levels, message)).collect();
    let listed = rows(OBSERVABILITY, "## Log lines").into_iter().skip(1);
    let listed: BTreeSet<String> = listed.map(|cells| format!("| {} |", cells.join(" | "))).collect();
    let mut problems: Vec<String> = expected.difference(&listed).map(|row| format!("add     {row}")).collect();
    problems.extend(listed.difference(&expected).map(|row| format!("remove  {row}")));
    assert_none(problems, "the table `Log lines` of manual/observability.md differs from the code");
}

#[test]
fn troubleshooting_explains_every_warning_and_error_of_the_log() {
    let page = read(TROUBLESHOOTING);
    let serious = log_lines().into_iter().filter(|(_, levels)| levels.contains("warn") || levels.contains("error"));
    let missing = serious.map(|(message, _)| format!("| {} |", span(&message))).filter(|row| !page.contains(row));
    assert_none(missing.collect(), "warnings without a row in manual/troubleshooting.md");
}

/// Returns whether the parts of a text between its `…` follow each other in a literal.
fn is_in(quoted: &str, literal: &str) -> bool {
    let mut rest = literal;
    quoted.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[test]
fn every_text_that_troubleshooting_quotes_is_in_the_source() {
    let files = sources().into_iter().chain(files("examples", "rs"));
    let literals: Vec<String> =
        files.flat_map(|file| literals(&code(&file))).map(|(_, text)| text.replace('\n', " ")).collect();
    let mut quoted = 0;
    let mut problems = Vec::new();
    for cells in rows(TROUBLESHOOTING, "## By text") {
        let (_, spans) = code_spans(&cells[0]);
        let [text] = spans.as_slice() else {
            assert_eq!(cells[0].trim_matches('-'), if cells[0].starts_with('-') { "" } else { "text" }, "{cells:?}");
            continue;
        };
        quoted += 1;
        let fixed: usize = text.split('…').map(|part| part.trim().len()).sum();
        assert!(fixed >= 8, "`{text}` could be anything");
        if !literals.iter().any(|literal| is_in(text, literal)) {
            problems.push(text.clone());
        }
    }
    assert!(quoted > 100, "{quoted}");
    assert_none(problems, "texts of manual/troubleshooting.md that are not in the source any more");
}

/// Returns the text between two marks in a file.
fn between(file: &str, start: &str, end: &str) -> String {
    let text = read(file);
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("{file}: {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("{file}: {end}")).0.to_owned()
}

/// Returns the first cells of a table, without their code marks.
fn first_cells(page: &str, heading: &str) -> BTreeSet<String> {
    let rows = rows(page, heading).into_iter();
    rows.filter_map(|cells| Some(cells[0].strip_prefix('`')?.strip_suffix('`')?.to_owned())).collect()
}

fn assert_lists(listed: &BTreeSet<String>, expected: &BTreeSet<String>, what: &str) {
    let missing: Vec<_> = expected.difference(listed).collect();
    let unknown: Vec<_> = listed.difference(expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "{what}: missing {missing:?}, not in the code {unknown:?}");
}

#[test]
fn observability_lists_every_metric_with_the_labels_of_its_rustdoc_page() {
    let metrics = read("src/metrics.rs");
    let constants: BTreeSet<String> = literals(&code("src/metrics.rs"))
        .into_iter()
        .map(|(_, text)| text)
        .filter(|text| text.starts_with("client_credentials_"))
        .collect();
    assert!(constants.len() > 10, "{constants:?}");
    assert_lists(&first_cells(OBSERVABILITY, "## Metrics"), &constants, "metrics");
    for cells in rows(OBSERVABILITY, "## Metrics").into_iter().filter(|cells| cells[0].starts_with('`')) {
        let row = metrics.lines().find(|line| line.starts_with(&format!("//! | {} |", cells[0]))).unwrap();
        let (_, labels) = code_spans(&cells[2]);
        let missing: Vec<_> = labels.iter().filter(|label| !row.contains(&format!("`{label}`"))).collect();
        assert!(missing.is_empty() && row.contains(&format!("| {} |", cells[1])), "{}: {missing:?}", cells[0]);
    }
}

#[test]
fn observability_lists_every_event() {
    let outcomes = between("src/event/outcome.rs", "pub enum Outcome {\n", "\n}\n");
    let variants = outcomes.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        let name: String = line.chars().take_while(char::is_ascii_alphanumeric).collect();
        (line.starts_with(char::is_uppercase)).then_some(name)
    });
    let variants: BTreeSet<String> = variants.collect();
    assert!(variants.len() > 10, "{variants:?}");
    assert_lists(&first_cells(OBSERVABILITY, "## Events"), &variants, "events");
}

#[test]
fn observability_lists_every_code() {
    let reasons = between("src/resource_server/error.rs", "pub fn reason(&self) -> &'static str {", "\n    }\n");
    let mut expected: BTreeSet<String> = literals(&reasons).into_iter().map(|(_, name)| name).collect();
    for file in [
        "src/verification/error.rs",
        "src/authorization_server/error.rs",
        "src/administration/refusal_kind.rs",
        "src/client/token_error.rs",
    ] {
        // Variants of a `named!` enum.
        let code = read(file);
        let variants = code.split("\nnamed! {\n").skip(1).flat_map(|rest| rest.split("\n}\n").next().unwrap().lines());
        let names: Vec<_> = variants.filter_map(|line| line.strip_suffix("\",")?.split_once(" = \"")).collect();
        assert!(names.len() > 6, "{file}: {names:?}");
        expected.extend(names.into_iter().map(|(_, name)| name.to_owned()));
    }
    assert!(expected.len() > 30, "{expected:?}");
    assert_lists(&first_cells(OBSERVABILITY, "## Codes"), &expected, "codes");
}

/// Pages whose commands are run by the test below, in the order of the page, in one empty folder for each block.
const RUN: [&str; 4] = ["manual/stores.md", "manual/standalone.md", "manual/administration.md", "manual/migration.md"];

/// Commands that no test runs as they are, with the reason.
const NOT_RUN: [(&str, &str); 16] = [
    (
        "cargo add tower-client-credentials --features axum",
        "run by tests/examples.rs, with the path of this crate instead of its published version",
    ),
    ("cargo add axum tracing-subscriber", "run by tests/examples.rs"),
    ("cargo add tower-client-credentials --features remote", "run by tests/examples.rs, as above"),
    ("cargo add bytes http http-body-util tower", "run by tests/examples.rs"),
    ("cargo add hyper-util --features client-legacy,http1,tokio", "run by tests/examples.rs"),
    ("export BILLING_SECRET=$(openssl rand -hex 32)", "for the program of the README"),
    ("cargo build && (cargo run & sleep 2)", "it serves until it is stopped; tests/examples.rs compiles the program"),
    (
        r#"TOKEN=$(curl -s -u "billing:$BILLING_SECRET" -d grant_type=client_credentials -d scope=invoices:read http://127.0.0.1:3000/token | sed 's/.*"access_token":"\([^"]*\)".*/\1/')"#,
        "for the program of the README; tests/examples.rs runs those that the quick-start example prints",
    ),
    ("curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:3000/invoices", "as above"),
    (
        "curl -u \"billing:$BILLING_SECRET\" -d grant_type=client_credentials -d scope=invoices:read https://auth.example.com/token",
        "it asks a server that does not exist; tests/clients sends the same request",
    ),
    ("cargo add tokio --features full", "run by tests/examples.rs"),
    (
        "cargo run --features argon2,axum --example standalone -- --config examples/standalone.toml",
        "it serves until it is stopped; tests/standalone.rs starts it with this file",
    ),
    ("scripts/test", "it runs this test"),
    (
        "export TCC_STORE=postgres://tokens@db.example.com/tokens",
        "there is no such host; tests start their own Postgres",
    ),
    (
        "cargo run --features postgres --example clients -- create billing --scope invoices:read --audience https://api.example.com",
        "tests/clients_tool.rs runs it on its own Postgres",
    ),
    (
        "cargo run --features argon2,axum,postgres --example standalone -- --config service.toml",
        "it serves until it is stopped; tests/standalone.rs starts it with files of its own",
    ),
];

/// Returns the commands of a block, one a line.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn shell_blocks(page: &str) -> Vec<String> {
    let (_, blocks) = split(&read(page));
    blocks.into_iter().filter(|(language, _)| language == "sh").map(|(_, text)| text).collect()
}

#[test]
fn every_command_of_a_page_is_run_or_in_the_list_of_exceptions() {
    let pages = pages().into_iter().filter(|page| !RUN.contains(&page.as_str()));
    let shown: BTreeSet<String> =
        pages.flat_map(|page| shell_blocks(&page)).flat_map(|block| commands(&block)).collect();
    let excepted = BTreeSet::from(NOT_RUN.map(|(command, _)| command.to_owned()));
    assert_lists(&excepted, &shown, "exceptions");
}

/// `cargo run --example NAME -- …`, and `NAME …` where the example is installed, run the example that `cargo test` has built.
const CARGO: &str = "
set -euo pipefail
PATH=$EXAMPLES:$PATH
cargo() {
    local name=
    while [ \"$1\" != -- ]; do
        if [ \"$1\" = --example ]; then name=$2; fi
        shift
    done
    shift
    \"$EXAMPLES/$name\" \"$@\"
}
";

/// The folder of the examples that `cargo test` has built.
fn examples() -> PathBuf {
    let mut examples = std::env::current_exe().unwrap();
    examples.pop(); // the test
    examples.pop(); // deps
    examples.push("examples");
    assert!(examples.join("clients").exists(), "cargo build --all-features --example clients");
    examples
}

#[test]
fn the_commands_of_the_pages_succeed_as_they_are_shown() {
    let examples = examples();
    for block in RUN.into_iter().flat_map(shell_blocks) {
        let folder = tempfile::tempdir().unwrap();
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(format!("{CARGO}{block}")).current_dir(folder.path()).env("EXAMPLES", &examples);
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The digest that the pages abbreviate.
fn with_a_digest(text: &str) -> String {
    text.replace("$sha256$…", &format!("$sha256${}", "A".repeat(43)))
}

/// Rust is compiled as doc tests, and commands are run by the test above.
#[test]
fn every_other_code_block_is_accepted_by_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    for page in pages() {
        for (language, text) in split(&read(&page)).1 {
            let (file, content) = match language.as_str() {
                "rust" | "rust,no_run" | "sh" | "text" => continue,
                "json" => ("records.json", with_a_digest(&text)),
                "toml" if text.contains("[dev-dependencies]") => {
                    let minor = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0;
                    assert!(text.contains(&format!("version = \"{minor}\"")), "{page}: {text}");
                    continue;
                }
                "toml" => ("clients.toml", with_a_digest(&text)),
                other => panic!("{page}: no test reads a block of `{other}`"),
            };
            fs::write(folder.path().join(file), content).unwrap();
            let arguments: &[&str] = if file == "records.json" {
                &["--store", "sqlite://clients.db", "import", file]
            } else {
                &["--store", "file:clients.toml", "show", "billing"]
            };
            let output = Command::new(examples().join("clients")).args(arguments).current_dir(folder.path()).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
