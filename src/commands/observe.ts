/** `sluice observe`: connections that policy refuses, live from the agent of this node. */
import { once } from 'node:events';
import { Command, InvalidArgumentError, Option } from 'commander';
import { stringify } from 'yaml';
import type { Denied, FlowRecord, Observing } from '../observability/observed-flow.ts';
import { paintFor } from '../output/colour.ts';
import { DEFAULT_OBSERVE_SOCKET } from './agent-defaults.ts';
import { observedRecords, type ReceivedRecord } from './observe-connection.ts';
import { droppedLine, flowLines, type LineOptions } from './observe-lines.ts';
import { type ObserveFlags, parsePort, parseSince, type Port, requestOf } from './observe-options.ts';
import { Repeats } from './observe-repeats.ts';

const TICK_MS = 100;
/** So many policies that were printed are remembered. */
const MOST_SUGGESTED = 1_000;
/** So long what was printed is waited for to be taken, once told to stop. */
const LEAVE_MS = 1_000;

export function command(): Command {
  const end = 'namespace/pod, namespace/*, namespace, address or CIDR; repeatable';
  return new Command('observe')
    .description(
      'Show connections that policy refuses on this node, as they are tried: who, to whom, on which port, which policies isolate, and ' +
        'with --suggest what would admit it. They come from the agent that runs here.',
    )
    .option('--allowed', 'also new connections that are let through')
    .option('--since <when>', 'also what the agent remembers: since 90s, 5m, 1h30m ago, or 2026-11-21T12:00:00Z', (text) =>
      parseSince(text, Date.now()),
    )
    .option('-n, --namespace <name>', 'only where an end is a pod of this namespace; repeatable', append)
    .option('--pod <name>', 'only where an end is this pod: namespace/name, or its name beside --namespace; repeatable', append)
    .option('--from <name>', `only from: ${end}`, append)
    .option('--to <name>', `only to: ${end}`, append)
    .option('--port <port[/protocol]>', 'only to this port; repeatable', appendPort)
    .addOption(new Option('--direction <direction>', 'only what this side refuses').choices(['ingress', 'egress']))
    .option('--limit <number>', 'end after so many lines', parseLimit)
    .option('--no-follow', 'show what the agent remembers, and end')
    .option('--suggest', 'with each connection a NetworkPolicy that would admit it and nothing else, as kubectl apply takes it')
    .addOption(new Option('-o, --output <format>', 'for people, or a JSON object a line').choices(['table', 'json']).default('table'))
    .addOption(
      new Option('--socket <file>', 'the --observe-socket of the agent').env('SLUICE_OBSERVE_SOCKET').default(DEFAULT_OBSERVE_SOCKET),
    )
    .addHelpText(
      'after',
      '\nRepeats within a second are one line in the table. What is not shown is counted. Exit status: 0, also when it was told to stop ' +
        '(SIGINT); 1 without an agent or permission; 2 called wrongly, a name that does not exist included.',
    )
    .action(run);
}

function append(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

function appendPort(text: string, before: readonly Port[] = []): readonly Port[] {
  return [...before, parsePort(text)];
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1) throw new InvalidArgumentError('It is a number from 1 on.');
  return limit;
}

/** For how many lines there is room (`--limit`). */
interface Room {
  readonly isFull: boolean;
  /** A line was printed. The last that there was room for ends the program. */
  take(): void;
}

/** Where records go. */
interface Output {
  flow(record: FlowRecord, text: string): void;
  /** A record that is shown beside flows. */
  other(line: (options: LineOptions) => string, text: string): void;
  live(): void;
  end(): void;
}

