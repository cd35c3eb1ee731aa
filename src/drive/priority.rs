//! Which threads go first where they share a core: audio is made, then it is sent, then comes everybody else on the machine, then pages and
//! words. Nothing here is needed: where the system does not allow it (`CAP_SYS_NICE`, `RLIMIT_RTPRIO`), threads run as all others do.

use thread_priority::unix::{set_thread_priority_and_policy, thread_native_id};
use thread_priority::{RealtimeThreadSchedulePolicy, ThreadBuilder, ThreadPriority, ThreadSchedulePolicy};

/// Real-time priorities, of 1 to 99, as the kernel counts them (sched(7)).
mod rank {
    /// A frame that leaves the encoder late is heard.
    pub(super) const ENCODER: u8 = 51;
    /// Its rings hold a lead.
    pub(super) const GENERATOR: u8 = 50;
    /// The lowest that goes before ordinary threads.
    pub(super) const MEDIA: u8 = 1;
}

/// The encoder's thread, with real-time priority if there is such a thing.
#[must_use]
pub fn encoder() -> ThreadBuilder {
    real_time("voxcast-encoder", rank::ENCODER)
}

/// The generator's thread, likewise.
#[must_use]
pub fn generator() -> ThreadBuilder {
    real_time("voxcast-generator", rank::GENERATOR)
}

fn real_time(name: &str, rank: u8) -> ThreadBuilder {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    ThreadBuilder::default().name(name).priority(of(rank)).policy(policy)
}

/// Lets the media worker whose thread this is go before ordinary threads. An agent that looks after the machine, or anything else that runs
/// for some milliseconds, would otherwise be heard by all who listen. Several workers on a core take turns, and of a core that is
/// overloaded the kernel keeps a twentieth for others (sched(7)).
pub fn media_goes_first() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    if let Err(fault) = set_thread_priority_and_policy(thread_native_id(), of(rank::MEDIA), policy) {
        tracing::debug!(?fault, "media has the same priority as other programs");
    }
}

/// Lets all others go first: a page may wait. For the thread of an HTTP worker.
pub fn give_way() {
    // Half as nice as can be (setpriority(2)): 22 of 99 on the way from 19 to -20 is 10.
    if let Err(fault) = of(22).set_for_current() {
        tracing::debug!(?fault, "HTTP has the same priority as other programs");
    }
}

/// Of 0 to 99: a real-time thread's own, or the share of an ordinary one's way from nice to not nice at all.
fn of(value: u8) -> ThreadPriority {
    value.try_into().map_or(ThreadPriority::Min, ThreadPriority::Crossplatform)
}
