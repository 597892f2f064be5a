// What does a worker need that has nothing but generated stubs?
//
// Between the two markers is everything that the contract asks of it; handlers are in
// Handlers.java. Each lease is handed to `run` in a thread of its own. On its way it may call
//
//   report(token, message)   with a checkpoint and perhaps progress; the outcome is what it returns
//   report(token, null)      to hear whether to stop: "cancelled", "lost", or "" to go on

import static com.google.protobuf.util.Durations.toNanos;
import static dev.leasehold.v1.VerdictCode.VERDICT_CODE_LEASE_LOST;
import static dev.leasehold.v1.VerdictCode.VERDICT_CODE_RETRY_LATER;
import static java.util.concurrent.TimeUnit.NANOSECONDS;
import static java.util.concurrent.TimeUnit.SECONDS;

import dev.leasehold.v1.Drain;
import dev.leasehold.v1.Handler;
import dev.leasehold.v1.Heartbeat;
import dev.leasehold.v1.Hello;
import dev.leasehold.v1.Lease;
import dev.leasehold.v1.ServerMessage;
import dev.leasehold.v1.Verdict;
import dev.leasehold.v1.Welcome;
import dev.leasehold.v1.WorkerMessage;
import dev.leasehold.v1.WorkerServiceGrpc;
import dev.leasehold.v1.WorkerServiceGrpc.WorkerServiceBlockingV2Stub;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.StatusException;
import io.grpc.stub.BlockingClientCall;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeoutException;
import java.util.function.Supplier;

final class Worker {
  // The last of the keys.
  private static final String DRAIN = "~";

  // --- machinery begins
  // Leases without a final verdict, each with the number of its last report; whose is cancelled.
  private final Map<String, Integer> held = new HashMap<>();
  private final Set<String> cancelled = new HashSet<>();
  // What is sent again on each stream until it is answered, by lease and number.
  private final Map<String, WorkerMessage> unanswered = new ConcurrentSkipListMap<>();
  // What heartbeats tell: how many there were, and how many leases this stream has delivered.
  private final Heartbeat.Builder sum = Heartbeat.newBuilder();
  // The only thread that writes, so that nothing here waits for a server that does not read.
  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
  private Welcome welcome = Welcome.getDefaultInstance();
  private BlockingClientCall<WorkerMessage, ServerMessage> stream;
  // When each of the last heartbeats was sent, or a hello after it, and what was answered last.
  private long interval = SECONDS.toNanos(5), alive, sent[] = new long[64];

  private synchronized void post(String key, WorkerMessage message) {
    // Kept before it is sent: a stream that begins in between must not lose it.
    if (key != null) unanswered.put(key, message);
    else sent[sum.getNumber() % 64] = System.nanoTime();
    var to = stream;
    timer.submit(() -> to.write(message));
  }

  synchronized String report(String token, WorkerMessage.Builder message) {
    if (message != null && held.containsKey(token)) {
      int seq = held.merge(token, 1, Integer::sum);
      message.getReportsBuilder(0).setLeaseToken(token).setReportSeq(seq);
      post("%s %09d".formatted(token, seq), message.build());
    }
    // A session TTL after the last answered heartbeat was sent, another worker may get the task.
    boolean late = System.nanoTime() - alive > toNanos(welcome.getSessionTtl());
    return late || !held.containsKey(token) ? "lost" : cancelled.contains(token) ? "cancelled" : "";
  }

  private synchronized void beat(BlockingClientCall<WorkerMessage, ServerMessage> on) {
    if (on != stream) return;
    post(null, WorkerMessage.newBuilder().setHeartbeat(sum.setNumber(sum.getNumber() + 1)).build());
    timer.schedule(() -> beat(on), interval, NANOSECONDS);
  }

