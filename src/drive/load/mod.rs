//! `voxcast load`: many listeners of a running server, through the public protocol, and a report of what they heard.

mod listener;
mod process;
mod pump;
mod relayed;
mod report;
mod rooms;
mod seconds;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::task::JoinSet;

use crate::config::LoadArgs;
use crate::engine::caller::CallerHost;

use super::clock::Clock;
use super::limits;
pub use listener::{Listener, ListenerError, Target};
use pump::{Pump, wall};
pub use report::{Heard, Report, ServerUsage};
pub use rooms::{RoomsReport, RoomsUsage, run as run_rooms};
pub use seconds::BySecond;
use seconds::Seconds;

/// How often it is looked at what was heard and used.
const SECOND: Duration = Duration::from_secs(1);
/// Progress is told every so many seconds.
const PROGRESS: usize = 5;
/// How long whoever comes again waits outside.
const PAUSE: Duration = Duration::from_secs(1);

/// Why there is no report.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The address is none of a server's.
    #[error("URL: {0}")]
    Url(String),
    /// The system has no thread or no file for us.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// Nobody got in.
    #[error("nobody joined; the first one failed with: {0}")]
    Nobody(String),
}

/// Joins, listens, leaves, and tells what was heard.
///
/// # Errors
/// When the address is none, or not one listener joined.
pub async fn run(args: &LoadArgs) -> Result<Report, LoadError> {
    let (clock, again) = (Clock, args.again);
    let voice = (!args.silent).then_some(args.voice.as_str());
    let target = Target::parse(&args.url, args.token.expose(), voice, args.relay).map_err(LoadError::Url)?;
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
    let churn = Churn::new(args, ramped);
    // What is measured is measured while all listen: from the end of the ramp to the end of the run.
    let from = wall(clock.wall()) + (ramped - begun);
    let pump = Arc::new(Pump::start(clock, heard.clone(), from, from + args.duration)?);
    tracing::info!(listeners = args.listeners.get(), "joining");
    let before = args.pid.and_then(process::usage);
    let fell = |ended: Result<(), tokio::task::JoinError>| {
        if let Err(error) = ended {
            lock().failed(error.to_string());
        }
    };
    let listen = |number| {
        let listener = Listener::new(target.clone(), host.clone(), clock, pump.clone(), heard.clone());
        let heard = heard.clone();
        let until = churn.leaves(number).min(until);
        let next = move || Some(clock.now() + PAUSE).filter(|next| again && *next < until);
        let failed = move |error: ListenerError| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).failed(error.to_string());
        };
        attend(async move || Box::pin(listener.run(until)).await, next, failed)
    };
    for place in 0..args.listeners.get() {
        tokio::time::sleep_until((begun + step * place).into()).await;
        listeners.spawn_local(listen(place));
    }
    tokio::time::sleep_until(ramped.into()).await;
    let measured_from = clock.now();
    let settled = args.pid.and_then(process::usage);
    // Those whose joins were paid for by then.
    let ramped_in = lock().joined();
    let mut asked = args.listeners.get();
    let mut seconds = Seconds::new(settled.map(|totals| totals.cpu()), lock().gaps().clone());
    let mut looked = measured_from;
    loop {
        let next = churn.joins(asked).into_iter().chain([looked + SECOND, until]).min().unwrap_or(until);
        tokio::time::sleep_until(next.into()).await;
        let now = clock.now();
        if now >= until {
            break;
        }
        if churn.joins(asked).is_some_and(|at| at <= now) {
            listeners.spawn_local(listen(asked));
            asked += 1;
        }
        if now >= looked + SECOND {
            looked = now;
            // The lock may be waited for.
            let gaps = lock().gaps().clone();
            seconds.look(args.pid.and_then(process::usage).map(|totals| totals.cpu()), gaps);
            if seconds.looks().is_multiple_of(PROGRESS) {
                tracing::info!("{}", lock().progress());
            }
        }
        while let Some(ended) = listeners.try_join_next() {
            fell(ended);
        }
    }
    let used = args.pid.and_then(process::usage).zip(settled);
    let took = clock.now().saturating_duration_since(measured_from);
    while let Some(ended) = listeners.join_next().await {
        fell(ended);
    }
    drop(pump);
    let heard = lock();
    if heard.joined() == 0 {
        return Err(LoadError::Nobody(heard.first_failure().unwrap_or("nothing").to_owned()));
    }
    let mut report = Report {
        churn: args.churn,
        relayed: args.relay,
        by_second: seconds.sum_up(),
        ..Report::new(asked, args.duration, &heard)
    };
    if let Some((after, settled)) = used {
        report.server = Some(ServerUsage::new(&after.since(&settled, took), &heard, args.listeners.get()));
    }
    // With sound, those who have joined already would be paid for too.
    if let (true, Some((settled, before))) = (args.silent, settled.zip(before)) {
        report.server_cpu_ms_per_join = Some(settled.since(&before, ramped - begun).per_join(ramped_in));
    }
    Ok(report)
}

