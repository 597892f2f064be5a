//! Which handlers does `leasehold worker conform` need of a worker? What each does is in
//! docs/worker-protocol.md.

use std::time::Duration;

use serde_json::json;

use crate::handlers::{Outcome, Run, complete, payload};
use crate::pb::{self, PendingReason};

pub async fn steps(run: &Run) -> Outcome {
    let asked = run.metadata();
    let steps = asked["steps"].as_i64().unwrap_or(3);
    let delay = Duration::from_millis(asked["delay_ms"].as_u64().unwrap_or(0));
    for step in run.saved()["step"].as_i64().unwrap_or(0) + 1..=steps {
        run.sleep(delay).await?;
        run.checkpoint(json!({ "step": step }), None);
    }
    Ok(complete(payload(json!({ "step": steps }))))
}

pub async fn sleep(run: &Run) -> Outcome {
    run.checkpoint(json!({ "started": true }), None);
    let ms = run.metadata()["ms"].as_u64().unwrap_or(u32::MAX.into());
    run.sleep(Duration::from_millis(ms)).await?;
    Ok(complete(payload(json!({ "slept": ms }))))
}

pub fn suspend(run: &Run) -> pb::Report {
    let reason = run.lease.resumption.as_ref().map(|it| it.reason());
    if matches!(reason, Some(PendingReason::Proceeded | PendingReason::Woken)) {
        return complete(run.lease.execution_metadata.clone());
    }
    let after_ms = run.metadata()["after_ms"].as_u64();
    let until_after = after_ms.and_then(|ms| Duration::from_millis(ms).try_into().ok());
    let until_proceeded = until_after.is_none();
    let suspend = pb::SuspendReport { until_after, until_proceeded, ..Default::default() };
    pb::Report { suspend: Some(suspend), ..Default::default() }
}
