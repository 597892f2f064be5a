// What do handlers look like that run on the machinery of worker.go?
//
// A handler gets a run and returns its outcome as a report, or an error, which is a failure that is
// tried again. errCancelled and errLost, which `stopped` and `sleep` answer, cancel the task and
// give it back.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	pb "example.com/raw-worker/generated/leasehold/v1"
)

var errCancelled, errLost = errors.New("cancelled"), errors.New("lost")

var handlers = map[string]func(run) (*pb.Report, error){
	"go.echo":         echo,
	"go.trace":        trace,
	"go.count":        count,
	"go.approval":     approval,
	"go.fail":         fail,
	"go.sleep":        sleep,
	"conform.echo":    echo,
	"conform.steps":   conformSteps,
	"conform.sleep":   conformSleep,
	"conform.suspend": conformSuspend,
	"conform.fail":    conformFail,
	"conform.throw":   conformThrow,
}

// A lease in the hands of its handler.
type run struct {
	*pb.Lease
	report reporter
}

// Reports about a lease, and answers whether it is still ours, and whether its task is cancelled.
type reporter func(string, *pb.WorkerMessage) (mine, stop bool)

// Runs a task to its outcome.
func handle(lease *pb.Lease, report reporter) (outcome *pb.WorkerMessage) {
	defer func() {
		if problem := recover(); problem != nil {
			outcome = alone(failure("panic", fmt.Sprint(problem)))
		}
	}()
	made, err := handlers[lease.Name](run{lease, report})
	switch {
	case errors.Is(err, errCancelled):
		stopped := &pb.TaskError{Code: "cancelled", Message: "stopped when asked to"}
		made = &pb.Report{Cancel: &pb.CancelReport{Error: stopped}}
	case errors.Is(err, errLost):
		// Nobody hears of it unless the lease turns out to be ours.
		made = &pb.Report{Release: &pb.ReleaseReport{}}
	case err != nil:
		made = failure("error", err.Error())
	}
	return alone(made)
}

// Why the handler should stop; nil to go on.
func (r run) stopped() error {
	switch mine, stop := r.report(r.LeaseToken, nil); {
	case !mine:
		return errLost
	case stop:
		return errCancelled
	}
	return nil
}

// Waits, or answers early why the handler should stop.
func (r run) sleep(duration time.Duration) error {
	for end := time.Now().Add(duration); ; {
		if why := r.stopped(); why != nil {
			return why
		}
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		time.Sleep(min(left, 50*time.Millisecond))
	}
}

// Saves what the next run would resume from.
func (r run) checkpoint(value any, progress ...*pb.ProgressReport) {
	saved := &pb.Report{Checkpoint: &pb.CheckpointReport{ExecutionMetadata: toJSON(value)}}
	r.report(r.LeaseToken, &pb.WorkerMessage{Reports: []*pb.Report{saved}, Progress: progress})
}

func alone(report *pb.Report) *pb.WorkerMessage {
	return &pb.WorkerMessage{Reports: []*pb.Report{report}}
}

func failure(code, message string) *pb.Report {
	return &pb.Report{Fail: &pb.FailReport{Error: &pb.TaskError{Code: code, Message: message}}}
}

func complete(result *pb.Payload) (*pb.Report, error) {
	return &pb.Report{Complete: &pb.CompleteReport{Result: result}}, nil
}

func toJSON(value any) *pb.Payload {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return &pb.Payload{Data: data}
}

// Reads into a value that holds the defaults; a payload that is absent leaves them.
func fromJSON(payload *pb.Payload, into any) error {
	if len(payload.GetData()) == 0 {
		return nil
	}
	return json.Unmarshal(payload.Data, into)
}

func echo(r run) (*pb.Report, error) {
	return complete(r.Metadata)
}

// The W3C trace context of whoever set this run going, for spans of your own.
func trace(r run) (*pb.Report, error) {
	return complete(toJSON(map[string]string{"traceparent": r.TraceContext.GetTraceparent()}))
}

func count(r run) (*pb.Report, error) {
	var asked struct {
		To      *int          `json:"to"`
		DelayMs time.Duration `json:"delay_ms"`
	}
	var saved struct {
		Counted int `json:"counted"`
	}
	err := errors.Join(fromJSON(r.Metadata, &asked), fromJSON(r.ExecutionMetadata, &saved))
	if err != nil {
		return nil, err
	}
	if asked.To == nil {
		return nil, errors.New("metadata has no `to`")
	}
	for saved.Counted < *asked.To {
		if why := r.sleep(asked.DelayMs * time.Millisecond); why != nil {
			return nil, why
		}
		saved.Counted++
		total := float64(*asked.To)
		progress := &pb.Progress{Done: float64(saved.Counted), Total: &total, Message: "counted"}
		r.checkpoint(saved, &pb.ProgressReport{LeaseToken: r.LeaseToken, Progress: progress})
	}
	return complete(toJSON(saved))
}

func approval(r run) (*pb.Report, error) {
	if r.Resumption.GetReason() == pb.PendingReason_PENDING_REASON_PROCEEDED {
		return complete(r.ExecutionMetadata)
	}
	return &pb.Report{Suspend: &pb.SuspendReport{UntilProceeded: true}}, nil
}

func fail(r run) (*pb.Report, error) {
	return failWith(r, "boom", fmt.Sprintf("attempt %d failed, as asked", r.Attempt))
}

func failWith(r run, code, message string) (*pb.Report, error) {
	asked := struct {
		Retryable bool `json:"retryable"`
	}{true}
	if err := fromJSON(r.Metadata, &asked); err != nil {
		return nil, err
	}
	report := failure(code, message)
	report.Fail.Retryable = &asked.Retryable
	return report, nil
}

func sleep(r run) (*pb.Report, error) {
	asked := struct {
		Seconds float64 `json:"seconds"`
	}{1e9}
	if err := fromJSON(r.Metadata, &asked); err != nil {
		return nil, err
	}
	if why := r.sleep(time.Duration(asked.Seconds * float64(time.Second))); why != nil {
		return nil, why
	}
	return complete(toJSON(map[string]float64{"slept": asked.Seconds}))
}
