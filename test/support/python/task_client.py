"""Is the contract enough for whoever owns tasks and has nothing but generated stubs?

Submits, waits and reads typed errors from `grpc-status-details-bin`, and prints one JSON object for
each step. Its arguments: the address of a server, the task name to submit.
"""

import json
import sys

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from leasehold.v1 import task_pb2, task_service_pb2 as pb, task_service_pb2_grpc

DETAILS = {
    "type.googleapis.com/google.rpc." + kind.DESCRIPTOR.name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.ResourceInfo,
        error_details_pb2.PreconditionFailure,
    )
}


def say(step, **fields):
    print(json.dumps({"step": step, **fields}), flush=True)


def payload(value):
    return task_pb2.Payload(data=json.dumps(value).encode())


def told(status):
    """What a google.rpc.Status says, by the kinds of its details."""
    found = {}
    for detail in status.details:
        kind = DETAILS.get(detail.type_url)
        if kind is not None:
            found[kind.DESCRIPTOR.name] = kind.FromString(detail.value)
    info, bad = found.get("ErrorInfo"), found.get("BadRequest")
    return {
        "reason": info.reason if info else "",
        "domain": info.domain if info else "",
        "fields": [violation.field for violation in bad.field_violations] if bad else [],
        "resource": found["ResourceInfo"].resource_name if "ResourceInfo" in found else "",
    }


def refused(call, request):
    """How a call is refused: the code of gRPC, and what the trailer adds to it."""
    try:
        call(request)
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        return {"code": error.code().name, "same": status.code == error.code().value[0], **told(status)}
    return {"code": "OK"}


def main(address, name):
    with grpc.insecure_channel(address) as channel:
        tasks = task_service_pb2_grpc.TaskServiceStub(channel)

        def submit(value, **fields):
            new = pb.NewTask(name=name, metadata=payload(value), **fields)
            return tasks.SubmitTask(pb.SubmitTaskRequest(task=new))

        def wait(task_id):
            request = pb.WaitTaskRequest(
                task=task_pb2.TaskReference(task_id=task_id), timeout=duration_pb2.Duration(seconds=20)
            )
            while True:
                answer = tasks.WaitTask(request)
                if answer.reached:
                    return answer.task

        # The worker may have finished it before it is submitted again.
        once = {"key": "once", "key_hold": duration_pb2.Duration(seconds=60)}
        first, again = submit({"n": 20}, **once), submit({"n": 20}, **once)
        same = first.task.task_id == again.task.task_id
        say("submitted", created=[first.created, again.created], same=same)
        done = wait(first.task.task_id)
        state = task_pb2.TaskState.Name(done.state)
        say("finished", state=state, result=json.loads(done.result.data))
        failed = wait(submit({"n": -1}).task.task_id)
        state = task_pb2.TaskState.Name(failed.state)
        details = json.loads(failed.error.details.data)
        say("failed", state=state, code=failed.error.code, details=details)

        bad = pb.SubmitTaskRequest(task=pb.NewTask(name="a b", priority=10))
        say("malformed", **refused(tasks.SubmitTask, bad))
        unknown = task_pb2.TaskReference(task_id="0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e")
        say("unknown", **refused(tasks.GetTask, pb.GetTaskRequest(task=unknown)))
        proceed = pb.ProceedTaskRequest(task=task_pb2.TaskReference(task_id=first.task.task_id))
        answer = refused(tasks.ProceedTask, proceed)
        say("too_late", **{**answer, "resource": answer["resource"] == first.task.task_id})

        items = [pb.NewTask(name=name, metadata=payload({"n": 1})), pb.NewTask(name="")]
        results = tasks.SubmitTasks(pb.SubmitTasksRequest(tasks=items, atomic=False)).results
        say("batch", stored=results[0].created, code=results[1].error.code, **told(results[1].error))


if __name__ == "__main__":
    main(*sys.argv[1:3])
