use std::time::Duration;

use super::{Client, RegisteredClient};
use crate::audience::Audience;
use crate::scope::{Scope, Scopes};
use crate::secret::ClientSecret;

const READ: Scope = Scope::from_static("read");

fn client(id: &str) -> Client {
    Client::new(id, ClientSecret::generate().unwrap())
}

#[test]
fn each_error_contains_the_id_of_the_client() {
    for (client, mistake) in [
        (client("b").audience("api"), "`api` is not an audience"),
        (client("b").default_audience("api"), "`api` is not an audience"),
        (client("b").default_scopes(READ), "default scope `read`"),
        (client("b").subject(""), "subject is empty"),
        (client("b").token_lifetime(Duration::ZERO), "lifetime"),
    ] {
        let error = client.register().unwrap_err();
        assert_eq!(error.client(), "b");
        assert!(error.to_string().contains(mistake), "{error}");
    }
}

#[test]
fn the_error_for_a_malformed_id_contains_the_original_text() {
    for id in ["é", "", "a\nb"] {
        let client = client(id).scope(READ).audience("api");
        assert!(!format!("{client:?}").contains("ClientId(\"?\")"), "{client:?}");
        let error = client.register().unwrap_err();
        assert_eq!(error.client(), id);
        assert!(error.to_string().contains("client id"), "{error}");
    }
    // `?` is a valid id.
    assert_eq!(client("?").register().unwrap().id(), &"?");
}

#[test]
fn the_default_audience_is_the_only_one_or_the_one_that_was_set() {
    let (one, two) = ("https://one.example", "https://two.example");
    let default = |client: Client| client.register().unwrap().default_audience().map(ToString::to_string);
    assert_eq!(default(client("b")), None);
    assert_eq!(default(client("b").audience(one)).as_deref(), Some(one));
    assert_eq!(default(client("b").audience(one).audience(two)), None);
    assert_eq!(default(client("b").audience(one).default_audience(two)).as_deref(), Some(two));
}

#[test]
fn the_subject_is_the_id_unless_another_one_was_set() {
    assert_eq!(client("b").register().unwrap().subject(), "b");
    assert_eq!(client("b").subject("svc:b").register().unwrap().subject(), "svc:b");
}

const WRITE: Scope = Scope::from_static("write");

