// Puts the speaker page together: client, player and meter, each told of the others only here.

import { Client, browserClock } from "../sdk/index.js";
import { Meter } from "./meter.js";
import { Player } from "./player.js";
import { TokenStore } from "./token.js";
import { Ui } from "./ui.js";

const tokens = new TokenStore({ location, history, tab: sessionStorage, device: localStorage });
const meter = new Meter({ AudioContext: globalThis.AudioContext });
let remember = tokens.remembered;
let accepted = "";

const ui = new Ui({
  document,
  clock: browserClock,
  level: () => meter.read(),
  wishes: {
    connect: (token, keep) => {
      remember = keep;
      connect(token);
    },
    disconnect: () => {
      tokens.leave();
      player.stop();
      meter.detach();
      client.disconnect();
    },
    start: () => play(ui.voice),
    stop: () => {
      client.stop();
      player.stop();
    },
    choose: (voice) => {
      // Only what plays is switched; otherwise the choice waits for Start.
      if (client.view.wanted !== null) client.start(voice);
    },
    hear: () => {
      meter.wake();
      player.play();
    },
    retry: () => client.nudge(),
  },
});

const player = new Player({
  element: ui.audio,
  on: (state) => {
    if (state === "blocked") ui.note("the browser wants a tap before it plays");
    ui.blocked(state === "blocked");
  },
});

const client = new Client({
  url: new URL("/ws", location.href),
  // The page tells nobody but its own server that it is there.
  defaultIceServers: [],
  // Somebody may be sitting there: it goes on trying until told otherwise.
  retries: Infinity,
});
client.on("change", moved);
client.on("stats", (report) => ui.report(report));
client.on("track", ({ stream }) => {
  player.attach(stream);
  meter.attach(stream);
});
client.on("note", (text) => ui.note(text));
client.on("notice", (text) => ui.notice(text));

let wasState = "";

/** @param {import("../sdk/index.js").View} view */
function moved(view) {
  if (view.state !== wasState) ui.note(view.state);
  wasState = view.state;
  if (view.once) tokens.keep(accepted, remember);
  if (view.refusal?.code === "unauthorized") tokens.forget();
  if (!["connected", "streaming", "detached"].includes(view.state)) ui.unreport();
  if (view.wanted === null && player.state !== "silent") player.stop();
  ui.show(view);
  announce(view);
}

/** @param {string} token */
function connect(token) {
  accepted = token;
  // Whatever becomes of it is seen in the view.
  client.connect({ token }).catch(() => {});
}

/** Everything that wants a gesture happens here, inside the click. @param {string | null} voice */
function play(voice) {
  if (voice === null) return;
  meter.wake();
  player.play();
  client.start(voice);
}

/** Lock screen and headphone keys, where the browser has them. @param {import("../sdk/index.js").View} view */
function announce({ wanted, voices }) {
  const media = navigator.mediaSession;
  if (!media) return;
  const voice = voices.find(({ id }) => id === wanted);
  media.playbackState = voice ? "playing" : "paused";
  if (voice && media.metadata?.title !== voice.name) {
    media.metadata = new MediaMetadata({ title: voice.name, artist: "voxcast" });
  }
}

navigator.mediaSession?.setActionHandler("play", () => play(ui.voice));
navigator.mediaSession?.setActionHandler("pause", () => client.stop());
// Without this, iOS mutes the page when the ringer switch is off.
if ("audioSession" in navigator) Object.assign(/** @type {object} */ (navigator.audioSession), { type: "playback" });

// A phone that changed its network or woke up should not wait for the next appointed attempt.
addEventListener("online", () => client.nudge());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  if (player.state !== "silent") meter.wake();
  client.nudge();
});
addEventListener("hashchange", () => arrive());
// A page that goes into the back-forward cache would keep the server waiting.
addEventListener("pagehide", (event) => {
  if (!event.persisted) client.close();
});

function arrive() {
  const token = tokens.take();
  ui.fill(token ?? "", tokens.remembered);
  if (token) connect(token);
}

ui.show(client.view);
arrive();
