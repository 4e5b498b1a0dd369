/** A thread that tries to connect to pods that refuse it, so often a second, while it is told to. */
import { closeSync, openSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { AF_INET, CLONE_NEWNET, checked, libc, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM } from '../../src/lab/libc.ts';
import { namespacePath } from '../../src/lab/namespaces.ts';
import { socketAddress } from '../../src/lab/prober/sockets.ts';
import { FLOODING, type FloodWorkerData, STARTED } from './flood.ts';

const TICK_MS = 2;
/** What it is late by is not made up for beyond this: a burst would be another load. */
const MOST_AT_ONCE = 200;

const { netns, targets, port, perSecond, shared } = workerData as FloodWorkerData;
const counters = new Int32Array(shared);
const addresses = targets.map((target) => socketAddress(target, port));

const fd = openSync(namespacePath(netns), 'r');
checked(libc().setns(fd, CLONE_NEWNET), `entering network namespace ${netns}`);
closeSync(fd);

let next = 0;
let dueFrom = performance.now();
setInterval(() => {
  const now = performance.now();
  const due = Math.min(MOST_AT_ONCE, ((now - dueFrom) * perSecond) / 1000);
  if (Atomics.load(counters, FLOODING) === 0) {
    dueFrom = now;
    return;
  }
  const whole = Math.floor(due);
  dueFrom = due === MOST_AT_ONCE ? now : dueFrom + (whole * 1000) / perSecond;
  for (let count = 0; count < whole; count++) tryOnce();
  Atomics.add(counters, STARTED, whole);
}, TICK_MS);

/** One SYN: the socket is closed before the kernel would send another. */
function tryOnce(): void {
  const c = libc();
  const address = addresses[next++ % addresses.length];
  const socket = checked(c.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'making a socket');
  if (address !== undefined) c.connect(socket, address, address.length);
  c.close(socket);
}
