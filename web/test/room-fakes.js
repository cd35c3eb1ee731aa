// Stand-ins for what the room page asks of a browser: tracks, devices, pickers.

/** @typedef {{ audio: string[], video: string[] }} Plugged */

export class FakeTrack extends EventTarget {
  readyState = "live";
  enabled = true;
  contentHint = "";
  /** @type {Set<unknown>} */
  listening = new Set();

  /** @param {string} kind @param {string} deviceId */
  constructor(kind, deviceId = "") {
    super();
    this.kind = kind;
    this.deviceId = deviceId;
  }

  getSettings() {
    return { deviceId: this.deviceId };
  }

  stop() {
    this.readyState = "ended";
  }

  /** As the browser ends it. */
  end() {
    this.readyState = "ended";
    this.dispatchEvent(new Event("ended"));
  }

  /** @param {string} name @param {any} listener */
  addEventListener(name, listener) {
    this.listening.add(listener);
    super.addEventListener(name, listener);
  }

  /** @param {string} name @param {any} listener */
  removeEventListener(name, listener) {
    this.listening.delete(listener);
    super.removeEventListener(name, listener);
  }
}

/** @param {FakeTrack[]} tracks */
export const fakeStream = (...tracks) =>
  /** @type {MediaStream} */ (/** @type {unknown} */ ({ getTracks: () => tracks, getVideoTracks: () => tracks.filter(({ kind }) => kind === "video"), getAudioTracks: () => tracks.filter(({ kind }) => kind === "audio") }));

/** @param {Plugged} plugged */
export function fakeMedia(plugged) {
  /** @type {FakeTrack[]} */
  const made = [];
  /** @type {Set<() => void>} */
  const listeners = new Set();
  const media = {
    /** @type {any[]} */
    asked: [],
    fault: "",
    asking: 0,
    /** Questions that were open at once. */
    most: 0,
    listeners,
    get live() {
      return made.filter(({ readyState }) => readyState === "live");
    },
    /** @param {string} _name @param {() => void} listener */
    addEventListener: (_name, listener) => void listeners.add(listener),
    /** @param {string} _name @param {() => void} listener */
    removeEventListener: (_name, listener) => void listeners.delete(listener),
    /** @param {any} constraints */
    async getUserMedia(constraints) {
      media.asked.push(constraints);
      media.asking += 1;
      media.most = Math.max(media.most, media.asking);
      await new Promise((done) => setImmediate(done));
      media.asking -= 1;
      if (media.fault) throw named(media.fault);
      const tracks = Object.entries(constraints).map(([kind, wish]) => {
        const ids = plugged[/** @type {"audio" | "video"} */ (kind)];
        const [first] = ids;
        if (first === undefined) throw named("NotFoundError");
        const exact = wish.deviceId?.exact;
        if (exact && !ids.includes(exact)) throw named("OverconstrainedError");
        return new FakeTrack(kind, exact ?? first);
      });
      made.push(...tracks);
      return fakeStream(...tracks);
    },
    async enumerateDevices() {
      return Object.entries(plugged).flatMap(([kind, ids]) => ids.map((id) => ({ kind: `${kind}input`, deviceId: id, label: `${kind === "audio" ? "Microphone" : "Camera"} ${id}` })));
    },
    /** @param {string} id */
    async unplug(id) {
      for (const ids of Object.values(plugged)) if (ids.includes(id)) ids.splice(ids.indexOf(id), 1);
      for (const track of media.live) if (track.deviceId === id) track.end();
      for (const listener of listeners) listener();
      await settle();
    },
    /** @param {"audio" | "video"} kind @param {string} id */
    async plug(kind, id) {
      plugged[kind].push(id);
      for (const listener of listeners) listener();
      await settle();
    },
  };
  return media;
}

/** @param {string} name */
export const named = (name) => Object.assign(new Error(name), { name });

/** Lets promises that can settle do so. */
export async function settle() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((done) => setImmediate(done));
}
