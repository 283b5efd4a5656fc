// The server under test, which a test starts, ends and starts again on the same port.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const START_MS = 20_000;

export class Server {
  #program;
  #args;
  #child = null;
  /** Host and port; fixed by the first start. */
  address = "127.0.0.1:0";

  /** `args` are the arguments of a server that listens at the address that it is given. */
  constructor(program, args) {
    this.#program = program;
    this.#args = args;
    // Whatever ends this script ends the server: a signal does not run `finally`.
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) {
      process.once(signal, () => {
        this.#child?.kill("SIGKILL");
        process.exit(1);
      });
    }
    process.once("exit", () => this.#child?.kill("SIGKILL"));
  }

  get origin() {
    return `http://${this.address}`;
  }

  /** Starts it and waits until it says that it listens. */
  async start() {
    const child = spawn(this.#program, this.#args(this.address), { stdio: ["ignore", "pipe", "inherit"] });
    this.#child = child;
    const lines = createInterface({ input: child.stdout });
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("the server did not say that it listens")), START_MS);
    });
    const listening = new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        const found = /^listening on http:\/\/(\S+)$/.exec(line);
        if (found) resolve(found[1]);
      });
      child.once("error", reject);
      child.once("exit", (code, signal) => reject(new Error(`the server ended at its start: ${code ?? signal}`)));
    });
    try {
      this.address = await Promise.race([listening, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a signal and waits for the end; returns the exit status, or the signal's name. */
  async end(signal) {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? child?.signalCode;
    const exited = once(child, "exit");
    child.kill(signal);
    const [code, by] = await exited;
    this.#child = null;
    return code ?? by;
  }
}
