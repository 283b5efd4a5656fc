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
  #online = () => this.#timer !== null && this.now();

  constructor(action) {
    this.#action = action;
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
