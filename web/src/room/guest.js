// A voice of the server as one more person in the room: listened to as any listener would, and sent on by a second place in the room. Foreign
// clients hear it too, because to them it is a person like any other.

/** @typedef {import("../../sdk/index.js").Client} Client */
/** @typedef {import("../../sdk/index.js").Room} Room */
/** @typedef {import("../../sdk/index.js").Voice} Voice */
/** @typedef {{ name: string, state: "coming" | "here" }} Guest */
/** @typedef {{ guest: Guest, client: Client, room: Room | null, relay: Relay, offs: (() => void)[], gone: boolean }} Visit */

/** One browser feeds each guest to everybody. */
export const MOST_GUESTS = 4;
/** How often a name that somebody else took meanwhile is given up for the next. */
const NAMES = 3;
/** With a number behind it, it must still be a name that the server takes. */
const LONGEST = 58;
/** The fault of a browser that does not take up what it hears. */
const UNHEARD = "unheard";

export class Guests {
  #token;
  #listen;
  #join;
  #relay;
  #on;
  /** @type {Client | null} who tells which voices there are, and serves the next guest */
  #desk = null;
  /** @type {(() => void)[]} */
  #deskOffs = [];
  /** @type {Set<Visit>} */
  #visits = new Set();
  /** @type {readonly Voice[]} */
  #voices = [];
  /** @type {string | null} */
  #fault = null;
  /** @type {string | null} the token that was not accepted */
  #refused = null;

  /**
   * @param {object} options
   * @param {() => string} options.token empty where there is none to ask with
   * @param {(token: string) => Client} options.listen a client that is not yet connected
   * @param {(user: string, stream: MediaStream) => Promise<Room>} options.join a second place in the room that receives nothing
   * @param {() => Relay} options.relay
   * @param {() => void} options.on something changed
   */
  constructor({ token, listen, join, relay, on }) {
    this.#token = token;
    this.#listen = listen;
    this.#join = join;
    this.#relay = relay;
    this.#on = on;
  }

  get voices() {
    return this.#voices;
  }

