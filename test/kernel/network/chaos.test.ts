/**
 * A node's network against whatever may happen to it, drawn at random: after a long row of changes of leases, of damage, and of an
 * interface that comes and goes, the kernel holds what a node holds that has just been started with the same leases where nothing has
 * happened. `ip` and `bridge` damage, and look.
 *
 *     SLUICE_RANDOM_NETWORKS=200 sh scripts/sandbox.sh mocha test/kernel/network/chaos.test.ts
 *     SLUICE_RANDOM_SEED=7004 SLUICE_RANDOM_NETWORKS=1 sh scripts/sandbox.sh mocha test/kernel/network/chaos.test.ts
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { run } from '../../../src/lab/namespaces.ts';
import { eventually } from '../support/eventually.ts';
import { Chaos, FOREIGN, type Step } from './support/chaos-steps.ts';
import { NetworkNode, ScriptedLeases } from './support/network-node.ts';
import { difference, picture } from './support/picture.ts';

const NETWORKS = setting('SLUICE_RANDOM_NETWORKS', 5);
const SEED = setting('SLUICE_RANDOM_SEED', Math.floor(Date.now() / 1000) % 1_000_000_000);
const STEPS = 40;
/** What the kernel refuses is tried again after five seconds at the latest. */
const SETTLED_MS = 20_000;
/** Longer than two comparisons are apart. */
const QUIET_MS = 500;
/** Of a core, while nothing happens. */
const IDLE_SHARE = 0.3;

describe('The network of a node', function () {
  this.timeout(60_000 + NETWORKS * 60_000);

  before(function () {
    onlyInSandbox(this);
  });

  it(`is in the end as that of a node that nothing has happened to: ${NETWORKS} from seed ${SEED}`, async () => {
    for (let seed = SEED; seed < SEED + NETWORKS; seed++) await endsAsAFreshNode(seed);
  });
});

async function endsAsAFreshNode(seed: number): Promise<void> {
  const chaos = new Chaos(seed);
  const [node, fresh] = [new NetworkNode(), new NetworkNode()];
  const told: string[] = [];
  try {
    await sync(node, 'ip', FOREIGN.ip);
    await sync(node, 'bridge', FOREIGN.bridge);
    let leases = start(node, chaos);
    for (let count = 0; count < STEPS; count++) {
      const step = chaos.step();
      const [blocks, pauseMs] = [chaos.roll(2) === 0, [0, 0, 0, 5, 15, 60, 120][chaos.roll(7)] ?? 0];
      told.push(`${step.what}${blocks ? ' (at once)' : ''}, ${pauseMs} ms`);
      await take(step, node, leases, blocks);
      if (pauseMs > 0) await sleep(pauseMs);
      if (chaos.roll(40) !== 0) continue;
      await node.stop();
      node.problems.clear();
      const offline = chaos.offlineStep();
      told.push(`the daemon ends; ${offline.what}; another one begins`);
      await take(offline, node, undefined, true);
      leases = start(node, chaos);
    }
    for (const step of chaos.end()) {
      told.push(step.what);
      await take(step, node, leases, true);
    }

    for (const step of [{ what: '', ip: FOREIGN.ip }, { what: '', bridge: FOREIGN.bridge }, ...chaos.foreign] as Step[])
      await take(step, fresh, undefined, true);
    await sync(fresh, 'ip', chaos.interfaceLines());
    const freshLeases = start(fresh, chaos);
    await fresh.network?.settled();

    const wanted = picture(fresh.netns);
    const missing = (): string =>
      [
        difference(wanted, picture(node.netns)),
        difference(problemsOf(fresh), problemsOf(node)),
        difference(announced(freshLeases), announced(leases)),
        ...(node.network?.unready ?? ['it is not running']),
      ]
        .filter((text) => text !== '')
        .join('\n');
    await eventually(
      () => missing() === '',
      () => `becoming like the fresh one:\n${missing()}`,
      { withinMs: SETTLED_MS, everyMs: 100 },
    );

    // Whatever was begun has its time to end.
    await node.network?.settled();
    const [changes, cpu, at] = [node.changes.length, process.cpuUsage(), performance.now()];
    await sleep(QUIET_MS);
    const used = process.cpuUsage(cpu);
    assert.deepEqual(node.changes.slice(changes), [], 'it goes on changing things');
    const share = (used.user + used.system) / 1000 / (performance.now() - at);
    assert.ok(share < IDLE_SHARE, `it takes ${(share * 100).toFixed(0)} % of a core while nothing happens`);
    assert.equal(difference(wanted, picture(node.netns)), '', 'it does not stay so');
  } catch (error) {
    const changes = node.changes.map(({ object, what, cause }) => `${object} ${cause}: ${what}`);
    const text = [
      `seed ${seed} (${chaos.scenario.title}): ${error instanceof Error ? error.message : String(error)}`,
      'Steps:',
      ...told.map((step, index) => `  ${index + 1}. ${step}`),
      `Leases in the end: ${[...chaos.leases.keys()].join(' ')}`,
      'The last changes:',
      ...changes.slice(-40).map((line) => `  ${line}`),
      'The last failures:',
      ...node.failures.slice(-20).map((line) => `  ${line}`),
      `Again: SLUICE_RANDOM_SEED=${seed} SLUICE_RANDOM_NETWORKS=1 sh scripts/sandbox.sh mocha test/kernel/network/chaos.test.ts`,
    ].join('\n');
    throw new Error(text, { cause: error });
  } finally {
    await node.close();
    await fresh.close();
  }
}

function start(node: NetworkNode, { scenario, own, leases }: Chaos): ScriptedLeases {
  const source = new ScriptedLeases(own, [...leases.values()]);
  node.start(source, scenario.conf, { blackholeRoute: scenario.blackholeRoute });
  return source;
}

/** @param blocks whether the daemon, which is in this process, stands still meanwhile */
async function take(step: Step, node: NetworkNode, leases: ScriptedLeases | undefined, blocks: boolean): Promise<void> {
  if ('tell' in step) {
    assert.ok(leases?.listener !== undefined);
    step.tell(leases.listener);
  } else if (blocks) await sync(node, 'ip' in step ? 'ip' : 'bridge', 'ip' in step ? step.ip : step.bridge);
  else {
    const [program, lines] = 'ip' in step ? ['ip', step.ip] : ['bridge', step.bridge];
    await run(undefined, [program, '-n', node.netns, '-force', '-batch', '-'], { input: `${lines.join('\n')}\n`, check: false });
  }
}

async function sync(node: NetworkNode, program: 'ip' | 'bridge', lines: readonly string[]): Promise<void> {
  try {
    execFileSync(program, ['-n', node.netns, '-force', '-batch', '-'], {
      input: `${lines.join('\n')}\n`,
      stdio: ['pipe', 'ignore', 'pipe'],
    });
  } catch {
    // Some have nothing left to damage.
  }
}

/** What is said of each peer, in whatever order nodes came to share something. */
function problemsOf({ problems }: NetworkNode): string[] {
  return [...problems].flatMap(([node, texts]) => texts.map((text) => `${node}: ${text.split(/[, ]+/).sort().join(' ')}`));
}

/** What peers have been told last. */
function announced({ announced: all }: ScriptedLeases): string[] {
  return [inspect(all.at(-1), { depth: 5, breakLength: Number.POSITIVE_INFINITY })];
}

function setting(name: string, usual: number): number {
  const text = process.env[name] ?? '';
  const value = text === '' ? usual : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${name} has to be a whole number, not ${text}`);
  return value;
}
