// A server made of the browser itself: the page's own WebRTC, answered inside the page, so that negotiation meets real media.

/** Runs in the page before its scripts; `window.loopback` shows and moves the far side. */
export function installLoopback() {
  const Real = RTCPeerConnection;
  const loopback = { far: /** @type {RTCPeerConnection | null} */ (null), offers: 0, line: true, sockets: /** @type {Loop[]} */ ([]) };
  const voices = [220, 440, 880].map((hz) => ({ id: `sine-${hz}`, name: `${hz} Hz`, description: "A tone." }));
  const context = new AudioContext();
  const wave = new OscillatorNode(context);
  const gain = new GainNode(context, { gain: 0 });
  const out = context.createMediaStreamDestination();
  wave.connect(gain).connect(out);
  wave.start();

  /** A far side that a test closed answers nobody. @param {RTCPeerConnection | null} far */
  const alive = (far) => far !== null && far.signalingState !== "closed";

  class Loop {
    /** @type {((event: any) => void) | null} */ onopen = null;
    /** @type {((event: any) => void) | null} */ onmessage = null;
    /** @type {((event: any) => void) | null} */ onclose = null;
    onerror = null;

    constructor() {
      loopback.sockets.push(this);
      setTimeout(() => (loopback.line ? this.onopen?.({}) : this.onclose?.({ code: 1006 })), 5);
    }
    close() {}
    /** @param {object} message */
    tell(message) {
      setTimeout(() => loopback.line && this.onmessage?.({ data: JSON.stringify(message) }), 2);
    }
    /** @param {string} text */
    send(text) {
      const message = JSON.parse(text);
      if (!loopback.line) return;
      if (message.type === "hello") this.tell({ type: "hello_ack", voices, ice_servers: [], session_id: "c".repeat(32), resumed: "session" in message });
      if (message.type === "ping") this.tell({ type: "pong" });
      if (message.type === "offer") void this.#answer(message.sdp);
      if (message.type === "ice-candidate" && message.candidate && alive(loopback.far)) void loopback.far?.addIceCandidate(message.candidate);
      if (message.type === "start") {
        wave.frequency.value = Number(message.voice_id.split("-")[1]);
        gain.gain.value = 0.3;
      }
      if (message.type === "stop") gain.gain.value = 0;
    }
    /** @param {string} sdp */
    async #answer(sdp) {
      loopback.offers += 1;
      const fingerprint = /a=fingerprint:.*/.exec(sdp)?.[0] ?? "";
      let far = loopback.far;
      // Another fingerprint is another connection, as the server sees it too.
      if (!far?.remoteDescription?.sdp.includes(fingerprint)) {
        far?.close();
        far = loopback.far = new Real();
        for (const track of out.stream.getTracks()) far.addTrack(track, out.stream);
        far.onicecandidate = ({ candidate }) => this.tell({ type: "ice-candidate", candidate: candidate && candidate.toJSON() });
      }
      if (!alive(far)) return;
      await far.setRemoteDescription({ type: "offer", sdp });
      await far.setLocalDescription();
      this.tell({ type: "answer", sdp: far.localDescription?.sdp });
    }
  }
  Object.assign(window, { loopback, WebSocket: Loop });
}
