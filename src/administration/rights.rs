//! The decision whether an administrator may change a client: by the rights that the client has, and by those that it gets.

use super::actor::Actor;
use super::{AdministrationRefusal, Inner};
use crate::audience::Audience;
use crate::registration::{MayGrant, RegisteredClient};
use crate::scope::Scopes;

/// What a decision depends on, apart from the two clients.
pub(super) struct Rights<'a> {
    /// The scopes of the administration.
    pub(super) reserved: Scopes,
    pub(super) audience: &'a Audience,
    /// The audience of a client that lists none.
    pub(super) default_audience: Option<&'a Audience>,
}

impl Inner {
    pub(super) fn rights(&self) -> Rights<'_> {
        Rights {
            reserved: self.scopes.all(),
            audience: &self.audience,
            default_audience: self.server.rules.default_audience.as_ref(),
        }
    }
}

impl Rights<'_> {
    /// Checks that the administrator may give a client exactly these rights. It is asked about a client before the change, too:
    /// otherwise an administrator could take over a client with more rights, by a new secret.
    pub(super) fn check(&self, actor: &Actor, client: &RegisteredClient) -> Result<(), AdministrationRefusal> {
        let nothing = MayGrant::new();
        let may_grant = actor.client.may_grant().unwrap_or(&nothing);
        if self.concerns_administration(client) && !actor.is_for_administrators {
            return Err(AdministrationRefusal::denied(
                "the client is an administrator, or would become one; that needs the scope for administrators",
            ));
        }
        let (own, others): (Vec<&str>, Vec<&str>) =
            client.scopes().iter().partition(|scope| self.reserved.contains(scope));
        if let Some(scope) = own.into_iter().find(|scope| !actor.client.scopes().contains(scope)) {
            return Err(beyond("scope", scope));
        }
        if let Some(scope) = others.into_iter().find(|scope| !may_grant.allows_scope(scope)) {
            return Err(beyond("scope", scope));
        }
        // The audience of the administration is given by an administrator for administrators, which has it itself.
        let allows = |audience: &&Audience| *audience == self.audience || may_grant.allows_audience(audience);
        let gets_default = client.may_use_grant() && client.audiences().is_empty();
        let default = self.default_audience.filter(|_| gets_default);
        if let Some(audience) = client.audiences().iter().chain(default).find(|audience| !allows(audience)) {
            return Err(beyond("audience", audience));
        }
        if let Some(audience) = client.introspects().iter().find(|audience| !allows(audience)) {
            return Err(beyond("introspected audience", audience));
        }
        if client.subject() != client.id().as_str() && !actor.is_for_administrators {
            return Err(AdministrationRefusal::denied(
                "the client has a `subject` that is not its id, or would get one; that needs the scope for administrators",
            ));
        }
        match client.may_grant().filter(|theirs| !may_grant.covers(theirs)) {
            Some(_) => Err(AdministrationRefusal::denied(
                "the client has a `may_grant` beyond that of the administrator, or would get one",
            )),
            None => Ok(()),
        }
    }

    /// Returns whether the client has something of an administrator. Another spelling of the audience counts, too.
    fn concerns_administration(&self, client: &RegisteredClient) -> bool {
        let form = self.audience.normal_form();
        client.may_grant().is_some()
            || client.scopes().iter().any(|scope| self.reserved.contains(scope))
            || client.audiences().iter().chain(client.introspects()).any(|audience| audience.normal_form() == form)
    }
}

