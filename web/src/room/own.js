// Oneself, at the door and in the room: the stream that is shown and sent, what the buttons say, which devices there are to choose from.

import { Choices } from "./choices.js";
import { element, say } from "./dom.js";
import { loudspeakers } from "./outside.js";
import { faultsWords, restWords } from "./words.js";

/** Oneself among the tiles: no user id is empty. */
export const OWN = "";

const KINDS = /** @type {const} */ (["audio", "video"]);

export class Own {
  #document;
  #media;
  #parts;
  #choices;
  #sink = "";
  /** @type {import("./choices.js").Device[]} */
  #sinks = [];
  /** The same stream for as long as the page lives; its tracks come and go. */
  stream = new MediaStream();

  /**
   * @param {object} options
   * @param {Document} options.document
   * @param {MediaDevices | undefined} options.media
   * @param {object} options.parts
   * @param {import("./devices.js").Devices} options.parts.devices
   * @param {import("./deck.js").Deck} options.parts.deck
   * @param {import("./door.js").Door} options.parts.door
   * @param {import("./tiles.js").Tiles} options.parts.tiles
   * @param {import("./speaking.js").Speaking} options.parts.speaking
   */
  constructor({ document, media, parts }) {
    this.#document = document;
    this.#media = media;
    this.#parts = parts;
    this.#choices = new Choices({
      document,
      on: (kind, id) => {
        if (kind !== "sink") void parts.devices.choose(kind, id);
        else parts.tiles.listenOn((this.#sink = id));
      },
    });
  }

  /** @param {{ inside: boolean, share: import("./share.js").Share | null }} view */
  show({ inside, share }) {
    const { devices, deck, door, tiles, speaking } = this.#parts;
    const screen = share?.track ?? null;
    const wanted = [devices.track("audio"), screen ?? devices.track("video")].filter((track) => track !== null);
    for (const track of this.stream.getTracks()) if (!wanted.includes(track)) this.stream.removeTrack(track);
    for (const track of wanted) this.stream.addTrack(track);
    for (const kind of KINDS) deck.toggled(kind, { on: devices.live(kind), faulty: devices.faults[kind] !== null });
    deck.sharing(share?.supported ?? false, screen !== null);
    speaking.watch(OWN, devices.track("audio"));
    tiles.hush(OWN, !devices.live("audio"));
    tiles.shows(OWN, screen ? "screen" : "camera");
    tiles.word(OWN, screen ? "Sharing your screen" : "");
    door.look(inside || this.stream.getVideoTracks().length === 0 ? null : this.stream);
    // Nothing measures what is not there.
    if (!devices.live("audio")) door.level(-Infinity);
    const faults = faultsWords(devices.faults);
    const words = { "door-fault": [restWords(devices.waiting), faults].filter(Boolean).join(" "), "devices-fault": faults };
    for (const [id, text] of Object.entries(words)) {
      say(element(this.#document, id), text);
      element(this.#document, id).hidden = text === "";
    }
    this.#choose();
  }

  /** Loudspeakers get their names with the first microphone. */
  async look() {
    this.#sinks = await loudspeakers(this.#media);
    if (this.#sink !== "" && !this.#sinks.some(({ id }) => id === this.#sink)) {
      // The list stands at its first entry then, and a person could not choose that one again.
      this.#parts.tiles.listenOn((this.#sink = ""));
      this.#parts.deck.toast("The loudspeaker went away.", "warn");
    }
    this.#choose();
  }

  #choose() {
    const { devices } = this.#parts;
    this.#choices.show([
      { kind: "audio", label: "Microphone", devices: devices.list("audio"), current: devices.current("audio") },
      { kind: "video", label: "Camera", devices: devices.list("video"), current: devices.current("video") },
      { kind: "sink", label: "Loudspeaker", devices: this.#sinks, current: this.#sink },
    ]);
  }
}
