// An EventSource through a deploy: node drain.mjs PROGRAM, an example of a drain whose `/ticks` has `sse_retry`.
//
// One feed lives when the drain begins; one has lost its connection just before, and comes back in the middle of it. Both
// must go on from where they were at the next server on the same port: to a browser a 503 would be the end for ever.
import net from "node:net";

import { Checks, ensure, launch } from "./chromium.mjs";
import { Relay } from "./relay.mjs";
import { Server } from "./server.mjs";

if (process.argv.length !== 3) {
  console.error("usage: node drain.mjs PROGRAM");
  process.exit(2);
}

/** Seconds; what is told to come back is behind it. */
const DEADLINE = 5;
const WAIT_MS = 60_000;

/** A page with a feed, and what became of it. */
async function feed(browser, origin) {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(WAIT_MS);
  await page.goto(`${origin}/healthz`);
  await page.evaluate(() => {
    window.seen = { ids: [], opens: 0, errors: [] };
    window.feed = new EventSource("/ticks");
    window.feed.onopen = () => (window.seen.opens += 1);
    window.feed.onmessage = ({ lastEventId }) => window.seen.ids.push(Number(lastEventId));
    window.feed.onerror = () => window.seen.errors.push(window.feed.readyState);
  });
  return {
    seen: () => page.evaluate(() => window.seen),
    until: (condition, wanted) => page.waitForFunction(condition, wanted),
  };
}

const events = (wanted) => window.seen.ids.length >= wanted;
const opens = (wanted) => window.seen.opens >= wanted;
const errors = (wanted) => window.seen.errors.length >= wanted;

/** A WebSocket that does not answer a close: it keeps the drain going to almost its deadline. */
async function stubborn(address) {
  const [host, port] = address.split(":");
  const socket = net.connect(Number(port), host);
  socket.on("error", () => {}); // it is reset in the end, as it must be
  socket.write(
    `GET /echo HTTP/1.1\r\nHost: ${address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
  );
  await new Promise((resolve) => socket.once("data", resolve));
}

const checks = new Checks("drain");
const server = new Server(process.argv[2], (address) => [address, String(DEADLINE)]);
await server.start();
const relay = new Relay(new URL(server.origin));
const relayed = await relay.listen();
const browser = await launch();
try {
  await checks.run("feeds come back from a deploy, without a gap", async () => {
    const living = await feed(browser, server.origin);
    const returning = await feed(browser, relayed);
    await living.until(events, 3);
    await returning.until(events, 3);
    await stubborn(server.address);

    relay.cutBehind = /data: /;
    await returning.until(errors, 1);
    let exited = false;
    const ended = server.end("SIGTERM").then((status) => {
      exited = true;
      return status;
    });
    await living.until(errors, 1);
    await returning.until(opens, 2);
    ensure(!exited, "it came back too late to meet the drain");
    await returning.until(errors, 2);
    const status = await ended;
    ensure(status === 0, `the server ended with ${status}`);

    await server.start();
    for (const [name, feed, opened] of [["living", living, 2], ["returning", returning, 3]]) {
      const before = (await feed.seen()).ids.length;
      await feed.until(events, before + 3);
      const { ids, opens, errors } = await feed.seen();
      ensure(
        ids.every((id, index) => id === index + 1),
        `${name}: ${ids.slice(before - 2, before + 3)} came`,
      );
      ensure(opens === opened, `${name}: opened ${opens} times`);
      // 0: it connects again; 2 would be the end.
      ensure(
        errors.every((state) => state === 0),
        `${name}: the states ${errors}`,
      );
    }
  });
} finally {
  await browser.close();
  relay.close();
  await server.end("SIGKILL");
}
checks.printEnd();
if (checks.failed > 0) process.exitCode = 1;
process.exit();
