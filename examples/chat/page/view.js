// More than the server keeps, or a replay would push out the line that says what it lacks.
const KEPT_LINES = 2000;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });

const element = (id) => document.getElementById(id);

/** A new element; what people wrote only ever gets in as text. */
function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** The same colour for a name on every page. */
function hue(name) {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 3600;
  return (hash * 137) % 360;
}

/** The conversation: one line for each `m`, those that still wait at the end. */
export class Log {
  #node = element("log");
  #newest = element("newest");
  #lines = new Map();
  #following = true;

  constructor() {
    this.#node.addEventListener("scroll", () => this.#scrolled());
    this.#newest.addEventListener("click", () => this.follow());
    new ResizeObserver(() => this.#following && this.follow()).observe(this.#node);
  }

  clear() {
    this.#lines.clear();
    this.#node.replaceChildren();
    this.follow();
  }

  /** Shows what the server sent, in the server's order; an `m` that is shown already is dropped. */
  add(message, me) {
    const known = this.#lines.get(message.m);
    if (known && !known.matches(".waiting, .sent")) return;
    known?.remove();
    const line = message.system ? make("p", `notice ${message.system}`, message.text) : this.#bubble(message, me);
    this.#place(message.m, line);
  }

  /** Shows a message that the server does not have yet. */
  wait(message, me) {
    const line = this.#bubble({ ...message, from: me }, me);
    line.classList.add("waiting");
    this.#lines.set(message.m, line);
    this.#node.append(line);
    this.follow();
  }

  /** The server has it; its place among the others comes with the event itself. */
  sent(m) {
    this.#lines.get(m)?.classList.replace("waiting", "sent");
  }

  refuse(m, reason) {
    const line = this.#lines.get(m);
    line?.classList.replace("waiting", "refused");
    line?.append(make("span", "reason", `Not sent: ${reason}`));
  }

  /** A line of the page's own; the same one twice in a row says nothing new. */
  notice(text) {
    const line = make("p", "notice gap", text);
    const before = this.#node.querySelector(":scope > .waiting, :scope > .sent")?.previousSibling ?? this.#node.lastChild;
    if (before?.isEqualNode(line)) return;
    this.#place(crypto.getRandomValues(new Uint32Array(2)).join("-"), line);
  }

  /** Keeps the newest line in view. Not in a later frame: `#scrolled` would find us off the end and think it the user. */
  follow() {
    this.#following = true;
    this.#newest.hidden = true;
    this.#node.scrollTo(0, this.#node.scrollHeight);
  }

  #place(m, line) {
    this.#lines.set(m, line);
    this.#node.insertBefore(line, this.#node.querySelector(":scope > .waiting, :scope > .sent"));
    if (this.#lines.size > KEPT_LINES) {
      const [oldest, gone] = this.#lines.entries().next().value;
      gone.remove();
      this.#lines.delete(oldest);
    }
    if (this.#following) this.follow();
    else this.#newest.hidden = false;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#node;
    this.#following = scrollHeight - scrollTop - clientHeight < 40;
    if (this.#following) this.#newest.hidden = true;
  }

  #bubble({ from, text, at }, me) {
    const line = make("article", from === me ? "message own" : "message");
    const author = make("span", "author", from);
    author.style.setProperty("--hue", hue(from));
    const time = make("time", "", at ? clock.format(at) : "waiting");
    if (at) time.dateTime = new Date(at).toISOString();
    line.append(author, time, make("p", "text", text));
    return line;
  }
}

/** What is around the conversation: entry form, state, people, feed. */
export class View {
  log = new Log();
  #status = element("status");
  #feed = element("feed");
  #people = element("people");
  #message = element("message");
  #join;

  /** What the user does calls `join(name, room)` and `send(text)`, which tells whether it was taken. */
  constructor(join, send) {
    this.#join = join;
    element("entry").addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter();
    });
    element("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.#message.value;
      if (!text.trim() || !send(text)) return;
      this.#message.value = "";
      this.#message.focus();
    });
    this.#message.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      element("compose").requestSubmit();
    });
  }

  /** Joins with what the entry form holds, or shows what is wrong with it. */
  enter() {
    const name = element("name");
    name.value = name.value.trim();
    if (!element("entry").reportValidity()) return false;
    this.#join(name.value, element("room").value);
    this.#message.focus();
    return true;
  }

  /** Empties what belongs to one room. */
  clear() {
    this.log.clear();
    this.#people.replaceChildren();
    for (const field of this.#feed.querySelectorAll("dd")) field.textContent = "–";
  }

  fill(name, room) {
    element("name").value = name;
    element("room").value = room;
  }

  state(state, text) {
    this.#status.dataset.state = state;
    this.#status.textContent = text;
  }

  feedState(state) {
    this.#feed.dataset.state = state;
  }

  snapshot({ time, users_online, messages_per_second, people }, me) {
    const fields = { time: clockWithSeconds.format(time), users_online, messages_per_second };
    for (const [field, value] of Object.entries(fields)) {
      this.#feed.querySelector(`[data-field="${field}"]`).textContent = value;
    }
    const shown = [...this.#people.children].map((item) => item.textContent);
    if (shown.join("\n") === people.join("\n")) return;
    this.#people.replaceChildren(...people.map((name) => this.#person(name, me)));
  }

  #person(name, me) {
    const item = make("li", name === me ? "me" : "", name);
    item.style.setProperty("--hue", hue(name));
    return item;
  }
}
