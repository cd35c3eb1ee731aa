//! `voxcast load`: many listeners of a running server, through the public protocol, and a report of what they heard.

mod listener;
mod process;
mod pump;
mod report;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinSet;

use crate::config::LoadArgs;
use crate::engine::caller::CallerHost;

use super::clock::Clock;
use super::limits;
pub use listener::{Listener, ListenerError, Target};
use pump::{Pump, wall};
pub use report::{Heard, Report};

/// How often progress is told while it runs.
const PROGRESS: Duration = Duration::from_secs(5);

/// Why there is no report.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The address is none of a server's.
    #[error("URL: {0}")]
    Url(String),
    /// The system has no thread or no file for us.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// Nobody could listen.
    #[error("no listener joined; the first one failed with: {0}")]
    Nobody(String),
}

/// Joins, listens, leaves, and tells what was heard.
///
/// # Errors
/// When the address is none, or not one listener joined.
pub async fn run(args: &LoadArgs) -> Result<Report, LoadError> {
    let clock = Clock;
    let target = Target::parse(&args.url, args.token.expose(), &args.voice).map_err(LoadError::Url)?;
    // A WebSocket and a UDP socket each.
    limits::raise_open_files(usize::try_from(args.listeners.get()).unwrap_or(usize::MAX).saturating_mul(2));
    let heard = Arc::new(Mutex::new(Heard::default()));
    let lock = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    let host = CallerHost::default();
    let mut listeners = JoinSet::new();
    let step = Duration::from_secs(1) / args.ramp.get();
    let begun = clock.now();
    let ramped = begun + step * args.listeners.get();
    let until = ramped + args.duration;
    // What is measured is measured while all listen: from the end of the ramp to the end of the run.
    let from = wall(clock.wall()) + (ramped - begun);
    let pump = Arc::new(Pump::start(clock, heard.clone(), from, from + args.duration)?);
    tracing::info!(listeners = args.listeners.get(), "joining");
    for place in 0..args.listeners.get() {
        tokio::time::sleep_until((begun + step * place).into()).await;
        let listener = Listener::new(target.clone(), host.clone(), clock, pump.clone(), heard.clone());
        listeners.spawn_local(listener.run(until));
    }
    let before = args.pid.and_then(process::usage);
    let measured_from = clock.now();
    while clock.now() < until {
        tokio::time::sleep_until((clock.now() + PROGRESS).min(until).into()).await;
        tracing::info!("{}", lock().progress());
    }
    let used = args.pid.and_then(process::usage).zip(before);
    let took = clock.now().saturating_duration_since(measured_from);
    let mut failure = None;
    while let Some(ended) = listeners.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failure = Some(lock().failed(error.to_string())),
            Err(error) => failure = Some(lock().failed(error.to_string())),
        }
    }
    drop(pump);
    let heard = lock();
    if heard.joined() == 0 {
        return Err(LoadError::Nobody(failure.unwrap_or_else(|| "nothing".into())));
    }
    Ok(Report::new(args.listeners.get(), args.duration, &heard, used.map(|(after, before)| after.since(&before, took))))
}