  /** Those that were asked in from here. @returns {Guest[]} */
  get guests() {
    return [...this.#visits].map(({ guest }) => guest);
  }

  /** Why there are no voices to choose from, as the code of an error. */
  get fault() {
    return this.#fault;
  }

  /** Asks the server which voices it has. */
  open() {
    if (this.#desk) return;
    const token = this.#token();
    // What was refused would be refused again.
    if (token === "" || token === this.#refused) {
      this.#fault = "unauthorized";
      this.#on();
      return;
    }
    const client = this.#listen(token);
    this.#desk = client;
    this.#fault = null;
    this.#deskOffs = [
      client.on("change", ({ voices }) => {
        if (voices.length === 0 || client !== this.#desk) return;
        this.#voices = voices;
        this.#on();
      }),
    ];
    client.connect({ token }).catch((fault) => {
      // It may serve a guest by now, who would stay silent for ever.
      const visit = [...this.#visits].find((one) => one.client === client);
      if (fault?.code === "unauthorized") this.#refused = token;
      if (client !== this.#desk && !visit) return;
      this.#fault = fault?.code ?? "unreachable";
      if (visit) this.#end(visit);
      else this.shut();
      this.#on();
    });
  }

  /** The list is not looked at any more; guests stay. */
  shut() {
    for (const off of this.#deskOffs) off();
    this.#deskOffs = [];
    this.#desk?.close();
    this.#desk = null;
  }

  /** Asks a voice in. @param {Voice} voice @param {(name: string) => boolean} taken */
  ask(voice, taken) {
    const client = this.#desk;
    if (!client || this.#visits.size >= MOST_GUESTS) return;
    const relay = this.#relayed();
    if (!relay) return;
    for (const off of this.#deskOffs) off();
    this.#deskOffs = [];
    this.#desk = null;
    /** @type {(name: string) => boolean} */
    const known = (name) => taken(name) || this.guests.some((other) => other.name === name);
    /** @type {Guest} */
    const guest = { name: freeName(voice.name, known), state: "coming" };
    /** @type {Visit} */
    const visit = { guest, client, room: null, relay, offs: [], gone: false };
    this.#visits.add(visit);
    visit.offs.push(client.on("track", ({ stream }) => this.#attach(visit, stream)));
    visit.offs.push(client.on("state", (state) => void (state === "refused" && this.#end(visit))));
    client.start(voice.id);
    /** @type {Set<string>} */
    const tried = new Set();
    void this.#enter(visit, (name) => freeName(voice.name, (other) => tried.add(name).has(other) || known(other)));
    this.#on();
    this.open();
  }

  /** @param {string} name */
  send(name) {
    for (const visit of this.#visits) if (visit.guest.name === name) this.#end(visit);
  }

  /** Whoever asked them in leaves, and they with them. */
  close() {
    this.shut();
    for (const visit of [...this.#visits]) this.#end(visit);
  }

  /** Null, and told, where the browser has no audio graph to spare. */
  #relayed() {
    try {
      return this.#relay();
    } catch {
      this.#fault = UNHEARD;
      this.#on();
      return null;
    }
  }

  /** A guest who would stay silent for ever goes. @param {Visit} visit @param {MediaStream} stream */
  #attach(visit, stream) {
    try {
      visit.relay.attach(stream);
    } catch {
      this.#fault = UNHEARD;
      this.#end(visit);
    }
  }

  /** @param {Visit} visit @param {(name: string) => string} another */
  async #enter(visit, another) {
    try {
      const room = await this.#call(visit, another);
      if (visit.gone) {
        room.close();
        return;
      }
      visit.room = room;
      visit.guest.state = "here";
      visit.offs.push(room.on("state", (state) => void ((state === "refused" || state === "closed") && this.#end(visit))));
      this.#on();
    } catch (fault) {
      if (visit.gone) return;
      this.#fault = /** @type {any} */ (fault)?.code ?? "unreachable";
      this.#end(visit);
    }
  }

  /** Two people may ask the same voice in at once. @param {Visit} visit @param {(name: string) => string} another @returns {Promise<Room>} */
  async #call(visit, another) {
    for (let tried = 1; ; tried += 1) {
      try {
        return await this.#join(visit.guest.name, visit.relay.stream);
      } catch (fault) {
        if (/** @type {any} */ (fault)?.code !== "taken" || tried === NAMES || visit.gone) throw fault;
        visit.guest.name = another(visit.guest.name);
      }
    }
  }

  /** @param {Visit} visit */
  #end(visit) {
    if (visit.gone) return;
    visit.gone = true;
    for (const off of visit.offs) off();
    visit.room?.close();
    visit.client.close();
    visit.relay.close();
    this.#visits.delete(visit);
    this.#on();
  }
}

/** The name, with a number where it is taken. @param {string} name @param {(name: string) => boolean} taken */
export function freeName(name, taken) {
  const plain = [...name].slice(0, LONGEST).join("").trim() || "Voice";
  if (!taken(plain)) return plain;
  let number = 2;
  while (taken(`${plain} ${number}`)) number += 1;
  return `${plain} ${number}`;
}

/** What is received, as one track that stays the same whatever happens to the connection behind it. */
export class Relay {
  #context;
  #out;
  #element;
  /** @type {MediaStreamAudioSourceNode | null} */
  #source = null;

  /** @param {{ context: AudioContext, element: HTMLAudioElement }} options */
  constructor({ context, element }) {
    this.#context = context;
    this.#out = context.createMediaStreamDestination();
    // Chromium decodes a remote stream only while an element plays it; the room is where it is heard.
    this.#element = element;
    this.#element.muted = true;
    if (context.state !== "running") context.resume().catch(() => {});
  }

  get stream() {
    return this.#out.stream;
  }

  /** @param {MediaStream} stream */
  attach(stream) {
    this.#source?.disconnect();
    this.#element.srcObject = stream;
    this.#element.play().catch(() => {});
    this.#source = this.#context.createMediaStreamSource(stream);
    this.#source.connect(this.#out);
  }

  close() {
    this.#source?.disconnect();
    this.#source = null;
    this.#element.srcObject = null;
    for (const track of this.#out.stream.getTracks()) track.stop();
    this.#context.close().catch(() => {});
  }
}
