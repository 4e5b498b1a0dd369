import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/**
 * The stages in the order that cluster state runs through them. A stage imports only from those before it (docs/architecture.md);
 * whatever is not named here is a program's outside (commands, cli, agent, lab) and may import everything.
 */
const STAGES: readonly (readonly string[])[] = [
  ['errors.ts', 'time-slices.ts'],
  ['policy'],
  ['rtnetlink'],
  ['kubernetes'],
  ['sources'],
  ['output'],
  ['cluster'],
  ['ruleset'],
  ['enforcement'],
  ['network'],
  ['observability'],
  ['doctor'],
  ['audit'],
];
/** What is pure imports nothing that could touch the outside world, not even from Node, but for what is named. */
const PURE: Readonly<Record<string, readonly string[]>> = { policy: [], cluster: ['lru-cache'], ruleset: ['node:crypto'] };

function filesBelow(directory: string): string[] {
  return readdirSync(join(ROOT, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

function importsOf(file: string): string[] {
  return [...readFileSync(join(ROOT, file), 'utf8').matchAll(/^(?:import|export)\s[^'"]*from '([^']+)'|import\('([^']+)'\)/gm)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
}

function stageOf(file: string): number {
  const [, first = ''] = file.split('/');
  return STAGES.findIndex((names) => names.includes(first));
}

describe('imports', () => {
  it('go one way, from a stage to those before it', () => {
    const wrong = filesBelow('src').flatMap((file) => {
      const stage = stageOf(file);
      if (stage < 0) return [];
      return importsOf(file)
        .filter((target) => target.startsWith('.'))
        .map((target) => relative(ROOT, resolve(ROOT, dirname(file), target)))
        .filter((target) => target.startsWith('src/') && (stageOf(target) < 0 || stageOf(target) > stage))
        .map((target) => `${file} imports ${target}`);
    });
    assert.deepEqual(wrong, []);
  });

  it('of the pure stages are of nothing but themselves', () => {
    const wrong = Object.entries(PURE).flatMap(([stage, allowed]) =>
      filesBelow(`src/${stage}`).flatMap((file) =>
        importsOf(file)
          .filter((target) => !target.startsWith('.') && !allowed.includes(target))
          .map((target) => `${file} imports ${target}`),
      ),
    );
    assert.deepEqual(wrong, []);
  });

  it('of nftables-js are of nothing of Sluice', () => {
    const wrong = filesBelow('packages/nftables-js/src').flatMap((file) =>
      importsOf(file)
        .filter((target) =>
          target.startsWith('.')
            ? !resolve(ROOT, dirname(file), target).includes('/packages/nftables-js/src/')
            : !target.startsWith('node:') && target !== 'koffi',
        )
        .map((target) => `${file} imports ${target}`),
    );
    assert.deepEqual(wrong, []);
  });

  it('are found by this test', () => {
    assert.ok(importsOf('src/cluster/cluster.ts').includes('../policy/address.ts'));
    assert.ok(importsOf('src/cli.ts').includes('./commands/agent.ts'));
  });
});
