import net from "node:net";

/**
 * A TCP relay to a server, that sees what goes over the wire and can hang up, as a network does: how a stream is cut in
 * the middle without a word to the server.
 */
export class Relay {
  /** The requests' heads, in the order of arrival. */
  requests = [];
  /** The bytes that came from the page, and from the server. */
  fromPage = 0;
  fromServer = 0;
  /** Cuts a connection when the server has sent this; once. */
  cutBehind = null;
  #base;
  #server = net.createServer((client) => this.#relay(client));

  constructor(base) {
    this.#base = base;
  }

  async listen() {
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  close() {
    this.#server.close();
  }

  #relay(client) {
    const server = net.connect(Number(this.#base.port), this.#base.hostname);
    let sent = "";
    client.on("data", (chunk) => {
      // A browser sends each of its requests in one piece here.
      this.requests.push(chunk.toString("latin1"));
      this.fromPage += chunk.length;
      server.write(chunk);
    });
    server.on("data", (chunk) => {
      this.fromServer += chunk.length;
      client.write(chunk);
      sent += chunk.toString("latin1");
      if (this.cutBehind !== null && this.cutBehind.test(sent)) {
        this.cutBehind = null;
        client.end();
        server.destroy();
      }
    });
    client.on("close", () => server.destroy());
    server.on("close", () => client.end());
    client.on("error", () => server.destroy());
    server.on("error", () => client.destroy());
  }
}
