//! Parses the text of the file into clients, and renders clients as text.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::object::Object;
use crate::registration::{ClientError, ClientRules, Record, RegisteredClient, member, without_value};

/// A line number, starting at 1, and the error in that line.
pub(super) type Wrong = (usize, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    clients: Vec<Spanned<Object<Record>>>,
}

/// Returns all clients of the file, or the first error.
pub(super) fn parse(bytes: &[u8], rules: Option<&ClientRules>) -> Result<Vec<Arc<RegisteredClient>>, Wrong> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| (line(bytes, error.valid_up_to()), "the file is not UTF-8; save it as UTF-8".to_owned()))?;
    if text.trim().is_empty() {
        return Err((1, "the file is empty; write `clients = []` if there are no clients".to_owned()));
    }
    let document: Document = toml::from_str(text).map_err(|error| {
        let Range { start, .. } = error.span().unwrap_or(0..0);
        let why = without_value(error.message());
        (line(bytes, start), path_of_mistake(text).map_or_else(|| why.clone(), |path| format!("{path}: {why}")))
    })?;
    let mut ids = HashSet::new();
    let client = |(number, record): (usize, Spanned<Object<Record>>)| {
        let Range { start, .. } = record.span();
        let wrong = |why: String| (line(bytes, start), why);
        if let Some((name, why)) = record.get_ref().0.unknown_member() {
            let place = place_of_member(text, number, name).unwrap_or(start);
            return Err((line(bytes, place), why));
        }
        let client = record.into_inner().0.register().map_err(|error| wrong(error.to_string()))?;
        if !ids.insert(client.id().clone()) {
            return Err(wrong(format!("duplicate client id `{}`; give each client its own id", client.id())));
        }
        rules.map_or(Ok(()), |rules| rules.check(&client)).map_err(|error| wrong(error.to_string()))?;
        Ok(Arc::new(client))
    };
    document.clients.into_iter().enumerate().map(client).collect()
}

/// Returns the path of the invalid member, such as `client_secrets[1].hash`. Called only for a file that is known to be
/// invalid.
fn path_of_mistake(text: &str) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, Document>(toml::Deserializer::parse(text).ok()?).err()?;
    let path = member(error.path())?;
    // The line number already identifies the client.
    let in_client = path.strip_prefix("clients[").and_then(|rest| rest.split_once("]."));
    Some(in_client.map_or(path.clone(), |(_, path)| path.to_owned()))
}

/// Returns where a member of a client is in the text. Called only for a file that is known to be invalid.
fn place_of_member(text: &str, client: usize, name: &str) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let record = document.get_ref().get("clients")?.get_ref().get(client)?;
    let (key, _) = record.get_ref().as_table()?.get_key_value(name)?;
    Some(key.span().start)
}

fn line(bytes: &[u8], place: usize) -> usize {
    1 + bytes.iter().take(place).filter(|byte| **byte == b'\n').count()
}

/// Renders the clients as the text of a file.
pub(super) fn render(clients: &[Arc<RegisteredClient>]) -> Result<String, toml::ser::Error> {
    #[derive(Serialize)]
    struct Document<'a> {
        clients: &'a [&'a RegisteredClient],
    }
    let mut text = "# Clients, written by a program: comments are not kept.\n".to_owned();
    if clients.is_empty() {
        text.push('\n');
        text.push_str(&toml::to_string(&Document { clients: &[] })?);
    }
    // One document per client: `toml` inserts the members of each table into the text of all tables before it, which takes
    // quadratic time.
    for client in clients {
        text.push('\n');
        text.push_str(&toml::to_string(&Document { clients: &[client] })?);
    }
    Ok(text)
}

/// Checks that a client can be read again after it was written: TOML has no `null`, and its parser accepts fewer nested arrays than
/// that of JSON. Otherwise one client would make the whole file invalid.
pub(super) fn check_readable(client: &Arc<RegisteredClient>) -> Result<(), ClientError> {
    let rendered = render(std::slice::from_ref(client)).map_err(|error| error.to_string());
    let read = rendered.and_then(|text| parse(text.as_bytes(), None).map_err(|(_, why)| why));
    read.map(drop).map_err(|why| {
        let why = why.strip_prefix(&format!("client `{}`: ", client.id())).unwrap_or(&why);
        let text = format!("the file of clients cannot have it: {why}; {MORE_THAN_TOML}");
        ClientError::new(client.id(), text)
    })
}

const MORE_THAN_TOML: &str = "if it has `null` or many nested arrays in `jwks` or `claims`, remove them";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{parse, render};
    use crate::registration::RegisteredClient;
    use crate::{Client, ClientSecret, Scope};

    fn client(id: &str) -> Client {
        Client::new(id, ClientSecret::generate().unwrap()).audience("https://api.example.com")
    }

    #[test]
    fn written_clients_read_back_equal() {
        let clients = [
            client("billing").scope(Scope::from_static("read")).token_lifetime(std::time::Duration::from_secs(9)),
            client("\"odd\" \\ [[clients]] # = '").secret(ClientSecret::generate().unwrap()).disabled(),
            client("reports").subject("svc:\u{1f980}\n").introspects("https://api.example.com"),
        ]
        .map(|client| Arc::new(client.register().unwrap()));
        let text = render(&clients).unwrap();
        assert_eq!(parse(text.as_bytes(), None).unwrap(), clients, "{text}");
        assert_eq!(parse(render(&[]).unwrap().as_bytes(), None).unwrap(), []);
    }

    /// Returns the processor time of this thread, which does not depend on other threads.
    #[cfg(target_os = "linux")]
    fn thread_time() -> std::time::Duration {
        let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        std::time::Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_to_render_and_to_parse_a_client_does_not_grow_with_the_number_of_clients() {
        let clients: Vec<Arc<RegisteredClient>> =
            (0..50_000).map(|number| Arc::new(client(&format!("client-{number:05}")).register().unwrap())).collect();
        let timed = |work: &mut dyn FnMut()| {
            let begun = thread_time();
            work();
            thread_time().saturating_sub(begun)
        };
        let per_client = |clients: &[Arc<RegisteredClient>]| {
            let (mut text, mut parsed) = (String::new(), Vec::new());
            let rendering = timed(&mut || text = render(clients).unwrap());
            let parsing = timed(&mut || parsed = parse(text.as_bytes(), None).unwrap());
            assert_eq!(parsed.len(), clients.len());
            let count = u32::try_from(clients.len()).unwrap();
            (rendering / count, parsing / count)
        };
        let (render_few, parse_few) = per_client(&clients[..1_000]);
        let (render_many, parse_many) = per_client(&clients);
        assert!(render_many < 2 * render_few, "one of 1,000 takes {render_few:?}, one of 50,000 {render_many:?}");
        assert!(parse_many < 3 * parse_few, "one of 1,000 takes {parse_few:?}, one of 50,000 {parse_many:?}");
    }
}
