// Two people in two pages of the chat, whose server goes away and comes back:
// node chat.mjs --server PROGRAM --framework axum|actix --artefacts FOLDER
import path from "node:path";
import { parseArgs } from "node:util";

import { Checks, ensure, launch } from "./chromium.mjs";
import { Server } from "./server.mjs";

const { values: options } = parseArgs({
  options: { server: { type: "string" }, framework: { type: "string" }, artefacts: { type: "string" } },
});
if (!options.server || !options.framework || !options.artefacts) {
  console.error("usage: node chat.mjs --server PROGRAM --framework axum|actix --artefacts FOLDER");
  process.exit(2);
}

const WAIT_MS = 20_000;
const PHONE = { width: 390, height: 844 };

/** One person's page, driven by what a person sees. */
class Person {
  /** What the page threw; a person would not see it, but something is wrong. */
  errors = [];

  constructor(name, page) {
    this.name = name;
    this.page = page;
    page.setDefaultTimeout(WAIT_MS);
    page.on("pageerror", (error) => this.errors.push(error.message));
  }

  static async arrive(browser, name, origin, viewport) {
    // A context of its own: nobody shares storage with another person.
    const context = await browser.newContext({ viewport });
    const person = new Person(name, await context.newPage());
    await person.page.goto(origin);
    return person;
  }

  async join(room) {
    const field = this.page.locator("#room");
    if ((await field.evaluate((element) => element.tagName)) === "SELECT") await field.selectOption(room);
    else await field.fill(room);
    await this.page.fill("#name", this.name);
    await this.page.click("#join");
    await this.isOpen();
  }

  async say(text, by = "button") {
    await this.page.fill("#message", text);
    if (by === "button") await this.page.click("#send");
    else await this.page.press("#message", "Enter");
  }

  isOpen() {
    return this.#state(["open"]);
  }

  isCutOff() {
    return this.#state(["closed", "connecting"]);
  }

  async #state(wanted) {
    const wait = this.page.waitForFunction(
      (wanted) => wanted.includes(document.querySelector("#status")?.dataset.state),
      wanted,
    );
    await wait.catch(async () => {
      const seen = await this.page.locator("#status").getAttribute("data-state");
      throw new Error(`${this.name}: #status is ${seen}, awaited ${wanted.join(" or ")}`);
    });
  }

  log() {
    return this.page.locator("#log").textContent();
  }

  /** Waits for the texts to be in the log; then each must be there once, in their order. */
  async hears(texts) {
    const all = this.page.waitForFunction(
      (texts) => texts.every((text) => document.querySelector("#log").textContent.includes(text)),
      texts,
    );
    await all.catch(() => {}); // what is missing is said below
    const log = await this.log();
    const times = texts.map((text) => log.split(text).length - 1);
    const wrong = texts.map((text, index) => `${text}: ${times[index]} times`).filter((_, index) => times[index] !== 1);
    ensure(wrong.length === 0, `${this.name} hears ${wrong.join(", ")}`);
    const places = texts.map((text) => log.indexOf(text));
    ensure(
      places.every((place, index) => index === 0 || places[index - 1] < place),
      `${this.name} hears ${texts.join(", ")} in another order`,
    );
  }

  /** Waits for the live feed to change, and to change again: a stream, not a leftover. */
  async feedMoves(times) {
    for (let time = 0; time < times; time++) {
      const before = await this.page.locator("#feed").textContent();
      const moved = this.page.waitForFunction((before) => document.querySelector("#feed").textContent !== before, before);
      await moved.catch(() => {
        throw new Error(`${this.name}: #feed stands still at ${JSON.stringify(before)}`);
      });
    }
  }

  async sees(people) {
    const seen = this.page.waitForFunction(
      (people) => people.every((name) => document.querySelector("#people").textContent.includes(name)),
      people,
    );
    await seen.catch(async () => {
      const text = await this.page.locator("#people").textContent();
      throw new Error(`${this.name}: #people is ${JSON.stringify(text)}, awaited ${people}`);
    });
  }
}

// A unique part, so that a text is never part of another.
let number = 0;
function texts(what, count) {
  return Array.from({ length: count }, () => `<${what} ${(number += 1).toString().padStart(3, "0")}>`);
}

function both(check) {
  return Promise.all([check(alice), check(bob)]);
}

const screenshot = (person, what) =>
  person.page.screenshot({ path: path.join(options.artefacts, `chat-${options.framework}-${what}.png`) });

