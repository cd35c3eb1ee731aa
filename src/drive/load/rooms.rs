//! `voxcast load --rooms`: many people in many rooms who send each other what browsers send each other, and how long that took. No media flows:
//! it would go from browser to browser.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::config::LoadArgs;

use super::super::clock::Clock;
use super::super::limits;
use super::LoadError;
use super::listener::{ListenerError, Target, answer, say};
use super::process;
use super::report::percentiles;

/// Between the last join and the first message: memory is measured while all are idle.
const IDLE: Duration = Duration::from_secs(5);
/// From the last message to the end: what is under way by then still counts.
const LAST: Duration = Duration::from_secs(2);
/// A candidate as browsers write it; the time goes before it.
const CANDIDATE: &str = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 192.168.1.20 rport 46154 generation 0 ufrag EsAw network-cost 999";

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoomsReport {
    /// Rooms.
    pub rooms: u32,
    /// Sockets that were asked for.
    pub sockets: u32,
    /// Sockets that got into their room.
    pub joined: usize,
    /// Sockets that ended with an error.
    pub failed: usize,
    /// The first error.
    pub first_failure: Option<String>,
    /// Measured time in seconds, with all joined.
    pub seconds: f64,
    /// From the connection to `room-joined`, in milliseconds: median, 99 of 100, worst.
    pub join_ms: [f64; 3],
    /// Messages sent to somebody else.
    pub sent: u64,
    /// Messages that came from somebody else.
    pub received: usize,
    /// From one socket to another through the server, in milliseconds: median, 99 of 100, worst.
    pub delay_ms: [f64; 3],
    /// Of the server's process, when its pid was given.
    pub server: Option<RoomsUsage>,
}

/// What the server's process used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoomsUsage {
    /// Share of one core while messages flowed.
    pub cpu_share: f64,
    /// Processor time per passed message, in microseconds.
    pub cpu_us_per_message: f64,
    /// Resident memory in bytes for each idle socket, beyond what the server had before the first.
    pub resident_bytes_per_socket: u64,
}

/// What all members have seen.
#[derive(Debug, Default)]
struct Seen {
    joins: Vec<Duration>,
    delays: Vec<Duration>,
    sent: u64,
    failures: Vec<String>,
}

/// One member of a room.
struct Member {
    target: Target,
    clock: Clock,
    room: u32,
    /// Its place in the room; it sends to the next one.
    place: u32,
    people: u32,
    seen: Arc<Mutex<Seen>>,
    /// When the run began: what times in messages count from.
    begun: Instant,
    /// First message, last one, end.
    plan: [Instant; 3],
    /// From one message to the next.
    step: Duration,
}

/// Joins, waits, talks, and tells how long it took.
///
/// # Errors
/// When the address is none, or nobody joined.
pub async fn run(args: &LoadArgs, rooms: u32) -> Result<RoomsReport, LoadError> {
    let clock = Clock;
    let target = Target::parse(&args.url, args.token.expose(), None, false).map_err(LoadError::Url)?;
    let people = args.people.get();
    let sockets = rooms.saturating_mul(people);
    limits::raise_open_files(usize::try_from(sockets).unwrap_or(usize::MAX));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let before = args.pid.and_then(process::usage);
    let begun = clock.now();
    let ramp = Duration::from_secs(1) / args.ramp.get();
    let talk = begun + ramp * sockets + IDLE;
    let until = talk + args.duration;
    let step = Duration::from_secs(1) * sockets / args.messages.get();
    let mut members = JoinSet::new();
    for number in 0..sockets {
        tokio::time::sleep_until((begun + ramp * number).into()).await;
        // All in turn within a step, so that the server has no gusts but those of chance.
        let first = talk + step * number / sockets;
        let member = Member {
            target: target.clone(),
            clock,
            room: number / people,
            place: number % people,
            people,
            seen: seen.clone(),
            begun,
            plan: [first, until, until + LAST],
            step,
        };
        let seen = seen.clone();
        members.spawn_local(async move {
            if let Err(error) = member.run().await {
                lock(&seen).failures.push(error.to_string());
            }
        });
    }
    tokio::time::sleep_until(talk.into()).await;
    tracing::info!(joined = lock(&seen).joins.len(), "talking");
    let idle = args.pid.and_then(process::usage);
    tokio::time::sleep_until(until.into()).await;
    let after = args.pid.and_then(process::usage);
    let took = clock.now().saturating_duration_since(talk);
    while members.join_next().await.is_some() {}
    let seen = lock(&seen);
    if seen.joins.is_empty() {
        return Err(LoadError::Nobody(seen.failures.first().cloned().unwrap_or_else(|| "nothing".into())));
    }
    let usage = before.zip(idle).zip(after).map(|((before, idle), after)| {
        let used = after.since(&idle, took);
        let grown = idle.since(&before, took).resident.saturating_sub(before.resident());
        RoomsUsage::new(&used, grown, &seen)
    });
    Ok(RoomsReport {
        rooms,
        sockets,
        joined: seen.joins.len(),
        failed: seen.failures.len(),
        first_failure: seen.failures.first().cloned(),
        seconds: args.duration.as_secs_f64(),
        join_ms: percentiles(&seen.joins),
        sent: seen.sent,
        received: seen.delays.len(),
        delay_ms: percentiles(&seen.delays),
        server: usage,
    })
}