/// Who comes and goes, once all are there. Listeners are numbered as they come.
struct Churn {
    /// From one who leaves to the next; none where all stay.
    step: Option<Duration>,
    listeners: u32,
    from: Instant,
}

impl Churn {
    fn new(args: &LoadArgs, from: Instant) -> Self {
        let step = (args.churn > 0).then(|| Duration::from_secs(1) / args.churn);
        Self { step, listeners: args.listeners.get(), from }
    }

    /// When this one leaves.
    fn leaves(&self, number: u32) -> Instant {
        // A run ends after a day; what is later is never.
        const NEVER: Duration = Duration::from_secs(100 * 24 * 3600);
        self.from + self.step.map_or(NEVER, |step| step * (number + 1))
    }

    /// When this one joins, if it is to take another's place.
    fn joins(&self, number: u32) -> Option<Instant> {
        self.step.map(|step| self.from + step * (number + 1).saturating_sub(self.listeners))
    }
}

/// Does `once`, and tells `failed` if it fails; does it again at the time that `next` names then, if that names one.
async fn attend<E>(once: impl AsyncFn() -> Result<(), E>, next: impl Fn() -> Option<Instant>, failed: impl Fn(E)) {
    while let Err(error) = once().await {
        failed(error);
        let Some(at) = next() else { return };
        tokio::time::sleep_until(at.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use actix::System;

    use super::*;
    use crate::tests::net::{ms, secs, zero};

    #[test]
    fn the_oldest_leaves_when_a_new_one_comes() {
        let churn = Churn { step: Some(ms(50)), listeners: 100, from: zero() };
        assert_eq!(churn.leaves(0), zero() + ms(50));
        assert_eq!(churn.joins(100), Some(churn.leaves(0)), "the first newcomer takes the first one's place");
        assert_eq!(churn.leaves(100), churn.joins(100).expect("it joins") + secs(5), "and stays as long as all others");
        let still = Churn { step: None, listeners: 100, from: zero() };
        assert_eq!(still.joins(100), None);
        assert!(still.leaves(0) > zero() + secs(24 * 3600));
    }

    #[test]
    fn whoever_is_refused_comes_again_as_often_as_there_is_a_time_for_it() {
        // How often it fails, and may come again; what is told, and how often it is tried.
        for (failures, again, told, tried) in [(0, 9, 0, 1), (2, 9, 2, 3), (3, 2, 3, 3), (9, 2, 3, 3), (1, 0, 1, 1)] {
            let (tries, times) = (Cell::new(0), Cell::new(0));
            let once = async || {
                tries.set(tries.get() + 1);
                if tries.get() > failures { Ok(()) } else { Err(tries.get()) }
            };
            let next = || (times.replace(times.get() + 1) < again).then(|| Clock.now());
            let errors = RefCell::new(Vec::new());
            System::new().block_on(attend(once, next, |error| errors.borrow_mut().push(error)));
            assert_eq!((errors.take(), tries.get()), ((1..=told).collect(), tried));
        }
    }
}