#[test]
fn audiences_are_kept_without_duplicates_and_in_order() {
    let audience = |number: usize| format!("https://api.example.com/{number}");
    let many: Vec<_> = (0..1_000).chain(500..1_500).map(audience).collect();
    let registered = client("b").audiences(&many).register().unwrap();
    assert!(registered.audiences().iter().map(ToString::to_string).eq((0..1_500).map(audience)));
    let record = serde_json::to_string(&registered)
        .unwrap()
        .replace(r#""audiences":["#, r#""audiences":["https://a","https://a","#);
    let read: RegisteredClient = serde_json::from_str(&record).unwrap();
    assert_eq!(read.audiences().len(), 1_501);
    let error = client("b").audiences(["https://a", "b", "c"]).register().unwrap_err().to_string();
    assert!(error.contains("`b`") && !error.contains("`c`"), "{error}");
}

#[test]
fn a_secret_is_labelled_with_the_lowest_free_number() {
    let labels = |client: Client| {
        let client = client.register().unwrap();
        client.secrets().iter().map(|secret| secret.label().to_owned()).collect::<Vec<_>>()
    };
    let secret = || ClientSecret::generate().unwrap();
    let three = client("b").secret(secret()).secret(secret());
    assert_eq!(labels(three.clone()), ["1", "2", "3"]);
    assert_eq!(labels(three.without_secret("2").secret(secret()).secret(secret())), ["1", "3", "2", "4"]);
}

#[test]
fn scope_adds_a_scope_and_scopes_replaces_all_of_them() {
    let scopes = |client: Client| client.register().unwrap().scopes().to_string();
    assert_eq!(scopes(client("b").scope(READ).without_scope(&READ).scope(WRITE)), "write");
    assert_eq!(scopes(client("b").scope(READ).scopes([WRITE])), "write");
    assert_eq!(scopes(client("b").scope(READ).scope(WRITE).scope(READ)), "read write");
    assert_eq!(scopes(client("b").scopes([READ, WRITE, READ])), "read write");
    let both = client("b").scopes([READ, WRITE]).register().unwrap();
    assert_eq!(scopes(both.edit().scopes([READ])), "read");
    assert_eq!(scopes(both.edit().scopes([])), "");
    assert_eq!(scopes(both.edit().scopes([WRITE]).scope(READ)), "write read");
}

#[test]
fn audience_adds_an_audience_and_audiences_replaces_all_of_them() {
    let (one, two) = ("https://one.example", "https://two.example");
    let both = client("b").default_audience(one).audience(two).register().unwrap();
    let changed = both.edit().audiences([two]).register().unwrap();
    assert_eq!((changed.audiences().len(), changed.default_audience().unwrap().as_str()), (1, two));
    let changed = both.edit().audiences([two, one, two]).register().unwrap();
    assert_eq!((changed.audiences().len(), changed.default_audience().unwrap().as_str()), (2, one));
    assert!(both.edit().audiences(["api"]).register().unwrap_err().to_string().contains("`api` is not an audience"));
}

#[test]
fn a_client_whose_audiences_were_all_removed_gets_the_servers_default_only_explicitly() {
    const ONE: &str = "https://one.example";
    let full = client("b").default_audience(ONE).register().unwrap();
    let nothing: [&str; 0] = [];
    let without_grant = full.edit().without_audience(ONE).without_grant().register().unwrap();
    for widened in [
        full.edit().without_audience(ONE),
        full.edit().audiences(nothing),
        full.edit().server_default_audience().audience(ONE).without_audience(ONE),
        client("b").audience(ONE).without_audience(ONE),
        client("b").audiences([ONE]).audiences(nothing),
        client("b").without_grant().register().unwrap().edit().grant(true),
        without_grant.edit().grant(true),
    ] {
        let error = widened.clone().register().unwrap_err().to_string();
        for part in ["client `b`: ", "the server's default", ".server_default_audience()", ".without_grant()"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        let said = widened.clone().server_default_audience().register().unwrap();
        assert!(said.audiences().is_empty() && said.default_audience().is_none());
        assert_eq!(widened.clone().audience(ONE).register().unwrap().audiences(), [ONE]);
        assert!(!widened.without_grant().register().unwrap().may_use_grant());
    }
    for never in [client("b"), client("b").audiences(nothing), client("b").without_grant().grant(true)] {
        let never = never.register().unwrap();
        assert!(never.audiences().is_empty() && never.may_use_grant());
        // The default audience gives it no more rights than before.
        assert_eq!(never.edit().without_audience(ONE).disabled().register().unwrap().audiences(), nothing);
    }
}

/// Removing scopes never extends a client's rights: a client without scopes gets none, and its default scopes are
/// limited to its scopes.
#[test]
fn a_client_whose_default_scopes_were_all_removed_does_not_get_those_of_the_server() {
    let full = client("b").scopes([READ, WRITE]).default_scopes(WRITE).register().unwrap();
    let less = full.edit().without_scope(&WRITE).register().unwrap();
    assert_eq!(less.default_scopes().map(Scopes::as_str), Some(""));
    let record = serde_json::to_string(&less).unwrap();
    assert_eq!(serde_json::from_str::<RegisteredClient>(&record).unwrap(), less, "{record}");
    let none = less.edit().without_scope(&READ).register().unwrap();
    assert!(none.scopes().is_empty());
}

#[test]
fn every_setting_of_a_client_can_be_removed() {
    let (one, two) = ("https://one.example", "https://two.example");
    let full = client("b")
        .scopes([READ, WRITE])
        .default_scopes([READ, WRITE])
        .default_audience(one)
        .audience(two)
        .introspects(one)
        .introspects(two)
        .subject("svc:b")
        .token_lifetime(Duration::from_secs(60))
        .without_grant()
        .register()
        .unwrap();
    let less = full
        .edit()
        .without_scope(&WRITE)
        .without_audience(one)
        .without_introspects(two)
        .without_subject()
        .without_token_lifetime()
        .grant(true)
        .register()
        .unwrap();
    assert_eq!((less.scopes().as_str(), less.default_scopes().map(Scopes::as_str)), ("read", Some("read")));
    assert_eq!((less.audiences().len(), less.default_audience().unwrap().as_str()), (1, two));
    assert_eq!(less.introspects().iter().map(Audience::as_str).collect::<Vec<_>>(), [one]);
    assert_eq!((less.subject(), less.token_lifetime(), less.may_use_grant()), ("b", None, true));
    assert_eq!(less.edit().without_default_scopes().register().unwrap().default_scopes(), None);
    assert_eq!(full.edit().without_default_audience().register().unwrap().default_audience(), None);
    let same = full.edit().without_scope(&Scope::from_static("other")).without_audience("https://other.example");
    assert_eq!(same.register().unwrap(), full);
}

#[test]
fn many_scopes_are_added_in_linear_time() {
    let many = 20_000;
    let scopes = (0..many).map(|number| format!("scope:{number}").parse::<Scope>().unwrap());
    let start = std::time::Instant::now();
    let client = client("b").scopes(scopes).register().unwrap();
    assert_eq!(client.scopes().iter().count(), many);
    // Creating a set for each scope took minutes.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
