// Which HTTP Chromium takes for its sockets over TLS: node http2.mjs https://HOST:PORT http2|http1.1
//
// What it has done is read from its own net log: the page sees no difference.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";

import { Checks, ensure, launch } from "./chromium.mjs";

const [base, version] = process.argv.slice(2);
if (process.argv.length !== 4 || !["http2", "http1.1"].includes(version)) {
  console.error("usage: node http2.mjs https://HOST:PORT http2|http1.1");
  process.exit(2);
}
const origin = new URL(base).origin;
const SOCKETS = 5;
const MIB = 1 << 20;

/** The events of a net log, with the names of their types. */
async function readNetLog(file) {
  const { constants, events } = JSON.parse(await readFile(file, "utf8"));
  const names = new Map(Object.entries(constants.logEventTypes).map(([name, number]) => [number, name]));
  return events.map((event) => ({ ...event, name: names.get(event.type), params: event.params ?? {} }));
}

/** Sockets that are open at the same time: echoes, and a clean end. */
function echoes(page) {
  return page.evaluate(
    async ([count, size]) => {
      const one = async (number) => {
        const socket = new WebSocket("/echo");
        socket.binaryType = "arraybuffer";
        await new Promise((resolve, reject) => {
          socket.onopen = resolve;
          socket.onclose = ({ code }) => reject(new Error(`closed with ${code} before it opened`));
        });
        return [socket, number];
      };
      const sockets = await Promise.all(Array.from({ length: count }, (_, number) => one(number)));
      const ended = sockets.map(async ([socket, number]) => {
        const message = new Uint8Array(size).fill(number);
        const back = await new Promise((resolve, reject) => {
          socket.onmessage = ({ data }) => resolve(new Uint8Array(data));
          socket.onclose = ({ code }) => reject(new Error(`closed with ${code} before the echo`));
          socket.send(message);
        });
        const closed = new Promise((resolve) => {
          socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean });
        });
        socket.close(4000 + number, "enough");
        const equal = back.length === size && back.every((byte) => byte === number);
        return { number, equal, ...(await closed) };
      });
      return Promise.all(ended);
    },
    [SOCKETS, MIB],
  );
}

/** Events of a stream that ends, beside the sockets. */
function events(page) {
  return page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const seen = [];
        const source = new EventSource("/count?n=3&interval_ms=20");
        source.addEventListener("tick", ({ data }) => {
          seen.push(data);
          if (seen.length === 3) {
            source.close();
            resolve(seen.join());
          }
        });
        source.onerror = () => reject(new Error(`ended behind ${seen}`));
      }),
  );
}

const checks = new Checks(`http2 ${version}`);
const folder = await mkdtemp(path.join(os.tmpdir(), "towpath-net-log-"));
const file = path.join(folder, "net.json");
try {
  // The testbed's certificate is nobody's.
  const browser = await launch(["--ignore-certificate-errors", `--log-net-log=${file}`, "--net-log-capture-mode=IncludeSensitive"]);
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    await page.goto(`${origin}/healthz`);
    await checks.run("sockets and a stream work, and end in order", async () => {
      const [sockets, ticks] = await Promise.all([echoes(page), events(page)]);
      for (const { number, equal, code, wasClean } of sockets) {
        ensure(equal, `what came back to ${number} differs`);
        ensure(code === 4000 + number && wasClean, `${number}: closed with ${code}, clean: ${wasClean}`);
      }
      ensure(ticks === "1,2,3", `seen ${ticks}`);
    });
  } finally {
    // The log is whole only when the browser has gone.
    await browser.close();
  }
  const log = await readNetLog(file);
  const host = new URL(base).host;
  const settings = log.filter((event) => event.name === "HTTP2_SESSION_RECV_SETTING");
  const connects = log.filter(
    (event) =>
      event.name === "HTTP2_SESSION_SEND_HEADERS" && (event.params.headers ?? []).includes(":protocol: websocket"),
  );
  const switched = log.filter(
    (event) =>
      event.name === "HTTP_TRANSACTION_READ_RESPONSE_HEADERS" && (event.params.headers ?? [])[0]?.startsWith("HTTP/1.1 101"),
  );
  // The page, its stream and its sockets; a session that was made and not used has no streams.
  const sessions = new Set(
    log.filter((event) => event.name === "HTTP2_SESSION_SEND_HEADERS").map((event) => event.source.id),
  );
  await checks.run("HTTP/2 is spoken for the page, in one session", async () => {
    ensure(sessions.size === 1, `sessions with ${host}: ${sessions.size}`);
  });
  const enabled = settings.filter((event) => /^8 /.test(event.params.id) && Number(event.params.value) === 1);
  if (version === "http2") {
    await checks.run("SETTINGS_ENABLE_CONNECT_PROTOCOL is 1", async () => {
      ensure(enabled.length > 0, `settings: ${JSON.stringify(settings.map((event) => event.params))}`);
    });
    await checks.run("each socket is a stream of that session", async () => {
      ensure(connects.length === SOCKETS, `extended CONNECTs: ${connects.length}`);
      ensure(connects.every((event) => sessions.has(event.source.id)), "they are of another session");
      const streams = new Set(connects.map((event) => event.params.stream_id));
      ensure(streams.size === SOCKETS, `streams: ${[...streams]}`);
      const answers = log.filter(
        (event) => event.name === "HTTP2_SESSION_RECV_HEADERS" && streams.has(event.params.stream_id),
      );
      ensure(answers.length === SOCKETS, `answers: ${answers.length}`);
      ensure(answers.every((event) => event.params.headers.includes(":status: 200")), "not each is 200");
      ensure(switched.length === 0, `answers of 101: ${switched.length}`);
    });
  } else {
    await checks.run("SETTINGS_ENABLE_CONNECT_PROTOCOL is not announced", async () => {
      ensure(enabled.length === 0, "it is");
      ensure(connects.length === 0, `extended CONNECTs: ${connects.length}`);
    });
    await checks.run("each socket has a connection of HTTP/1.1", async () => {
      ensure(switched.length === SOCKETS, `answers of 101: ${switched.length}`);
    });
  }
} finally {
  await rm(folder, { recursive: true });
}
checks.printEnd();
process.exitCode = checks.failed === 0 ? 0 : 1;
