// Puts the room page together: devices, room, tiles and panels, each told of the others only here.

import { Client, browserClock, joinRoom } from "../../sdk/index.js";
import { TokenStore, orDevToken } from "../token.js";
import { Chat } from "./chat.js";
import { Pointers } from "./cursors.js";
import { Deck } from "./deck.js";
import { Devices } from "./devices.js";
import { Diagnostics } from "./diagnostics.js";
import { button, element } from "./dom.js";
import { Door } from "./door.js";
import { Guests, MOST_GUESTS, Relay } from "./guest.js";
import { Head } from "./head.js";
import { Awake, copyText, pace, rememberedName, rememberName, saveFile } from "./outside.js";
import { OWN, Own } from "./own.js";
import { RecordPane, VoicesPane } from "./panes.js";
import { fileName, Recorder } from "./recorder.js";
import { Share } from "./share.js";
import { Speaking } from "./speaking.js";
import { Tiles } from "./tiles.js";
import { Visit } from "./visit.js";
import { faultWords, refusalWords, voicesFaultWords } from "./words.js";

const TICK_MS = 250;
/** A camera is there by then, unless the browser asks. */
const ROUSE_MS = 1_500;

const clock = browserClock;
const awake = new Awake(navigator.wakeLock);
const tokens = new TokenStore({ location, history, tab: sessionStorage, device: localStorage });
/** @type {import("./door.js").Entry} */
let entry = { name: "", room: "", token: "" };
/** @type {Visit | null} */
let visit = null;
/** @type {AbortController | null} */
let entering = null;
/** @type {Share | null} */
let share = null;
/** @type {Guests | null} */
let guests = null;
/** @type {import("./head.js").Refusal | null} */
let refusal = null;
const devices = new Devices({
  media: navigator.mediaDevices,
  secure: isSecureContext,
  on: ({ kind, lost, found }) => {
    if (lost) deck.toast(`The ${kind === "audio" ? "microphone" : "camera"} went away.`, "warn");
    if (found) deck.toast(`The ${kind === "audio" ? "microphone" : "camera"} is back.`);
    if (visit && !(kind === "video" && share?.track)) void send(kind, devices.track(kind));
    showOwn();
    void own.look();
  },
});

const deck = new Deck({
  document,
  clock,
  on: {
    toggle: (kind) => {
      speaking.wake();
      const on = !devices.live(kind);
      void devices.set(kind, on).then(() => {
        const fault = devices.faults[kind];
        if (on && fault && visit) deck.toast(faultWords(kind, fault), "warn");
      });
    },
    share: () => {
      const act = share?.track ? share.stop() : share?.start();
      act?.catch(() => deck.toast("The screen could not be shared.", "warn"));
    },
    leave: walkOut,
    panel: (pane) => {
      chat.show(pane === "chat");
      visit?.measure(pane === "details");
      if (pane === "voices") guests?.open();
      else guests?.shut();
      showVoices();
    },
  },
});

const head = new Head({
  document,
  wishes: {
    retry,
    back: () => {
      leave();
      if (refusal) refuse(refusal);
    },
    invite: () => copy(location.origin + address(), "The link is copied."),
  },
});
const door = new Door({ document, wishes: { join: (wanted) => void join(wanted), cancel: () => entering?.abort() } });
const tiles = new Tiles({
  document,
  clock,
  on: { placed: () => pointers.place(), blocked: () => (element(document, "hear").hidden = false) },
});
const pointers = new Pointers({ document, clock, surface: () => tiles.surface });
const chat = new Chat({ document, send: (text) => visit?.room.sendChat(text) });
const speaking = new Speaking({
  AudioContext: globalThis.AudioContext,
  clock,
  on: (id, voice, db) => {
    tiles.speak(id, voice.speaking && (id !== OWN || devices.live("audio")));
    // Others do not say that they are muted; that nothing at all comes from them says it.
    if (id === OWN) door.level(devices.live("audio") ? db : -Infinity);
    else tiles.hush(id, voice.silent);
  },
});

