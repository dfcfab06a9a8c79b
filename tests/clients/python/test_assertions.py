"""authlib, requests-oauth2client and PyJWT as clients that sign assertions, against the running example `standalone`."""

import os
import time
import unittest
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urljoin

import jwt
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import ClientSecretJWT, PrivateKeyJWT
from authlib.oauth2.rfc8414 import get_well_known_url
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.jwk import ECKey, OKPKey, RSAKey
from jwskate import Jwk
from requests_oauth2client import ClientSecretJwt, OAuth2Client, OAuth2Error, PrivateKeyJwt

ISSUER = os.environ["ISSUER"]
KEYS = Path(__file__).parent.with_name("keys")
HMAC_SECRET = Path(__file__).parents[3].joinpath("examples", "svc-hmac.secret").read_text().strip()
CLIENTS = {"svc-key": ("ES256", ECKey), "svc-rsa": ("RS256", RSAKey), "svc-ed": ("EdDSA", OKPKey)}
SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # http on loopback


def pem(name: str) -> str:
    return KEYS.joinpath(f"{name}.pem").read_text()


def client_of(token: str) -> str:
    response = requests.get(urljoin(ISSUER, "/api/read"), headers={"Authorization": f"Bearer {token}"})
    response.raise_for_status()
    return response.json()["client_id"]


class Assertions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.metadata = requests.get(get_well_known_url(ISSUER, external=True)).json()
        cls.token_endpoint = cls.metadata["token_endpoint"]

    def authlib(self, client, key, alg, **settings):
        session = OAuth2Session(
            client, key, token_endpoint_auth_method=PrivateKeyJWT(self.token_endpoint, alg=alg, **settings)
        )
        self.addCleanup(session.close)
        return session.fetch_token(self.token_endpoint, grant_type="client_credentials")["access_token"]

    def test_authlib_with_its_defaults_needs_the_allowance_for_older_clients(self):
        self.assertEqual(client_of(self.authlib("svc-legacy", pem("svc-rsa"), "RS256")), "svc-legacy")
        with self.assertRaises(OAuthError) as refused:
            self.authlib("svc-rsa", pem("svc-rsa"), "RS256")
        self.assertEqual(refused.exception.error, "invalid_client")

    def test_authlib_configured_strictly(self):
        for client, (alg, key_type) in CLIENTS.items():
            with self.subTest(client):
                claims = {"aud": ISSUER, "exp": int(time.time()) + 60}
                key = key_type.import_key(pem(client))
                self.assertEqual(client_of(self.authlib(client, key, alg, claims=claims)), client)

    def test_requests_oauth2client(self):
        for client, (alg, _) in CLIENTS.items():
            with self.subTest(client):
                key = Jwk.from_pem(pem(client)).with_kid_thumbprint()
                key = Jwk({**key, "kid": f"{client}-1", "alg": alg})
                auth = PrivateKeyJwt(client, key, aud=ISSUER, alg=alg)
                oauth = OAuth2Client(self.token_endpoint, issuer=ISSUER, auth=auth, testing=True)
                self.assertEqual(client_of(oauth.client_credentials(scope="read").access_token), client)

    def test_authlib_with_a_secret(self):
        for alg in ["HS256", "HS384", "HS512"]:
            claims = {"aud": ISSUER, "exp": int(time.time()) + 60}
            for secret, is_right in [(HMAC_SECRET, True), (HMAC_SECRET.upper(), False)]:
                with self.subTest(alg, is_right=is_right):
                    method = ClientSecretJWT(self.token_endpoint, alg=alg, claims=claims)
                    session = OAuth2Session("svc-hmac", secret, token_endpoint_auth_method=method)
                    self.addCleanup(session.close)
                    fetch = lambda: session.fetch_token(self.token_endpoint, grant_type="client_credentials")
                    if is_right:
                        self.assertEqual(client_of(fetch()["access_token"]), "svc-hmac")
                        continue
                    with self.assertRaises(OAuthError) as refused:
                        fetch()
                    self.assertEqual(refused.exception.error, "invalid_client")

    def test_requests_oauth2client_with_a_secret(self):
        for alg in ["HS256", "HS384", "HS512"]:
            with self.subTest(alg):
                auth = ClientSecretJwt("svc-hmac", HMAC_SECRET, aud=ISSUER, alg=alg)
                oauth = OAuth2Client(self.token_endpoint, issuer=ISSUER, auth=auth, testing=True)
                self.assertEqual(client_of(oauth.client_credentials(scope="read").access_token), "svc-hmac")

    def test_requests_oauth2client_is_refused_for_the_audience_of_the_endpoint(self):
        key = Jwk({**Jwk.from_pem(pem("svc-key")), "kid": "svc-key-1", "alg": "ES256"})
        auth = PrivateKeyJwt("svc-key", key, aud=self.token_endpoint, alg="ES256")
        oauth = OAuth2Client(self.token_endpoint, issuer=ISSUER, auth=auth, testing=True)
        with self.assertRaises(OAuth2Error):
            oauth.client_credentials(scope="read")

    def workload(self, kind, key, claims, client):
        now = int(time.time())
        private = load_pem_private_key(pem(key).encode(), None)
        token = jwt.encode({"iat": now, "exp": now + 300, **claims}, private, "ES256", headers={"kid": f"{key}-1"})
        form = {"grant_type": "client_credentials", "client_assertion_type": kind, "client_assertion": token}
        return requests.post(self.token_endpoint, data={**form, "client_id": client})

    def test_a_workload_with_an_svid_that_is_used_twice(self):
        for _ in range(2):
            claims = {"sub": "spiffe://example.test/svc", "aud": [ISSUER]}
            response = self.workload(SPIFFE, "spiffe", claims, "svc-spiffe")
            self.assertEqual(client_of(response.json()["access_token"]), "svc-spiffe")
        response = self.workload(BEARER, "spiffe", claims, "svc-spiffe")
        self.assertEqual((response.status_code, response.json()["error"]), (401, "invalid_client"))

    def test_a_pod_with_a_token_for_this_audience(self):
        claims = {"iss": "https://cluster.example.test", "sub": "system:serviceaccount:prod:svc"}
        response = self.workload(BEARER, "cluster", {**claims, "aud": [ISSUER]}, "svc-kube")
        self.assertEqual(client_of(response.json()["access_token"]), "svc-kube")
        for wrong in ["https://cluster.example.test", self.token_endpoint]:
            response = self.workload(BEARER, "cluster", {**claims, "aud": [wrong]}, "svc-kube")
            self.assertEqual((response.status_code, response.json()["error"]), (401, "invalid_client"))


if __name__ == "__main__":
    print(*(f"{name} {version(name)}" for name in ["authlib", "requests_oauth2client", "PyJWT"]))
    unittest.main(verbosity=2)
