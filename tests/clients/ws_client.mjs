// npm's `ws` against a testbed: node ws_client.mjs http://HOST:PORT
import { deepStrictEqual, ok, strictEqual } from "node:assert";
import { once } from "node:events";
import { randomBytes } from "node:crypto";

import WebSocket from "ws";

const MIB = 1 << 20;
// What one check may take, so that a server that falls silent is a failure and not a hang.
const LIMIT_MS = 60_000;

if (process.argv.length !== 3) {
  console.error("usage: node ws_client.mjs http://HOST:PORT");
  process.exit(2);
}
const base = `ws://${new URL(process.argv[2]).host}`;

/** A socket whose messages are taken one by one. */
class Peer {
  #messages = [];
  #waiting = [];

  constructor(path, protocols = [], options = {}) {
    this.socket = new WebSocket(base + path, protocols, { maxPayload: 128 * MIB, ...options });
    this.socket.on("message", (data, binary) => {
      const message = binary ? data : data.toString("utf8");
      const taker = this.#waiting.shift();
      if (taker) taker(message);
      else this.#messages.push(message);
    });
    this.closed = new Promise((resolve) =>
      this.socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })),
    );
    // A refusal is seen by `once(…, "open")`; later errors are followed by `close`.
    this.socket.on("error", () => {});
  }

  static async open(...args) {
    const peer = new Peer(...args);
    await once(peer.socket, "open");
    return peer;
  }

  recv() {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    const closed = this.closed.then(({ code }) => {
      throw new Error(`closed with ${code} while a message was awaited`);
    });
    return Promise.race([new Promise((resolve) => this.#waiting.push(resolve)), closed]);
  }

  async echoes(message, what) {
    this.socket.send(message);
    same(await this.recv(), message, what);
  }

  async close(code, reason) {
    this.socket.close(code, reason);
    return this.closed;
  }
}

/** Compares without printing 16 MiB. */
function same(seen, expected, what) {
  strictEqual(typeof seen, typeof expected, `${what}: type`);
  strictEqual(seen.length, expected.length, `${what}: length`);
  ok(typeof seen === "string" ? seen === expected : Buffer.compare(seen, expected) === 0, `${what}: content`);
}

const checks = {
  async "text and binary"() {
    const peer = await Peer.open("/echo");
    for (const message of ["x", "Grüße, 世界 🦀", "", Buffer.alloc(0), Buffer.from([0, 255, 128]), "a".repeat(126), Buffer.alloc(65536, 7)]) {
      await peer.echoes(message, `a message of ${message.length}`);
    }
    await peer.close(1000);
  },

  async "16 MiB"() {
    const peer = await Peer.open("/echo");
    await peer.echoes(randomBytes(16 * MIB), "binary");
    await peer.echoes("é".repeat(8 * MIB), "text");
    await peer.close(1000);
  },

  async fragments() {
    const peer = await Peer.open("/echo");
    for (const [part, fin] of [["Grü", false], ["", false], ["ße", true]]) peer.socket.send(part, { fin });
    same(await peer.recv(), "Grüße", "text in three frames");
    // Cut inside of a character.
    const bytes = Buffer.from("🦀");
    peer.socket.send(bytes.subarray(0, 2), { fin: false, binary: false });
    peer.socket.send(bytes.subarray(2), { fin: true, binary: false });
    same(await peer.recv(), "🦀", "a character in two frames");
    const part = randomBytes(64 * 1024);
    for (let index = 0; index < 256; index++) peer.socket.send(part, { fin: index === 255 });
    same(await peer.recv(), Buffer.concat(Array(256).fill(part)), "16 MiB in 256 frames");
    await peer.close(1000);
  },

  async "ping between fragments"() {
    const peer = await Peer.open("/echo");
    const pong = once(peer.socket, "pong");
    peer.socket.send("be", { fin: false });
    peer.socket.ping("now");
    strictEqual((await pong)[0].toString(), "now", "answered before the message is whole");
    peer.socket.send("hind", { fin: true });
    same(await peer.recv(), "behind", "a message with a ping inside");
    await peer.close(1000);
  },

  async "many in flight"() {
    const peer = await Peer.open("/echo");
    for (let number = 0; number < 5000; number++) peer.socket.send(String(number));
    for (let number = 0; number < 5000; number++) strictEqual(await peer.recv(), String(number), "in order");
    await peer.close(1000);
  },

  async "close is answered"() {
    for (const [code, reason] of [[1000, ""], [1001, "leaving"], [3000, "x".repeat(123)], [4999, "Grüße"]]) {
      const peer = await Peer.open("/echo");
      await peer.echoes("x", "an echo");
      strictEqual((await peer.close(code, reason)).code, code, "the code that came back");
    }
    const peer = await Peer.open("/echo");
    strictEqual((await peer.close()).code, 1005, "a close without a code is answered by one without");
  },

  async "server closes when done"() {
    const peer = new Peer("/flood?n=100&size=1000");
    for (let index = 0; index < 100; index++) strictEqual((await peer.recv()).length, 1000);
    strictEqual((await peer.closed).code, 1000);
  },

  async "server closes what is wrong"() {
    const wrong = [
      ["/echo", 1007, (socket) => socket.send(Buffer.from([0x63, 0xe9]), { binary: false })],
      ["/echo", 1009, (socket) => socket.send(Buffer.alloc(16 * MIB + 1))],
      ["/panic", 1011, (socket) => socket.send("now")],
    ];
    for (const [path, code, act] of wrong) {
      const peer = await Peer.open(path);
      act(peer.socket);
      strictEqual((await peer.closed).code, code, path);
    }
  },

  async subprotocols() {
    for (const [offered, chosen] of [[["chat.v1"], "chat.v1"], [["chat.v1", "chat.v2"], "chat.v2"], [[], ""]]) {
      const peer = new Peer("/protocols", offered);
      strictEqual(await peer.recv(), chosen || "none", "the handler's view");
      strictEqual(peer.socket.protocol, chosen, "the client's view");
      await peer.close(1000);
    }
  },

  async credentials() {
    const refused = new Peer("/private/echo");
    const [, response] = await once(refused.socket, "unexpected-response");
    strictEqual(response.statusCode, 401);
    ok(response.headers["www-authenticate"], "401 comes with WWW-Authenticate");
    response.destroy();
    const peer = await Peer.open("/private/echo", [], { headers: { authorization: "Bearer secret" } });
    await peer.echoes("let in", "with the credential");
    await peer.close(1000);
  },

  async "one topic with acknowledgement"() {
    const path = "/topics/node.client/ws";
    const [reader, writer] = [await Peer.open(path), await Peer.open(path, ["towpath.v1"])];
    strictEqual(writer.socket.protocol, "towpath.v1");
    writer.socket.send(JSON.stringify({ publish: "hello", ref: 7 }));
    strictEqual(await reader.recv(), "hello", "bare");
    const frames = [JSON.parse(await writer.recv()), JSON.parse(await writer.recv())];
    const ack = frames.find((frame) => "ack" in frame);
    const event = frames.find((frame) => "data" in frame);
    ok(ack && event, `an ack and the event: ${JSON.stringify(frames)}`);
    deepStrictEqual([ack.ack, event.data, ack.id], [7, "hello", event.id]);
    await Promise.all([reader.close(1000), writer.close(1000)]);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    await Promise.race([check(), late]);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ws: ${name}: ${error.message}`);
  }
  clearTimeout(timer);
}
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
// Sockets of a failed check may still be open.
process.exit(failed === 0 ? 0 : 1);
