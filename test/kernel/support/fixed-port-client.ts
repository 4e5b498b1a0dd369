/**
 * A client that speaks from a port of its choice, so that two of its connections have the same addresses and ports:
 *
 *     node fixed-port-client.ts TCP|UDP SOURCE SOURCE-PORT DESTINATION DESTINATION-PORT
 *
 * Prints the name of the server that answers, and keeps the connection until SIGTERM, which resets it. Speaks the probers' protocol
 * (src/lab/prober/servers.ts).
 */
import { createSocket } from 'node:dgram';
import { createConnection, isIPv6 } from 'node:net';

const [protocol, source = '', sourcePort, destination = '', destinationPort] = process.argv.slice(2);

if (protocol === 'TCP') {
  const socket = createConnection({
    host: destination,
    port: Number(destinationPort),
    localAddress: source,
    localPort: Number(sourcePort),
  });
  socket.on('data', (data) => process.stdout.write(data));
  socket.on('error', ({ message }) => process.stderr.write(`${message}\n`));
  process.once('SIGTERM', () => {
    // One that is not connected has nobody to reset, and would wait until it is.
    if (socket.readyState !== 'open') process.exit();
    socket.once('close', () => process.exit());
    socket.resetAndDestroy();
  });
} else {
  const socket = createSocket(isIPv6(source) ? 'udp6' : 'udp4');
  const request = Buffer.from('P12345678');
  socket.on('message', (data) => process.stdout.write(`${data.subarray(request.length).toString()}\n`));
  socket.bind(Number(sourcePort), source, () => {
    setInterval(() => socket.send(request, Number(destinationPort), destination), 50);
    socket.send(request, Number(destinationPort), destination);
  });
  process.once('SIGTERM', () => process.exit());
}
