//! One session's place at its worker: its core, and all that the effects of that reach. Media comes to it straight from the sockets, the
//! deadlines and the audio of the worker; what the client says comes through the session's actor.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use actix::{Recipient, WeakAddr};

use crate::engine::demux::Path;
use crate::engine::error::SessionError;
use crate::engine::session::{Effect, Input, SessionCore, SessionState};
use crate::wire::ids::{SessionId, SessionKey, WorkerId};
use crate::wire::media::AudioTurn;
use crate::wire::signal::SignalFault;

use super::hub::Hub;
use super::rtp_ports::RtpPort;
use super::session::{DoorKey, Finish, Session, ToClient};
use super::turn;

/// Where a datagram came from and to.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Where from.
    pub path: Path,
    /// The worker that received it, if that was another one.
    pub via: Option<WorkerId>,
    /// Our address as candidates name it.
    pub destination: SocketAddr,
}

/// One session but for its mailbox.
///
/// What each packet of audio reads comes first, in this order, down to the core's own: where thousands listen, none of it is in a cache near
/// by, and a packet waits longer for lines that lie apart than it takes to be sealed.
#[repr(C)]
pub struct Seat {
    over: bool,
    core: SessionCore,
    key: SessionKey,
    id: SessionId,
    hub: Rc<Hub>,
    /// The port that it asked for.
    rtp: Option<RtpPort>,
    /// Where its client is, as we see it.
    client: IpAddr,
    /// The actor, as soon as it runs.
    session: Option<WeakAddr<Session>>,
    door: Option<Recipient<ToClient>>,
    door_key: DoorKey,
    state: Option<SessionState>,
    /// Counted among those who wait for an answer.
    waits: bool,
    /// Our place in the audience.
    place: Option<usize>,
    /// When the core wants a tick.
    due: Option<Instant>,
    /// The tick that is on its way, which may come too early.
    armed: Option<Instant>,
}