async function run(flags: ObserveFlags): Promise<void> {
  const asked = requestOf(flags);
  // Without --since, what is remembered is all of it: nothing else would be shown.
  const request = flags.follow || asked.since !== undefined ? asked : { ...asked, since: new Date(0).toISOString() };
  const { limit = Number.POSITIVE_INFINITY } = flags;
  let lines = 0;
  const room: Room = {
    get isFull() {
      return lines >= limit;
    },
    take() {
      if (++lines >= limit) leave();
    },
  };
  const output = flags.output === 'json' ? jsonOutput(room) : tableOutput(flags.suggest === true, room);
  const stop = (): void => {
    output.end();
    // Whoever reads it may have stopped doing so, and a person should not have to ask twice.
    setTimeout(() => process.exit(0), LEAVE_MS).unref();
    leave();
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  let told: string | undefined;
  const show = ({ record, text }: ReceivedRecord): void => {
    switch (record.kind) {
      case 'Denied':
      case 'Allowed':
        output.flow(record, text);
        break;
      case 'Dropped':
        output.other((options) => droppedLine(record, options), text);
        break;
      case 'Observing': {
        const words = warnings(record).join('\n');
        if (words !== told && words !== '') console.error(words);
        told = words;
        break;
      }
      case 'Live':
        output.live();
        break;
      case 'Failed':
        break;
    }
  };
  try {
    for await (const received of observedRecords({
      socket: flags.socket,
      request,
      onGone: () => console.error('sluice: the agent has ended; waiting for it to come back'),
      onBack: () => console.error('sluice: the agent is back'),
    })) {
      for (const each of received) show(each);
      // Else all that a slow reader of this leaves lying would pile up here; so it does in the agent, which counts what it throws away.
      if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
    }
  } finally {
    output.end();
  }
}

/** Ends when all that was printed has been taken: a pipe takes 64 KiB at once. */
function leave(): void {
  process.stdout.write('', () => process.exit(0));
}

function warnings({ denied, allowed, logGroup }: Observing): string[] {
  return [
    ...(denied === 'busy'
      ? [
          `sluice: another program reads log group ${logGroup} (see /proc/net/netfilter/nfnetlink_log); until it ends, nothing that is refused is seen`,
        ]
      : []),
    ...(denied === 'off' ? ['sluice: this agent logs no refused packets (--log-group 0): only what is allowed is seen'] : []),
    ...(allowed === 'unavailable' ? ['sluice: the kernel tells of no new connections; set net.netfilter.nf_conntrack_events to 2'] : []),
  ];
}

function jsonOutput(room: Room): Output {
  const write = (text: string): void => {
    if (!room.isFull) process.stdout.write(`${text}\n`);
  };
  return {
    flow(_record, text) {
      write(text);
      room.take();
    },
    other: (_line, text) => write(text),
    live: () => undefined,
    end: () => undefined,
  };
}

/** With suggestions the whole is YAML, and what is no policy is a comment. */
function tableOutput(suggests: boolean, room: Room): Output {
  const { stdout } = process;
  const paint = paintFor(stdout);
  const prefix = suggests ? '# ' : '';
  const options = (): LineOptions => ({
    paint,
    width: stdout.isTTY && stdout.columns > 0 ? stdout.columns - prefix.length : undefined,
    now: Date.now(),
  });
  const write = (lines: readonly string[]): void => {
    if (!room.isFull) stdout.write(lines.map((line) => `${prefix}${line}\n`).join(''));
  };
  const suggested = new Set<string>();
  const repeats = new Repeats({
    print: (record, count) => {
      if (room.isFull) return;
      write(flowLines(record, count, options()));
      if (record.kind === 'Denied') for (const text of suggestionTexts(record, suggested)) stdout.write(text);
      room.take();
    },
  });
  const timer = setInterval(() => repeats.tick(performance.now()), TICK_MS).unref();
  return {
    flow: (record) => repeats.push(record, performance.now()),
    other: (line) => write([line(options())]),
    live: () => repeats.live(),
    end() {
      clearInterval(timer);
      repeats.end();
    },
  };
}

/** Each policy once, however often it would have helped. */
function suggestionTexts({ suggestions = [] }: Denied, before: Set<string>): string[] {
  return suggestions.flatMap(({ policy, admits, notes }) => {
    const yaml = stringify(policy);
    if (before.has(yaml)) return [];
    // Whoever is scanned sees new ones without end: these are then told again, rather than kept for ever.
    if (before.size >= MOST_SUGGESTED) before.clear();
    before.add(yaml);
    return [`# This would admit ${admits}.\n${notes.map((note) => `# ${note}\n`).join('')}${yaml}---\n`];
  });
}
