// Is the contract enough for whoever owns tasks and has nothing but generated stubs?
//
// Submits, waits and reads typed errors, and prints one JSON object for each step. Its arguments: the
// address of a server, the task name to submit.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "example.com/raw-worker/generated/leasehold/v1"
)

type step map[string]any

func say(name string, fields step) {
	fields["step"] = name
	if err := json.NewEncoder(os.Stdout).Encode(fields); err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func payload(value any) *pb.Payload {
	return &pb.Payload{Data: must(json.Marshal(value))}
}

// What a status says by the kinds of its details, which grpc-go reads from the trailer.
func told(refused *status.Status) step {
	found := step{"code": refused.Code().String(), "reason": "", "domain": "", "fields": []string{}, "resource": ""}
	for _, detail := range refused.Details() {
		switch it := detail.(type) {
		case *errdetails.ErrorInfo:
			found["reason"], found["domain"] = it.Reason, it.Domain
		case *errdetails.BadRequest:
			fields := []string{}
			for _, violation := range it.FieldViolations {
				fields = append(fields, violation.Field)
			}
			found["fields"] = fields
		case *errdetails.ResourceInfo:
			found["resource"] = it.ResourceName
		}
	}
	return found
}

func main() {
	address, name := os.Args[1], os.Args[2]
	connection := must(grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer connection.Close()
	tasks := pb.NewTaskServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	submit := func(value any, key string) *pb.SubmitTaskResponse {
		task := &pb.NewTask{Name: name, Metadata: payload(value), Key: key}
		if key != "" {
			// The worker may have finished it before it is submitted again.
			task.KeyHold = durationpb.New(time.Minute)
		}
		return must(tasks.SubmitTask(ctx, &pb.SubmitTaskRequest{Task: task}))
	}
	wait := func(id string) *pb.Task {
		request := &pb.WaitTaskRequest{
			Task: &pb.TaskReference{TaskId: id}, Timeout: durationpb.New(20 * time.Second),
		}
		for {
			if answer := must(tasks.WaitTask(ctx, request)); answer.Reached {
				return answer.Task
			}
		}
	}

	first, again := submit(step{"n": 20}, "once"), submit(step{"n": 20}, "once")
	id := first.Task.TaskId
	say("submitted", step{"created": []bool{first.Created, again.Created}, "same": id == again.Task.TaskId})
	done := wait(id)
	say("finished", step{"state": done.State.String(), "result": json.RawMessage(done.Result.Data)})
	failed := wait(submit(step{"n": -1}, "").Task.TaskId)
	details := json.RawMessage(failed.Error.Details.Data)
	say("failed", step{"state": failed.State.String(), "code": failed.Error.Code, "details": details})

	_, err := tasks.SubmitTask(ctx, &pb.SubmitTaskRequest{Task: &pb.NewTask{Name: "a b", Priority: 10}})
	say("malformed", told(status.Convert(err)))
	unknown := &pb.TaskReference{TaskId: "0190b6f2-3c1e-7b7a-9d3e-1f2a3b4c5d6e"}
	_, err = tasks.GetTask(ctx, &pb.GetTaskRequest{Task: unknown})
	say("unknown", told(status.Convert(err)))
	_, err = tasks.ProceedTask(ctx, &pb.ProceedTaskRequest{Task: &pb.TaskReference{TaskId: id}})
	late := told(status.Convert(err))
	late["resource"] = late["resource"] == id
	say("too_late", late)

	items := []*pb.NewTask{{Name: name, Metadata: payload(step{"n": 1})}, {Name: ""}}
	atomic := false
	batch := must(tasks.SubmitTasks(ctx, &pb.SubmitTasksRequest{Tasks: items, Atomic: &atomic}))
	refused := told(status.FromProto(batch.Results[1].Error))
	refused["stored"] = batch.Results[0].Created
	say("batch", refused)
}
