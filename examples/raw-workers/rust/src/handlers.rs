//! What do handlers look like that run on the machinery of main.rs?
//!
//! A handler gets a run and returns its outcome as a report. An error is a failure that is tried
//! again, and so is a panic; `Stopped` cancels the task or gives it back.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::spawn;
use tokio::sync::{mpsc::UnboundedSender, watch};
use tokio::time::{Instant, sleep};

use crate::conform;
use crate::pb::{self, PendingReason};

pub type Outcome = Result<pb::Report, Box<dyn Error + Send + Sync>>;

pub const NAMES: [&str; 12] = [
    "rust.echo",
    "rust.trace",
    "rust.count",
    "rust.approval",
    "rust.fail",
    "rust.sleep",
    "conform.echo",
    "conform.steps",
    "conform.sleep",
    "conform.suspend",
    "conform.fail",
    "conform.throw",
];

async fn handle(run: Run) -> Outcome {
    match run.lease.name.as_str() {
        "rust.echo" | "conform.echo" => Ok(complete(run.lease.metadata.clone())),
        "rust.trace" => Ok(trace(&run)),
        "rust.count" => count(&run).await,
        "rust.approval" => Ok(approval(&run)),
        "rust.fail" => {
            Ok(fail(&run, "boom", format!("attempt {} failed, as asked", run.lease.attempt)))
        }
        "rust.sleep" => sleep_for(&run).await,
        "conform.steps" => conform::steps(&run).await,
        "conform.sleep" => conform::sleep(&run).await,
        "conform.suspend" => Ok(conform::suspend(&run)),
        "conform.fail" => Ok(fail(&run, "conform_failed", "failed, as asked".into())),
        "conform.throw" => panic!("thrown, as asked"),
        name => Err(format!("there is no handler of {name}").into()),
    }
}

/// Why a handler ends without an outcome of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stopped {
    Cancelled,
    Lost,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "stopped: {self:?}")
    }
}

impl Error for Stopped {}

/// A lease in the hands of its handler.
#[derive(Clone)]
pub struct Run {
    pub lease: pb::Lease,
    posts: UnboundedSender<(String, pb::WorkerMessage)>,
    cancelled: watch::Receiver<bool>,
    ours_until: watch::Receiver<Instant>,
}

/// Runs the handler of a lease. Answers what is kept while the lease is held: its token, the number
/// of its last report, and how to cancel it. What is dropped says that the lease is gone.
pub fn start(
    lease: pb::Lease,
    posts: &UnboundedSender<(String, pb::WorkerMessage)>,
    ours_until: &watch::Sender<Instant>,
) -> (String, (i32, watch::Sender<bool>)) {
    let token = lease.lease_token.clone();
    let (cancel, cancelled) = watch::channel(false);
    let run = Run { lease, posts: posts.clone(), cancelled, ours_until: ours_until.subscribe() };
    spawn(async move {
        let outcome = match spawn(handle(run.clone())).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => ended_by(&*error),
            Err(_) => failure("panic", "the handler panicked".into()),
        };
        run.report(outcome, None);
    });
    (token, (0, cancel))
}