  private synchronized void take(ServerMessage message) {
    int beat = message.hasWelcome() ? sum.getNumber() : message.getHeartbeatAnswer().getNumber();
    if (message.hasWelcome() || beat > 0) alive = sent[beat % 64];
    if (message.hasWelcome()) welcome = message.getWelcome();
    interval = toNanos(welcome.getHeartbeatInterval());
    if (message.hasWelcome()) beat(stream);
    sum.setLeasesReceived(sum.getLeasesReceived() + message.getLeasesCount());
    for (Lease it : message.getLeasesList()) held.put(it.getLeaseToken(), 0);
    for (Lease it : message.getLeasesList()) new Thread(() -> run(it)).start();
    for (var it : message.getCancelsList()) cancelled.add(it.getLeaseToken());
    held.keySet().removeAll(message.getWelcome().getDroppedLeaseTokensList());
    for (var it : message.getRevokedList()) held.remove(it.getLeaseToken());
    for (Verdict it : message.getVerdictsList()) {
      String key = "%s %09d".formatted(it.getLeaseToken(), it.getReportSeq());
      WorkerMessage own = unanswered.remove(key);
      boolean last = own != null && !own.getReports(0).hasCheckpoint();
      boolean later = own != null && it.getCode() == VERDICT_CODE_RETRY_LATER;
      if (later) timer.schedule(() -> post(key, own), toNanos(it.getRetryAfter()), NANOSECONDS);
      else if (last || it.getCode() == VERDICT_CODE_LEASE_LOST) held.remove(it.getLeaseToken());
    }
    cancelled.retainAll(held.keySet());
  }

  void work(Hello.Builder hello, Supplier<WorkerServiceBlockingV2Stub> servers) throws Exception {
    while (!held.isEmpty() || !unanswered.containsKey(DRAIN)) {
      NANOSECONDS.sleep((long) (Math.random() * Math.min(SECONDS.toNanos(1), interval / 2)));
      synchronized (this) {
        stream = servers.get().executeTasks();
        sum.setLeasesReceived(0);
        hello.setConnection(hello.getConnection() + 1).setSessionId(welcome.getSessionId());
        hello.clearHeldLeaseTokens().addAllHeldLeaseTokens(held.keySet());
        post(null, WorkerMessage.newBuilder().setHello(hello).build());
        unanswered.forEach(this::post);
      }
      try {
        // Nothing heard for three intervals ends the call.
        for (ServerMessage it; (it = stream.read(3 * interval, NANOSECONDS)) != null; ) take(it);
      } catch (StatusException | TimeoutException error) {
        System.err.println("connecting again after " + error);
        stream.cancel("over", error);
      }
    }
  }

  // --- machinery ends

  private void run(Lease lease) {
    report(lease.getLeaseToken(), Handlers.handle(lease, this));
  }

  void drain() {
    post(DRAIN, WorkerMessage.newBuilder().setDrain(Drain.getDefaultInstance()).build());
  }

  public static void main(String[] args) throws Exception {
    String addresses =
        Objects.requireNonNullElse(System.getenv("LEASEHOLD_ADDRESS"), "127.0.0.1:7410");
    var channels = new ArrayDeque<ManagedChannel>();
    for (String address : addresses.split(",")) {
      var channel = ManagedChannelBuilder.forTarget("dns:///" + address).usePlaintext();
      // A lease may be large; a connection that has died silently is given up.
      channel.maxInboundMessageSize(Integer.MAX_VALUE);
      channels.add(channel.keepAliveTime(10, SECONDS).keepAliveTimeout(5, SECONDS).build());
    }
    Supplier<WorkerServiceBlockingV2Stub> servers =
        () -> {
          channels.add(channels.remove());
          // A server that is away is asked again at once, instead of every two minutes.
          channels.peekLast().resetConnectBackoff();
          return WorkerServiceGrpc.newBlockingV2Stub(channels.peekLast());
        };
    var hello = Hello.newBuilder().setLanguage("java").setSlots(8);
    hello.setWorkerName("java-" + ProcessHandle.current().pid());
    for (String name : Handlers.ALL.keySet()) {
      hello.addHandlers(Handler.newBuilder().setTaskName(name));
    }
    var worker = new Worker();
    // The process ends when the work is done, with code 0, and not when its hook is through.
    var main = Thread.currentThread();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> drainAndJoin(worker, main)));
    worker.work(hello, servers);
    Runtime.getRuntime().halt(0);
  }

  private static void drainAndJoin(Worker worker, Thread main) {
    worker.drain();
    try {
      main.join();
    } catch (InterruptedException impossible) {
      throw new IllegalStateException(impossible);
    }
  }
}
