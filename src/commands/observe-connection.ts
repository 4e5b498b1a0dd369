/** The connection to the agent of this node, by its socket: records as they come, across the agent's restarts. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelError, NftConnection } from 'nftables-js';
import { AGENT_ROLE } from '../enforcement/nftables/agent-claim.ts';
import { FAMILY, TABLE } from '../enforcement/nftables/frame.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { type Failed, OBSERVED, type ObservedRecord, type ObserveRequest } from '../observability/observed-flow.ts';
import { nearest } from '../output/nearest.ts';

export interface ObserveConnectionOptions {
  readonly socket: string;
  readonly request: ObserveRequest;
  /** The agent has ended; it is waited for. */
  readonly onGone: () => void;
  /** It is there again. */
  readonly onBack: () => void;
}

/** A record, and the line that it was read from: it may say more than this program knows. */
export interface ReceivedRecord {
  readonly record: ObservedRecord;
  readonly text: string;
}

const AGAIN_MS = 250;

/**
 * What the agent tells, until it has nothing more to tell (`follow: false`) or the caller stops. An agent that ends is waited for, and
 * what the next one remembers since then is told.
 *
 * @throws SluiceError `AGENT_NOT_RUNNING`, `NOT_PERMITTED`, `NOT_AN_AGENT`, `AGENT_ENDED` where with `follow: false` it ends before it has
 *   told all, or what the agent refuses the request with
 */
export async function* observedRecords(options: ObserveConnectionOptions): AsyncGenerator<readonly ReceivedRecord[]> {
  const { socket: path, onGone, onBack } = options;
  let { request } = options;
  let socket = await open(path).catch((error: unknown) => {
    throw explain(error, path);
  });
  for (let isFirst = true; ; isFirst = false) {
    socket.write(`${JSON.stringify(request)}\n`);
    const heard = new Set<ObservedRecord['kind']>();
    for await (const received of records(socket)) {
      for (const { record } of received) heard.add(record.kind);
      yield received;
    }
    if (isFirst && heard.size === 0) {
      throw new SluiceError('NOT_AN_AGENT', `what listens on ${path} has ended the connection, and said nothing that an agent says`, {
        hint: 'Name the --observe-socket of an agent with --socket; an agent that was just ending is there again soon.',
      });
    }
    if (!request.follow) {
      if (heard.has('Live')) return;
      throw new SluiceError('AGENT_ENDED', 'the agent has ended before it had told all that it remembers', {
        hint: 'The next one does not remember it.',
      });
    }
    const goneAt = new Date().toISOString();
    onGone();
    socket = await reopen(path);
    onBack();
    request = { ...request, since: goneAt };
  }
}

/** What comes together is handed on together: a wait for each record would cost more than the record. */
async function* records(socket: Socket): AsyncGenerator<readonly ReceivedRecord[]> {
  // An agent that is killed resets the connection: its end as well.
  socket.on('error', () => socket.destroy());
  let rest = '';
  const chunks = socket.setEncoding('utf8')[Symbol.asyncIterator]();
  try {
    for (;;) {
      // A connection that is reset ends the iteration with an error, which is its end all the same.
      const chunk = await chunks.next().catch(() => undefined);
      if (chunk === undefined || chunk.done === true) return;
      const lines = (rest + String(chunk.value)).split('\n');
      rest = lines.pop() ?? '';
      const received = lines.flatMap((text) => {
        const record = readRecord(text);
        if (record?.kind === 'Failed') throw refusal(record);
        return record === undefined ? [] : [{ record, text }];
      });
      if (received.length > 0) yield received;
    }
  } finally {
    socket.destroy();
  }
}

/** Undefined: a kind that this program does not know, of an agent that is newer; or half a line, of one that was killed. */
function readRecord(text: string): ObservedRecord | undefined {
  try {
    return OBSERVED.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

async function reopen(path: string): Promise<Socket> {
  for (;;) {
    try {
      return await open(path);
    } catch {
      await sleep(AGAIN_MS);
    }
  }
}

function refusal({ code, message, name, known }: Failed): SluiceError {
  if (code === 'LOG_GROUP_OFF')
    return new SluiceError(code, message, { hint: 'Start it with --log-group 100, or look at what is allowed with --allowed.' });
  if (code === 'READERS_TOO_MANY') return new SluiceError(code, message, { hint: 'End one of them.' });
  const meant = name === undefined ? undefined : nearest(name, known ?? []);
  const hint =
    code !== 'NAME_UNKNOWN' ? undefined : meant === undefined ? 'kubectl get pods -A shows what there is.' : `Did you mean ${meant}?`;
  return new SluiceError(code, message, { hint, exitStatus: 2 });
}

function explain(error: unknown, path: string): unknown {
  const code = systemErrorCode(error);
  if (code === 'EACCES' || code === 'EPERM') {
    return new SluiceError('NOT_PERMITTED', `opening ${path} is not permitted`, {
      hint: 'It is for root only: it tells who talks to whom.',
      cause: error,
    });
  }
  if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK' || code === 'ENOTDIR') {
    const why = code === 'ENOENT' || code === 'ENOTDIR' ? `there is no ${path}` : `nobody listens on ${path}`;
    return new SluiceError('AGENT_NOT_RUNNING', `no agent is running here: ${why}`, { hint: whatThereIs(), cause: error });
  }
  return error;
}

/** What the kernel says of agents that are or were here. */
function whatThereIs(): string {
  const start =
    'Start the agent (sluice agent), or name its socket with --socket; in a cluster: kubectl exec -n sluice POD -- sluice observe.';
  let connection: NftConnection | undefined;
  try {
    connection = NftConnection.open();
    if (connection.table({ family: FAMILY, name: TABLE }) === undefined)
      return `This kernel has no table ${FAMILY} ${TABLE} either. ${start}`;
    if (connection.table({ family: FAMILY, name: AGENT_ROLE.table }) !== undefined)
      return 'An agent holds this node; it has another --observe-socket, or another /run: name its socket with --socket.';
    return `The rules of an earlier agent are in force (table ${FAMILY} ${TABLE}), and nobody reads what they log. ${start}`;
  } catch (error) {
    // Without CAP_NET_ADMIN the kernel says nothing.
    if (error instanceof KernelError) return start;
    throw error;
  } finally {
    connection?.close();
  }
}
