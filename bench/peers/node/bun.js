// Bun.serve: the echo and the pub/sub of its documentation.
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  args: Bun.argv.slice(2),
  options: { addr: { type: 'string', default: '127.0.0.1:0' }, threads: { type: 'string' }, compress: { type: 'string' } },
});
const [hostname, port] = values.addr.split(':');
const compress = values.compress !== undefined;
const kept = values.compress === 'takeover' ? 'dedicated' : 'shared';
const server = Bun.serve({
  hostname,
  port: Number(port),
  fetch(request, server) {
    const fan = new URL(request.url).pathname === '/fan';
    if (server.upgrade(request, { data: { fan } })) return undefined;
    return new Response('only WebSocket', { status: 426 });
  },
  websocket: {
    maxPayloadLength: 64 << 20,
    backpressureLimit: 64 << 20,
    perMessageDeflate: compress && { compress: kept, decompress: kept },
    open(socket) {
      if (socket.data.fan) socket.subscribe('fan');
    },
    message(socket, message) {
      if (socket.data.fan) server.publish('fan', message, compress);
      else socket.send(message, compress);
    },
  },
});
console.log(`listening on http://${server.hostname}:${server.port}`);
