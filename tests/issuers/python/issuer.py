"""An authlib issuer on Flask. It prints its address. POST /rotate makes it sign with a new key; the previous key stays
published."""

import os
import sys

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask, jsonify
from joserfc.jwk import KeySet, RSAKey
from werkzeug.serving import WSGIRequestHandler, make_server

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # http on loopback

API = "https://api.example.test/"
SCOPES = ["invoices:read", "invoices:write"]


class Billing(ClientMixin):
    def get_client_id(self):
        return "billing"

    def check_client_secret(self, secret):
        return secret == "billing-secret-that-is-long-enough"

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type):
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope):
        return " ".join(part for part in scope.split() if part in SCOPES)


class Grant(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]


class Generator(JWTBearerTokenGenerator):
    def get_jwks(self):
        return KeySet([keys[0]])

    def get_audiences(self, client, user, scope):
        return API


def new_key():
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


keys = [new_key()]
app = Flask(__name__)
server = AuthorizationServer(
    app,
    query_client=lambda client_id: Billing() if client_id == "billing" else None,
    save_token=lambda token, request: None,
)
server.register_grant(Grant)


@app.post("/token")
def token():
    return server.create_token_response()


@app.post("/rotate")
def rotate():
    global keys
    keys = [new_key(), keys[0]]
    return ""


@app.get("/jwks")
def jwks():
    return jsonify(KeySet(keys).as_dict(private=False))


@app.get("/.well-known/oauth-authorization-server")
def metadata():
    return jsonify(issuer=issuer, token_endpoint=f"{issuer}/token", jwks_uri=f"{issuer}/jwks")


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


listener = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
issuer = f"http://127.0.0.1:{listener.server_port}"
server.register_token_generator("default", Generator(issuer=issuer))
print(f"listening on {issuer}", flush=True)
sys.exit(listener.serve_forever())
