// What both browser tests share: Debian's Chromium, and the count of checks.
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  // Without these it looks for hosts of its maker at every start.
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts a browser with a new profile, which goes with it. */
export function launch(flags = []) {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: [...FLAGS, ...flags] });
}

/** Runs named checks one after the other, and tells how they ended in the line that xtask reads. */
export class Checks {
  #passed = 0;
  #failed = 0;
  #label;

  constructor(label) {
    this.#label = label;
  }

  /** Returns whether the check passed. */
  async run(name, check) {
    try {
      await check();
      this.#passed += 1;
      return true;
    } catch (error) {
      this.#failed += 1;
      console.log(`FAILED ${this.#label}: ${name}: ${error.message}`);
      return false;
    }
  }

  get failed() {
    return this.#failed;
  }

  printEnd() {
    console.log(`${this.#passed} passed, ${this.#failed} failed`);
  }
}

/** Fails a check. */
export function ensure(condition, message) {
  if (!condition) throw new Error(message);
}
