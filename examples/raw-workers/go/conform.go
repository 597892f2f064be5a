// Which handlers does `leasehold worker conform` need of a worker? What each does is in
// docs/worker-protocol.md.
package main

import (
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "example.com/raw-worker/generated/leasehold/v1"
)

func conformSteps(r run) (*pb.Report, error) {
	asked := struct {
		Steps   int           `json:"steps"`
		DelayMs time.Duration `json:"delay_ms"`
	}{Steps: 3}
	var saved struct {
		Step int `json:"step"`
	}
	err := errors.Join(fromJSON(r.Metadata, &asked), fromJSON(r.ExecutionMetadata, &saved))
	if err != nil {
		return nil, err
	}
	for saved.Step < asked.Steps {
		if why := r.sleep(asked.DelayMs * time.Millisecond); why != nil {
			return nil, why
		}
		saved.Step++
		r.checkpoint(saved)
	}
	return complete(toJSON(map[string]int{"step": asked.Steps}))
}

func conformSleep(r run) (*pb.Report, error) {
	asked := struct {
		Ms int64 `json:"ms"`
	}{1e9}
	if err := fromJSON(r.Metadata, &asked); err != nil {
		return nil, err
	}
	r.checkpoint(map[string]bool{"started": true})
	if why := r.sleep(time.Duration(asked.Ms) * time.Millisecond); why != nil {
		return nil, why
	}
	return complete(toJSON(map[string]int64{"slept": asked.Ms}))
}

func conformSuspend(r run) (*pb.Report, error) {
	switch r.Resumption.GetReason() {
	case pb.PendingReason_PENDING_REASON_PROCEEDED, pb.PendingReason_PENDING_REASON_WOKEN:
		return complete(r.ExecutionMetadata)
	}
	var asked struct {
		AfterMs *int64 `json:"after_ms"`
	}
	if err := fromJSON(r.Metadata, &asked); err != nil {
		return nil, err
	}
	if asked.AfterMs == nil {
		return &pb.Report{Suspend: &pb.SuspendReport{UntilProceeded: true}}, nil
	}
	after := durationpb.New(time.Duration(*asked.AfterMs) * time.Millisecond)
	return &pb.Report{Suspend: &pb.SuspendReport{UntilAfter: after}}, nil
}

func conformFail(r run) (*pb.Report, error) {
	return failWith(r, "conform_failed", "failed, as asked")
}

func conformThrow(run) (*pb.Report, error) {
	panic("thrown, as asked")
}
