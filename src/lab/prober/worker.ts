/**
 * The prober's thread. Requests come over a message port, and a byte in a pipe says that there is one: between turns of its own
 * loop this thread never returns to Node's.
 */
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { LabError } from '../errors.ts';
import { EPOLLIN } from '../libc.ts';
import type { Means } from './attempts.ts';
import { runBatch } from './batch.ts';
import { Flows } from './flows.ts';
import { Loop } from './loop.ts';
import type { OperationName, Reply, Request, Result } from './protocol.ts';
import { Servers } from './servers.ts';
import { Namespaces, SourcePorts, receivePipe } from './sockets.ts';
import { Streams } from './streams.ts';

const { port, wake } = workerData as { readonly port: MessagePort; readonly wake: number };

const loop = new Loop();
const namespaces = new Namespaces();
const flows = new Flows();
const streams = new Streams();
const servers = new Servers(loop, namespaces, flows);
const means: Means = { loop, namespaces, sourcePorts: new SourcePorts(), servers };
let state: 'running' | 'closing' = 'running';

function reply(id: number, result: Result<OperationName>): void {
  port.postMessage({ id, ok: true, result } satisfies Reply);
}

function refuse(id: number, error: unknown): void {
  const code = error instanceof LabError ? error.code : 'LAB_PROBER';
  port.postMessage({ id, ok: false, code, message: error instanceof Error ? error.message : String(error) } satisfies Reply);
}

/** Answers at once, or later where the operation takes its time. */
function handle(request: Request): void {
  const { id } = request;
  switch (request.operation) {
    case 'addEndpoint':
      servers.add(request.input);
      reply(id, undefined);
      return;
    case 'removeEndpoint':
      servers.remove(request.input.name);
      reply(id, undefined);
      return;
    case 'probe':
      runBatch(means, request.input.probes, request.input.options, (results) => {
        if (results instanceof LabError) refuse(id, results);
        else reply(id, results);
      });
      return;
    case 'openFlow':
      flows.open(means, request.input, (result) => {
        if (result instanceof LabError) refuse(id, result);
        else reply(id, { flow: result });
      });
      return;
    case 'sendOnFlow':
      flows.send(means, request.input.flow, request.input.from, request.input.everyMs);
      reply(id, undefined);
      return;
    case 'stopFlow':
      flows.stop(request.input.flow);
      reply(id, undefined);
      return;
    case 'countFlow':
      reply(id, flows.counts(request.input.flow));
      return;
    case 'closeFlow':
      reply(id, flows.close(means, request.input.flow));
      return;
    case 'startStream':
      reply(id, { stream: streams.start(means, request.input) });
      return;
    case 'countStream':
      reply(id, streams.counts(request.input.stream));
      return;
    case 'stopStream':
      streams.stop(means, request.input.stream, (counts) => reply(id, counts));
      return;
    case 'close':
      state = 'closing';
      streams.closeAll();
      flows.closeAll(means);
      servers.close();
      reply(id, undefined);
  }
}

loop.watch(wake, EPOLLIN, () => {
  receivePipe(wake);
  for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port)) {
    const request = message.message as Request;
    try {
      handle(request);
    } catch (error) {
      refuse(request.id, error);
    }
  }
});

function isRunning(): boolean {
  return state === 'running';
}

while (isRunning()) loop.turn();
namespaces.close();
loop.close();
port.close();
