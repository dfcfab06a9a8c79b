"""requests-oauthlib against the running example `standalone` with examples/standalone.toml."""

import json
import os
import unittest
from pathlib import Path
from urllib.parse import urljoin

import requests_oauthlib
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidScopeError, TokenExpiredError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

ISSUER = os.environ["ISSUER"]
TOKEN = urljoin(ISSUER, "/token")
CLIENTS = json.loads(Path(__file__).with_name("..").joinpath("clients.json").read_text())
BASIC, POST, ODD, LIMITED, GATEWAY = CLIENTS.values()

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # http on loopback


class RequestsOauthlib(unittest.TestCase):
    def session(self, client, **settings):
        session = OAuth2Session(client=BackendApplicationClient(client["id"], **settings))
        self.addCleanup(session.close)
        return session

    def token(self, session, client):
        """Gets a token as its manual describes for each method. The library warns if the scope differs from the requested one."""
        if client["method"] == "client_secret_basic":
            return session.fetch_token(TOKEN, auth=HTTPBasicAuth(client["id"], client["secret"]))
        return session.fetch_token(TOKEN, client_secret=client["secret"], include_client_id=True)

    def status(self, session, path):
        return session.get(urljoin(ISSUER, path)).status_code

    def test_each_method_gets_a_token_that_opens_a_route(self):
        for client in [BASIC, POST]:
            with self.subTest(client["id"]):
                session = self.session(client, scope=["read", "write"])
                self.assertEqual(self.token(session, client)["scope"], ["read", "write"])
                self.assertEqual(session.get(urljoin(ISSUER, "/api/read")).json()["client_id"], client["id"])

    def test_a_missing_scope_is_refused(self):
        session = self.session(LIMITED)
        self.token(session, LIMITED)
        self.assertEqual([self.status(session, path) for path in ["/api/read", "/api/write"]], [200, 403])

    def test_a_token_that_has_expired_by_its_clock_is_not_sent(self):
        session = self.session(BASIC)
        token = self.token(session, BASIC)
        session.token = token | {"expires_at": 1}
        with self.assertRaises(TokenExpiredError):
            self.status(session, "/api/read")
        self.token(session, BASIC)
        self.assertEqual(self.status(session, "/api/read"), 200)

    def test_a_wrong_secret_is_its_own_error(self):
        for client in [BASIC, POST]:
            with self.subTest(client["id"]), self.assertRaises(InvalidClientError):
                wrong = client | {"secret": "wrong"}
                self.token(self.session(wrong), wrong)

    def test_an_unknown_scope_is_its_own_error(self):
        with self.assertRaises(InvalidScopeError):
            self.token(self.session(BASIC, scope=["admin"]), BASIC)


if __name__ == "__main__":
    print(f"requests-oauthlib {requests_oauthlib.__version__}")
    unittest.main(verbosity=2)