/// As the worker and the actor share it, on one thread. Neither holds it while the other runs.
pub type SharedSeat = Rc<RefCell<Seat>>;

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("id", &self.id).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Seat {
    /// That of the session named `key` and `id`.
    #[must_use]
    pub fn new(core: SessionCore, key: SessionKey, id: SessionId, hub: Rc<Hub>) -> SharedSeat {
        Rc::new(RefCell::new(Self {
            over: false,
            core,
            key,
            id,
            hub,
            rtp: None,
            client: Ipv4Addr::UNSPECIFIED.into(),
            session: None,
            door: None,
            door_key: DoorKey::default(),
            state: None,
            waits: false,
            place: None,
            due: None,
            armed: None,
        }))
    }

    /// Keeps the port that the session sends by.
    pub fn hold(&mut self, rtp: RtpPort) {
        self.rtp = Some(rtp);
    }

    /// This is where its client is, as we see it.
    pub fn see_client(&mut self, client: IpAddr) {
        self.client = client;
        turn::see(&self.hub, self.key, client);
    }

    /// The worker's shared state.
    #[must_use]
    pub fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }

    /// The actor runs; the session is counted from now on.
    pub fn begin(seat: &SharedSeat, session: WeakAddr<Session>) {
        seat.borrow_mut().session = Some(session);
        Self::settle(seat);
    }

    /// The actor has stopped.
    pub fn end(&mut self) {
        if let Some(rtp) = self.rtp.take() {
            self.hub.leave_port(&rtp);
        }
        self.leave_audience();
        self.hub.metrics.session(self.state.take(), None);
        if std::mem::take(&mut self.waits) {
            self.hub.waits(false);
        }
        self.hub.forget(self.key, &self.id);
    }

    /// Plays a turn of audio; returns whether [`settle`](Self::settle) is wanted. `hub` is its own, which its worker has at hand.
    pub fn play(&mut self, hub: &Hub, turn: &AudioTurn, now: Instant) -> bool {
        if self.play_on(hub, turn, now) {
            return false;
        }
        self.step(Input::Audio(turn), None, now);
        !self.is_settled()
    }

    /// Plays a turn of audio if that is all that there is to do; returns whether it was. Most turns of most listeners are like that.
    fn play_on(&mut self, hub: &Hub, turn: &AudioTurn, now: Instant) -> bool {
        let Self { core, over, .. } = self;
        if *over {
            return false;
        }
        // As in a step.
        let played =
            catch_unwind(AssertUnwindSafe(|| core.play_on(turn, now).map(|packet| hub.send(packet)).is_some()));
        played.unwrap_or_else(|_| {
            self.give_up();
            false
        })
    }

    /// Takes a datagram.
    pub fn receive(seat: &SharedSeat, Origin { path, via, destination }: Origin, bytes: &[u8]) {
        Self::put(seat, Input::Datagram { path, destination, bytes }, via);
    }

    /// The deadline has come.
    pub fn tick(seat: &SharedSeat, now: Instant) {
        {
            let mut this = seat.borrow_mut();
            this.armed = None;
            if this.due.is_none_or(|due| now < due) {
                return this.arm();
            }
        }
        Self::put(seat, Input::Tick, None);
    }

    /// Takes what the actor was told.
    pub fn tell(seat: &SharedSeat, input: Input<'_>) {
        Self::put(seat, input, None);
    }

    /// Whether this door is still ours.
    #[must_use]
    pub fn is_held_by(&self, door: DoorKey) -> bool {
        door == self.door_key && self.door.is_some() && !self.over
    }

    /// A WebSocket takes the session over, unless that is over itself.
    pub fn open_door(&mut self, door: Recipient<ToClient>) -> Option<DoorKey> {
        if self.over {
            return None;
        }
        if let Some(old) = self.door.replace(door) {
            // An old door whose mailbox is full finds out by its next word.
            drop(old.try_send(ToClient::Replaced));
        }
        self.door_key = self.door_key.next();
        Some(self.door_key)
    }

    /// A door is gone; returns whether it was still ours.
    pub fn close_door(&mut self, door: DoorKey) -> bool {
        let ours = door == self.door_key;
        if ours {
            self.door = None;
        }
        ours
    }

    /// Says something to the client; returns whether there is one who listens.
    pub fn say(&mut self, word: ToClient) -> bool {
        // A door that does not empty its mailbox is as good as shut; it learns so by its next word.
        let said = self.door.as_ref().is_some_and(|door| door.try_send(word).is_ok());
        if !said {
            self.door = None;
        }
        said
    }

    fn put(seat: &SharedSeat, input: Input<'_>, via: Option<WorkerId>) {
        let settled = {
            let mut this = seat.borrow_mut();
            let now = this.hub.clock.now();
            this.step(input, via, now);
            this.is_settled()
        };
        if !settled {
            Self::settle(seat);
        }
    }

    /// Whether all is accounted for as it is.
    fn is_settled(&self) -> bool {
        !self.over
            && self.state == Some(self.core.state())
            && self.waits == self.core.is_waiting()
            && self.place.is_some() == self.core.is_listening()
    }

    fn step(&mut self, input: Input<'_>, via: Option<WorkerId>, now: Instant) {
        if self.over {
            return;
        }
        let Self { core, hub, door, key, id, over, client, .. } = self;
        // A bug in what handles a stranger's bytes costs that stranger's session, and not the worker.
        let drained = catch_unwind(AssertUnwindSafe(|| {
            core.handle(input, now)?.run(|effect| match effect {
                Effect::Transmit(transmit) => hub.send(transmit),
                Effect::Client(message) => {
                    if door.as_ref().is_some_and(|door| door.try_send(ToClient::Say(message)).is_err()) {
                        *door = None;
                    }
                }
                Effect::Register(ufrag) => hub.demux.borrow_mut().register(&ufrag, *key),
                Effect::Expect(transaction) => hub.expect(transaction, *key),
                Effect::Learn(path) => hub.learn(path, *key, via),
                Effect::Unroute => hub.unroute(*key),
                Effect::Relay(wish) => turn::wish(hub, *key, *client, wish),
                Effect::Renew => {
                    tracing::debug!(session = ?id, "the client is to restart ICE");
                    if door.as_ref().is_some_and(|door| door.try_send(ToClient::Renew).is_err()) {
                        *door = None;
                    }
                }
                Effect::Audience(note) => hub.note(note),
                Effect::Joined(took) => {
                    hub.metrics.joined(took);
                    tracing::info!(session = ?id, ?took, "media connected");
                }
                Effect::Drop(reason) => hub.metrics.drop(reason),
                Effect::LongWay => tracing::warn!(session = ?id, "our SRTP differs from that of str0m and is not used"),
                Effect::Ended(reason) => {
                    tracing::info!(session = ?id, ?reason, "session ended");
                    *over = true;
                }
            })
        }));
        let wake = match drained {
            Ok(Ok(wake)) => wake,
            Ok(Err(SessionError::Undrained)) | Err(_) => return self.give_up(),
            Ok(Err(error)) => {
                hub.metrics.failure();
                tracing::info!(session = ?id, %error, "peer connection given up");
                // What else the session waits for, a tick will tell.
                Some(now)
            }
        };
        self.due = wake.map(|wake| if core.is_exact(wake) { wake } else { hub.on_beat(wake, core.is_waiting()) });
        self.arm();
    }

    /// Sees to it that there is a tick in time. An earlier one is left as it is: deadlines move on with every packet.
    fn arm(&mut self) {
        if let Some(due) = self.due
            && self.armed.is_none_or(|armed| due < armed)
        {
            self.armed = Some(due);
            self.hub.arm(self.key, due);
        }
    }

    /// Nothing of the session can be relied upon any more.
    fn give_up(&mut self) {
        tracing::error!(session = ?self.id, "a bug: the session is given up");
        self.over = true;
        self.hub.metrics.failure();
        self.hub.unroute(self.key);
        if let Some(note) = self.core.abandon() {
            self.hub.note(note);
        }
        self.say(ToClient::Say(SignalFault::Internal.into()));
    }

    /// Keeps counters and the list of listeners true, and ends the actor of a session that is over.
    pub fn settle(seat: &SharedSeat) {
        let mut this = seat.borrow_mut();
        if this.over {
            if let Some(session) = this.session.take().and_then(|session| session.upgrade()) {
                session.do_send(Finish);
            }
            return;
        }
        let state = Some(this.core.state());
        this.hub.metrics.session(this.state, state);
        this.state = state;
        let waits = this.core.is_waiting();
        if std::mem::replace(&mut this.waits, waits) != waits {
            this.hub.waits(waits);
        }
        match (this.core.is_listening(), this.place) {
            (true, None) => {
                let place = this.hub.audience.borrow_mut().insert(seat.clone());
                this.place = Some(place);
            }
            (false, Some(_)) => this.leave_audience(),
            _ => {}
        }
    }

    fn leave_audience(&mut self) {
        if let Some(place) = self.place.take() {
            self.hub.leave_audience(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use actix::prelude::*;

    use super::*;
    use crate::drive::clock::Clock;
    use crate::drive::hub::{AFTER_TURN, JoinStep, Resident};
    use crate::drive::metrics::{Metrics, render};
    use crate::drive::session::{Attach, FromClient};
    use crate::drive::worker::Play;
    use crate::tests::client::{chromium_listener, offer};
    use crate::tests::rig;
    use crate::wire::media::{Frame, MediaTime};
    use crate::wire::signal::{ClientMsg, ServerMsg};

    /// A tick comes to a session that wants it.
    fn due_now(session: &Resident) {
        session.seat.borrow_mut().due = Some(Clock.now());
        Seat::tick(&session.seat, Clock.now());
    }

    #[actix::test]
    async fn a_tick_that_nobody_waits_for_any_more_leaves_the_session_alone() {
        let audio = rig::audio();
        let (hub, capacity) = rig::hub(&audio, Metrics::new().0);
        let session = rig::session(&hub, &capacity);
        tokio::task::yield_now().await;
        session.seat.borrow_mut().core.bug = true;
        let now = Clock.now();
        for (due, armed) in [(None, None), (Some(now + Duration::from_secs(9)), Some(now + Duration::from_secs(9)))] {
            session.seat.borrow_mut().due = due;
            Seat::tick(&session.seat, now);
            assert!(!session.seat.borrow().over);
            assert_eq!((session.seat.borrow().armed, hub.next_deadline()), (armed, armed));
        }
        due_now(&session);
        assert!(session.seat.borrow().over, "the bug was there to be found");
    }

    #[actix::test]
    async fn a_crowd_is_heard_by_the_beat_and_sooner_while_one_of_it_connects() {
        let audio = rig::audio();
        let (hub, capacity) = rig::hub(&audio, Metrics::new().0);
        let mut crowd: Vec<_> = (1..256).map(|_| rig::session(&hub, &capacity)).collect();
        assert_eq!(hub.gathers_until(), None, "few are heard at once");
        crowd.push(rig::session(&hub, &capacity));
        assert!(hub.gathers_until().is_some());
        tokio::task::yield_now().await;
        // How many beats there are in 20 ms.
        let now = Clock.now();
        let beats = || {
            let times = (0..20).map(|after| hub.on_beat(now + Duration::from_millis(after), false));
            times.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert!(beats() <= 2, "{}", beats());
        let due = hub.audio.start + Duration::from_secs(1);
        assert_eq!(hub.on_beat(due, false), due + AFTER_TURN, "between turns");
        let offer = ClientMsg::parse(&offer("webrtc_offer", &chromium_listener())).expect("an offer");
        Seat::tell(&crowd[7].seat, Input::Client(offer));
        assert!(beats() >= 4, "{}", beats());
        crowd[7].seat.borrow_mut().end();
        assert!(beats() <= 2, "{}", beats());
        // Seven went, and another one.
        crowd.drain(..7).for_each(|session| session.seat.borrow_mut().end());
        assert!(hub.gathers_until().is_some(), "it does not change at the border");
        crowd.drain(1..121).for_each(|session| session.seat.borrow_mut().end());
        assert!(hub.gathers_until().is_some(), "{}", hub.sessions.borrow().len());
        crowd[1].seat.borrow_mut().end();
        assert_eq!((hub.sessions.borrow().len(), hub.gathers_until()), (127, None));
    }

    #[actix::test]
    async fn a_worker_whose_line_of_offers_was_full_is_passed_by_no_longer_than_that() {
        let audio = rig::audio();
        let (hub, capacity) = rig::hub(&audio, Metrics::new().0);
        let session = rig::session(&hub, &capacity).actor;
        let offer = || {
            let (taken, _) = tokio::sync::oneshot::channel();
            let offer = FromClient { door: DoorKey::default(), message: ClientMsg::Stop };
            hub.join(JoinStep::Offer { session: session.clone(), offer, taken })
        };
        // Where the next two go.
        let next = || [(); 2].map(|()| capacity.take().expect("there is room")).map(|place| place.worker.0);
        while offer() {}
        hub.tell_strain();
        assert_eq!(next(), [1, 1]);
        assert!(hub.next_join().is_some());
        assert!(next().contains(&0), "there is room again");
    }

    #[actix::test]
    async fn after_a_stall_three_turns_are_played_and_the_older_ones_skipped() {
        let audio = rig::audio();
        let (metrics, registry) = Metrics::new();
        let (hub, _) = rig::hub(&audio, metrics);
        let under_way = Arc::new(AtomicUsize::new(0));
        let come = |times: std::ops::RangeInclusive<u64>| {
            for time in times {
                under_way.fetch_add(1, Ordering::AcqRel);
                let silence = [(); 2].map(|()| Frame::Whole([0xf8, 0xff, 0xfe].into()));
                let turn = Arc::new(AudioTurn { time: MediaTime(time), silence, taps: Vec::new() });
                hub.turn_comes(Play { turn, under_way: under_way.clone() });
            }
        };
        let played = || {
            let turns = std::iter::from_fn(|| hub.oldest_turn().inspect(|_| hub.turn_ends(Clock.now())));
            turns.map(|turn| turn.time.0).collect::<Vec<_>>()
        };
        come(1..=3);
        assert_eq!(played(), [1, 2, 3], "so many may leave at once");
        come(4..=11);
        assert_eq!((played(), under_way.load(Ordering::Acquire)), (vec![9, 10, 11], 0));
        // Those that are still on their way to the worker are newer, and count too.
        under_way.fetch_add(2, Ordering::AcqRel);
        come(12..=13);
        assert_eq!((played(), under_way.load(Ordering::Acquire)), (vec![13], 2));
        assert!(render(&registry).contains("turns_skipped_total 6\n"), "{}", render(&registry));
    }

    #[actix::test]
    async fn a_bug_costs_one_session_and_nobody_else() {
        let audio = rig::audio();
        let (metrics, registry) = Metrics::new();
        let (hub, capacity) = rig::hub(&audio, metrics);
        let [bad, good] = [(); 2].map(|()| rig::session(&hub, &capacity));
        tokio::task::yield_now().await;
        assert_eq!(hub.sessions.borrow().len(), 2);
        let heard = Rc::new(RefCell::new(Vec::new()));
        let door = bad.actor.send(Attach(Browser(heard.clone()).start().recipient())).await;
        assert!(matches!(door, Ok(Some(_))), "{door:?}");
        bad.seat.borrow_mut().core.bug = true;
        due_now(&bad);
        // It is over, whatever else is put in, and no door opens any more.
        Seat::tell(&bad.seat, Input::Client(ClientMsg::Stop));
        assert!(bad.seat.borrow().over);
        let attached = bad.actor.send(Attach(Browser(Rc::default()).start().recipient())).await;
        assert!(!matches!(attached, Ok(Some(_))), "{attached:?}");
        while bad.actor.connected() {
            tokio::task::yield_now().await;
        }
        assert_eq!(hub.sessions.borrow().len(), 1);
        assert_eq!(*heard.borrow(), [ServerMsg::from(SignalFault::Internal).to_json()]);
        due_now(&good);
        assert!(!good.seat.borrow().over && good.actor.connected());
        let text = render(&registry);
        assert!(text.contains("sessions{state=\"idle\"} 1\n") && text.contains("failures_total 1\n"), "{text}");
        // In a turn of audio it is the same.
        let silence = [(); 2].map(|()| Frame::Whole([0xf8, 0xff, 0xfe].into()));
        let turn = AudioTurn { time: MediaTime(960), silence, taps: Vec::new() };
        assert!(!good.seat.borrow_mut().play(&hub, &turn, Clock.now()), "it has nothing to play");
        good.seat.borrow_mut().core.bug = true;
        let turn = AudioTurn { time: MediaTime(1920), ..turn };
        assert!(good.seat.borrow_mut().play(&hub, &turn, Clock.now()) && good.seat.borrow().over);
        assert!(render(&registry).contains("failures_total 2\n"), "once a session");
    }

    /// A client, and what it was told.
    struct Browser(Rc<RefCell<Vec<String>>>);

    impl Actor for Browser {
        type Context = Context<Self>;
    }

    impl Handler<ToClient> for Browser {
        type Result = ();

        fn handle(&mut self, word: ToClient, _ctx: &mut Context<Self>) {
            self.0.borrow_mut().push(match word {
                ToClient::Say(message) => message.to_json(),
                ToClient::Replaced => "replaced".to_owned(),
                ToClient::Renew => "renew".to_owned(),
            });
        }
    }
}
