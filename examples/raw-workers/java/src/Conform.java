// Which handlers does `leasehold worker conform` need of a worker? What each does is in
// docs/worker-protocol.md.

import com.google.protobuf.util.Durations;
import dev.leasehold.v1.Report;
import dev.leasehold.v1.SuspendReport;
import java.util.Map;

final class Conform {
  static final Map<String, Handlers.Handler> ALL =
      Map.of(
          "conform.echo", run -> Handlers.complete(run.lease().getMetadata()),
          "conform.steps", Conform::steps,
          "conform.sleep", Conform::sleep,
          "conform.suspend", Conform::suspend,
          "conform.fail", run -> Handlers.fail(run, "conform_failed", "failed, as asked"),
          "conform.throw", Conform::raise);

  private static Report.Builder steps(Handlers.Run run) throws Exception {
    var asked = run.metadata();
    int steps = asked.has("steps") ? asked.get("steps").getAsInt() : 3;
    double delay = asked.has("delay_ms") ? asked.get("delay_ms").getAsDouble() : 0;
    int step = run.saved().has("step") ? run.saved().get("step").getAsInt() : 0;
    while (step < steps) {
      run.sleep(delay);
      run.checkpoint(Map.of("step", ++step));
    }
    return Handlers.complete(Handlers.json(Map.of("step", steps)));
  }

  private static Report.Builder sleep(Handlers.Run run) throws Exception {
    run.checkpoint(Map.of("started", true));
    long ms = run.metadata().has("ms") ? run.metadata().get("ms").getAsLong() : Integer.MAX_VALUE;
    run.sleep(ms);
    return Handlers.complete(Handlers.json(Map.of("slept", ms)));
  }

  private static Report.Builder suspend(Handlers.Run run) {
    switch (run.lease().getResumption().getReason()) {
      case PENDING_REASON_PROCEEDED, PENDING_REASON_WOKEN -> {
        return Handlers.complete(run.lease().getExecutionMetadata());
      }
      default -> {}
    }
    var until = SuspendReport.newBuilder();
    var after = run.metadata().get("after_ms");
    if (after == null) until.setUntilProceeded(true);
    else until.setUntilAfter(Durations.fromMillis(after.getAsLong()));
    return Report.newBuilder().setSuspend(until);
  }

  private static Report.Builder raise(Handlers.Run run) {
    throw new IllegalStateException("thrown, as asked");
  }
}