const checks = new Checks(`chat ${options.framework}`);
const server = new Server(options.server, (address) => ["--framework", options.framework, "--addr", address]);
await server.start();
const browser = await launch();
let alice;
let bob;
try {
  alice = await Person.arrive(browser, "Alice", server.origin);
  bob = await Person.arrive(browser, "Bob", server.origin, PHONE);
  const said = [];

  const met = await checks.run("two pages chat with each other", async () => {
    await both((person) => person.join("lock-keepers"));
    await both((person) => person.sees(["Alice", "Bob"]));
    const [first, second, third] = texts("hello", 3);
    await alice.say(first);
    await bob.hears([first]);
    await bob.say(second, "Enter");
    await alice.hears([first, second]);
    await alice.say(third);
    said.push(first, second, third);
    await both((person) => person.hears(said));
    await both((person) => person.feedMoves(2));
  });
  // Nothing below means anything without it.
  if (!met) throw new Error("the pages did not meet");

  await checks.run("markup is shown as text", async () => {
    const markup = '<img src=x onerror="window.owned = 1"><b>bold</b><script>window.owned = 1</script> & &amp;';
    await alice.say(markup);
    await both((person) => person.hears([markup]));
    for (const { page, name } of [alice, bob]) {
      ensure((await page.locator("#log img, #log b, #log script").count()) === 0, `${name}: it became elements`);
      ensure((await page.evaluate(() => window.owned)) === undefined, `${name}: it ran`);
    }
  });

  await checks.run("a reloaded page joins by itself and sees the history once", async () => {
    const before = await alice.log();
    await bob.page.reload();
    await bob.isOpen();
    await bob.hears(said);
    await bob.sees(["Alice", "Bob"]);
    // Long enough for a leave to be told, which a reload is not.
    await alice.feedMoves(5);
    ensure((await alice.log()) === before, "Alice is told nothing of the reload");
    const [text] = texts("back", 1);
    said.push(text);
    await bob.say(text);
    await both((person) => person.hears(said));
  });
  await screenshot(alice, "desktop");
  await screenshot(bob, "phone");

  // The embedded log is new behind a restart, so what a page shows from before is its own to keep.
  for (const [signal, ended] of [["SIGTERM", 0], ["SIGKILL", "SIGKILL"]]) {
    await checks.run(`${signal}: both pages come back, nothing is lost or doubled`, async () => {
      const [leaving, ...waiting] = texts(`while down by ${signal}`, 5);
      const status = await server.end(signal);
      ensure(status === ended, `the server ended with ${status}`);
      await both((person) => person.isCutOff());
      const [ofAlice, ofBob] = [[leaving, ...waiting.slice(0, 2)], waiting.slice(2)];
      for (const text of ofAlice) await alice.say(text);
      for (const text of ofBob) await bob.say(text, "Enter");
      await alice.hears(ofAlice); // shown as waiting
      ensure(!(await alice.log()).includes(ofBob[0]), "nothing can have come from Bob yet");
      await screenshot(alice, `down-${signal.toLowerCase()}`);

      await server.start();
      await both((person) => person.isOpen());
      await both((person) => person.hears(ofAlice));
      await both((person) => person.hears(ofBob));
      const [again] = texts("again", 1);
      await bob.say(again);
      await both((person) => person.hears([...ofAlice, again]));
      await both((person) => person.hears([...ofBob, again]));
      await both((person) => person.hears(said));
      await both((person) => person.sees(["Alice", "Bob"]));
      await both((person) => person.feedMoves(2));

      // What the new server knows is all that is left to a page that begins anew, once.
      await alice.page.reload();
      await alice.isOpen();
      await alice.hears([...ofAlice, again]);
      await alice.hears([...ofBob, again]);
      // Alice has forgotten the rest.
      said.length = 0;
    });
  }

  await checks.run("the pages threw nothing", async () => {
    await both((person) => ensure(person.errors.length === 0, `${person.name}: ${person.errors.join("; ")}`));
  });
  await screenshot(alice, "end");
} catch (error) {
  console.log(`FAILED chat ${options.framework}: ${error.message}`);
  process.exitCode = 1;
  for (const [name, person] of Object.entries({ alice, bob })) {
    if (person) await screenshot(person, `failed-${name}`);
  }
} finally {
  await browser.close();
  await server.end("SIGKILL");
}
checks.printEnd();
if (checks.failed > 0) process.exitCode = 1;
