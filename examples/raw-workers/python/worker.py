"""What does a worker need that has nothing but generated stubs?

Between the two markers is everything that the contract asks of it; below are handlers. A handler
runs in a thread, is called with `(lease, report, stopped)` and returns its outcome as a kind of
report and its fields: `return "complete", {"result": …}`. On its way it calls

    report(lease, "checkpoint", {"execution_metadata": …})   to save what it can resume from
    stopped(lease)   to hear why it should stop: "cancelled", "lost", or "" to go on
"""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc

# Stubs elsewhere, in PYTHONPATH, come first.
sys.path.append(str(Path(__file__).with_name("generated")))

from tracing import traced
from leasehold.v1 import task_pb2, worker_service_pb2 as pb, worker_service_pb2_grpc

LOST, LATER = pb.VERDICT_CODE_LEASE_LOST, pb.VERDICT_CODE_RETRY_LATER


# --- machinery begins
async def work(hello, handlers, servers):
    # The event loop talks to the server, threads run handlers: they add to `unanswered` and read
    # the rest. A stopped handler may still run while the next one starts: twice as many threads.
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(2 * hello["slots"])
    # Leases without a final verdict, each with the counter of its reports; messages that are sent
    # again on each stream until they are answered; leases whose task somebody cancelled.
    held, unanswered, cancelled = {}, {}, set()
    interval, ttl, alive, beating, outgoing = 5, 0, 0, None, asyncio.Queue()

    def post(key, message):
        # Kept before it is sent. A stream that begins in between sends it twice; that is harmless.
        unanswered[key] = message
        loop.call_soon_threadsafe(outgoing.put_nowait, message)

    def report(lease, kind, fields, **more):
        # A KeyError if the lease is not held any more: then there is nothing to report.
        new = pb.Report(trace_context=lease.trace_context, **{kind: fields})
        new.lease_token, new.report_seq = lease.lease_token, next(held[lease.lease_token])
        post((lease.lease_token, new.report_seq), pb.WorkerMessage(reports=[new], **more))

    def stopped(lease):
        # A session TTL after the last answered heartbeat was sent, another worker may get the task.
        mine = lease.lease_token in held and loop.time() < alive + ttl
        return "lost" if not mine else "cancelled" if lease.lease_token in cancelled else ""

    def execute(lease):
        try:
            report(lease, *handlers[lease.name](lease, report, stopped))
        except Exception as error:
            report(lease, "fail", {"error": {"code": type(error).__name__, "message": str(error)}})

    def beat(number):
        sent[number] = loop.time()
        outgoing.put_nowait(pb.WorkerMessage(heartbeat={"number": number, "leases_received": seen}))
        loop.call_later(interval, beat, number + 1)

    async def messages(queue):
        while True:
            yield await queue.get()

    # Nothing answers the drain, so it too is sent again on each stream.
    loop.add_signal_handler(signal.SIGTERM, post, "drain", pb.WorkerMessage(drain={}))
    while held or "drain" not in unanswered:
        await asyncio.sleep(random.random() * min(1, interval / 2))
        # One queue for each stream: a dead stream's sender would swallow what belongs on the next.
        # Heartbeat 0 is the hello; the welcome, which names no heartbeat, answers it.
        outgoing, sent, seen = asyncio.Queue(), {0: loop.time()}, 0
        hello.update(connection=hello["connection"] + 1, held_lease_tokens=[*held])
        for message in [pb.WorkerMessage(hello=hello), *unanswered.values()]:
            outgoing.put_nowait(message)
        try:
            call = next(servers).ExecuteTasks(messages(outgoing))
            # Nothing heard for three intervals ends the call.
            while message := await asyncio.wait_for(call.read(), 3 * interval):
                alive = sent.pop(message.heartbeat_answer.number, alive)
                if message.HasField("welcome"):
                    hello["session_id"] = message.welcome.session_id
                    interval = message.welcome.heartbeat_interval.ToNanoseconds() / 1e9
                    ttl = message.welcome.session_ttl.ToNanoseconds() / 1e9
                    beating = beating or loop.call_soon(beat, 1)
                for lease in message.leases:
                    seen, held[lease.lease_token] = seen + 1, itertools.count(1)
                    pool.submit(execute, lease)
                over = {it.lease_token for it in message.revoked}
                over.update(message.welcome.dropped_lease_tokens)
                for verdict in message.verdicts:
                    own = unanswered.pop(key := (verdict.lease_token, verdict.report_seq), None)
                    if own and verdict.code == LATER:
                        loop.call_later(verdict.retry_after.ToNanoseconds() / 1e9, post, key, own)
                    elif verdict.code == LOST or own and not own.reports[0].HasField("checkpoint"):
                        over.add(verdict.lease_token)
                held = {token: counter for token, counter in held.items() if token not in over}
                cancelled = {*cancelled, *(it.lease_token for it in message.cancels)} & held.keys()
        except (grpc.RpcError, asyncio.TimeoutError) as error:
            print("connecting again after", *repr(error).split(), file=sys.stderr, flush=True)


# --- machinery ends


def from_json(payload):
    return json.loads(payload.data or b"null")


def to_json(value):
    return {"data": json.dumps(value).encode()}


