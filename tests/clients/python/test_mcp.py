"""The MCP SDK against the running example `standalone`, with the setting `paths.authorization`."""

import os
import unittest
from importlib.metadata import version
from urllib.parse import urljoin

import httpx2 as httpx
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    create_oauth_metadata_request,
    handle_auth_metadata_response,
    validate_metadata_issuer,
)

ISSUER = os.environ["ISSUER"]


class Mcp(unittest.IsolatedAsyncioTestCase):
    async def discover(self):
        """Reads the metadata like the SDK's client, which rejects metadata without an authorization endpoint."""
        async with httpx.AsyncClient() as client:
            for url in build_oauth_authorization_server_metadata_discovery_urls(ISSUER, ISSUER):
                goes_on, metadata = await handle_auth_metadata_response(
                    await client.send(create_oauth_metadata_request(url))
                )
                if metadata is not None or not goes_on:
                    return metadata

    async def test_it_reads_the_metadata(self):
        metadata = await self.discover()
        self.assertIsNotNone(metadata, "the SDK rejected the metadata")
        validate_metadata_issuer(metadata, ISSUER)
        self.assertEqual(str(metadata.token_endpoint), urljoin(ISSUER, "/token"))
        self.assertEqual(str(metadata.authorization_endpoint), urljoin(ISSUER, "/authorize"))
        self.assertEqual(metadata.response_types_supported, ["none"])

    async def test_the_authorization_endpoint_supports_no_response_type(self):
        metadata = await self.discover()
        async with httpx.AsyncClient() as client:
            response = await client.get(str(metadata.authorization_endpoint), params={"response_type": "code"})
        self.assertEqual(response.status_code, 400)
        self.assertEqual(response.json()["error"], "unsupported_response_type")


if __name__ == "__main__":
    print(f"mcp {version('mcp')}")
    unittest.main(verbosity=2)
