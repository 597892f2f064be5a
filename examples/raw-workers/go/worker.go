// What does a worker need that has nothing but generated stubs?
//
// Between the two markers is everything that the contract asks of it; in handlers.go are handlers.
// Each lease is handed to `handle` in a goroutine of its own, with a function:
//
//	report(token, message)   a checkpoint and perhaps progress; the outcome is what handle returns
//	report(token, nil)       only to hear whether to stop
//
// Both answer whether the lease is certainly still this worker's, and whether somebody cancelled
// its task. Of a lease that is certainly not this worker's nothing is reported.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "example.com/raw-worker/generated/leasehold/v1"
)

const lost, later = pb.VerdictCode_VERDICT_CODE_LEASE_LOST, pb.VerdictCode_VERDICT_CODE_RETRY_LATER

// --- machinery begins
func work(draining context.Context, hello *pb.Hello, servers []pb.WorkerServiceClient) {
	// The number of the next report of each lease that has no final verdict, and cancels of them.
	held, told, welcome, beat := map[string]int32{}, []*pb.Cancel{}, &pb.Welcome{}, &pb.Heartbeat{}
	// What is sent again on each stream until it is answered, in the order of the keys. Nothing
	// answers the hello, so it is the first of all; a drain goes with every heartbeat.
	unanswered, drain := map[string]*pb.WorkerMessage{"": {Hello: hello}}, map[bool]*pb.Drain{true: {}}
	// When the stream began, each of the last heartbeats was sent, and the last answered one was.
	began, sent, alive, beats := time.Time{}, [64]time.Time{}, time.Time{}, (*time.Timer)(nil)
	// Handlers, timers and streams touch the above and send only under the mutex.
	mutex, interval, send := sync.Mutex{}, 5*time.Second, func(*pb.WorkerMessage) error { return nil }
	report := func(token string, message *pb.WorkerMessage) (mine, stop bool) {
		mutex.Lock()
		defer mutex.Unlock()
		if it := message.GetReports(); held[token] > 0 && it != nil {
			it[0].LeaseToken, it[0].ReportSeq = token, cmp.Or(it[0].ReportSeq, held[token])
			held[token] = max(held[token], it[0].ReportSeq+1)
			// Kept and sent at once: a stream that begins in between would lose it.
			unanswered[fmt.Sprintf("%s %09d", token, it[0].ReportSeq)] = message
			_ = send(message)
		}
		stop = slices.ContainsFunc(told, func(it *pb.Cancel) bool { return it.LeaseToken == token })
		// A session TTL after the last answered heartbeat was sent, another worker may get the task.
		return held[token] > 0 && time.Since(alive) < welcome.SessionTtl.AsDuration(), stop
	}
	beats = time.AfterFunc(time.Hour, func() {
		mutex.Lock()
		defer mutex.Unlock()
		beat.Number, sent[(beat.Number+1)%64] = beat.Number+1, time.Now()
		_ = send(&pb.WorkerMessage{Heartbeat: beat, Drain: drain[draining.Err() != nil]})
		beats.Reset(interval)
	})
	context.AfterFunc(draining, func() { beats.Reset(0) })
	for i, over := 0, []string{}; draining.Err() == nil || len(held) > 0; i++ {
		time.Sleep(rand.N(min(time.Second, interval/2)))
		ctx, cancel := context.WithCancel(context.Background())
		silence := time.AfterFunc(3*interval, cancel)
		call, err := servers[i%len(servers)].ExecuteTasks(ctx)
		// The first round, without a message, begins the stream. Three silent intervals end it.
		for m := (*pb.ServerMessage)(nil); err == nil && silence.Reset(3*interval); m, err = call.Recv() {
			mutex.Lock()
			if m == nil {
				began, send, beat.LeasesReceived, hello.SessionId = time.Now(), call.Send, 0, welcome.SessionId
				hello.Connection, hello.HeldLeaseTokens = hello.Connection+1, slices.Collect(maps.Keys(held))
				for _, id := range slices.Sorted(maps.Keys(unanswered)) {
					_ = send(unanswered[id])
				}
			} else if it := m.Welcome; it != nil {
				welcome, interval, alive = it, it.HeartbeatInterval.AsDuration(), began
				beats.Reset(0)
			} else if number := m.HeartbeatAnswer.GetNumber(); number > 0 {
				alive = sent[number%64]
			}
			for _, lease := range m.GetLeases() {
				held[lease.LeaseToken], beat.LeasesReceived = 1, beat.LeasesReceived+1
				go func() { report(lease.LeaseToken, handle(lease, report)) }()
			}
			over, told = m.GetWelcome().GetDroppedLeaseTokens(), append(told, m.GetCancels()...)
			for _, it := range m.GetRevoked() {
				over = append(over, it.LeaseToken)
			}
			for _, it := range m.GetVerdicts() {
				id := fmt.Sprintf("%s %09d", it.LeaseToken, it.ReportSeq)
				// Apart, so that those of a lease come in order; one that overtakes is told to wait again.
				pause := it.RetryAfter.AsDuration() + time.Duration(it.ReportSeq%20)*50*time.Millisecond
				if own := unanswered[id]; it.Code == later {
					time.AfterFunc(pause, func() { report(it.LeaseToken, own) })
				} else if it.Code == lost || own != nil && own.Reports[0].Checkpoint == nil {
					over = append(over, it.LeaseToken)
				}
				delete(unanswered, id)
			}
			maps.DeleteFunc(held, func(token string, _ int32) bool { return slices.Contains(over, token) })
			told = slices.DeleteFunc(told, func(it *pb.Cancel) bool { return held[it.LeaseToken] == 0 })
			mutex.Unlock()
		}
		log.Println("connecting again after", err)
	}
}

// --- machinery ends

func main() {
	draining, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	// A server that is away is asked again every second at most; a lease may be large.
	pause := backoff.Config{BaseDelay: time.Second, Multiplier: 1, MaxDelay: time.Second}
	// A connection that has died silently is given up, not only the stream on it.
	pings := keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}
	options := []grpc.DialOption{
		grpc.WithKeepaliveParams(pings),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30)),
	}
	var servers []pb.WorkerServiceClient
	addresses := cmp.Or(os.Getenv("LEASEHOLD_ADDRESS"), "127.0.0.1:7410")
	for _, address := range strings.Split(addresses, ",") {
		connection, err := grpc.NewClient("passthrough:///"+address, options...)
		if err != nil {
			log.Fatal(err)
		}
		defer connection.Close()
		servers = append(servers, pb.NewWorkerServiceClient(connection))
	}
	host, _ := os.Hostname()
	name := fmt.Sprintf("go-%s-%d", host, os.Getpid())
	hello := &pb.Hello{WorkerName: name[:min(len(name), 128)], Language: "go", Slots: 8}
	for name := range handlers {
		hello.Handlers = append(hello.Handlers, &pb.Handler{TaskName: name})
	}
	work(draining, hello, servers)
}
