// npm's ws: the echo of its README, and its broadcast to all clients.
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';

const { values } = parseArgs({
  options: { addr: { type: 'string', default: '127.0.0.1:0' }, threads: { type: 'string' }, compress: { type: 'string' } },
});
const takeover = values.compress === 'takeover';
const perMessageDeflate = values.compress
  ? { serverNoContextTakeover: !takeover, clientNoContextTakeover: !takeover, threshold: 0 }
  : false;
const server = createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate, backlog: 4096 });

sockets.on('connection', (socket, request) => {
  socket.on('error', () => {});
  if (request.url === '/fan') {
    socket.on('message', (data, isBinary) => {
      for (const client of sockets.clients) {
        if (client.readyState === WebSocket.OPEN) client.send(data, { binary: isBinary });
      }
    });
  } else {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  }
});

const [host, port] = values.addr.split(':');
server.listen({ host, port: Number(port), backlog: 4096 }, () => {
  const { address, port } = server.address();
  console.log(`listening on http://${address}:${port}`);
});
