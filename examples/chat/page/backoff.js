const BASE_MS = 250;
const CAP_MS = 3000;

/**
 * Runs `action` again after a random wait below a ceiling that doubles (full jitter),
 * or at once when the browser says that the network is back.
 */
export class Backoff {
  #action;
  #attempt = 0;
  #timer = null;
  #online;

  constructor(action, isOpen) {
    this.#action = action;
    // A try that is under way may sit on packets that were lost: it is made anew, too.
    this.#online = () => isOpen() || this.now();
    addEventListener("online", this.#online);
  }

  /** Plans the next try and tells the wait in milliseconds. */
  later() {
    const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** this.#attempt++);
    const wait = Math.random() * ceiling;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.now(), wait);
    return wait;
  }

  now() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#action();
  }

  reset() {
    this.#attempt = 0;
  }

  stop() {
    clearTimeout(this.#timer);
    removeEventListener("online", this.#online);
  }
}