impl Member {
    async fn run(self) -> Result<(), ListenerError> {
        let begun = self.clock.now();
        let stream = TcpStream::connect(self.target.authority()).await?;
        stream.set_nodelay(true)?;
        let address = format!("ws://{}/signal", self.target.authority());
        let (mut ws, _) = client_async(address, stream).await.map_err(Box::new)?;
        let (room, user) = (format!("load-{}", self.room), self.place.to_string());
        say(&mut ws, &json!({"type": "join", "roomId": room, "userId": user, "token": self.target.token()})).await?;
        answer(&mut ws, "room-joined", self.clock).await?;
        lock(&self.seen).joins.push(self.clock.now().saturating_duration_since(begun));
        let talked = self.talk(&mut ws).await;
        drop(ws.close(None).await);
        talked
    }

    async fn talk(&self, ws: &mut WebSocketStream<TcpStream>) -> Result<(), ListenerError> {
        let [mut next, last, end] = self.plan;
        let to = ((self.place + 1) % self.people).to_string();
        loop {
            // Who is alone has nobody to talk to.
            let wake = if next < last && self.people > 1 { next } else { end };
            tokio::select! {
                frame = ws.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.hear(&text)?,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(ListenerError::NoAnswer),
                    // Pings are answered by the library, with the next word.
                    Some(Ok(_)) => futures_util::SinkExt::flush(ws).await.map_err(Box::new)?,
                },
                () = tokio::time::sleep_until(wake.into()) => {
                    let now = self.clock.now();
                    if now >= end {
                        return Ok(());
                    }
                    let at = now.saturating_duration_since(self.begun).as_nanos();
                    let init = json!({"candidate": format!("{at} {CANDIDATE}"), "sdpMid": "0", "sdpMLineIndex": 0});
                    lock(&self.seen).sent += 1;
                    say(ws, &json!({"type": "ice-candidate", "to": to, "candidate": init})).await?;
                    next += self.step;
                }
            }
        }
    }

    fn hear(&self, text: &str) -> Result<(), ListenerError> {
        if text.contains(r#""type":"error""#) {
            return Err(ListenerError::Refused(text.to_owned()));
        }
        let Some((_, rest)) = text.split_once(r#""candidate":{"candidate":""#) else { return Ok(()) };
        let sent: u64 = rest.split(' ').next().and_then(|at| at.parse().ok()).ok_or(ListenerError::NoAnswer)?;
        let delay = self.clock.now().saturating_duration_since(self.begun + Duration::from_nanos(sent));
        lock(&self.seen).delays.push(delay);
        Ok(())
    }
}

impl RoomsUsage {
    #[expect(clippy::cast_precision_loss, reason = "counts of messages are far below 2^52")]
    fn new(used: &process::Usage, grown: u64, seen: &Seen) -> Self {
        Self {
            cpu_share: used.cpu.as_secs_f64() / used.took.as_secs_f64().max(1e-9),
            cpu_us_per_message: used.cpu.as_secs_f64() * 1e6 / seen.delays.len().max(1) as f64,
            resident_bytes_per_socket: grown / u64::try_from(seen.joins.len()).unwrap_or(u64::MAX).max(1),
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for RoomsReport {
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^52")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rooms, sockets, joined, failed, seconds, sent, received, .. } = self;
        writeln!(
            f,
            "sockets            {joined} of {sockets} in {rooms} rooms, {failed} failed, {seconds:.0} s measured"
        )?;
        if let Some(error) = &self.first_failure {
            writeln!(f, "first failure      {error}")?;
        }
        let [median, p99, worst] = self.join_ms;
        writeln!(f, "join               median {median:.1} ms, p99 {p99:.1} ms, worst {worst:.1} ms")?;
        writeln!(f, "messages           {received} of {sent} arrived, {:.0} a second", *received as f64 / seconds)?;
        let [median, p99, worst] = self.delay_ms;
        writeln!(f, "delay              median {median:.2} ms, p99 {p99:.2} ms, worst {worst:.2} ms")?;
        if let Some(server) = &self.server {
            let share = server.cpu_share * 100.0;
            writeln!(f, "server CPU         {:.1} us a message, {share:.1} % of a core", server.cpu_us_per_message)?;
            writeln!(
                f,
                "server memory      {:.1} KiB per idle socket",
                server.resident_bytes_per_socket as f64 / 1024.0
            )?;
        }
        Ok(())
    }
}
