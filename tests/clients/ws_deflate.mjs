// npm's `ws` against a testbed with --deflate, in every combination of parameters that it can be told to ask for:
// node ws_deflate.mjs http://HOST:PORT none|takeover
import { ok, strictEqual } from "node:assert";
import { randomBytes } from "node:crypto";
import { once } from "node:events";

import WebSocket from "ws";

// What one check may take, so that a server that falls silent is a failure and not a hang.
const LIMIT_MS = 120_000;
// Connections at once; each has contexts of its own.
const AT_ONCE = 16;

if (process.argv.length !== 4 || !["none", "takeover"].includes(process.argv[3])) {
  console.error("usage: node ws_deflate.mjs http://HOST:PORT none|takeover");
  process.exit(2);
}
const base = `ws://${new URL(process.argv[2]).host}`;
const takeover = process.argv[3] === "takeover";

/** What RFC 7692 §7.1 and our settings make of an offer. */
function answer({ serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits }) {
  const parts = ["permessage-deflate"];
  if (serverNoContextTakeover || !takeover) parts.push("server_no_context_takeover");
  if (clientNoContextTakeover || !takeover) parts.push("client_no_context_takeover");
  if (serverMaxWindowBits) parts.push(`server_max_window_bits=${serverMaxWindowBits}`);
  // Without a value it is no limit, and so is what the largest window has.
  if (clientMaxWindowBits < 15 && typeof clientMaxWindowBits === "number") {
    parts.push(`client_max_window_bits=${clientMaxWindowBits}`);
  }
  return parts.join("; ");
}

/** How many bytes of the wire the echo took. */
async function echo(socket, message) {
  const before = socket._socket.bytesRead;
  const echoed = once(socket, "message");
  // Whatever the threshold is, so that what is short is inflated by the server, too.
  socket.send(message, { compress: true });
  const [data, binary] = await echoed;
  strictEqual(binary, typeof message !== "string", "type");
  ok(Buffer.compare(data, Buffer.from(message)) === 0, `the echo of ${message.length} differs`);
  return socket._socket.bytesRead - before;
}

async function combination(perMessageDeflate) {
  const what = JSON.stringify(perMessageDeflate);
  const socket = new WebSocket(`${base}/echo`, { perMessageDeflate: { threshold: 0, ...perMessageDeflate } });
  const closed = once(socket, "close");
  // The head comes with the event before `open`.
  const [[response]] = await Promise.all([once(socket, "upgrade"), once(socket, "open")]);
  strictEqual(response.headers["sec-websocket-extensions"], answer(perMessageDeflate), what);
  // Below the threshold, past a frame's length of 16 bits, and at the sizes between.
  for (const size of [0, 1, 100, 1000, 5000, 100_000]) {
    const text = "and all the others who read this, Grüße. ".repeat(size / 40 + 1).slice(0, size);
    for (const message of [text, Buffer.alloc(size)]) {
      const taken = await echo(socket, message);
      if (size >= 1000) ok(taken < size * 0.6, `${what}: ${size} bytes took ${taken}: not compressed`);
    }
  }
  // Only who remembers makes what was random little; it is short enough for the smallest window.
  const random = randomBytes(200);
  const [first, second] = [await echo(socket, random), await echo(socket, random)];
  const remembers = takeover && !perMessageDeflate.serverNoContextTakeover;
  ok(first >= 200, `${what}: random bytes took ${first}`);
  strictEqual(second < 50, remembers, `${what}: the same again took ${second} behind ${first}`);
  socket.close(1000);
  strictEqual((await closed)[0], 1000, `${what}: the code that came back`);
}

/** All that can be asked for beside one size of the server's window. */
async function window(serverMaxWindowBits) {
  const combinations = [];
  for (const serverNoContextTakeover of [undefined, true]) {
    // `false` refuses an answer with it, which ours has unless it takes contexts over.
    for (const clientNoContextTakeover of takeover ? [undefined, false, true] : [undefined, true]) {
      for (const clientMaxWindowBits of [undefined, false, 8, 9, 10, 11, 12, 13, 14, 15]) {
        const named = { serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits };
        combinations.push(named);
      }
    }
  }
  const worker = async () => {
    for (let next; (next = combinations.pop()); ) await combination(next);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

let [passed, failed] = [0, 0];
for (const bits of [undefined, 8, 9, 10, 11, 12, 13, 14, 15]) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    await Promise.race([window(bits), late]);
    passed += 1;
  } catch (error) {
    failed += 1;
    console.log(`FAILED ws: server_max_window_bits=${bits}: ${error.message}`);
  }
  clearTimeout(timer);
}
console.log(`${passed} passed, ${failed} failed`);
// Sockets of a failed check may still be open.
process.exit(failed === 0 ? 0 : 1);