fn ended_by(error: &(dyn Error + Send + Sync + 'static)) -> pb::Report {
    match error.downcast_ref::<Stopped>() {
        Some(Stopped::Cancelled) => {
            let error = task_error("cancelled", "stopped when asked to".into());
            let cancel = pb::CancelReport { error: Some(error), ..Default::default() };
            pb::Report { cancel: Some(cancel), ..Default::default() }
        }
        // Nobody hears of it unless the lease turns out to be ours.
        Some(Stopped::Lost) => {
            pb::Report { release: Some(Default::default()), ..Default::default() }
        }
        None => failure("error", error.to_string()),
    }
}

impl Run {
    /// What the submitter gave.
    pub fn metadata(&self) -> Value {
        value_of(&self.lease.metadata)
    }

    /// What the last attempt saved.
    pub fn saved(&self) -> Value {
        value_of(&self.lease.execution_metadata)
    }

    /// An error when the handler should stop.
    pub fn go_on(&self) -> Result<(), Stopped> {
        // An error here says that nobody can cancel it any more: the lease is gone.
        if self.cancelled.has_changed().is_err() || Instant::now() > *self.ours_until.borrow() {
            return Err(Stopped::Lost);
        }
        if *self.cancelled.borrow() { Err(Stopped::Cancelled) } else { Ok(()) }
    }

    /// Waits, or ends early when the handler should stop.
    pub async fn sleep(&self, duration: Duration) -> Result<(), Stopped> {
        let end = Instant::now() + duration;
        loop {
            self.go_on()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(50))).await;
        }
    }

    /// Saves what the next run would resume from.
    pub fn checkpoint(&self, value: Value, progress: Option<pb::Progress>) {
        let checkpoint = Some(pb::CheckpointReport { execution_metadata: payload(value) });
        self.report(pb::Report { checkpoint, ..Default::default() }, progress);
    }

    fn report(&self, mut report: pb::Report, progress: Option<pb::Progress>) {
        let lease_token = self.lease.lease_token.clone();
        report.lease_token.clone_from(&lease_token);
        let step = |it| pb::ProgressReport { lease_token: lease_token.clone(), progress: Some(it) };
        let progress = progress.map(step).into_iter().collect();
        let message = pb::WorkerMessage { reports: vec![report], progress, ..Default::default() };
        // Fails only when the worker has ended.
        self.posts.send((lease_token, message)).ok();
    }
}

pub fn payload(value: Value) -> Option<pb::Payload> {
    Some(pb::Payload { data: value.to_string().into_bytes(), content_type: String::new() })
}

fn value_of(payload: &Option<pb::Payload>) -> Value {
    payload.as_ref().and_then(|it| serde_json::from_slice(&it.data).ok()).unwrap_or(Value::Null)
}

pub fn complete(result: Option<pb::Payload>) -> pb::Report {
    let complete = pb::CompleteReport { result, ..Default::default() };
    pb::Report { complete: Some(complete), ..Default::default() }
}

fn task_error(code: &str, message: String) -> pb::TaskError {
    pb::TaskError { code: code.into(), message, ..Default::default() }
}

fn failure(code: &str, message: String) -> pb::Report {
    let fail = pb::FailReport { error: Some(task_error(code, message)), ..Default::default() };
    pb::Report { fail: Some(fail), ..Default::default() }
}

fn fail(run: &Run, code: &str, message: String) -> pb::Report {
    let mut report = failure(code, message);
    let retryable = run.metadata()["retryable"].as_bool().unwrap_or(true);
    report.fail.as_mut().unwrap().retryable = Some(retryable);
    report
}

/// The W3C trace context of whoever set this run going, for spans of your own.
fn trace(run: &Run) -> pb::Report {
    let context = run.lease.trace_context.clone().unwrap_or_default();
    complete(payload(json!({ "traceparent": context.traceparent })))
}

async fn count(run: &Run) -> Outcome {
    let (asked, saved) = (run.metadata(), run.saved());
    let to = asked["to"].as_i64().ok_or("metadata has no `to`")?;
    let delay = Duration::from_millis(asked["delay_ms"].as_u64().unwrap_or(0));
    let mut counted = saved["counted"].as_i64().unwrap_or(0);
    while counted < to {
        run.sleep(delay).await?;
        counted += 1;
        let (done, total) = (counted as f64, Some(to as f64));
        let progress = pb::Progress { done, total, message: "counted".into(), update_time: None };
        run.checkpoint(json!({ "counted": counted }), Some(progress));
    }
    Ok(complete(payload(json!({ "counted": counted }))))
}

fn approval(run: &Run) -> pb::Report {
    let reason = run.lease.resumption.as_ref().map(|it| it.reason());
    if reason == Some(PendingReason::Proceeded) {
        return complete(run.lease.execution_metadata.clone());
    }
    let suspend = pb::SuspendReport { until_proceeded: true, ..Default::default() };
    pb::Report { suspend: Some(suspend), ..Default::default() }
}

async fn sleep_for(run: &Run) -> Outcome {
    let seconds = run.metadata()["seconds"].as_f64().unwrap_or(1e9);
    run.sleep(Duration::from_secs_f64(seconds)).await?;
    Ok(complete(payload(json!({ "slept": seconds }))))
}
