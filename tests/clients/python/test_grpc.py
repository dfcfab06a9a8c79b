"""grpcio against the service of tests/grpc_clients.rs."""

import asyncio
import base64
import json
import os
import threading
import time
import unittest
from pathlib import Path
from urllib.request import Request, urlopen

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

CONTROL = os.environ["CONTROL"]
TOKENS = json.loads(os.environ["TOKENS"])

KINDS = {
    "Unary": "unary_unary",
    "ServerStreaming": "unary_stream",
    "ClientStreaming": "stream_unary",
    "Streaming": "stream_stream",
}
UNAUTHENTICATED, UNAVAILABLE = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE

SHARED = json.loads(Path(__file__).with_name("..").joinpath("grpc.json").read_text())
REFUSALS, RETRIES = SHARED["refusals"], SHARED["retries"]
DECISIONS = {refusal["decision"]: len(KINDS) for refusal in REFUSALS}
INVALID = next(refusal["challenge"] for refusal in REFUSALS if refusal["token"] == "expired")


class Site:
    """A separate server, which reports the decisions of its guard."""

    def __init__(self):
        started = self.ask("/start/inside", "POST")
        self.id, self.url = started["id"], started["url"]
        self.target = self.url.removeprefix("http://")

    @staticmethod
    def ask(path, method="GET"):
        with urlopen(Request(CONTROL + path, method=method)) as response:
            return json.loads(response.read() or "null")

    def store(self, state):
        self.ask(f"/{self.id}/store/{state}", "POST")

    def counts(self):
        return self.ask(f"/{self.id}/counts")


def authorization(token):
    return [("authorization", f"Bearer {TOKENS[token]}")] if token else []


def method(channel, kind):
    call = getattr(channel, KINDS[kind])
    return call(f"/test.Echo/{kind}", StringValue.SerializeToString, StringValue.FromString)


def call(channel, kind, token=None, messages=("one", "two"), metadata=None):
    """Returns the responses to one call. Raises `grpc.RpcError` if it fails."""
    requests = [StringValue(value=message) for message in messages]
    request = iter(requests) if kind in ("ClientStreaming", "Streaming") else requests[0]
    metadata = authorization(token) if metadata is None else metadata
    answer = method(channel, kind)(request, metadata=metadata, timeout=20)
    return [message.value for message in answer] if kind in ("ServerStreaming", "Streaming") else [answer.value]


ANSWERS = {
    "Unary": ["billing said one"],
    "ServerStreaming": 3 * ["billing said one"],
    "ClientStreaming": ["billing sent 2"],
    "Streaming": ["billing said one", "billing said two"],
}