const own = new Own({ document, media: navigator.mediaDevices, parts: { devices, deck, door, tiles, speaking } });
const diagnostics = new Diagnostics({
  document,
  wishes: {
    copy: (text) => copy(text, "The figures are copied."),
    save: (text) => saveFile(document, new Blob([text], { type: "application/json" }), fileName(`${entry.room} connections`, new Date(), "json"), clock),
  },
});
const voicesPane = new VoicesPane({
  document,
  wishes: {
    ask: (voice) => guests?.ask(voice, (name) => name === entry.name || (visit?.room.peers.has(name) ?? false)),
    send: (name) => guests?.send(name),
  },
});
const recordPane = new RecordPane({
  document,
  wishes: {
    start: (who, tell) => {
      const name = tiles.people.find(({ id }) => id === who)?.name;
      recorder.start(name ? `${entry.room} ${name}` : entry.room, who);
      if (tell && recorder.elapsed !== null) trySay(name ? `I am recording ${name}.` : "I am recording this room.");
      tick();
    },
    stop: () => recorder.stop(),
  },
});
const recorder = new Recorder({
  MediaRecorder: globalThis.MediaRecorder,
  AudioContext: globalThis.AudioContext,
  document,
  clock,
  pace: (ms, run) => pace({ Worker: globalThis.Worker, clock }, ms, run),
  people: () => tiles.people,
  on: (recording) => {
    if (recording) recordPane.save(recording);
    deck.toast(recording ? "The recording is saved." : "Nothing was recorded.", recording ? "calm" : "warn");
  },
});

/** @param {import("./door.js").Entry} wanted */
async function join(wanted) {
  if (entering || visit) return;
  entry = wanted;
  entering = new AbortController();
  // Inside the click: browsers keep sound asleep until a person touched the page.
  speaking.wake();
  door.refuse(null);
  door.busy(true);
  show("joining");
  // What was let go of comes along in the first offer; a question that nobody answers must not keep us out, and what comes later is sent then.
  if (devices.resting) await Promise.race([devices.open(), new Promise((go) => clock.after(ROUSE_MS, () => go(null)))]).catch(() => {});
  try {
    const room = await joinRoom({ ...place(), user: entry.name, stream: new MediaStream(own.stream.getTracks()), signal: entering.signal });
    enter(room);
  } catch (fault) {
    if (!entering.signal.aborted) refuse(fault);
    show("door");
  } finally {
    entering = null;
    door.busy(false);
  }
}

/** What every place in this room is asked for with. */
function place() {
  return { url: new URL("/signal", location.href), room: entry.room, ...(entry.token ? { token: entry.token } : {}) };
}

/** Of the room, without any secret that the address bar may hold. */
function address() {
  return `${location.pathname}?room=${encodeURIComponent(entry.room)}`;
}

/** @param {import("../../sdk/index.js").Room} room */
function enter(room) {
  if (entry.token) tokens.keep(entry.token, tokens.remembered);
  rememberName(localStorage, entry.name);
  history.replaceState(history.state, "", address());
  refusal = null;
  tiles.clear();
  tiles.add(OWN, { name: entry.name, own: true, stream: own.stream });
  visit = new Visit({
    room,
    parts: { tiles, speaking, chat, pointers, diagnostics, stage: element(document, "stage") },
    on: {
      state: moved,
      came: (name) => {
        deck.toast(`${name} came in.`);
        moved();
      },
      went: (name) => {
        deck.toast(`${name} left.`);
        moved();
      },
      // The room client changes its state first and tells the reason then.
      fault: (error) => {
        refusal = error;
        moved();
      },
    },
  });
  share = new Share({
    capture: navigator.mediaDevices?.getDisplayMedia?.bind(navigator.mediaDevices, { video: true, audio: false }),
    send: (track) => send("video", track),
    camera: () => devices.track("video"),
    on: showOwn,
  });
  guests = new Guests({
    token: () => orDevToken(entry.token, location.hostname),
    listen: (token) => new Client({ url: new URL("/ws", location.href), token, defaultIceServers: [], retries: 2 }),
    join: (user, stream) => joinRoom({ ...place(), user, stream, receive: false }),
    relay: () => new Relay({ context: new AudioContext(), element: new Audio() }),
    on: showVoices,
  });
  // What was switched while we were on the way in.
  for (const kind of /** @type {const} */ (["audio", "video"])) void send(kind, devices.track(kind));
  void awake.hold();
  showOwn();
  moved();
  button(document, "mic").focus({ preventScroll: true });
}

