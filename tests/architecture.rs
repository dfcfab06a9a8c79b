//! The layers of the crate: imports point downwards, and never through the crate root.
//!
//! It reads the text of `src/`: a path in code that begins with `crate::` or `super::` is an import of the module that it leads to.
//! Tests may import anything: modules under `#[cfg(test)]` are left out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules from the bottom to the top. A module imports only from layers below its own.
const LAYERS: &[&[&str]] = &[
    &[
        "base64url",
        "clock",
        "crypto",
        "deadline",
        "debug_fields",
        "metrics",
        "named",
        "network",
        "object",
        "private_address",
        "quoted",
        "sync",
        "text",
        "timing",
        "token_lifetime",
        "uri",
        "uri_equivalence",
    ],
    &["audience", "client_id", "issuer", "numeric_date", "scope", "transport", "workload_api"],
    &["event", "issuer_metadata"],
    &["keys", "secret", "telemetry"],
    &["client_authentication", "registration"],
    &["store"],
    &["revocation"],
    &["verification"],
    // The three roles of RFC 6749 §1.1.
    &["authorization_server", "client", "resource_server"],
    // Needs two of the roles: a resource server that changes the clients of an authorization server.
    &["administration"],
    // The pages of `manual/`, for rustdoc.
    &["manual"],
];

type Module = Vec<String>;

/// The modules of the crate, by path, with their code.
fn modules() -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                modules.insert(module_of(&root, &path), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut modules = without_tests(modules);
    modules.remove(&Module::new());
    modules
}

fn module_of(root: &Path, file: &Path) -> Module {
    let relative: PathBuf = file.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Module = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Leaves out modules that are declared under `#[cfg(test)]`, with those below them, and test code at the end of a file.
fn without_tests(modules: BTreeMap<Module, String>) -> BTreeMap<Module, String> {
    let mut tests = BTreeSet::new();
    for (module, text) in &modules {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            if let [attribute, declaration] = pair
                && is_test_attribute(attribute)
                && let Some(name) = declaration.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'))
            {
                tests.insert([module.as_slice(), &[name.to_owned()]].concat());
            }
        }
    }
    let is_test = |module: &Module| tests.iter().any(|test| module.starts_with(test));
    modules.into_iter().filter(|(module, _)| !is_test(module)).map(|(module, text)| (module, code_of(&text))).collect()
}

fn is_test_attribute(line: &str) -> bool {
    line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test")
}

/// Returns the code without comments and without an inline module of tests, which is the end of its file.
fn code_of(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut code = String::new();
    while let Some(line) = lines.next() {
        if is_test_attribute(line)
            && lines.peek().is_some_and(|next| next.starts_with("mod ") || next.starts_with("#["))
        {
            break;
        }
        let line = line.trim_start();
        if !line.starts_with("//") {
            code.push_str(line.split(" // ").next().unwrap());
            code.push('\n');
        }
    }
    code
}

/// The paths in the code that begin with `crate::` or `super::`, each with braces expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':' || before == '$')
            {
                continue;
            }
            let mut rest = code[at..].split(';').next().unwrap();
            if !code[..at].ends_with("use ") {
                rest = rest.split(|end: char| !(end.is_alphanumeric() || end == '_' || end == ':')).next().unwrap();
            }
            found.extend(
                expanded(rest).into_iter().map(|path| path.split("::").map(|part| part.trim().to_owned()).collect()),
            );
        }
    }
    found
}

/// `a::{b, c::{d, e}}` → `a::b`, `a::c::d`, `a::c::e`.
fn expanded(path: &str) -> Vec<String> {
    let Some((head, body)) = path.split_once('{') else { return vec![path.split(" as ").next().unwrap().to_owned()] };
    let (mut depth, mut part, mut parts) = (1, String::new(), Vec::new());
    for character in body.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        part.push(character);
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(expanded).map(|part| format!("{head}{part}")).collect()
}

/// Where a path leads, from the crate root.
fn resolved(module: &Module, path: &[String]) -> Vec<String> {
    let mut base = if path[0] == "crate" { Module::new() } else { module.clone() };
    let mut rest = if path[0] == "crate" { &path[1..] } else { path };
    while let [first, others @ ..] = rest
        && first == "super"
    {
        base.pop();
        rest = others;
    }
    [base.as_slice(), rest].concat()
}

fn layer_of(module: &str) -> usize {
    let layer = LAYERS.iter().position(|layer| layer.contains(&module));
    layer.unwrap_or_else(|| {
        panic!("the module `{module}` has no layer; add it to LAYERS above the modules that it imports")
    })
}

