import { Backoff } from "./backoff.js";

/**
 * A room's live feed over `EventSource`: whole snapshots, the newest of which is enough.
 * The listener is told by `onFeedState(state)` and `onSnapshot(snapshot)`.
 */
export class Feed {
  #url;
  #listener;
  #source = null;
  #lastId = null;
  #interrupted = false;
  #backoff = new Backoff(
    () => this.#connect(),
    () => this.#source.readyState === EventSource.OPEN,
  );

  constructor(room, listener) {
    this.#url = new URL(`/rooms/${encodeURIComponent(room)}/feed`, location.href);
    this.#listener = listener;
    this.#connect();
  }

  /** The server is known to be back: do not sit out the wait that it asked for when it left. */
  nudge() {
    if (this.#interrupted) this.#backoff.now();
  }

  close() {
    this.#backoff.stop();
    this.#source.close();
  }

  #connect() {
    this.#source?.close();
    const url = new URL(this.#url);
    if (this.#lastId === null) url.searchParams.set("last", 1);
    else url.searchParams.set("last_event_id", this.#lastId);
    const source = (this.#source = new EventSource(url));
    source.onopen = () => this.#opened();
    source.onerror = () => this.#failed();
    source.onmessage = ({ data, lastEventId }) => {
      this.#lastId = lastEventId;
      this.#listener.onSnapshot(JSON.parse(data));
    };
    this.#listener.onFeedState("connecting");
  }

  #opened() {
    this.#interrupted = false;
    this.#backoff.reset();
    this.#listener.onFeedState("open");
  }

  #failed() {
    this.#interrupted = true;
    // The browser tries again by itself, unless the answer was a final one (any status but 200).
    const gaveUp = this.#source.readyState === EventSource.CLOSED;
    if (gaveUp) this.#backoff.later();
    this.#listener.onFeedState(gaveUp ? "closed" : "connecting");
  }
}
