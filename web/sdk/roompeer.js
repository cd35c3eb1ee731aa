// One other person in the room: one connection at a time, its first aid, and what comes through it. Descriptions are roomlink.js's.

import { nameOf } from "./error.js";
import { Retry } from "./retry.js";
import { RoomChannels } from "./roomchannels.js";
import { GONE, RoomLink, keepEarly } from "./roomlink.js";
import { RoomTracks } from "./roomtracks.js";

/** @typedef {import("./room.js").PeerState} State */
/** @typedef {import("./roomwire.js").Description} Description */
/** @typedef {import("./roomwire.js").FromPeer} FromPeer */
/** @typedef {import("./roomlink.js").Kind} Kind */

/**
 * What all persons of a room share.
 * @typedef {object} Surroundings
 * @property {import("./clock.js").Clock} clock
 * @property {() => number} random
 * @property {() => RTCPeerConnection} connect makes a connection
 * @property {(message: import("./roomwire.js").PeerMessage) => boolean} send false says that the line is down
 * @property {() => boolean} line whether it is up
 * @property {() => void} doubt the line: an answer did not come
 * @property {() => void} pathless no path was found: the relay's credentials may have ended
 * @property {(kind: Kind) => MediaStreamTrack | null} tracks what is sent now
 * @property {MediaStream | null} outgoing the stream that our tracks are told to belong to
 * @property {boolean} receive
 */

/**
 * @typedef {object} Listeners
 * @property {() => void} state
 * @property {() => void} gone nobody is there any more
 * @property {(track: MediaStreamTrack) => void} track
 * @property {(track: MediaStreamTrack) => void} untrack
 * @property {(text: string) => void} chat
 * @property {() => void} cursor
 * @property {() => void} pointable
 * @property {(channel: RTCDataChannel) => void} channel
 * @property {(text: string) => void} note
 */

/**
 * Who comes offers, but not at once: some clients offer to whoever comes, and those must not be met half-way. In Chromium an offer that
 * was rolled back takes all data channels of its connection with it, for good.
 */
const WELCOME_MS = 400;
/** Some clients wait for an offer when they come, so that after this it is us. */
const NEWCOMER_MS = 1_500;
/** What a browser asks for in this time is no loop yet: one whose channels were refused asks without end. */
const EAGER = { offers: 16, ms: 10_000 };
/** Who loads a page again offers from a new connection each time; nobody does so more often than this. */
const ANEW = { offers: 8, ms: 10_000 };
/** An answer takes well under a second, and then a path the same; with the worst relays a few. Where that was too short, both may be busy. */
const CONNECT_MS = { first: 15_000, again: 30_000 };
/** A path that stutters often comes back by itself: a lift, a hand-over between cells. */
const SHAKY_MS = 3_000;
/** A restart that helps, helps quickly. */
const RESTART_MS = 8_000;
/** Browsers answer at once; an offer or an answer that is lost was lost with the line. Each repeat is waited for twice as long. */
const ANSWER_MS = 4_000;
/** After that many repeats it is not the line. */
const REPEATS = 2;
/** A client that knows nothing of perfect negotiation does not answer while its own offer waits for us. */
const KEPT_MS = 2_000;
/** So that of two who see the same trouble one moves first. */
const POLITE_MS = 1_000;
/** The widest first wait before a new connection: what failed at once fails at once again. */
const REBUILD_MS = 1_000;
/** Messages of one person that wait for their turn. */
const QUEUE = 512;