fn beyond(what: &str, value: &str) -> AdministrationRefusal {
    AdministrationRefusal::denied(format!(
        "the {what} `{value}` is not in the `may_grant` of the administrator, so it can neither give it to a client nor change a \
         client that has it"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Actor, Rights};
    use crate::audience::Audience;
    use crate::registration::{Client, MayGrant, RegisteredClient};
    use crate::scope::{Scope, Scopes};
    use crate::secret::ClientSecret;
    use crate::store::Revision;

    const ADMIN: Audience = Audience::from_static("https://auth.example/clients");
    const API: Audience = Audience::from_static("https://api.example");
    const OTHER: Audience = Audience::from_static("https://other.example");
    const READ: Scope = Scope::from_static("read");
    const WRITE: Scope = Scope::from_static("clients:write");
    const MANAGE: Scope = Scope::from_static("clients:administrators");

    fn client(id: &str) -> Client {
        Client::new(id, ClientSecret::generate().unwrap())
    }

    fn actor(may_grant: MayGrant, scopes: &[Scope]) -> Actor {
        let client = client("admin").scopes(scopes.to_vec()).audience(&ADMIN).may_grant(may_grant).register().unwrap();
        Actor { client: Arc::new(client), revision: Revision::new(1), is_for_administrators: scopes.contains(&MANAGE) }
    }

    fn refusal(actor: &Actor, client: Client) -> Option<String> {
        let reserved: Scopes = [WRITE, MANAGE].into_iter().collect();
        let rights = Rights { reserved, audience: &ADMIN, default_audience: Some(&OTHER) };
        let client: RegisteredClient = client.register().unwrap();
        rights.check(actor, &client).err().map(|refusal| refusal.description().to_owned())
    }

    #[test]
    fn an_administrator_handles_only_clients_within_its_own_list() {
        let actor = actor(MayGrant::new().scope(&READ).audience(API), &[WRITE]);
        assert_eq!(refusal(&actor, client("a").scope(READ).audience(&API).introspects(&API)), None);
        assert_eq!(refusal(&actor, client("a").without_grant()), None);
        for (client, says) in [
            (client("a").scope(Scope::from_static("pay")).audience(&API), "`pay`"),
            (client("a").scope(READ).audience(&API).audience(&OTHER), "`https://other.example`"),
            (client("a").audience(&API).introspects(&OTHER), "`https://other.example`"),
            // It would get the server's default audience.
            (client("a").scope(READ), "`https://other.example`"),
            (client("a").audience(&API).subject("b"), "`subject`"),
            (client("a").audience(&API).scope(WRITE), "scope for administrators"),
            (client("a").audience(&ADMIN), "scope for administrators"),
            (client("a").audience("HTTPS://auth.example:443/clients"), "scope for administrators"),
            (client("a").audience(&API).introspects(&ADMIN), "scope for administrators"),
            (client("a").audience(&API).may_grant(MayGrant::new()), "scope for administrators"),
        ] {
            let why = refusal(&actor, client).unwrap_or_else(|| panic!("not refused: {says}"));
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn an_administrator_for_administrators_gives_no_more_than_it_has() {
        let all = actor(MayGrant::everything(), &[WRITE, MANAGE]);
        let another = || client("b").scopes([WRITE, MANAGE]).audience(&ADMIN).subject("c");
        assert_eq!(refusal(&all, another().may_grant(MayGrant::everything())), None);

        let some = actor(MayGrant::new().scope(&READ).audience(API), &[WRITE, MANAGE]);
        assert_eq!(refusal(&some, another().may_grant(MayGrant::new().scope(&READ).audience(API))), None);
        for may_grant in [MayGrant::everything(), MayGrant::new().audience(OTHER), MayGrant::new().scope(&WRITE)] {
            assert!(refusal(&some, another().may_grant(may_grant.clone())).is_some(), "{may_grant:?}");
        }
        // It lacks the scope itself.
        let without = actor(MayGrant::everything(), &[MANAGE]);
        assert!(refusal(&without, another()).unwrap().contains("`clients:write`"));
    }

    #[test]
    fn a_list_of_an_administrator_that_names_the_scopes_of_the_administration_gives_no_right_to_them() {
        let list = MayGrant::new().scope(&WRITE).scope(&MANAGE).audience(ADMIN).audience(API);
        for actor in [actor(list, &[WRITE]), actor(MayGrant::everything(), &[WRITE])] {
            assert!(refusal(&actor, client("a").scope(MANAGE).audience(&ADMIN)).is_some());
            assert!(refusal(&actor, client("a").scope(WRITE).audience(&API)).is_some());
        }
    }
}
