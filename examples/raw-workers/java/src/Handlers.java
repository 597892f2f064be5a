// What do handlers look like that run on the machinery of Worker.java?
//
// A handler gets a run and returns its outcome as a report; what it throws is a failure that is
// tried again, but for a Stopped, which cancels the task or gives it back.

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import dev.leasehold.v1.CancelReport;
import dev.leasehold.v1.CheckpointReport;
import dev.leasehold.v1.CompleteReport;
import dev.leasehold.v1.FailReport;
import dev.leasehold.v1.Lease;
import dev.leasehold.v1.Payload;
import dev.leasehold.v1.PendingReason;
import dev.leasehold.v1.Progress;
import dev.leasehold.v1.ProgressReport;
import dev.leasehold.v1.ReleaseReport;
import dev.leasehold.v1.Report;
import dev.leasehold.v1.SuspendReport;
import dev.leasehold.v1.TaskError;
import dev.leasehold.v1.WorkerMessage;
import java.util.HashMap;
import java.util.Map;

final class Handlers {
  interface Handler {
    Report.Builder run(Run run) throws Exception;
  }

  /** Why a handler ends without an outcome of its own: "cancelled" or "lost". */
  static final class Stopped extends Exception {
    Stopped(String reason) {
      super(reason);
    }
  }

  /** A lease in the hands of its handler. */
  record Run(Lease lease, Worker worker) {
    /** What the submitter gave, or an empty object. */
    JsonObject metadata() {
      return objectOf(lease.getMetadata());
    }

    /** What the last attempt saved, or an empty object. */
    JsonObject saved() {
      return objectOf(lease.getExecutionMetadata());
    }

    /** Throws when the handler should stop. */
    void goOn() throws Stopped {
      String reason = worker.report(lease.getLeaseToken(), null);
      if (!reason.isEmpty()) throw new Stopped(reason);
    }

    /** Waits, or throws early when the handler should stop. */
    void sleep(double ms) throws Stopped, InterruptedException {
      double end = System.nanoTime() / 1e6 + ms;
      for (double left = ms; left > 0; left = end - System.nanoTime() / 1e6) {
        goOn();
        Thread.sleep((long) Math.min(50, Math.ceil(left)));
      }
      goOn();
    }

    /** Saves what the next run would resume from. */
    void checkpoint(Object value, Progress... progress) {
      var saved = CheckpointReport.newBuilder().setExecutionMetadata(json(value));
      var message = WorkerMessage.newBuilder().addReports(Report.newBuilder().setCheckpoint(saved));
      for (Progress it : progress) {
        var step = ProgressReport.newBuilder().setLeaseToken(lease.getLeaseToken());
        message.addProgress(step.setProgress(it));
      }
      worker.report(lease.getLeaseToken(), message);
    }
  }

  static final Map<String, Handler> ALL = new HashMap<>(Conform.ALL);

  static {
    ALL.put("java.echo", run -> complete(run.lease.getMetadata()));
    ALL.put("java.trace", Handlers::trace);
    ALL.put("java.count", Handlers::count);
    ALL.put("java.approval", Handlers::approval);
    ALL.put("java.fail", run -> fail(run, "boom", "attempt %d failed, as asked"));
    ALL.put("java.sleep", Handlers::sleep);
  }

  private static final Gson GSON = new Gson();

  /** Runs a task to its outcome. */
  static WorkerMessage.Builder handle(Lease lease, Worker worker) {
    Report.Builder outcome;
    try {
      outcome = ALL.get(lease.getName()).run(new Run(lease, worker));
    } catch (Stopped stopped) {
      // Nobody hears of a task that is lost, unless its lease turns out to be ours.
      var error = TaskError.newBuilder().setCode("cancelled").setMessage("stopped when asked to");
      outcome =
          stopped.getMessage().equals("cancelled")
              ? Report.newBuilder().setCancel(CancelReport.newBuilder().setError(error))
              : Report.newBuilder().setRelease(ReleaseReport.getDefaultInstance());
    } catch (Exception | Error problem) {
      outcome = failure(problem.getClass().getSimpleName(), String.valueOf(problem.getMessage()));
    }
    return WorkerMessage.newBuilder().addReports(outcome);
  }

  static Report.Builder complete(Payload result) {
    return Report.newBuilder().setComplete(CompleteReport.newBuilder().setResult(result));
  }

  static Report.Builder failure(String code, String message) {
    var error = TaskError.newBuilder().setCode(code).setMessage(message);
    return Report.newBuilder().setFail(FailReport.newBuilder().setError(error));
  }

  static Payload json(Object value) {
    return Payload.newBuilder().setData(ByteString.copyFromUtf8(GSON.toJson(value))).build();
  }

  static JsonObject objectOf(Payload payload) {
    var value = GSON.fromJson(payload.getData().toStringUtf8(), JsonElement.class);
    return value == null || value.isJsonNull() ? new JsonObject() : value.getAsJsonObject();
  }

  static Report.Builder fail(Run run, String code, String message) {
    var asked = run.metadata().get("retryable");
    var report = failure(code, message.formatted(run.lease.getAttempt()));
    report.getFailBuilder().setRetryable(asked == null || asked.getAsBoolean());
    return report;
  }

  /** The W3C trace context of whoever set this run going, for spans of your own. */
  private static Report.Builder trace(Run run) {
    return complete(json(Map.of("traceparent", run.lease.getTraceContext().getTraceparent())));
  }

  private static Report.Builder count(Run run) throws Exception {
    int to = run.metadata().get("to").getAsInt();
    var delay = run.metadata().get("delay_ms");
    int counted = run.saved().has("counted") ? run.saved().get("counted").getAsInt() : 0;
    while (counted < to) {
      run.sleep(delay == null ? 0 : delay.getAsDouble());
      counted++;
      var progress = Progress.newBuilder().setDone(counted).setTotal(to).setMessage("counted");
      run.checkpoint(Map.of("counted", counted), progress.build());
    }
    return complete(json(Map.of("counted", counted)));
  }

  private static Report.Builder approval(Run run) {
    if (run.lease.getResumption().getReason() == PendingReason.PENDING_REASON_PROCEEDED) {
      return complete(run.lease.getExecutionMetadata());
    }
    return Report.newBuilder().setSuspend(SuspendReport.newBuilder().setUntilProceeded(true));
  }

  private static Report.Builder sleep(Run run) throws Exception {
    var seconds = run.metadata().get("seconds");
    run.sleep(seconds == null ? 1e15 : seconds.getAsDouble() * 1000);
    return complete(json(Map.of("slept", seconds.getAsDouble())));
  }
}
