"""How does a worker without an OpenTelemetry SDK take part in traces?

`traced(handler)` is the same handler with a span of kind CONSUMER for each attempt, below the context
that its lease carries; a checkpoint is an event of it. Spans go to the collector that the standard
OTEL_EXPORTER_OTLP_ENDPOINT names, as OTLP in JSON; without one nothing is made.

With the packages opentelemetry-sdk and opentelemetry-exporter-otlp it is what their tracer does:
`start_as_current_span("process …", context=extract(headers of the lease), kind=CONSUMER, links=…)`.
"""

import json
import os
import queue
import secrets
import threading
import time
import urllib.request

ENDPOINT = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").rstrip("/")
SERVICE = os.environ.get("OTEL_SERVICE_NAME", "python-worker")
CONSUMER, ERROR = 5, 2
# Spans beyond these are dropped: a collector that is away must not fill the memory.
ended = queue.Queue(1000)


def traced(handler):
    return (lambda *call: attempt(handler, *call)) if ENDPOINT else handler


def attempt(handler, lease, report, stopped):
    trace_id, parent_id, sampled = parse(lease.trace_context.traceparent)
    if not sampled:
        return handler(lease, report, stopped)
    span = {
        "traceId": trace_id or secrets.token_hex(16),
        "spanId": secrets.token_hex(8),
        "parentSpanId": parent_id,
        "name": f"process {lease.name}",
        "kind": CONSUMER,
        "startTimeUnixNano": now(),
        "events": [],
        "links": links(lease),
        "status": {},
    }
    # The lease names this span from here on: reports carry it, the handler's own spans go below.
    lease.trace_context.traceparent = f"00-{span['traceId']}-{span['spanId']}-01"
    noted = {
        "messaging.system": "leasehold",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": lease.queue,
        "messaging.message.id": lease.task_id,
        "leasehold.task.name": lease.name,
        "leasehold.task.attempt": lease.attempt,
    }

    def reporting(lease, kind, fields, **more):
        report(lease, kind, fields, **more)
        span["events"].append({"timeUnixNano": now(), "name": f"leasehold.{kind}"})

    try:
        outcome = handler(lease, reporting, stopped)
        noted["leasehold.outcome"] = outcome[0]
        if outcome[0] == "suspend":
            span["events"].append({"timeUnixNano": now(), "name": "leasehold.suspended"})
        if outcome[0] == "fail":
            span["status"] = {"code": ERROR}
        return outcome
    except Exception as error:
        # The kind alone: a message may hold what the task is about.
        noted["error.type"] = type(error).__name__
        span["status"] = {"code": ERROR}
        raise
    finally:
        export({**span, "endTimeUnixNano": now(), "attributes": attributes(noted)})


def links(lease):
    parsed = [parse(link.traceparent) for link in lease.trace_links]
    return [{"traceId": trace, "spanId": span} for trace, span, _ in parsed if trace]


def parse(traceparent):
    # version-trace id-parent id-flags; without one the attempt begins a trace of its own.
    parts = traceparent.split("-")
    return (parts[1], parts[2], int(parts[3], 16) & 1) if len(parts) == 4 else ("", "", 1)


def now():
    return str(time.time_ns())


def attributes(values):
    def typed(value):
        return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}

    return [{"key": key, "value": typed(value)} for key, value in values.items()]


def export(span):
    try:
        ended.put_nowait(span)
    except queue.Full:
        pass


def send():
    while True:
        spans = [ended.get()]
        while not ended.empty():
            spans.append(ended.get())
        scope = {"scope": {"name": "leasehold-python"}, "spans": spans}
        resource = {"attributes": attributes({"service.name": SERVICE})}
        body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]})
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{ENDPOINT}/v1/traces", body.encode(), headers)
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except OSError:
            pass  # Lost spans are no reason to lose tasks.


if ENDPOINT:
    threading.Thread(target=send, daemon=True).start()
