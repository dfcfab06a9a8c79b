"""The client of the MCP SDK against the running example `mcp`."""

import logging
import os
import unittest
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urljoin

import httpx2 as httpx
from mcp.client.auth import OAuthFlowError, OAuthTokenError
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthToken

logging.disable()  # the SDK logs each refusal with a traceback

RESOURCE = os.environ["RESOURCE"]
SECRET = os.environ["MCP_SECRET"]
KEY = Path(__file__).parent.with_name("keys") / "svc-key.pem"
ISSUER = urljoin(RESOURCE, "/").removesuffix("/")

DISCOVERY = [
    "GET /.well-known/oauth-protected-resource/mcp 200",
    "GET /.well-known/oauth-authorization-server 200",
]


class Tokens:
    """The token storage of the SDK, in memory."""

    def __init__(self, token=None):
        self.token = token and OAuthToken(access_token=token, token_type="Bearer")

    async def get_tokens(self):
        return self.token

    async def set_tokens(self, token):
        self.token = token

    async def get_client_info(self):
        return None

    async def set_client_info(self, client):
        raise AssertionError("the client is registered already")


def causes(error):
    """Returns the errors of a group, since the SDK runs in task groups."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in causes(inner)]
    return [error]


class McpServer(unittest.IsolatedAsyncioTestCase):
    async def whoami(self, mode="auto", token=None, **settings):
        """Connects and calls the tool. Returns its result and the scope of the token, and records each request with its status."""
        settings = {"client_id": "agent", "client_secret": SECRET, "issuer": ISSUER} | settings
        tokens = Tokens(token)
        provider = PrivateKeyJWTOAuthProvider if "assertion_provider" in settings else ClientCredentialsOAuthProvider
        if provider is PrivateKeyJWTOAuthProvider:
            del settings["client_secret"]
        auth = provider(server_url=RESOURCE, storage=tokens, **settings)
        self.requests = []

        async def record(response):
            self.requests.append(f"{response.request.method} {response.request.url.path} {response.status_code}")

        async with httpx.AsyncClient(auth=auth, event_hooks={"response": [record]}) as http:
            async with Client(streamable_http_client(RESOURCE, http_client=http), mode=mode) as client:
                self.assertEqual([tool.name for tool in (await client.list_tools()).tools], ["whoami"])
                said = await client.call_tool("whoami", {})
        return said.content[0].text, tokens.token.scope

    async def refused(self, **settings):
        with self.assertRaises((OAuthFlowError, BaseExceptionGroup)) as raised:
            await self.whoami(**settings)
        (cause,) = causes(raised.exception)
        return cause

    async def test_it_finds_the_issuer_gets_one_token_and_calls_a_tool(self):
        for settings in [{}, {"scope": "mcp:use"}, {"token": "a.b.c"}]:
            with self.subTest(settings):
                self.assertEqual(await self.whoami(**settings), ("agent", "mcp:use"))
                self.assertEqual(
                    self.requests,
                    ["POST /mcp 401", *DISCOVERY, "POST /token 200"] + 3 * ["POST /mcp 200"],
                )

    async def test_it_gets_a_token_by_private_key_jwt(self):
        parameters = SignedJWTParameters(
            issuer="agent-key", subject="agent-key", signing_key=KEY.read_text(), signing_algorithm="ES256"
        )
        provider = parameters.create_assertion_provider()
        said = await self.whoami(client_id="agent-key", assertion_provider=provider)
        self.assertEqual(said, ("agent-key", "mcp:use"))

    async def test_a_session_of_the_older_protocol_needs_one_token(self):
        self.assertEqual(await self.whoami(mode="legacy"), ("agent", "mcp:use"))
        self.assertEqual(self.requests[:4], ["POST /mcp 401", *DISCOVERY, "POST /token 200"])
        session = self.requests[4:]
        if "GET /mcp 200" in session:  # the stream of the server, which may open too late to be seen
            session.remove("GET /mcp 200")
        self.assertCountEqual(session, 3 * ["POST /mcp 200"] + ["POST /mcp 202", "DELETE /mcp 202"])

    async def test_a_wrong_secret_and_an_unknown_client_are_errors(self):
        for settings in [{"client_secret": "wrong"}, {"client_id": "unknown"}]:
            with self.subTest(settings):
                cause = await self.refused(**settings)
                self.assertIsInstance(cause, OAuthTokenError)
                self.assertIn('(401): {"error":"invalid_client"', str(cause))
                self.assertEqual(self.requests, ["POST /mcp 401", *DISCOVERY, "POST /token 401"])

    async def test_no_secret_is_sent_to_an_unexpected_issuer(self):
        cause = await self.refused(issuer="http://127.0.0.1:9")
        self.assertIsInstance(cause, OAuthFlowError)
        self.assertFalse([request for request in self.requests if "/token" in request])


if __name__ == "__main__":
    print(f"the client of mcp {version('mcp')}")
    unittest.main(verbosity=2)
