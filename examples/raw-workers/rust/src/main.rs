//! What does a worker need that has nothing but generated stubs?
//!
//! Between the two markers is everything that the contract asks of it; handlers are in handlers.rs.
//! `start` runs the handler of a lease as a task of its own, which posts messages with one report
//! each, and reads until when the lease is certainly this worker's and whether it is cancelled.

mod conform;
mod handlers;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_channel::mpsc::unbounded;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio::{select, spawn, time};
use tonic::transport::{Channel, Endpoint};

use crate::handlers::{NAMES, start};
use crate::pb::Heartbeat;
use crate::pb::VerdictCode::{LeaseLost, RetryLater};
use crate::pb::worker_service_client::WorkerServiceClient;

mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

mod leasehold {
    pub mod v1 {
        #![allow(dead_code)]
        tonic::include_proto!("leasehold.v1");
    }
}

use leasehold::v1 as pb;

use pb::WorkerMessage as Message;

type Id = (String, i32);
type Server = WorkerServiceClient<Channel>;

// --- machinery begins
async fn work(mut hello: pb::Hello, mut server: impl FnMut() -> Server, mut ending: Ending) {
    // Leases without a final verdict, each with the number of its last report and what cancels it;
    // what is sent again on each stream until it is answered. Nothing answers the hello, the first.
    let (mut held, mut kept) = (HashMap::<String, _>::new(), BTreeMap::<Id, _>::new());
    let ((posts, mut posted), (later, mut due)) = (unbounded_channel(), unbounded_channel());
    let ([mut pace, mut ttl], mut beat) = ([5, 0].map(Duration::from_secs), Heartbeat::default());
    let (ours_until, mut beats) = (watch::Sender::new(Instant::now()), time::interval(pace));
    while !*ending.borrow() || !held.is_empty() {
        eprintln!("connecting{}", if hello.connection > 0 { " again" } else { "" });
        sleep(pace.min(Duration::from_secs(1)).mul_f64(fastrand::f64() / 2.)).await;
        // A queue for each stream: a dead one would swallow what belongs on the next.
        let ((out, queue), mut sent) = (unbounded(), HashMap::from([(0, Instant::now())]));
        (hello.connection, beat.leases_received) = (hello.connection + 1, 0);
        hello.held_lease_tokens = held.keys().cloned().collect();
        kept.insert(Id::default(), Message { hello: Some(hello.clone()), ..Default::default() });
        kept.values().for_each(|m| drop(out.unbounded_send(m.clone())));
        let Ok(Ok(call)) = timeout(3 * pace, server().execute_tasks(queue)).await else { continue };
        let (mut call, mut heard) = (call.into_inner(), Instant::now());
        loop {
            select! {
                m = call.message() => {
                    let Ok(Some(m)) = m else { break };
                    heard = Instant::now();
                    if let Some(it) = m.welcome {
                        (pace, ttl) = (span(it.heartbeat_interval), span(it.session_ttl));
                        (hello.session_id, beats) = (it.session_id, time::interval(pace));
                        it.dropped_lease_tokens.iter().for_each(|it| drop(held.remove(it)));
                    }
                    // Until a TTL after what was answered was sent, nobody else gets the tasks.
                    let answered = sent.remove(&m.heartbeat_answer.map_or(0, |it| it.number));
                    answered.map(|at| ours_until.send_replace(at + ttl));
                    beat.leases_received += m.leases.len() as i32;
                    held.extend(m.leases.into_iter().map(|it| start(it, &posts, &ours_until)));
                    let told = m.cancels.iter().filter_map(|it| held.get(&it.lease_token));
                    told.for_each(|(_, cancel)| cancel.send_modify(|it| *it = true));
                    m.revoked.iter().for_each(|it| drop(held.remove(&it.lease_token)));
                    for it in m.verdicts {
                        let (code, id) = (it.code(), (it.lease_token, it.report_seq));
                        if code == RetryLater {
                            spawn(after(span(it.retry_after), later.clone(), id));
                        } else if kept.remove(&id).is_some_and(ends) || code == LeaseLost {
                            held.remove(&id.0);
                        }
                    }
                }
                Some((key, mut m)) = posted.recv() => if let Some((count, _)) = held.get_mut(&key) {
                    (*count, m.reports[0].report_seq) = (*count + 1, *count + 1);
                    kept.insert((key, *count), m.clone());
                    out.unbounded_send(m).ok();
                },
                Some(id) = due.recv() => drop(kept.get(&id).map(|m| out.unbounded_send(m.clone()))),
                at = beats.tick() => {
                    beat.number += 1;
                    sent.insert(beat.number, at);
                    let (heartbeat, drain) = (Some(beat), ending.borrow().then_some(pb::Drain {}));
                    out.unbounded_send(Message { heartbeat, drain, ..Default::default() }).ok();
                }
                Ok(()) = ending.changed() => beats.reset_immediately(),
                // Nothing heard for three intervals ends the call.
                _ = sleep_until(heard + 3 * pace) => break,
            }
        }
    }
}
// --- machinery ends

type Ending = watch::Receiver<bool>;

fn span(duration: Option<prost_types::Duration>) -> Duration {
    duration.unwrap_or_default().try_into().unwrap_or_default()
}

/// Whether it is an outcome: the lease ends with its verdict.
fn ends(message: Message) -> bool {
    message.reports[0].checkpoint.is_none()
}

async fn after(pause: Duration, to: UnboundedSender<Id>, id: Id) {
    sleep(pause).await;
    to.send(id).ok();
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let addresses = std::env::var("LEASEHOLD_ADDRESS").unwrap_or("127.0.0.1:7410".into());
    let mut servers = Vec::new();
    for address in addresses.split(',') {
        // A connection that has died silently is given up, not only the stream on it.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5));
        let server = WorkerServiceClient::new(endpoint.connect_lazy());
        servers.push(server.max_decoding_message_size(usize::MAX));
    }
    let hello = pb::Hello {
        worker_name: format!("rust-{}", std::process::id()),
        language: "rust".into(),
        slots: 8,
        handlers: NAMES.map(|it| pb::Handler { task_name: it.into(), slots: None }).into(),
        ..Default::default()
    };
    let (drain, draining) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut servers = servers.into_iter().cycle();
    let ends = spawn(work(hello, move || servers.next().unwrap(), draining));
    terminate.recv().await;
    drain.send_replace(true);
    Ok(ends.await?)
}