class Grpcio(unittest.TestCase):
    def setUp(self):
        self.site = Site()

    def channel(self, *options):
        channel = grpc.insecure_channel(self.site.target, options)
        self.addCleanup(channel.close)
        return channel

    def assert_refused(self, code, message, do):
        with self.assertRaises(grpc.RpcError) as raised:
            do()
        error = raised.exception
        self.assertEqual((error.code(), error.details()), (code, message))
        return dict(error.trailing_metadata())

    def assert_each_refusal(self, channel):
        for refusal in REFUSALS:
            for kind in KINDS:
                with self.subTest(token=refusal["token"], kind=kind):
                    code = grpc.StatusCode[refusal["code"]]
                    metadata = self.assert_refused(
                        code, refusal["message"], lambda: call(channel, kind, refusal["token"])
                    )
                    self.assertEqual(metadata["www-authenticate"], refusal["challenge"])
        self.assertEqual(self.site.counts(), DECISIONS)

    def test_a_valid_token_opens_each_kind_of_call(self):
        channel = self.channel()
        for kind, answers in ANSWERS.items():
            with self.subTest(kind):
                self.assertEqual(call(channel, kind, "good"), answers)
        self.assertEqual(self.site.counts(), {"admitted": 4})

    def test_a_token_from_the_same_port_opens_each_kind_of_call(self):
        basic = base64.b64encode(f"billing:{os.environ['SECRET']}".encode()).decode()
        request = Request(
            self.site.url + "/token",
            data=b"grant_type=client_credentials&scope=invoices:read",
            headers={"authorization": f"Basic {basic}"},
        )
        token = json.loads(urlopen(request).read())["access_token"]
        # gRPC's call credentials need a channel that counts as secure.
        credentials = grpc.composite_channel_credentials(
            grpc.local_channel_credentials(), grpc.access_token_call_credentials(token)
        )
        with grpc.secure_channel(self.site.target, credentials) as channel:
            for kind, answers in ANSWERS.items():
                with self.subTest(kind):
                    self.assertEqual(call(channel, kind), answers)
        self.assertEqual(self.site.counts(), {"admitted": 4})

    def test_each_refusal_has_its_status_message_and_challenge(self):
        channel = self.channel()
        self.assert_each_refusal(channel)

    def test_two_authorization_values_are_refused(self):
        metadata = 2 * authorization("good")
        for kind in KINDS:
            self.assert_refused(
                UNAUTHENTICATED,
                "one bearer token is expected",
                lambda: call(self.channel(), kind, metadata=metadata),
            )
        self.assertEqual(self.site.counts(), {"invalid_request": 4})

    def test_a_long_upload_without_a_token_is_refused_early_with_the_same_status(self):
        channel = self.channel()
        messages = 100 * ["x" * 100_000]
        for kind in ("ClientStreaming", "Streaming"):
            with self.subTest(kind):
                self.assert_refused(
                    UNAUTHENTICATED, "an access token is needed", lambda: call(channel, kind, None, messages)
                )
        # The channel can still be used.
        self.assertEqual(call(channel, "Unary", "good"), ANSWERS["Unary"])
        self.assertEqual(self.site.counts(), {"admitted": 1, "no_credentials": 2})

    def test_an_asynchronous_client_is_refused_and_served(self):
        async def run():
            async with grpc.aio.insecure_channel(self.site.target) as channel:
                statuses = []
                for token in [None, "forged", "narrow"]:
                    for kind in ["Unary", "ServerStreaming"]:
                        answer = method(channel, kind)(StringValue(value="one"), metadata=authorization(token))
                        statuses.append(await answer.code())
                unary = await method(channel, "Unary")(StringValue(value="one"), metadata=authorization("good"))
                return statuses, unary.value

        statuses, answer = asyncio.run(run())
        self.assertEqual(statuses, 4 * [UNAUTHENTICATED] + 2 * [grpc.StatusCode.PERMISSION_DENIED])
        self.assertEqual(answer, "billing said one")

    def test_a_stream_ends_when_its_token_expires(self):
        channel = self.channel()
        still_sending = threading.Event()
        self.addCleanup(still_sending.set)

        def messages():
            yield StringValue(value="one")
            still_sending.wait(20)

        answers = {
            "ServerStreaming": method(channel, "ServerStreaming")(
                StringValue(value="wait"), metadata=authorization("short")
            ),
            "Streaming": method(channel, "Streaming")(messages(), metadata=authorization("short")),
        }
        upload = method(channel, "ClientStreaming").future(messages(), metadata=authorization("short"))
        begun = time.monotonic()
        for kind, answer in answers.items():
            self.assertIn("billing said", next(answer).value, kind)
        for kind, answer in answers.items():
            metadata = self.assert_refused(UNAUTHENTICATED, "the access token has expired", lambda: next(answer))
            self.assertEqual(metadata.get("www-authenticate"), None, kind)
        # A call without a response yet is refused like a call with an expired token.
        metadata = self.assert_refused(UNAUTHENTICATED, "the access token is not valid here", upload.result)
        self.assertEqual(metadata["www-authenticate"], INVALID)
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(self.site.counts(), {"admitted": 3})

    def test_a_call_is_retried_while_the_store_is_down_within_the_limits_of_its_policy(self):
        self.site.store("down")
        channel = self.channel(("grpc.service_config", json.dumps(RETRIES)))
        for kind in KINDS:
            with self.subTest(kind):
                metadata = self.assert_refused(UNAVAILABLE, "try again later", lambda: call(channel, kind, "good"))
                self.assertEqual(metadata["retry-after"], "1")
                self.assertNotIn("www-authenticate", metadata)
        self.assertEqual(self.site.counts(), {"revocations": 16}, "four attempts of each kind")

    def test_a_call_succeeds_once_the_store_is_back_between_two_attempts(self):
        self.site.store("down")
        retries = json.loads(json.dumps(RETRIES))
        retries["methodConfig"][0]["retryPolicy"] |= {"initialBackoff": "0.5s", "maxBackoff": "2s", "maxAttempts": 5}
        channel = self.channel(("grpc.service_config", json.dumps(retries)))
        one = StringValue(value="one")
        unary = method(channel, "Unary").future(one, metadata=authorization("good"), timeout=20)
        upload = method(channel, "ClientStreaming").future(iter([one, one]), metadata=authorization("good"), timeout=20)
        while self.site.counts().get("revocations", 0) < 2:
            time.sleep(0.01)
        self.site.store("up")
        self.assertEqual((unary.result().value, upload.result().value), ("billing said one", "billing sent 2"))
        self.assertEqual(self.site.counts()["admitted"], 2)

    def test_no_other_refusal_is_retried(self):
        channel = self.channel(("grpc.service_config", json.dumps(RETRIES)))
        self.assert_each_refusal(channel)

    def test_health_and_reflection_are_open(self):
        channel = self.channel()
        health = health_pb2_grpc.HealthStub(channel)
        check = health_pb2.HealthCheckRequest(service="")
        self.assertEqual(health.Check(check).status, health_pb2.HealthCheckResponse.SERVING)
        self.assertEqual(next(health.Watch(check)).status, health_pb2.HealthCheckResponse.SERVING)
        listed = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        names = {service.name for service in next(listed).list_services_response.service}
        self.assertEqual(names, {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})
        # Also with a token that the guard would refuse, and while it cannot decide.
        self.site.store("down")
        for token in ["forged", "good"]:
            health.Check(check, metadata=authorization(token))
        self.assertEqual(self.site.counts(), {})


if __name__ == "__main__":
    print(f"grpcio {grpc.__version__}")
    unittest.main(verbosity=2)
