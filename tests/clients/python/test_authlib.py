"""authlib against the running example `standalone` with examples/standalone.toml."""

import json
import os
import unittest
from pathlib import Path
from urllib.parse import quote_plus, urljoin

import authlib
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6750.errors import InsufficientScopeError, InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

ISSUER = os.environ["ISSUER"]
API = "https://api.example.test/"
OTHER = "https://other.example.test/"
CLIENTS = json.loads(Path(__file__).with_name("..").joinpath("clients.json").read_text())
BASIC, POST, ODD, LIMITED, GATEWAY = CLIENTS.values()

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # http on loopback


def discover() -> AuthorizationServerMetadata:
    return AuthorizationServerMetadata(requests.get(get_well_known_url(ISSUER, external=True)).json())


class Validator(JWTBearerTokenValidator):
    """The resource server, as in authlib's manual."""

    def get_jwks(self):
        return requests.get(discover()["jwks_uri"]).json()


class Authlib(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.token_endpoint = discover()["token_endpoint"]

    def session(self, client, **settings):
        session = OAuth2Session(
            client["id"],
            client["secret"],
            token_endpoint_auth_method=client["method"],
            revocation_endpoint_auth_method=client["method"],
            **settings,
        )
        self.addCleanup(session.close)
        return session

    def token(self, session, **parameters):
        return session.fetch_token(self.token_endpoint, grant_type="client_credentials", **parameters)

    def get(self, session, path):
        return session.get(urljoin(ISSUER, path))

    def test_the_metadata_is_valid(self):
        metadata = discover()
        metadata.validate()
        self.assertEqual(metadata["issuer"], ISSUER)

    def test_each_method_gets_a_token_that_opens_a_route(self):
        for client in [BASIC, POST]:
            with self.subTest(client["id"]):
                session = self.session(client)
                self.assertEqual(self.token(session)["scope"], "read write")
                self.assertEqual(self.get(session, "/api/read").json()["client_id"], client["id"])

    def test_a_client_with_unusual_characters_gets_a_token_if_its_credentials_are_form_encoded(self):
        # authlib leaves the encoding of RFC 6749 §2.3.1 to its caller.
        session = self.session(ODD | {"id": quote_plus(ODD["id"]), "secret": quote_plus(ODD["secret"])})
        self.token(session)
        self.assertEqual(self.get(session, "/api/read").json()["client_id"], ODD["id"])

    def test_a_scope_can_be_requested(self):
        session = self.session(BASIC, scope="read")
        self.assertEqual(self.token(session)["scope"], "read")

    def test_a_missing_scope_is_refused(self):
        session = self.session(LIMITED)
        self.token(session)
        self.assertEqual(self.get(session, "/api/read").status_code, 200)
        refused = self.get(session, "/api/write")
        self.assertEqual(refused.status_code, 403)
        self.assertIn('error="insufficient_scope"', refused.headers["WWW-Authenticate"])

    def test_a_wrong_secret_is_an_oauth_error(self):
        for client in [BASIC, POST]:
            with self.subTest(client["id"]), self.assertRaises(OAuthError) as refused:
                self.token(self.session(client | {"secret": "wrong"}))
            self.assertEqual(refused.exception.error, "invalid_client")

    def test_a_token_is_revoked_and_introspection_reports_it(self):
        metadata = discover()
        for client in [BASIC, POST]:
            with self.subTest(client["id"]):
                session, gateway = self.session(client), self.session(GATEWAY)
                token = self.token(session)["access_token"]

                def introspected():
                    return gateway.introspect_token(metadata["introspection_endpoint"], token=token).json()

                self.assertEqual(introspected()["client_id"], client["id"])
                self.assertEqual(self.get(session, "/api/open").status_code, 200)
                revoked = session.revoke_token(metadata["revocation_endpoint"], token=token)
                self.assertEqual(revoked.status_code, 200)
                self.assertEqual(introspected(), {"active": False})
                self.assertEqual(self.get(session, "/api/open").status_code, 401)

    def test_an_unknown_scope_is_an_oauth_error(self):
        with self.assertRaises(OAuthError) as refused:
            self.token(self.session(BASIC, scope="admin"))
        self.assertEqual(refused.exception.error, "invalid_scope")

    def test_its_validator_accepts_only_the_token_for_its_api(self):
        validator = Validator(issuer=ISSUER, resource_server=API)

        def validate(token, scope):
            claims = validator.authenticate_token(token["access_token"])
            validator.validate_token(claims, [scope], None)
            return claims

        claims = validate(self.token(self.session(LIMITED)), "read")
        self.assertEqual(claims["client_id"], LIMITED["id"])
        with self.assertRaises(InsufficientScopeError):
            validate(self.token(self.session(LIMITED)), "write")
        with self.assertRaises(InvalidTokenError):
            validate(self.token(self.session(BASIC), resource=OTHER), "read")


if __name__ == "__main__":
    print(f"authlib {authlib.__version__}")
    unittest.main(verbosity=2)