def gave_up(reason):
    # A task that is lost is given back: nobody hears of it unless the lease turns out to be ours.
    if reason == "cancelled":
        return "cancel", {"error": {"code": "cancelled", "message": "stopped when asked to"}}
    return "release", {}


def echo(lease, report, stopped):
    return "complete", {"result": lease.metadata}


def trace(lease, report, stopped):
    # The W3C trace context of whoever set this run going, for spans of your own.
    return "complete", {"result": to_json({"traceparent": lease.trace_context.traceparent})}


def count(lease, report, stopped):
    asked, saved = from_json(lease.metadata), from_json(lease.execution_metadata)
    counted = saved["counted"] if saved else 0
    while counted < asked["to"]:
        time.sleep(asked.get("delay_ms", 0) / 1000)
        if reason := stopped(lease):
            return gave_up(reason)
        counted += 1
        saved = {"execution_metadata": to_json({"counted": counted})}
        progress = {"done": counted, "total": asked["to"], "message": "counted"}
        step = {"lease_token": lease.lease_token, "progress": progress}
        report(lease, "checkpoint", saved, progress=[step])
    return "complete", {"result": to_json({"counted": counted})}


def approval(lease, report, stopped):
    if lease.resumption.reason == task_pb2.PENDING_REASON_PROCEEDED:
        return "complete", {"result": lease.execution_metadata}
    return "suspend", {"until_proceeded": True}


def fail(lease, report, stopped):
    retryable = (from_json(lease.metadata) or {}).get("retryable", True)
    error = {"code": "boom", "message": f"attempt {lease.attempt} failed, as asked"}
    return "fail", {"error": error, "retryable": retryable}


def pause(lease, stopped, seconds):
    # Ends early with the reason to stop.
    end = time.monotonic() + seconds
    while not (reason := stopped(lease)) and time.monotonic() < end:
        time.sleep(min(0.05, max(0, end - time.monotonic())))
    return reason


def sleep(lease, report, stopped):
    seconds = (from_json(lease.metadata) or {}).get("seconds", float("inf"))
    if reason := pause(lease, stopped, seconds):
        return gave_up(reason)
    return "complete", {"result": to_json({"slept": seconds})}


# What the conformance kit asks a worker to handle: docs/workers.md.
def conform_steps(lease, report, stopped):
    asked, saved = from_json(lease.metadata) or {}, from_json(lease.execution_metadata) or {}
    for step in range(saved.get("step", 0) + 1, asked.get("steps", 3) + 1):
        if reason := pause(lease, stopped, asked.get("delay_ms", 0) / 1000):
            return gave_up(reason)
        report(lease, "checkpoint", {"execution_metadata": to_json({"step": step})})
    return "complete", {"result": to_json({"step": asked.get("steps", 3)})}


def conform_sleep(lease, report, stopped):
    ms = (from_json(lease.metadata) or {}).get("ms", float("inf"))
    report(lease, "checkpoint", {"execution_metadata": to_json({"started": True})})
    if reason := pause(lease, stopped, ms / 1000):
        return gave_up(reason)
    return "complete", {"result": to_json({"slept": ms})}


def conform_suspend(lease, report, stopped):
    woken = task_pb2.PENDING_REASON_PROCEEDED, task_pb2.PENDING_REASON_WOKEN
    if lease.resumption.reason in woken:
        return "complete", {"result": lease.execution_metadata}
    after_ms = (from_json(lease.metadata) or {}).get("after_ms")
    if after_ms is None:
        return "suspend", {"until_proceeded": True}
    return "suspend", {"until_after": timedelta(milliseconds=after_ms)}


def conform_fail(lease, report, stopped):
    retryable = (from_json(lease.metadata) or {}).get("retryable", True)
    return "fail", {"error": {"code": "conform_failed"}, "retryable": retryable}


def conform_throw(lease, report, stopped):
    raise RuntimeError("as asked")


HANDLERS = {
    "py.echo": echo,
    "py.trace": trace,
    "py.count": count,
    "py.approval": approval,
    "py.fail": fail,
    "py.sleep": sleep,
    "conform.echo": echo,
    "conform.steps": conform_steps,
    "conform.sleep": conform_sleep,
    "conform.suspend": conform_suspend,
    "conform.fail": conform_fail,
    "conform.throw": conform_throw,
}


async def main():
    # A server that is away is asked again every second at most, instead of every two minutes.
    # A connection that has died silently is given up, not only the stream on it; the last option
    # is for pings that grpc sends for reasons of its own, behind which those of keepalive wait.
    options = [
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
    ]
    addresses = os.environ.get("LEASEHOLD_ADDRESS", "127.0.0.1:7410").split(",")
    channels = [grpc.aio.insecure_channel(address, options) for address in addresses]
    servers = [worker_service_pb2_grpc.WorkerServiceStub(channel) for channel in channels]
    hello = {
        "worker_name": f"python-{socket.gethostname()}-{os.getpid()}"[:128],
        "language": "python",
        "slots": 8,
        "handlers": [{"task_name": name} for name in HANDLERS],
        "connection": 0,
    }
    handlers = {name: traced(handler) for name, handler in HANDLERS.items()}
    await work(hello, handlers, itertools.cycle(servers))
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main())
