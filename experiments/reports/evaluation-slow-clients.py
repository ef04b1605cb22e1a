"""What slow and vanished clients cost the others: 160 streams of `moerl serve openai`, alone and beside 40 clients that send
half a request, never end its head, or ask and never read, in turns.

    moerl serve openai RUN --address 127.0.0.1:18080 --max-num-seqs 256 &
    python3 evaluation-slow-clients.py 18080
"""
import asyncio
import json
import statistics
import sys
import time

STREAMS, BAD_CLIENTS, ROUNDS = 160, 40, 12
port = int(sys.argv[1])


def request(seed, max_tokens):
    body = json.dumps({"prompt": "Numbers: 8 5 3. Target: 29.", "max_tokens": max_tokens, "seed": seed, "stream": True,
                       "ignore_eos": True, "logprobs": 5}).encode()
    return (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)) + body


async def stream(seed):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(seed, 200))
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200") and b"[DONE]" in answer, answer[:200]
    events = [json.loads(line[6:]) for line in answer.decode().splitlines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["text"] for event in events)


async def bad_client(kind, stop):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write([request(kind, 2)[:60], b"GET /health HTTP/1.1\r\n", request(kind, 2)][kind % 3])
    await writer.drain()
    await stop.wait()
    writer.close()


async def round_beside(bad_clients):
    stop = asyncio.Event()
    others = [asyncio.create_task(bad_client(kind, stop)) for kind in range(bad_clients)]
    await asyncio.sleep(0.5)
    start = time.perf_counter()
    texts = await asyncio.gather(*[stream(seed) for seed in range(STREAMS)])
    seconds = time.perf_counter() - start
    stop.set()
    await asyncio.gather(*others, return_exceptions=True)
    return seconds, texts


async def main():
    _, expected = await round_beside(0)
    seconds = {0: [], BAD_CLIENTS: []}
    for _ in range(ROUNDS):
        for bad_clients, taken in seconds.items():
            each, texts = await round_beside(bad_clients)
            assert texts == expected, "other texts"
            taken.append(each)
    alone, beside = (statistics.median(taken) for taken in seconds.values())
    print(f"{STREAMS} streams: alone {alone:.2f} s, beside {BAD_CLIENTS} bad clients {beside:.2f} s (medians of {ROUNDS}); same texts")


asyncio.run(main())