#[test]
fn imports_point_downwards() {
    let modules = modules();
    let mut upwards = Vec::new();
    for (module, code) in &modules {
        for path in paths(code) {
            let target = resolved(module, &path);
            let Some(imported) = target.first().filter(|first| modules.contains_key(&vec![(*first).clone()])) else {
                continue;
            };
            if *imported != module[0] && layer_of(imported) >= layer_of(&module[0]) {
                upwards.push(format!("{} imports {}", module.join("::"), target.join("::")));
            }
        }
        layer_of(&module[0]);
    }
    assert!(upwards.is_empty(), "imports that do not point downwards:\n{}", upwards.join("\n"));
}

#[test]
fn no_module_imports_through_the_crate_root() {
    let modules = modules();
    let mut through_root = Vec::new();
    for (module, code) in &modules {
        for path in paths(code) {
            let target = resolved(module, &path);
            let is_item = target.first().is_some_and(|first| first.starts_with(char::is_uppercase));
            if is_item && path[0] == "crate" {
                through_root.push(format!("{} imports crate::{}", module.join("::"), target.join("::")));
            }
        }
    }
    assert!(through_root.is_empty(), "imports through the crate root:\n{}", through_root.join("\n"));
}

#[test]
fn the_crate_root_exports_at_most_30_names() {
    let root = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let exports = root.split("pub use self::").skip(1).map(|rest| rest.split(';').next().unwrap());
    let names: Vec<&str> = exports
        .flat_map(|export| export.split(|c: char| !c.is_alphanumeric()))
        .filter(|name| name.starts_with(char::is_uppercase))
        .collect();
    assert!(names.contains(&"AuthorizationServer"), "{names:?}");
    assert!(names.len() <= 30, "{} names: {names:?}", names.len());
}

/// A module and its parent may know each other: the parent re-exports what its parts define.
#[test]
fn modules_beside_each_other_do_not_import_each_other_in_a_circle() {
    let modules = modules();
    let mut imports: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, code) in &modules {
        if module.len() < 2 {
            continue;
        }
        let from = module[..2].to_vec();
        for path in paths(code) {
            let target = resolved(module, &path);
            let to: Module = target.into_iter().take(2).collect();
            if to.len() == 2 && to[0] == from[0] && to != from && modules.contains_key(&to) {
                imports.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    // Modules outside of all circles are removed one after the other, until only circles are left.
    loop {
        let free: Vec<Module> = imports
            .iter()
            .filter(|(_, imported)| !imported.iter().any(|module| imports.contains_key(module)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            imports.remove(&module);
        }
    }
    let circle: Vec<String> = imports.keys().map(|module| module.join("::")).collect();
    assert!(circle.is_empty(), "modules in a circle, or that import one: {circle:?}");
}

#[test]
fn every_path_that_the_mutation_tests_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    let (script, equivalent) = (read("scripts/mutants"), read("scripts/mutants-equivalent.txt"));
    let in_script = script.split('"').filter(|text| text.starts_with("src/"));
    let in_list = equivalent.lines().filter_map(|line| line.split_once('\t')).map(|(path, _)| path);
    let paths: Vec<&str> = in_script.chain(in_list).map(|path| path.trim_end_matches("/**")).collect();
    assert!(paths.contains(&"src/authorization_server/token/request.rs"), "{paths:?}");
    let missing: Vec<&&str> = paths.iter().filter(|path| !root.join(path).exists()).collect();
    assert!(missing.is_empty(), "scripts/mutants and scripts/mutants-equivalent.txt name missing files: {missing:?}");
}

#[test]
fn every_source_file_that_the_contributing_guide_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("CONTRIBUTING.md")).unwrap();
    let tree = guide.split("## Source tree").nth(1).unwrap().split("\n### Tests").next().unwrap();
    let is_path =
        |text: &&str| Path::new(text).extension().is_some_and(|extension| extension == "rs") || text.ends_with('/');
    let named = tree.split('`').skip(1).step_by(2).filter(is_path);
    let (mut files, mut folders) = (Vec::new(), vec![root.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    let exists =
        |name: &str| files.iter().any(|file| format!("/{file}").ends_with(&format!("/{}", name.trim_end_matches('/'))));
    let missing: Vec<&str> = named.filter(|name| !exists(name)).collect();
    assert!(files.len() > 100 && missing.is_empty(), "CONTRIBUTING.md names missing files: {missing:?}");
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let module = vec!["a".to_owned(), "b".to_owned()];
    let code = "use crate::x::{y, z::{self, W}};\nlet v = super::c::f(crate::d::E);\n";
    let mut found: Vec<String> = paths(code).iter().map(|path| resolved(&module, path).join("::")).collect();
    found.sort();
    assert_eq!(found, ["a::c::f", "d::E", "x::y", "x::z::W", "x::z::self"]);
    let text = "use crate::a;\n// crate::comment\n#[cfg(test)]\nmod tests {\n    use crate::b;\n}\n";
    assert_eq!(code_of(text), "use crate::a;\n");
}
