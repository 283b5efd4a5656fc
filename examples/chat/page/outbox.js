/**
 * The messages of one room that the server has not acknowledged yet, in order.
 * They outlive a reload of the page; a message keeps its `m`, so sending it again is harmless.
 */
export class Outbox {
  #key;
  #messages;

  constructor(room) {
    this.#key = `waiting.${room}`;
    this.#messages = JSON.parse(sessionStorage.getItem(this.#key) ?? "[]");
  }

  add(message) {
    this.#messages.push(message);
    this.#save();
  }

  /** Takes out the message `m`, which has arrived or was refused. */
  settle(m) {
    const before = this.#messages.length;
    this.#messages = this.#messages.filter((message) => message.m !== m);
    if (this.#messages.length !== before) this.#save();
  }

  get isEmpty() {
    return this.#messages.length === 0;
  }

  [Symbol.iterator]() {
    return this.#messages[Symbol.iterator]();
  }

  #save() {
    sessionStorage.setItem(this.#key, JSON.stringify(this.#messages));
  }
}
