"""Serves the SPIFFE Workload API on a Unix domain socket: workload_api.py ADDRESS ISSUER."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from spiffe._proto import workload_pb2, workload_pb2_grpc

ADDRESS, ISSUER = sys.argv[1:]
IDENTITIES = ["spiffe://example.org/default", "spiffe://example.org/billing"]
KEY = ec.generate_private_key(ec.SECP256R1())


def check(context):
    # SPIFFE Workload Endpoint §4.
    if ("workload.spiffe.io", "true") not in context.invocation_metadata():
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")


def svid(spiffe_id, audience):
    now = int(time.time())
    claims = {"sub": spiffe_id, "aud": audience, "iat": now, "exp": now + 300}
    token = jwt.encode(claims, KEY, algorithm="ES256", headers={"kid": "s1"})
    return workload_pb2.JWTSVID(spiffe_id=spiffe_id, svid=token)


class Agent(workload_pb2_grpc.SpiffeWorkloadAPIServicer):
    def FetchJWTBundles(self, request, context):
        check(context)
        key = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        bundle = json.dumps({"keys": [key | {"kid": "s1"}]}).encode()
        yield workload_pb2.JWTBundlesResponse(bundles={"spiffe://example.org": bundle})
        while context.is_active():
            time.sleep(0.1)

    def FetchJWTSVID(self, request, context):
        check(context)
        if list(request.audience) != [ISSUER]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"audience is {request.audience}")
        svids = [svid(name, ISSUER) for name in IDENTITIES if request.spiffe_id in ("", name)]
        if not svids:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
        return workload_pb2.JWTSVIDResponse(svids=svids)


server = grpc.server(ThreadPoolExecutor(max_workers=8))
workload_pb2_grpc.add_SpiffeWorkloadAPIServicer_to_server(Agent(), server)
server.add_insecure_port(ADDRESS)
server.start()
print("ready", flush=True)
server.wait_for_termination()
