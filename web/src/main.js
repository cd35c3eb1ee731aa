// Puts the speaker page together: session, player, meter and figures, each told of the others only here.

import { browserClock } from "../sdk/clock.js";
import { Meter } from "./meter.js";
import { Player } from "./player.js";
import { Session } from "../sdk/session.js";
import { Stats } from "../sdk/stats.js";
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
      session.disconnect();
    },
    start: () => play(ui.voice),
    stop: () => {
      session.stop();
      player.stop();
    },
    choose: (voice) => {
      // Only what plays is switched; otherwise the choice waits for Start.
      if (session.view.wanted !== null) session.start(voice);
    },
    hear: () => {
      meter.wake();
      player.play();
    },
    retry: () => session.nudge(),
  },
});

const player = new Player({
  element: ui.audio,
  on: (state) => {
    if (state === "blocked") ui.note("the browser wants a tap before it plays");
    ui.blocked(state === "blocked");
  },
});

const session = new Session({
  url: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`,
  WebSocket,
  RTCPeerConnection,
  clock: browserClock,
  on: {
    change: moved,
    stream: (stream) => {
      player.attach(stream);
      meter.attach(stream);
    },
    note: (text) => ui.note(text),
    notice: (text) => ui.notice(text),
  },
});

const stats = new Stats({
  clock: browserClock,
  connection: () => session.connection,
  on: (report) => ui.report(report),
});

let wasState = "";

/** @param {import("../sdk/session.js").View} view */
function moved(view) {
  if (view.state !== wasState) ui.note(view.state);
  wasState = view.state;
  if (view.once) tokens.keep(accepted, remember);
  if (view.refusal?.code === "unauthorized") tokens.forget();
  if (["connected", "streaming", "detached"].includes(view.state)) {
    stats.start();
  } else {
    stats.close();
    ui.unreport();
  }
  if (view.wanted === null && player.state !== "silent") player.stop();
  ui.show(view);
  announce(view);
}

/** @param {string} token */
function connect(token) {
  accepted = token;
  session.connect(token);
}

/** Everything that wants a gesture happens here, inside the click. @param {string | null} voice */
function play(voice) {
  if (voice === null) return;
  meter.wake();
  player.play();
  session.start(voice);
}

/** Lock screen and headphone keys, where the browser has them. @param {import("../sdk/session.js").View} view */
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
navigator.mediaSession?.setActionHandler("pause", () => session.stop());
// Without this, iOS mutes the page when the ringer switch is off.
if ("audioSession" in navigator) Object.assign(/** @type {object} */ (navigator.audioSession), { type: "playback" });

// A phone that changed its network or woke up should not wait for the next appointed attempt.
addEventListener("online", () => session.nudge());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState !== "visible") return;
  if (player.state !== "silent") meter.wake();
  session.nudge();
});
addEventListener("hashchange", () => arrive());
// A page that goes into the back-forward cache would keep the server waiting.
addEventListener("pagehide", (event) => {
  if (!event.persisted) session.close();
});

function arrive() {
  const token = tokens.take();
  ui.fill(token ?? "", tokens.remembered);
  if (token) connect(token);
}

ui.show(session.view);
arrive();
