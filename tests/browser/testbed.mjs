// Chromium against a testbed: node testbed.mjs http://HOST:PORT
import { Checks, ensure, launch } from "./chromium.mjs";
import { Relay } from "./relay.mjs";

const MIB = 1 << 20;

if (process.argv.length !== 3) {
  console.error("usage: node testbed.mjs http://HOST:PORT");
  process.exit(2);
}
const base = new URL(process.argv[2]);

/** Opens a socket in the page, sends what `make` describes, and tells whether the same came back. */
function echo(page, kind, size) {
  return page.evaluate(
    async ([kind, size]) => {
      const socket = new WebSocket("/echo");
      socket.binaryType = "arraybuffer";
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code} before it opened`));
      });
      let message;
      if (kind === "text") {
        message = "Grüße 🦀 ".repeat(Math.ceil(size / 12)).slice(0, size);
      } else {
        message = new Uint8Array(size);
        for (let begin = 0; begin < size; begin += 65536) crypto.getRandomValues(message.subarray(begin, begin + 65536));
      }
      const back = await new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(data);
        socket.onclose = ({ code }) => reject(new Error(`closed with ${code} before the echo`));
        socket.send(message);
      });
      const closed = new Promise((resolve) => {
        socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean });
      });
      socket.close(1000);
      let equal;
      if (kind === "text") {
        equal = back === message;
      } else {
        const bytes = new Uint8Array(back);
        equal = bytes.length === size && bytes.every((byte, index) => byte === message[index]);
      }
      return { equal, ...(await closed) };
    },
    [kind, size],
  );
}

/** How a socket ends: the close event that the page sees, and the number of messages before. */
function ending(page, path, act) {
  return page.evaluate(
    async ([path, act]) => {
      const socket = new WebSocket(path);
      let messages = 0;
      socket.onmessage = () => (messages += 1);
      return new Promise((resolve) => {
        socket.onopen = () => {
          if (act.send !== undefined) socket.send(act.send);
          if (act.sendBytes !== undefined) socket.send(new Uint8Array(act.sendBytes));
          if (act.close !== undefined) socket.close(...act.close);
        };
        socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean, messages });
      });
    },
    [path, act],
  );
}

const relay = new Relay(base);
const relayed = await relay.listen();
const checks = new Checks("testbed");
const browser = await launch();
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  // Any page of the server's own origin will do.
  await page.goto(`${base.origin}/healthz`);

  for (const [kind, size] of [["text", 30], ["binary", 30], ["text", 0], ["binary", 0], ["text", 4 * MIB], ["binary", 16 * MIB]]) {
    await checks.run(`${kind} of ${size} comes back`, async () => {
      const seen = await echo(page, kind, size);
      ensure(seen.equal, "what came back differs");
      ensure(seen.code === 1000 && seen.wasClean, `closed with ${JSON.stringify(seen)}`);
    });
  }

  const endings = [
    ["a code of the application", "/echo", { close: [4001, "bye"] }, 4001, 0],
    ["no code", "/echo", { close: [] }, 1005, 0],
    ["the server is done", "/flood?n=50&size=1000", {}, 1000, 50],
    ["a panic of the handler", "/panic", { send: "now" }, 1011, 0],
    ["a message past the limit", "/echo", { sendBytes: 64 * MIB + 1 }, 1009, 0],
  ];
  for (const [name, path, act, code, messages] of endings) {
    await checks.run(`close: ${name}`, async () => {
      const seen = await ending(page, path, act);
      ensure(seen.code === code && seen.wasClean, `expected a clean ${code}, seen ${JSON.stringify(seen)}`);
      ensure(seen.messages === messages, `expected ${messages} messages, seen ${seen.messages}`);
    });
  }

  await checks.run("subprotocol", async () => {
    const chosen = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const socket = new WebSocket("/protocols", ["chat.v1", "chat.v2"]);
          socket.onmessage = ({ data }) => resolve([socket.protocol, data]);
          socket.onclose = ({ code }) => resolve(code);
        }),
    );
    ensure(JSON.stringify(chosen) === '["chat.v2","chat.v2"]', `seen ${JSON.stringify(chosen)}`);
  });

  await checks.run("EventSource reads /count, is cut off, and resumes", async () => {
    await page.goto(`${relayed}/healthz`);
    relay.requests.length = 0;
    relay.cutBehind = /^id: ?4\r?\n[^]*?\n\r?\n/m;
    const seen = await page.evaluate(
      () =>
        new Promise((resolve, reject) => {
          const seen = [];
          const source = new EventSource("/count?n=8&interval_ms=100");
          source.addEventListener("tick", ({ data, lastEventId }) => {
            seen.push(`${lastEventId}=${data}`);
            if (seen.length === 8) {
              source.close();
              resolve(seen);
            }
          });
          source.onerror = () => {
            if (source.readyState === EventSource.CLOSED) reject(new Error(`gave up behind ${seen}`));
          };
          setTimeout(() => reject(new Error(`only ${seen} came`)), 25_000);
        }),
    );
    ensure(seen.join() === "1=1,2=2,3=3,4=4,5=5,6=6,7=7,8=8", `seen ${seen}`);
    const counts = relay.requests.filter((head) => head.startsWith("GET /count"));
    ensure(counts.length === 2, `expected two requests, seen ${counts.length}`);
    ensure(/^last-event-id: 4\r$/im.test(counts[1]), "the second request names the last id");
  });
} finally {
  await browser.close();
  relay.close();
}
checks.printEnd();
process.exitCode = checks.failed === 0 ? 0 : 1;
