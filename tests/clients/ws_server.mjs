// npm's `ws` as an echo for our client: node ws_server.mjs plain|deflate; it says where it listens.
import { WebSocketServer } from "ws";

if (process.argv.length !== 3 || !["plain", "deflate"].includes(process.argv[2])) {
  console.error("usage: node ws_server.mjs plain|deflate");
  process.exit(2);
}
const perMessageDeflate = process.argv[2] === "deflate" && { threshold: 0 };
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 64 << 20, perMessageDeflate });
server.on("connection", (socket) => {
  socket.on("error", (error) => console.error(error.message));
  socket.on("message", (data, binary) => socket.send(data, { binary }));
});
server.on("listening", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
