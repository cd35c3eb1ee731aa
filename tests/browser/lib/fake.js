// A server and its media as the page sees them, made up inside the page: for states that a real server gives only by chance.

/**
 * Runs in the page before its scripts. `window.fake` can be changed while the page runs.
 * @param {{ greet?: "yes" | "never" | "down" | "unauthorized" | "too_many_attempts" | "over_capacity", media?: "yes" | "never", relay?: boolean }} options
 */
export function installFake(options) {
  const fake = { greet: "yes", media: "yes", relay: false, ...options, sockets: /** @type {FakeSocket[]} */ ([]), connections: /** @type {FakeConnection[]} */ ([]), voice: "" };
  const voices = [
    ["sine-220", "Low Tone (220 Hz)", "A deep, steady sine."],
    ["sine-440", "Mid Tone (440 Hz)", "Concert pitch A, the tuning tone."],
    ["sine-880", "High Tone (880 Hz)", "One octave above concert pitch."],
  ].map(([id, name, description]) => ({ id, name, description }));
  const texts = { unauthorized: "Bad token", too_many_attempts: "Too many attempts", over_capacity: "Over capacity: the server is full" };

  class FakeSocket {
    /** @type {((event: any) => void) | null} */ onopen = null;
    /** @type {((event: any) => void) | null} */ onmessage = null;
    /** @type {((event: any) => void) | null} */ onclose = null;
    onerror = null;

    constructor() {
      fake.sockets.push(this);
      setTimeout(() => (fake.greet === "down" ? this.onclose?.({ code: 1006 }) : this.onopen?.({})), 10);
    }

    /** @param {string} text */
    send(text) {
      const message = JSON.parse(text);
      if (message.type === "hello") this.#greet();
      if (message.type === "offer") this.tell({ type: "answer", sdp: "v=0" });
      if (message.type === "ping") this.tell({ type: "pong" });
      if (message.type === "start") fake.voice = message.voice_id;
      if (message.type === "stop") fake.voice = "";
      tune();
    }

    close() {}

    /** @param {object} message */
    tell(message) {
      setTimeout(() => this.onmessage?.({ data: JSON.stringify(message) }), 5);
    }

    #greet() {
      if (fake.greet === "yes") {
        this.tell({ type: "hello_ack", voices, ice_servers: [], session_id: "0".repeat(32), resumed: fake.sockets.length > 1 });
      } else if (fake.greet in texts) {
        const text = texts[/** @type {keyof typeof texts} */ (fake.greet)];
        this.tell({ type: "error", code: fake.greet, message: text, error: text });
      }
    }
  }

  /** @type {{ context: AudioContext, wave: OscillatorNode, gain: GainNode, stream: MediaStream } | null} */
  let source = null;
  function sound() {
    if (source) return source.stream;
    const context = new AudioContext();
    const wave = context.createOscillator();
    const gain = context.createGain();
    const out = context.createMediaStreamDestination();
    gain.gain.value = 0;
    wave.connect(gain).connect(out);
    wave.start();
    source = { context, wave, gain, stream: out.stream };
    return out.stream;
  }
  function tune() {
    if (!source) return;
    source.gain.gain.value = fake.voice ? 0.3 : 0;
    if (fake.voice) source.wave.frequency.value = Number(fake.voice.split("-")[1]);
  }

  class FakeConnection {
    signalingState = "stable";
    connectionState = "new";
    /** @type {{ sdp: string } | null} */ localDescription = null;
    /** @type {((event: any) => void) | null} */ ontrack = null;
    /** @type {(() => void) | null} */ onconnectionstatechange = null;
    onicecandidate = null;
    #born = performance.now();

    constructor() {
      fake.connections.push(this);
    }

    addTransceiver() {}
    restartIce() {}
    close() {}
    async addIceCandidate() {}
    async createOffer() {
      return { type: "offer", sdp: "v=0" };
    }
    /** @param {{ sdp: string }} offer */
    async setLocalDescription(offer) {
      this.localDescription = offer;
      this.signalingState = "have-local-offer";
    }
    async setRemoteDescription() {
      this.signalingState = "stable";
      if (fake.media !== "yes") return;
      setTimeout(() => {
        const stream = sound();
        this.ontrack?.({ streams: [stream], track: stream.getAudioTracks()[0] });
        this.connectionState = "connected";
        this.onconnectionstatechange?.();
      }, 20);
    }
    async getStats() {
      const packets = Math.round((performance.now() - this.#born) / 20);
      const end = { protocol: "udp", port: 3479 };
      const rows = [
        { id: "T", type: "transport", selectedCandidatePairId: "P" },
        { id: "P", type: "candidate-pair", localCandidateId: "L", remoteCandidateId: "R", currentRoundTripTime: fake.relay ? 0.062 : 0.012 },
        fake.relay
          ? { ...end, id: "L", type: "local-candidate", candidateType: "relay", address: "198.18.0.7", port: 20112, relayProtocol: "tcp" }
          : { ...end, id: "L", type: "local-candidate", candidateType: "srflx", address: "203.0.113.20", port: 51044 },
        { ...end, id: "L2", type: "local-candidate", candidateType: "host", address: "" },
        { ...end, id: "R", type: "remote-candidate", candidateType: "host", address: "192.0.2.10" },
        { ...end, id: "R2", type: "remote-candidate", candidateType: "host", protocol: "tcp", address: "192.0.2.10" },
        { id: "I", type: "inbound-rtp", kind: "audio", packetsReceived: packets, bytesReceived: packets * 162, packetsLost: Math.floor(packets / 300), jitter: 0.0021, codecId: "C" },
        { id: "C", type: "codec", mimeType: "audio/opus", clockRate: 48000 },
      ];
      return new Map(rows.map((row) => [row.id, row]));
    }
  }

  Object.assign(window, {
    fake,
    WebSocket: FakeSocket,
    RTCPeerConnection: FakeConnection,
    cutLine: () => fake.sockets.at(-1)?.onclose?.({ code: 1006 }),
    cutMedia: () => {
      const connection = fake.connections.at(-1);
      if (connection) connection.connectionState = "failed";
      fake.voice = "";
      tune();
      connection?.onconnectionstatechange?.();
    },
  });
}
