// Chromium against a testbed with --deflate: node deflate.mjs http://HOST:PORT none|takeover
import { Checks, ensure, launch } from "./chromium.mjs";
import { Relay } from "./relay.mjs";

if (process.argv.length !== 4 || !["none", "takeover"].includes(process.argv[3])) {
  console.error("usage: node deflate.mjs http://HOST:PORT none|takeover");
  process.exit(2);
}
const takeover = process.argv[3] === "takeover";
const NONE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const agreed = takeover ? "permessage-deflate" : NONE;

/** Echoes what `make` describes, as often as asked, over a socket of its own. */
function echo(page, kind, size, times) {
  return page.evaluate(
    async ([kind, size, times]) => {
      const socket = new WebSocket("/echo");
      socket.binaryType = "arraybuffer";
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code} before it opened`));
      });
      const bytes = new Uint8Array(size);
      if (kind === "random") crypto.getRandomValues(bytes);
      const message = kind === "text" ? "Grüße 🦀 ".repeat(Math.ceil(size / 9)).slice(0, size) : bytes;
      let equal = 0;
      for (let turn = 0; turn < times; turn++) {
        const back = await new Promise((resolve, reject) => {
          socket.onmessage = ({ data }) => resolve(data);
          socket.onclose = ({ code }) => reject(new Error(`closed with ${code} before the echo`));
          socket.send(message);
        });
        if (kind === "text") {
          equal += back === message;
        } else {
          const seen = new Uint8Array(back);
          equal += seen.length === size && seen.every((byte, index) => byte === bytes[index]);
        }
      }
      const closed = new Promise((resolve) => {
        socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean });
      });
      const { extensions } = socket;
      socket.close(1000);
      return { equal, extensions, ...(await closed) };
    },
    [kind, size, times],
  );
}

const relay = new Relay(new URL(process.argv[2]));
const relayed = await relay.listen();
const checks = new Checks(`deflate ${process.argv[3]}`);
const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`${relayed}/healthz`);

  // What the socket costs besides: its handshake, and 16 bytes for each frame's header and the close.
  const most = (bytes, times) => 1000 + times * (16 + bytes);
  const cases = [
    ["text", 30, 3, 40],
    ["text", 5000, 3, 200],
    ["text", 1 << 20, 2, 30_000],
    ["zeros", 0, 2, 0],
    ["zeros", 100_000, 3, 1000],
    ["random", 60_000, 2, 60_500],
  ];
  for (const [kind, size, times, bytes] of cases) {
    await checks.run(`${kind} of ${size}, ${times} times`, async () => {
      [relay.requests.length, relay.fromPage, relay.fromServer] = [0, 0, 0];
      const seen = await echo(page, kind, size, times);
      ensure(seen.equal === times, `${seen.equal} of ${times} came back the same`);
      ensure(seen.code === 1000 && seen.wasClean, `closed with ${JSON.stringify(seen)}`);
      ensure(seen.extensions === agreed, `the answer is ${seen.extensions}`);
      const head = relay.requests.find((head) => head.startsWith("GET /echo"));
      const offer = /^sec-websocket-extensions: (.*)\r$/im.exec(head)?.[1];
      ensure(offer === "permessage-deflate; client_max_window_bits", `Chromium offers ${offer}`);
      const [fromPage, fromServer] = [relay.fromPage, relay.fromServer];
      ensure(fromPage < most(bytes, times), `${fromPage} bytes came from Chromium`);
      ensure(fromServer < most(bytes, times), `${fromServer} bytes came from the server`);
    });
  }

  await checks.run("what was said before is remembered where that was agreed", async () => {
    relay.fromServer = 0;
    const seen = await echo(page, "random", 10_000, 10);
    ensure(seen.equal === 10, `${seen.equal} of 10 came back the same`);
    const remembers = relay.fromServer < 15_000;
    ensure(remembers === takeover, `${relay.fromServer} bytes came from the server`);
  });
} finally {
  await browser.close();
  relay.close();
}
checks.printEnd();
process.exitCode = checks.failed === 0 ? 0 : 1;