export class RoomPeer {
  #around;
  #polite;
  #on;
  #retry;
  #channels;
  #tracks;
  /** @type {State} */
  #state = "connecting";
  /** @type {RoomLink | null} */
  #link = null;
  /** One at a time, in the order in which they came; nothing overtakes while a browser thinks. */
  #turn = Promise.resolve();
  #waiting = 0;
  /** @type {RTCIceCandidateInit[]} */
  #early = [];
  /** @type {Description | null} an offer that we did not yield to */
  #kept = null;
  /** Whether an offer of ours was given up for theirs, since nothing stood. */
  #yielded = false;
  /** Whether one of us yields and the other does not: they say so. */
  #kin = false;
  /** Whether they offered since we began to expect it. */
  #offered = false;
  #repeats = 0;
  /** Whether a connection was made since one stood; and how long this one may take for a step. */
  #tried = false;
  #patience = CONNECT_MS.first;
  /** @type {number[]} when the browser asked for offers, lately */
  #wants = [];
  /** @type {number[]} when an offer made us build a connection, lately */
  #anew = [];
  /** What waits for the line. @type {"rebuild" | "offer" | null} */
  #due = null;
  /** @type {{ x: number, y: number } | null} */
  #cursor = null;
  /** @type {unknown} the one timer of this state */
  #timer = null;
  /** @type {unknown} */
  #offerTimer = null;
  /** @type {unknown} */
  #answerTimer = null;
  /** @type {unknown} */
  #keptTimer = null;
  /** @type {unknown} */
  #eagerTimer = null;
  /** @type {unknown} set while an offer waits until another connection may be built */
  #anewTimer = null;
  /** @type {unknown} set while the server says that nobody is there */
  #awayTimer = null;