/** The room's state, onto the page. */
function moved() {
  if (!visit) return;
  const { state } = visit.room;
  if (state === "closed") {
    walkOut();
    return;
  }
  show(state);
  tick();
}

function leave() {
  recorder.stop();
  guests?.close();
  share?.close();
  visit?.close();
  guests = share = visit = null;
  deck.show(null);
  tiles.clear();
  chat.clear();
  pointers.clear();
  diagnostics.clear();
  awake.release();
  element(document, "hear").hidden = true;
  showOwn();
  show("door");
  button(document, "enter").focus({ preventScroll: true });
}

/** For good, as far as can be told: nobody wants a camera to stay on at the door. Who comes in anew, or changes a detail, keeps it. */
function walkOut() {
  leave();
  devices.rest();
}

/** @param {unknown} fault */
function refuse(fault) {
  const { code = "", message = "" } = /** @type {{ code?: string, message?: string }} */ (fault ?? {});
  door.refuse(refusalWords({ code, message }));
  if (code === "unauthorized") {
    tokens.forget();
    door.askToken();
  }
}

/** @param {string} state */
function show(state) {
  head.show({ state, room: visit ? entry.room : null, people: tiles.count, refusal });
}

function showOwn() {
  own.show({ inside: visit !== null, share });
}

function showVoices() {
  if (!guests) return;
  const fault = guests.fault === null ? "" : voicesFaultWords(guests.fault);
  voicesPane.show({ voices: guests.voices, guests: guests.guests, fault, full: guests.guests.length >= MOST_GUESTS });
}

/** @param {"audio" | "video"} kind @param {MediaStreamTrack | null} track */
async function send(kind, track) {
  await visit?.room.replaceTrack(kind, track).catch(() => {});
}

/** @param {string} text */
function trySay(text) {
  try {
    visit?.room.sendChat(text);
  } catch {
    // A recording is worth more than the line about it.
  }
}

/** @param {string} text @param {string} done */
function copy(text, done) {
  copyText(navigator.clipboard, text).then(() => deck.toast(done), () => deck.toast("The browser did not let the page copy.", "warn"));
}

/** Times that run: the recording's, and the one until the line is tried again. */
function tick() {
  const ms = recorder.elapsed;
  recordPane.show({ able: recorder.format !== null, ms });
  deck.recording(ms !== null);
  if (!visit) return;
  recordPane.people(tiles.people);
  head.count(visit.room.retryAt, clock.now());
}

(function run() {
  tick();
  clock.after(TICK_MS, run);
})();

/** Try the line now; where the server refused, come in anew. */
function retry() {
  if (visit?.room.state !== "refused") {
    visit?.room.nudge();
    return;
  }
  const again = entry;
  leave();
  void join(again);
}

button(document, "hear").addEventListener("click", () => {
  element(document, "hear").hidden = true;
  speaking.wake();
  tiles.play();
});
// A page that went into the background or changed its network may hold a dead line.
addEventListener("online", () => visit?.room.nudge());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible" || !visit) return;
  visit.room.nudge();
  speaking.wake();
  void awake.hold();
});
addEventListener("beforeunload", (event) => {
  if (recorder.elapsed !== null) event.preventDefault();
});
addEventListener("pagehide", (event) => {
  if (!event.persisted) leave();
});

/** The address names the room, and perhaps the token. */
function arrive() {
  door.fill({ name: rememberedName(localStorage), room: new URLSearchParams(location.search).get("room")?.trim() ?? "", token: tokens.take() ?? "" });
}

addEventListener("hashchange", () => {
  if (!visit) {
    arrive();
    return;
  }
  // The next try comes in with it; the address bar must not keep it.
  entry = { ...entry, token: tokens.take() ?? entry.token };
  door.give(entry.token);
});

arrive();
show("door");
showOwn();
// A page that captures may listen without a gesture; one that does not waits for the first.
void devices.open().then(() => devices.track("audio") && speaking.wake());
