"""Countdown as a reward server in Python, over proto/moerl/v1/reward.proto.

    apt-get install python3-grpcio python3-protobuf protobuf-compiler
    python3 experiments/rewards/countdown_grpc.py --port 50053
    moerl train RECIPE 'reward.addresses=[127.0.0.1:50053]' reward.verifier=countdown_grpc

The messages are generated with protoc when the server starts. Health checks of the usual kind
(grpc.health.v1, as grpc_health_probe asks) are answered too.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from concurrent import futures

import grpc

from countdown_verl import compute_score

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
NAME = "countdown_grpc"
HEALTH = """syntax = "proto3"; package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { int32 status = 1; }
"""


def generate_messages():
    """The Python modules of reward.proto and of the health protocol."""
    folder = tempfile.mkdtemp(prefix="moerl_reward_")
    with open(os.path.join(folder, "health.proto"), "w") as out:
        out.write(HEALTH)
    protos = os.path.join(ROOT, "proto")
    for path, source in (("moerl/v1/reward.proto", protos), ("health.proto", folder)):
        subprocess.run(["protoc", f"-I{source}", f"--python_out={folder}", path], check=True)
    sys.path.insert(0, folder)
    return importlib.import_module("moerl.v1.reward_pb2"), importlib.import_module("health_pb2")


reward_pb2, health_pb2 = generate_messages()


def judge(item):
    """One verdict. What goes wrong is said in it: an exception would end the whole stream."""
    verdict = reward_pb2.Verdict(id=item.id)
    try:
        if item.verifier != NAME:
            raise ValueError(f"unknown verifier {item.verifier!r}, expected {NAME}")
        result = compute_score(item.data_source, item.response, item.ground_truth)
        verdict.score = result["score"]
        verdict.status = reward_pb2.VerdictStatus.Value("VERDICT_STATUS_" + result["status"].upper())
        verdict.extracted = result.get("extracted", "")
        verdict.parts[NAME] = result["score"]
    except Exception as error:
        verdict.status = reward_pb2.VERDICT_STATUS_INTERNAL_ERROR
        verdict.detail = f"{type(error).__name__}: {error}"
    return verdict


def score_stream(items, context):
    for item in items:
        yield judge(item)


def score(request, context):
    return reward_pb2.ScoreResponse(verdicts=[judge(item) for item in request.items])


def list_verifiers(request, context):
    info = reward_pb2.VerifierInfo(name=NAME, description="countdown, in Python")
    return reward_pb2.ListVerifiersResponse(verifiers=[info])


def check_health(request, context):
    return health_pb2.HealthCheckResponse(status=1)  # SERVING


def unary(function, request):
    return grpc.unary_unary_rpc_method_handler(
        function,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--port", type=int, default=50053, help="0 picks one")
    port = arguments.parse_args().port
    # A stream holds its thread as long as it is open; a client holds one stream.
    server = grpc.server(
        futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)]
    )
    rewards = {
        "ScoreStream": grpc.stream_stream_rpc_method_handler(
            score_stream,
            request_deserializer=reward_pb2.ScoreItem.FromString,
            response_serializer=reward_pb2.Verdict.SerializeToString,
        ),
        "Score": unary(score, reward_pb2.ScoreRequest),
        "ListVerifiers": unary(list_verifiers, reward_pb2.ListVerifiersRequest),
    }
    health = {"Check": unary(check_health, health_pb2.HealthCheckRequest)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("moerl.v1.RewardService", rewards),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(f"reward service on port {port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
