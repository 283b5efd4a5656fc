import { Connection } from "./connection.js";
import { Feed } from "./feed.js";
import { View } from "./view.js";

/** One stay of one name in one room. */
class Session {
  constructor(name, room, view) {
    this.name = name;
    this.room = room;
    this.view = view;
    this.connection = new Connection(room, name, this);
    this.feed = new Feed(room, this);
    for (const message of this.connection.waiting) view.log.wait(message, name);
  }

  send(text) {
    const message = { m: uuid(), text };
    this.view.log.wait(message, this.name);
    this.connection.publish(message);
  }

  leave() {
    this.connection.close();
    this.feed.close();
  }

  onState(state, cause) {
    const texts = {
      connecting: "Connecting…",
      open: `In ${this.room}`,
      closed: cause ? `Reconnecting: ${cause}` : "Reconnecting…",
    };
    this.view.state(state, texts[state]);
    if (state === "open") this.feed?.nudge();
  }

  onMessage(message) {
    this.view.log.add(message, this.name);
  }

  onGap({ reason, missed }) {
    this.view.log.notice(
      reason === "unknown"
        ? "The server started anew: messages may be missing here."
        : `${missed} ${missed === 1 ? "message is" : "messages are"} missing here.`,
    );
  }

  onSent(m) {
    this.view.log.sent(m);
  }

  onRefused(m, reason) {
    this.view.log.refuse(m, reason);
  }

  onFeedState(state) {
    this.view.feedState(state);
  }

  onSnapshot(snapshot) {
    this.view.snapshot(snapshot, this.name);
  }
}

/** `crypto.randomUUID` is for secure origins only, and a phone in the same network is none. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

let session = null;

function join(name, room) {
  if (session?.name === name && session.room === room) return;
  session?.leave();
  view.clear();
  sessionStorage.setItem("joined", JSON.stringify({ name, room }));
  document.title = `${room} · towpath chat`;
  session = new Session(name, room, view);
}

function send(text) {
  if (!session && !view.enter()) return false;
  session.send(text);
  return true;
}

const view = new View(join, send);
const joined = JSON.parse(sessionStorage.getItem("joined"));
if (joined) {
  view.fill(joined.name, joined.room);
  view.enter();
}
