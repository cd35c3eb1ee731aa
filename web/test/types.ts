// Holds the declarations of the client module to its JavaScript, by tsc alone: nothing here runs. `index.js` is read through
// `index.d.ts`, the files beside it as they are.

import * as declared from "../sdk/index.js";
import { Client, connect } from "../sdk/client.js";
import { browserClock } from "../sdk/clock.js";
import { VoxcastError } from "../sdk/error.js";
import { DEFAULT_ICE_SERVERS } from "../sdk/ice.js";
import { Room, joinRoom } from "../sdk/roomclient.js";
import { explain } from "../sdk/verdict.js";
import type { ChatLine, ClientOptions, ConnectOptions, IceServer, Report, RoomOptions, RoomPeer, RoomReport, Verdict, View } from "../sdk/index.js";

/** Parameters and results apart, because tsc compares methods too kindly. */
type Exactly<T> = T extends (...parameters: infer P) => infer R ? { parameters: P; result: R } : T;
type Shape<T> = { [Name in keyof T]: Exactly<T[Name]> };
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
declare function holds<Claim extends true>(): Claim;

holds<Same<Shape<declared.Client>, Shape<Client>>>();
holds<Same<ConstructorParameters<typeof declared.Client>, ConstructorParameters<typeof Client>>>();
holds<Same<Shape<declared.VoxcastError>, Shape<VoxcastError>>>();
holds<Same<ConstructorParameters<typeof declared.VoxcastError>, ConstructorParameters<typeof VoxcastError>>>();
holds<Same<Parameters<typeof declared.connect>, Parameters<typeof connect>>>();
holds<Same<Shape<Awaited<ReturnType<typeof declared.connect>>>, Shape<Awaited<ReturnType<typeof connect>>>>>();
holds<Same<Exactly<typeof declared.explain>, Exactly<typeof explain>>>();
holds<Same<Shape<declared.Room>, Shape<Room>>>();
holds<Same<Parameters<typeof declared.joinRoom>, Parameters<typeof joinRoom>>>();
holds<Same<Shape<Awaited<ReturnType<typeof declared.joinRoom>>>, Shape<Awaited<ReturnType<typeof joinRoom>>>>>();
holds<Same<typeof declared.browserClock, typeof browserClock>>();
const defaults: typeof declared.DEFAULT_ICE_SERVERS = DEFAULT_ICE_SERVERS;

/** Every value that is declared; client.test.js holds this list to what `index.js` exports. */
export type Exported = keyof typeof declared;

/** As a program would write it. */
export async function use(options: ConnectOptions): Promise<string> {
  const client: declared.Client = await declared.connect({ ...options, onTrack: ({ track }) => track.stop() });
  const off: () => void = client.on("stats", (report: Report) => report.kbps);
  client.on("phase", ({ phase, ms }) => `${phase} ${ms.toFixed()}`);
  client.on("error", ({ verdict }: { verdict: Verdict | null }) => verdict?.next.listener);
  client.on("message", (message) => message.type === "speak_ended" && message.seconds);
  // @ts-expect-error: there is no such event
  client.on("sound", () => {});
  // @ts-expect-error: nor such a policy
  const wrong: ClientOptions = { url: "ws://x", iceTransportPolicy: "relay" };
  const view: View = client.view;
  const servers: readonly IceServer[] = defaults;
  off();
  return `${client.speak("Good morning", { voice: "sine-440" })} ${view.state} ${servers.length} ${wrong.url}`;
}

/** And for a room. */
export async function meet(options: RoomOptions): Promise<string> {
  const room: declared.Room = await declared.joinRoom(options);
  const off: () => void = room.on("track", ({ peer, track, stream }) => `${peer.id} ${track.kind} ${stream.id}`);
  room.on("stats", ({ peers }: RoomReport) => peers.map(({ verdict, words }) => `${words} ${verdict.rating}`));
  room.on("left", (peer: RoomPeer) => peer.channels.size);
  // @ts-expect-error: there is no such event
  room.on("sound", () => {});
  // @ts-expect-error: nor such a policy
  const wrong: RoomOptions = { ...options, iceTransportPolicy: "udp" };
  // @ts-expect-error: a room is joined, not made
  new declared.Room(options);
  await room.replaceTrack("video", null);
  const line: ChatLine = room.sendChat("Good morning");
  off();
  room.close();
  return `${line.text} ${room.state} ${wrong.room}`;
}
