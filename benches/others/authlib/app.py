"""authlib's token endpoint in Flask, with ten clients in memory and JWT access tokens (RFC 9068) by ES256, as ours are."""

import secrets

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask
from joserfc.jwk import ECKey

API = "https://api.example.com"
SECRET = "tcc_0000000000000000000000000000000000000000000000000"


class Client(ClientMixin):
    def __init__(self, client_id):
        self.client_id = client_id

    def get_client_id(self):
        return self.client_id

    def get_allowed_scope(self, scope):
        return scope if scope == "invoices:read" else ""

    def check_client_secret(self, client_secret):
        return secrets.compare_digest(client_secret, SECRET)

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type):
        return grant_type == "client_credentials"


CLIENTS = {client.client_id: client for client in (Client(f"client-{n}") for n in range(10))}


class Generator(JWTBearerTokenGenerator):
    key = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True).as_dict(private=True)

    def get_jwks(self):
        return {"keys": [self.key]}

    def get_audiences(self, client, user, scope):
        return API


class Grant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]


app = Flask(__name__)
server = AuthorizationServer(app, query_client=CLIENTS.get, save_token=lambda token, request: None)
server.register_token_generator(
    "default", Generator("https://auth.example.com", "ES256", expires_generator=lambda client, grant: 600)
)
server.register_grant(Grant)


@app.post("/token")
def token():
    return server.create_token_response()