  /**
   * @param {object} options
   * @param {string} options.id
   * @param {boolean} options.polite yields when two offers meet
   * @param {MediaStream} options.stream
   * @param {Surroundings} options.around
   * @param {Listeners} options.on
   */
  constructor({ id, polite, stream, around, on }) {
    this.id = id;
    this.stream = stream;
    this.#polite = polite;
    this.#around = around;
    this.#on = on;
    this.#retry = new Retry({ random: around.random, first: REBUILD_MS });
    this.#tracks = new RoomTracks({ stream, on });
    this.#channels = new RoomChannels({
      clock: around.clock,
      on: {
        chat: (text) => on.chat(text),
        cursor: (at) => {
          this.#cursor = at;
          on.cursor();
        },
        pointable: () => on.pointable(),
        channel: (channel) => on.channel(channel),
        silent: () => this.#silent(),
        note: (text) => this.#note(text),
      },
    });
  }

  /** We just came: we offer unless they do. A connection that stands is kept. */
  offer() {
    this.#offerAfter(WELCOME_MS, () => {});
  }

  /** They just came: we offer if they do not. A connection that stands is kept, and asked whether it is still theirs. */
  expect() {
    this.#offerAfter(NEWCOMER_MS, (link) => this.#negotiate(link));
  }

  /** @param {FromPeer} message */
  handle(message) {
    if (this.#waiting >= QUEUE) {
      this.#note(`dropped ${message.type}: too many`);
      return;
    }
    this.#enqueue(async () => {
      if (message.type === "offer") await this.#offerCame(message.sdp);
      else if (message.type === "answer") await this.#answerCame(message.sdp);
      else if (message.type === "ice-candidate") await this.#candidateCame(message.candidate);
    });
  }

  /** The line is back: what was said meanwhile may be lost, on both sides. */
  lineBack() {
    const due = this.#due;
    this.#due = null;
    if (this.#state === "restarting") this.#restarting();
    if (due === "rebuild") this.#rebuild();
    else if (this.#link) this.#negotiate(this.#link, due === "offer" && !this.#link.colliding ? "offer" : "repeat");
  }

  /** Sends what is to be sent now. @param {Kind} kind @returns {Promise<void>} */
  replace(kind) {
    return this.#enqueue(async () => this.#link?.replace(kind));
  }

  /** @param {RTCIceServer[]} iceServers */
  configure(iceServers) {
    try {
      this.#link?.configure(iceServers);
    } catch (fault) {
      this.#note(`fresh ICE servers were not taken: ${nameOf(fault)}`);
    }
  }

  /** @param {string} text */
  say(text) {
    this.#channels.say(text);
  }

  /** @param {{ x: number, y: number }} at */
  point(at) {
    return this.#channels.point(at);
  }

  /**
   * The server says that nobody is there. One whose media flows is there nevertheless, and comes back to the server, too: its socket
   * died, or the server was started anew. Who leaves on purpose closes the channels, which is heard at once.
   * @param {number} patience
   * @param {boolean} [mute] one without channels is believed in, too
   */
  away(patience, mute = false) {
    this.#around.clock.cancel(this.#awayTimer);
    this.#awayTimer = null;
    if (this.#state === "connected" && !this.#link?.over && (mute || this.#channels.open)) this.#awayTimer = this.#around.clock.after(patience, () => this.#on.gone());
    else this.#on.gone();
  }

  /** The server says that somebody is there. */
  here() {
    this.#around.clock.cancel(this.#awayTimer);
    this.#awayTimer = null;
  }

  close() {
    if (this.#state === "closed") return;
    this.here();
    this.#around.clock.cancel(this.#offerTimer);
    this.#around.clock.cancel(this.#anewTimer);
    this.#drop();
    this.#channels.close();
    this.#due = null;
    this.#state = "closed";
    this.#on.state();
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** Whether the server does not count it in. */
  get isAway() {
    return this.#awayTimer !== null;
  }

  get cursor() {
    return this.#cursor;
  }

  get channels() {
    return this.#channels.byLabel;
  }

  get connection() {
    return this.#link?.connection ?? null;
  }

  /** @param {number} ms @param {(link: RoomLink) => void} otherwise where there is a connection */
  #offerAfter(ms, otherwise) {
    const { clock } = this.#around;
    this.#offered = false;
    clock.cancel(this.#offerTimer);
    this.#offerTimer = clock.after(ms, () => {
      if (this.#offered) return;
      if (this.#link) otherwise(this.#link);
      // One that failed has its own time.
      else if (this.#state === "connecting") this.#rebuild();
    });
  }

  /** The browser asks for an offer. @param {RoomLink} link */
  #wanted(link) {
    const { clock } = this.#around;
    const now = clock.now();
    this.#wants = [...this.#wants.filter((at) => now - at < EAGER.ms), now].slice(-EAGER.offers - 1);
    if (this.#wants.length <= EAGER.offers) this.#negotiate(link);
    else if (this.#eagerTimer === null) {
      this.#eagerTimer = clock.after(EAGER.ms, () => {
        this.#eagerTimer = null;
        this.#negotiate(link);
      });
    }
  }

  /** @param {() => Promise<unknown>} task @returns {Promise<void>} */
  #enqueue(task) {
    this.#waiting += 1;
    const run = this.#turn.then(async () => {
      this.#waiting -= 1;
      if (this.#state === "closed") return;
      await task();
    });
    // Whoever waits for the turn waits for its end, however it ends.
    const done = run.catch((fault) => {
      if (fault !== GONE) this.#note(`a step failed: ${nameOf(fault)}`);
    });
    this.#turn = done;
    return done;
  }

  /** Begins anew with an offer of ours. */
  #rebuild() {
    this.#drop();
    if (!this.#around.line()) {
      this.#due = "rebuild";
      this.#enter("connecting");
      return;
    }
    const link = this.#build();
    if (!link) return;
    link.layOut();
    this.#negotiate(link);
  }

  /** Null where the browser makes none; it is tried again then. */
  #build() {
    this.#drop();
    this.#enter("connecting");
    // Whoever heard of it may have ended it, or begun anew.
    if (this.#state !== "connecting" || this.#link) return null;
    /** @type {RTCPeerConnection} */
    let connection;
    try {
      connection = this.#around.connect();
    } catch (fault) {
      this.#fail(`no connection could be made: ${nameOf(fault)}`);
      return null;
    }
    /** @type {RoomLink} */
    const link = new RoomLink({
      connection,
      send: (message) => {
        const sent = this.#around.send({ ...message, to: this.id });
        if (sent && message.type === "offer") this.#awaitAnswer(link);
        return sent;
      },
      tracks: this.#around.tracks,
      stream: this.#around.outgoing,
      receive: this.#around.receive,
      early: this.#early,
      on: {
        negotiate: () => this.#wanted(link),
        candidate: (candidate) => void this.#around.send({ type: "ice-candidate", to: this.id, candidate: candidate.toJSON() }),
        moved: (state) => this.#moved(state),
        track: (track) => this.#tracks.add(track),
        channel: (channel) => this.#channels.add(channel),
        note: (text) => this.#note(text),
      },
    });
    this.#link = link;
    this.#patience = this.#tried ? CONNECT_MS.again : CONNECT_MS.first;
    this.#tried = true;
    this.#awaitPath();
    return link;
  }

  #awaitPath() {
    this.#await(this.#patience, "no path found in time");
  }

  /** Offers when its turn comes; or says again what is under way. @param {RoomLink} link @param {"offer" | "repeat"} [what] */
  #negotiate(link, what = "offer") {
    void this.#enqueue(async () => {
      if (link !== this.#link) return;
      if (!this.#around.line()) {
        if (what === "offer") this.#due ??= "offer";
        return;
      }
      try {
        const sent = what === "offer" ? await link.offer() : link.repeat();
        if (!sent) this.#due ??= "offer";
      } catch (fault) {
        if (fault === GONE) throw fault;
        this.#fail(`no offer could be made: ${nameOf(fault)}`);
      }
    });
  }

  /** @param {RoomLink} link */
  #awaitAnswer(link) {
    const { clock } = this.#around;
    clock.cancel(this.#answerTimer);
    this.#answerTimer = clock.after(ANSWER_MS * 2 ** Math.min(this.#repeats, REPEATS), () => {
      this.#answerTimer = null;
      if (link !== this.#link || !link.colliding) return;
      this.#around.doubt();
      this.#repeats += 1;
      if (this.#repeats <= REPEATS) this.#negotiate(link, "repeat");
    });
  }

  /** @param {Description} offer */
  async #offerCame(offer) {
    this.#around.clock.cancel(this.#anewTimer);
    this.#offered = true;
    this.#kin = offer.yields === true;
    if (this.#link?.colliding && !this.#polite) {
      // Even one of a new connection: if both gave up theirs, each would be left with an answer to nothing.
      this.#kept = offer;
      this.#around.clock.cancel(this.#keptTimer);
      // Who is like us yields, however long it takes: if both gave up theirs, both began anew, which costs a busy machine more time still.
      if (this.#kin) return;
      this.#keptTimer = this.#around.clock.after(KEPT_MS, () => void this.#enqueue(async () => this.#takeKept()));
      return;
    }
    await this.#take(offer);
  }

  async #takeKept() {
    const kept = this.#kept;
    if (kept && this.#link?.colliding) await this.#take(kept);
  }

  /** @param {Description} offer */
  async #take(offer) {
    const { clock } = this.#around;
    let link = this.#link;
    // One that agreed upon nothing yet is better replaced than rolled back: its lines would be left over beside those of the offer, and
    // Chromium would never open its channels.
    const anew = !link || (link.fresh && link.colliding) || link.isStranger(offer) || link.over;
    if (anew && !this.#mayBuild(offer)) return;
    if (link?.colliding) this.#yielded = true;
    clock.cancel(this.#keptTimer);
    clock.cancel(this.#answerTimer);
    this.#kept = null;
    if (anew) link = this.#build();
    if (!link) return;
    try {
      await link.take(offer);
    } catch (fault) {
      if (fault === GONE) throw fault;
      if (link === this.#link) this.#fail(`an offer was not understood: ${nameOf(fault)}`);
      return;
    }
    // They restart: that is worth the same time as a restart of ours.
    if (this.#state === "shaky") this.#restarting();
  }

  /** Whoever offers from ever new connections must not make us build as many: the newest offer is taken later. @param {Description} offer */
  #mayBuild(offer) {
    const { clock } = this.#around;
    const now = clock.now();
    this.#anew = this.#anew.filter((at) => now - at < ANEW.ms);
    if (this.#anew.length < ANEW.offers) {
      this.#anew.push(now);
      return true;
    }
    this.#anewTimer = clock.after((this.#anew[0] ?? now) + ANEW.ms - now, () => void this.#enqueue(() => this.#offerCame(offer)));
    return false;
  }

  /** @param {Description} answer */
  async #answerCame(answer) {
    const link = this.#link;
    if (!link) return;
    const outcome = await link.answer(answer);
    if (outcome === "taken") {
      this.#around.clock.cancel(this.#anewTimer);
      this.#around.clock.cancel(this.#answerTimer);
      this.#around.clock.cancel(this.#keptTimer);
      this.#kept = null;
      this.#repeats = 0;
    } else if (outcome === "misfit" || this.#bothYielded(answer)) {
      this.#fail("an answer was not for this connection");
    }
  }

  /** Whether a stranger answers what we gave up: then both answered, and nobody waits for it. @param {Description} answer */
  #bothYielded({ re }) {
    return this.#yielded && this.#state !== "connected" && re === undefined;
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  async #candidateCame(candidate) {
    if (this.#link) await this.#link.candidate(candidate);
    // Its offer may be lost, and is said again then.
    else if (candidate?.candidate) keepEarly(this.#early, candidate);
  }

  /** @param {RTCPeerConnectionState} state */
  #moved(state) {
    const { clock } = this.#around;
    this.#note(`media ${state}`);
    if (state === "connected" && !this.#link?.over) {
      clock.cancel(this.#timer);
      this.#retry.reset();
      this.#tried = false;
      this.#repeats = 0;
      this.#yielded = false;
      this.#enter("connected");
    } else if (state === "connecting" && this.#state === "connecting") {
      // Both are described, and the search begins.
      this.#awaitPath();
    } else if (state === "disconnected" && (this.#state === "connected" || this.#state === "connecting")) {
      // Before anything was connected, too: a path was found and is gone again.
      clock.cancel(this.#timer);
      this.#timer = clock.after(SHAKY_MS + (this.#polite ? POLITE_MS : 0), () => this.#restart());
      this.#enter("shaky");
    } else if (state === "failed") {
      // Only a path that once worked is worth a restart; and one restart is enough.
      if (this.#state === "connected" || this.#state === "shaky") this.#restart();
      else this.#pathless("no path found");
    }
  }

  /** The other side's last channel closed: it is leaving, it begins anew, or it only wants no channels. */
  #silent() {
    if (this.isAway) this.#on.gone();
    else if (this.#state === "connected") {
      const link = this.#link;
      const { clock } = this.#around;
      clock.cancel(this.#timer);
      this.#timer = clock.after(SHAKY_MS + (this.#polite ? POLITE_MS : 0), () => {
        if (link === this.#link && link?.over) this.#fail("the other side closed the connection");
      });
    }
  }

  #restart() {
    if (this.#link?.over) {
      this.#fail("the other side closed the connection");
      return;
    }
    this.#restarting();
    if (this.#state === "restarting") this.#link?.restartIce();
  }

  #restarting() {
    this.#await(RESTART_MS, "no other path found");
    this.#enter("restarting");
  }

  /** @param {number} ms @param {string} why it fails then */
  #await(ms, why) {
    const { clock } = this.#around;
    clock.cancel(this.#timer);
    // While the line is down nothing else can be tried; the path may come back by itself.
    this.#timer = clock.after(ms, () => (this.#around.line() ? this.#pathless(why) : this.#await(ms, why)));
  }

  /** @param {string} why */
  #pathless(why) {
    this.#fail(why);
    this.#around.pathless();
  }

  /** Every failure comes through here; another attempt follows for as long as the person is in the room. @param {string} why */
  #fail(why) {
    if (this.#state === "closed") return;
    this.#note(why);
    this.#drop();
    if (this.isAway) {
      this.#on.gone();
      return;
    }
    const { clock } = this.#around;
    this.#timer = clock.after(this.#retry.next() + (this.#polite ? POLITE_MS : 0), () => this.#rebuild());
    this.#enter("failed");
  }

  /** Lets go of the connection, so that nothing of it is heard any more. */
  #drop() {
    const { clock } = this.#around;
    for (const timer of [this.#timer, this.#answerTimer, this.#keptTimer, this.#eagerTimer]) clock.cancel(timer);
    this.#kept = null;
    this.#due = null;
    this.#wants = [];
    this.#eagerTimer = null;
    const link = this.#link;
    this.#link = null;
    this.#channels.reset();
    this.#tracks.reset();
    link?.close();
  }

  /** @param {string} text */
  #note(text) {
    this.#on.note(`${this.id}: ${text}`);
  }

  /** Everything is in place by now, because whoever hears of it may end it. @param {State} state */
  #enter(state) {
    this.#channels.ready = state === "connected";
    // Who is away and does not stand any more is gone.
    if (state !== "connected" && this.isAway && state !== "connecting") {
      this.#on.gone();
      return;
    }
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#on.state();
  }
}
