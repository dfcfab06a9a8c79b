"""grpcio against the running example `tonic`."""

import base64
import json
import os
import unittest
from urllib.request import Request, urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ISSUER = os.environ["ISSUER"]

TWO = b"\x08\x02"  # example.ListRequest { most: 2 }
# example.ListResponse with two invoices of 21 bytes each
INVOICES = b"".join(b"\x0a\x15invoice %d for billing" % number for number in (1, 2))


def token(**parameters):
    pair = base64.b64encode(f"billing:{os.environ['BILLING_SECRET']}".encode()).decode()
    form = "&".join(f"{name}={value}" for name, value in {"grant_type": "client_credentials", **parameters}.items())
    request = Request(ISSUER + "/token", data=form.encode(), headers={"authorization": f"Basic {pair}"})
    with urlopen(request) as response:
        return json.loads(response.read())["access_token"]


class Tonic(unittest.TestCase):
    def setUp(self):
        self.channel = grpc.insecure_channel(ISSUER.removeprefix("http://"))
        self.addCleanup(self.channel.close)

    def list(self, token=None):
        metadata = [("authorization", f"Bearer {token}")] if token else None
        return self.channel.unary_unary("/example.Invoices/List")(TWO, metadata=metadata, timeout=20)

    def refused(self, token=None):
        with self.assertRaises(grpc.RpcError) as raised:
            self.list(token)
        return raised.exception.code(), raised.exception.details()

    def test_a_token_from_the_same_port_opens_the_method(self):
        self.assertEqual(self.list(token()), INVOICES)

    def test_a_missing_and_an_invalid_token_are_unauthenticated(self):
        self.assertEqual(self.refused(), (grpc.StatusCode.UNAUTHENTICATED, "an access token is needed"))
        invalid = (grpc.StatusCode.UNAUTHENTICATED, "the access token is not valid here")
        self.assertEqual(self.refused("a.b.c"), invalid)
        self.assertEqual(self.refused(token() + "x"), invalid)

    def test_the_health_check_is_open(self):
        check = health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest())
        self.assertEqual(check.status, health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    print(f"grpcio {grpc.__version__}")
    unittest.main(verbosity=2)
