// One RTCPeerConnection to one person: descriptions and candidates applied in the right order, lines and channels laid out. It decides
// nothing by time, and whoever drives it calls one method at a time and waits for it.

import { nameOf } from "./error.js";

/** @typedef {import("./roomwire.js").Description} Description */
/** @typedef {"audio" | "video"} Kind */

/**
 * @typedef {object} Listeners
 * @property {() => void} negotiate the browser says that an offer is due
 * @property {(candidate: RTCIceCandidate) => void} candidate
 * @property {(state: RTCPeerConnectionState) => void} moved
 * @property {(track: MediaStreamTrack) => void} track
 * @property {(channel: RTCDataChannel) => void} channel
 * @property {(text: string) => void} note
 */

/** Candidates that wait for their description: a machine with many networks has dozens, for two generations. */
const EARLY = 128;
const KINDS = /** @type {const} */ (["audio", "video"]);

/** What an operation ends with when the connection was let go of meanwhile: some browsers never end it then. */
export const GONE = Symbol("gone");

export class RoomLink {
  #connection;
  #send;
  #tracks;
  #receive;
  #on;
  #closed = false;
  /** @type {((reason: unknown) => void) | null} ends the operation that is under way */
  #abort = null;
  /** @type {string | null} the other connection, by its `o=` line: each connection has its own there */
  #remote = null;
  /** @type {{ id: string, at: string } | null} the offer of ours that was sent and not answered */
  #asked = null;
  #early;
  /** @type {Partial<Record<Kind, RTCRtpTransceiver>>} those that carry what we send */
  #lines = {};
  /** @type {Set<Kind>} what was sent here once and is not any more */
  #withdrawn = new Set();

  /**
   * @param {object} options
   * @param {RTCPeerConnection} options.connection
   * @param {(message: { type: "offer" | "answer", sdp: Description }) => boolean} options.send
   * @param {(kind: Kind) => MediaStreamTrack | null} options.tracks what is to be sent now
   * @param {MediaStream | null} options.stream that the tracks are told to belong to: many clients look at nothing else
   * @param {boolean} options.receive
   * @param {RTCIceCandidateInit[]} options.early candidates that wait for their description; they outlive a connection that it is not for
   * @param {Listeners} options.on
   */
  constructor({ connection, send, tracks, stream, receive, early, on }) {
    this.#connection = connection;
    this.#send = send;
    this.#tracks = tracks;
    this.stream = stream;
    this.#receive = receive;
    this.#early = early;
    this.#on = on;
    connection.onnegotiationneeded = () => on.negotiate();
    connection.onicecandidate = ({ candidate }) => candidate?.candidate && on.candidate(candidate);
    connection.onconnectionstatechange = () => on.moved(connection.connectionState);
    connection.ontrack = ({ track }) => on.track(track);
    connection.ondatachannel = ({ channel }) => on.channel(channel);
  }

  /** Lays out what the first offer holds: one line of each kind, so that tracks can come and go without another offer, and our channels. */
  layOut() {
    for (const kind of KINDS) {
      const transceiver = this.#connection.addTransceiver(this.#tracks(kind) ?? kind, { direction: this.#direction, ...this.#streams });
      this.#lines[kind] = transceiver;
    }
    this.#on.channel(this.#connection.createDataChannel("chat", { ordered: true }));
    this.#on.channel(this.#connection.createDataChannel("cursors", { ordered: false, maxRetransmits: 0 }));
  }

