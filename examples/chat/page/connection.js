import { Backoff } from "./backoff.js";
import { Outbox } from "./outbox.js";

const PROTOCOL = "towpath.v1";
const HISTORY = 100;
const STABLE_MS = 3000;
/** A handshake or an acknowledgement takes milliseconds: after so long without it the peer is gone. */
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * A room's WebSocket that never gives up: it reconnects, resumes after the last id that it
 * has seen, and sends what was not acknowledged again, in order, with the same `m`.
 *
 * The listener is told by `onState(state, detail)`, `onMessage(message)`, `onGap(gap)`,
 * `onSent(m)` and `onRefused(m, reason)`.
 */
export class Connection {
  #url;
  #listener;
  #outbox;
  #socket = null;
  #lastId = null;
  #openedAt = 0;
  #answerTimer = null;
  #backoff = new Backoff(
    () => this.#connect(),
    () => this.#isOpen,
  );
  // A socket does not notice that the network went away; wait for `online` with a new one.
  #offline = () => this.#lost("offline");

  constructor(room, name, listener) {
    this.#url = new URL(`/rooms/${encodeURIComponent(room)}/ws`, location.href);
    this.#url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#url.searchParams.set("name", name);
    this.#outbox = new Outbox(room);
    this.#listener = listener;
    addEventListener("offline", this.#offline);
    this.#connect();
  }

  /** The messages that wait for their acknowledgement, oldest first. */
  get waiting() {
    return [...this.#outbox];
  }

  get #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  publish(message) {
    this.#outbox.add(message);
    if (this.#isOpen) this.#send(message);
  }

  close() {
    this.#backoff.stop();
    removeEventListener("offline", this.#offline);
    this.#drop();
  }

  #connect() {
    this.#drop();
    const url = new URL(this.#url);
    if (this.#lastId === null) url.searchParams.set("last", HISTORY);
    else url.searchParams.set("after", this.#lastId);
    const socket = (this.#socket = new WebSocket(url, PROTOCOL));
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = ({ code }) => this.#lost(code === 1012 ? "the server restarts" : null);
    this.#awaitAnswer();
    this.#listener.onState("connecting");
  }

  #opened() {
    this.#answered();
    this.#openedAt = Date.now();
    this.#listener.onState("open");
    for (const message of this.#outbox) this.#send(message);
  }

  #lost(cause) {
    this.#drop();
    // A server that accepts and closes at once must not be hammered: only what lasted counts.
    if (this.#openedAt && Date.now() - this.#openedAt >= STABLE_MS) this.#backoff.reset();
    this.#openedAt = 0;
    this.#backoff.later();
    this.#listener.onState("closed", cause);
  }

  /** Forgets the socket, so that nothing of it is heard any more. */
  #drop() {
    this.#answered();
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  #send({ m, text }) {
    this.#socket.send(JSON.stringify({ publish: JSON.stringify({ m, text }), ref: m }));
    if (this.#answerTimer === null) this.#awaitAnswer();
  }

  #awaitAnswer() {
    this.#answerTimer = setTimeout(() => this.#lost("no answer"), ANSWER_TIMEOUT_MS);
  }

  #answered() {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = null;
  }

  #settle(m) {
    this.#outbox.settle(m);
    this.#answered();
    if (!this.#outbox.isEmpty) this.#awaitAnswer();
  }

  #receive(frame) {
    if ("gap" in frame) {
      this.#listener.onGap(frame.gap);
    } else if ("ack" in frame) {
      this.#settle(frame.ack);
      this.#listener.onSent(frame.ack);
    } else if ("error" in frame) {
      // A server that leaves takes nothing any more: the message goes to its successor.
      if (frame.error === "draining") return;
      this.#settle(frame.ref);
      this.#listener.onRefused(frame.ref, frame.error);
    } else {
      const message = JSON.parse(frame.data);
      this.#lastId = frame.id;
      this.#settle(message.m);
      this.#listener.onMessage(message);
    }
  }
}