  /** Makes and sends an offer where none is under way; false says that it is still due. */
  async offer() {
    // The browser asks again once it is stable, for what is not in the offer that is under way.
    if (this.#connection.signalingState !== "stable") return true;
    await this.#until(this.#connection.setLocalDescription());
    return this.repeat();
  }

  /** Sends the unanswered offer, again if need be: whoever answered it already answers again. */
  repeat() {
    const { localDescription } = this.#connection;
    if (!this.colliding || !localDescription) return true;
    this.#asked = identity(localDescription.sdp);
    return this.#send({ type: "offer", sdp: { type: "offer", sdp: localDescription.sdp, yields: true } });
  }

  /** Takes an offer and answers it. @param {Description} offer */
  async take(offer) {
    const connection = this.#connection;
    if (this.colliding) {
      this.#asked = null;
      await this.#until(connection.setLocalDescription({ type: "rollback" }));
    }
    await this.#until(connection.setRemoteDescription({ type: "offer", sdp: offer.sdp }));
    this.#understood(offer.sdp);
    await this.#attach();
    await this.#until(connection.setLocalDescription());
    const { id, at } = identity(offer.sdp);
    this.#send({ type: "answer", sdp: { type: "answer", sdp: connection.localDescription?.sdp ?? "", re: `${id} ${at}` } });
    await this.#tryEarly();
  }

  /**
   * `stale` belongs to an offer that is over, `misfit` to another connection than ours.
   * @param {Description} answer
   * @returns {Promise<"taken" | "stale" | "misfit">}
   */
  async answer(answer) {
    const { id } = identity(answer.sdp);
    if (typeof answer.re === "string" && answer.re !== this.asked) return "stale";
    if (!this.colliding) return this.#remote === id ? "stale" : "misfit";
    if (this.#remote !== null && this.#remote !== id) return "misfit";
    try {
      await this.#until(this.#connection.setRemoteDescription({ type: "answer", sdp: answer.sdp }));
    } catch (fault) {
      if (fault === GONE) throw fault;
      this.#on.note(`an answer was not understood: ${nameOf(fault)}`);
      return "misfit";
    }
    this.#asked = null;
    this.#understood(answer.sdp);
    await this.#tryEarly();
    return "taken";
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  async candidate(candidate) {
    // The end of candidates is of no use to a browser.
    if (!candidate?.candidate) return;
    if (this.#fits(candidate)) await this.#add(candidate);
    else keepEarly(this.#early, candidate);
  }

  /** Sends what is to be sent now. @param {Kind} kind */
  async replace(kind) {
    const track = this.#tracks(kind);
    const line = this.#lines[kind];
    if (line) {
      await this.#until(line.sender.replaceTrack(track));
      // Without a word the last picture would stand still at the other side. What was never sent is silent there anyway.
      if (!track && this.#sent(line)) this.#withdrawn.add(kind);
      if (track) this.#withdrawn.delete(kind);
      const direction = this.#withdrawn.has(kind) ? this.#withdrawnDirection : this.#direction;
      if (line.direction !== direction) line.direction = direction;
    } else if (track && this.#remote !== null) {
      this.#lines[kind] = this.#connection.addTransceiver(track, { direction: this.#direction, ...this.#streams });
    }
  }

  restartIce() {
    this.#connection.restartIce();
  }

  /** @param {RTCIceServer[]} iceServers */
  configure(iceServers) {
    this.#connection.setConfiguration({ ...this.#connection.getConfiguration(), iceServers });
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    const connection = this.#connection;
    connection.onnegotiationneeded = connection.onicecandidate = connection.onconnectionstatechange = null;
    connection.ontrack = connection.ondatachannel = null;
    connection.close();
    this.#abort?.(GONE);
  }

  get connection() {
    return this.#connection;
  }

  get closed() {
    return this.#closed;
  }

  /** Whether an offer of ours is under way. */
  get colliding() {
    return this.#connection.signalingState === "have-local-offer";
  }

  /** The offer of ours that is under way, as an answer to it names it. */
  get asked() {
    return this.#asked && `${this.#asked.id} ${this.#asked.at}`;
  }

  /** Whether nothing was agreed upon yet. */
  get fresh() {
    return this.#remote === null;
  }

  /** Whether the other side has let go of its connection. A closed DTLS never comes back, whatever ICE does. */
  get over() {
    return this.#connection.sctp?.transport?.state === "closed";
  }

  /** Whether an offer comes from a connection that is not the one we know. @param {Description} offer */
  isStranger(offer) {
    return this.#remote !== null && this.#remote !== identity(offer.sdp).id;
  }

  /** @returns {RTCRtpTransceiverDirection} */
  get #direction() {
    return this.#receive ? "sendrecv" : "sendonly";
  }

  /** @returns {RTCRtpTransceiverDirection} */
  get #withdrawnDirection() {
    return this.#receive ? "recvonly" : "inactive";
  }

  get #streams() {
    return this.stream ? { streams: [this.stream] } : {};
  }

  /** Whether the other side was told that there is something. @param {RTCRtpTransceiver} line */
  #sent(line) {
    return line.currentDirection === "sendrecv" || line.currentDirection === "sendonly";
  }

  /** Puts our tracks on the lines that were offered. */
  async #attach() {
    const lines = this.#connection.getTransceivers().filter((line) => line.mid !== null && line.direction !== "stopped");
    const put = [];
    for (const kind of KINDS) {
      const known = this.#lines[kind];
      const line = known && lines.includes(known) ? known : lines.find((one) => one.receiver.track.kind === kind);
      const track = this.#tracks(kind);
      if (line && line !== known) {
        // One that was rolled back before anybody agreed to it would ask for another offer, and send the same twice.
        if (known) known.stop();
        this.#lines[kind] = line;
        line.sender.setStreams?.(...(this.stream ? [this.stream] : []));
        line.direction = this.#direction;
        put.push(line.sender.replaceTrack(track));
      } else if (!line && !known && track) {
        // An offer without such a line: one of our own makes the browser ask for another offer.
        this.#lines[kind] = this.#connection.addTransceiver(track, { direction: this.#direction, ...this.#streams });
      }
    }
    // What a stranger offers beyond that is heard, or not, and never answered with anything of ours.
    const ours = Object.values(this.#lines);
    if (!this.#receive) for (const line of lines) if (!ours.includes(line)) line.direction = "inactive";
    await this.#until(Promise.all(put));
  }

  /** @param {string} sdp */
  #understood(sdp) {
    this.#remote = identity(sdp).id;
  }

  async #tryEarly() {
    for (const candidate of this.#early.splice(0)) await this.candidate(candidate);
  }

  /** Whether the description that a candidate belongs to is in place. @param {RTCIceCandidateInit} candidate */
  #fits({ candidate = "", usernameFragment }) {
    const sdp = this.#remote === null ? undefined : this.#connection.remoteDescription?.sdp;
    if (sdp === undefined) return false;
    const ufrag = usernameFragment ?? / ufrag (\S+)/.exec(candidate)?.[1];
    return ufrag === undefined || ufrags(sdp).has(ufrag);
  }

  /** @param {RTCIceCandidateInit} candidate */
  async #add(candidate) {
    try {
      await this.#until(this.#connection.addIceCandidate(candidate));
    } catch (fault) {
      if (fault === GONE) throw fault;
      // One candidate of many: the others may do.
      this.#on.note(`a candidate was not taken: ${nameOf(fault)}`);
    }
  }

  /** Waits for the browser, and no longer than this connection is wanted. @template T @param {Promise<T>} operation @returns {Promise<T>} */
  async #until(operation) {
    if (this.#closed) {
      operation.catch(() => {});
      throw GONE;
    }
    try {
      const result = await new Promise((resolve, reject) => {
        this.#abort = reject;
        operation.then(resolve, reject);
      });
      if (this.#closed) throw GONE;
      return result;
    } finally {
      this.#abort = null;
    }
  }
}

/** @param {RTCIceCandidateInit[]} early @param {RTCIceCandidateInit} candidate */
export function keepEarly(early, candidate) {
  early.push(candidate);
  if (early.length > EARLY) early.shift();
}

/** Which connection made a description, and which of its descriptions it is (RFC 8866 section 5.2). @param {string} sdp */
export function identity(sdp) {
  const [, id = "", at = ""] = /^o=\S* (\S+) (\S+)/m.exec(sdp) ?? [];
  return { id, at };
}

/** @param {string} sdp */
function ufrags(sdp) {
  return new Set([...sdp.matchAll(/^a=ice-ufrag:(\S+)/gm)].map(([, ufrag]) => ufrag));
}
