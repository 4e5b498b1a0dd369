import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { MISREADINGS } from '../random/misreadings.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const SEMANTICS = 'docs/semantics.md';
const ROWS = Array.from({ length: 46 }, (_, index) => index + 1);
/** Announced, with nothing that keeps them yet. */
const NOT_DONE = [41, 42, 43, 44, 45];
/** No packet of the random policies shows them: it is about what happens to flows, and about what conntrack calls related. */
const WITHOUT_MISREADING = [27, 46];

function read(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8');
}

/** Not by git, which refuses a clone of another user. */
const PASSED_OVER = ['.git', 'node_modules', ...read('.gitignore').split('\n')].map((line) => line.replaceAll('/', ''));

function filesBelow(directory: string, ending: RegExp): string[] {
  return readdirSync(join(ROOT, directory), { withFileTypes: true })
    .filter(({ name }) => !PASSED_OVER.includes(name))
    .flatMap((entry) => {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) return filesBelow(path, ending);
      return entry.isFile() && ending.test(path) ? [path] : [];
    });
}

interface NamedTest {
  readonly file: string;
  readonly title: string;
}

/** What a section of the page refers to: `a/file` in backticks, `name` in backticks after the file it is in, "title" after its file. */
interface References {
  readonly files: readonly string[];
  readonly symbols: readonly { readonly file: string; readonly name: string }[];
  readonly tests: readonly NamedTest[];
}

function referencesIn(text: string): References {
  const files: string[] = [];
  const symbols: { file: string; name: string }[] = [];
  const tests: NamedTest[] = [];
  let file: string | undefined;
  // Only where the page says what keeps a row: elsewhere quotes and backticks are prose.
  for (const [token, quoted, title] of text.matchAll(/`([^`\n]+)`|"([^"\n]+)"/g)) {
    if (quoted !== undefined && /^(src|test|fixtures|packages|docs)\//.test(quoted)) {
      file = quoted;
      files.push(quoted);
    } else if (file !== undefined && quoted !== undefined) symbols.push({ file, name: quoted });
    else if (file !== undefined && title !== undefined) tests.push({ file, title });
    assert.ok(token.length > 0);
  }
  return { files, symbols, tests };
}

/** The sections of the page by row, and of each the list of what keeps it. */
function rowSections(): ReadonlyMap<number, { readonly text: string; readonly references: References }> {
  const [, ...sections] = read(SEMANTICS).split(/^(?=### Row \d+:|## )/m);
  return new Map(
    sections.flatMap((text) => {
      const number = /^### Row (\d+):/.exec(text)?.[1];
      if (number === undefined) return [];
      const list = text
        .split('\n')
        .filter((line) => /^(- (Code|Test|Packets): | {2}\S)/.test(line))
        .join('\n');
      return [[Number(number), { text, references: referencesIn(list) }] as const];
    }),
  );
}

function invalidObjects(): References {
  const section = read(SEMANTICS).split('\n## Objects that are not valid\n')[1] ?? '';
  const cells = section.split('\n').filter((line) => line.startsWith('| ') && line.includes('`src/'));
  // Of each line only the cells about code and test.
  return referencesIn(cells.map((line) => line.split(' | ').slice(-2).join(' | ')).join('\n'));
}

/** The titles of a test file, with … for what is put in when it runs. */
function titles(file: string): string[] {
  return [...read(file).matchAll(/\bit\(\s*(['"`])((?:\\.|(?!\1).)*)\1/gs)].map((match) =>
    (match[2] ?? '').replace(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, '…').replace(/\\(.)/g, '$1'),
  );
}

describe('docs/semantics.md', () => {
  const sections = rowSections();

  it('has each row once, and says what keeps it and what proves it', () => {
    assert.deepEqual(
      [...sections.keys()].sort((a, b) => a - b),
      ROWS,
    );
    for (const [row, { text, references }] of sections) {
      if (NOT_DONE.includes(row)) {
        assert.match(text, /^### Row \d+: .*\(not done yet\)/, `row ${row}`);
        assert.deepEqual(references, { files: [], symbols: [], tests: [] }, `row ${row}`);
        continue;
      }
      assert.ok(references.symbols.length > 0, `row ${row} names no code`);
      assert.ok(references.tests.length > 0, `row ${row} names no test`);
    }
  });

  it('names files, functions and tests that exist', () => {
    const all = [...sections.values()].map(({ references }) => references);
    for (const { files, symbols, tests } of [...all, invalidObjects()]) {
      for (const file of files) assert.ok(existsSync(join(ROOT, file)), `${file} does not exist`);
      for (const { file, name } of symbols) {
        assert.match(name, /^\w+$/, `${name} after ${file}: the name of a function is meant`);
        assert.match(read(file), new RegExp(`\\b${name}\\b`), `${file} has no ${name}`);
      }
      for (const { file, title } of tests) assert.ok(titles(file).includes(title), `${file} has no test "${title}"`);
    }
    assert.ok(invalidObjects().tests.length >= 10);
  });

  it('names every test that says which row it is about', () => {
    const missing = filesBelow('test', /\.test\.ts$/).flatMap((file) =>
      titles(file).flatMap((title) => {
        const row = /^row (\d+): |\(row (\d+)\)$/.exec(title);
        if (row === null) return [];
        const number = Number(row[1] ?? row[2]);
        const named = sections.get(number)?.references.tests.some((test) => test.file === file && test.title === title);
        return named === true ? [] : [`row ${number} in ${SEMANTICS} does not name "${title}" of ${file}`];
      }),
    );
    assert.deepEqual(missing, []);
  });

  it('has a counterpart in the code for every row: a comment with its number', () => {
    const commented = filesBelow('src', /\.ts$/).flatMap((file) =>
      [...read(file).matchAll(/\brows? ((?:\d+(?:, | and | to )?)+)/gi)].flatMap(
        ([, numbers = '']) => numbers.match(/\d+/g)?.map(Number) ?? [],
      ),
    );
    const missing = ROWS.filter((row) => !NOT_DONE.includes(row) && !commented.includes(row));
    assert.deepEqual(missing, []);
  });

  it('says rightly which rows the random policies can show', () => {
    const shown = [...new Set(MISREADINGS.map(({ row }) => row))].sort((a, b) => a - b);
    assert.deepEqual(
      shown,
      ROWS.filter((row) => !NOT_DONE.includes(row) && !WITHOUT_MISREADING.includes(row)),
    );
  });
});

/** As GitHub makes them: lower case, spaces to dashes, punctuation gone. */
function anchors(markdown: string): string[] {
  const prose = markdown.replace(/^```.*?^```/gms, '');
  return [...prose.matchAll(/^#{1,6} (.+)$/gm)].map((match) =>
    (match[1] ?? '')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replaceAll(' ', '-'),
  );
}

describe('the documents', () => {
  it('have links that lead somewhere', () => {
    const broken = filesBelow('.', /\.md$/).flatMap((file) =>
      [
        ...read(file)
          .replace(/^```.*?^```|`[^`\n]*`/gms, '')
          .matchAll(/\]\(([^)\s]+)\)/g),
      ].flatMap(([, target = '']) => {
        if (/^[a-z]+:/.test(target)) return [];
        const [path = '', anchor] = target.split('#');
        const at = path === '' ? file : relative(ROOT, resolve(ROOT, dirname(file), path));
        if (!existsSync(join(ROOT, at))) return [`${file}: ${target} does not exist`];
        if (anchor === undefined || statSync(join(ROOT, at)).isDirectory()) return [];
        return anchors(read(at)).includes(anchor) ? [] : [`${file}: ${at} has no heading #${anchor}`];
      }),
    );
    assert.deepEqual(broken, []);
  });

  it('name no commands or flags that the program does not have', async () => {
    const { command: agent } = await import('../../src/commands/agent.ts');
    const { command: cleanup } = await import('../../src/commands/cleanup.ts');
    const { command: dump } = await import('../../src/commands/dump.ts');
    const { command: lab } = await import('../../src/commands/lab.ts');
    const { command: bundle } = await import('../../src/commands/bundle.ts');
    const { command: completion } = await import('../../src/commands/completion.ts');
    const { command: diff } = await import('../../src/commands/diff.ts');
    const { command: lint } = await import('../../src/commands/lint.ts');
    const { command: matrix } = await import('../../src/commands/matrix.ts');
    const { command: explain } = await import('../../src/commands/explain.ts');
    const { command: observe } = await import('../../src/commands/observe.ts');
    const { command: verify } = await import('../../src/commands/verify.ts');
    for (const make of [agent, bundle, cleanup, completion, diff, dump, explain, lab, lint, matrix, observe, verify]) {
      const command = make();
      const page = read(`docs/cli/${command.name()}.md`);
      const described = [command, ...command.commands].flatMap(({ options }) => options.map(({ long }) => long ?? ''));
      for (const flag of described) assert.ok(page.includes(flag), `docs/cli/${command.name()}.md says nothing of ${flag}`);
      const [, usage = ''] = /^## Flags\n(.*?)^## /ms.exec(page) ?? [];
      assert.deepEqual(
        [...usage.matchAll(/^ {6}(?:-\w, )?(--[\w-]+)/gm)].map((match) => match[1]).filter((flag) => flag !== '--help'),
        described,
        `the flags in docs/cli/${command.name()}.md`,
      );
    }
  });
});

/** Something that only the machine has on which this was written, or that ties it to one way of getting packages. */
const FOREIGN: readonly (readonly [what: string, pattern: RegExp])[] = [
  ['an absolute path of somebody’s machine', /(?<![\w.)}\]$/-])\/(?:work|home|Users|root)\/\w/],
  ['a relative path outside of the repository', /(?<![\w.])\.\.\/shared\b/],
  ['the host of a package registry', /\bregistry\.[a-z0-9-]+\.[a-z]+|\b(?:proxy\.golang\.org|pypi\.org|artifactory|nexus\.)/i],
];

describe('the repository', () => {
  it('mentions no paths outside of itself, and no package registries', () => {
    const found = filesBelow('.', /./).flatMap((file) => {
      if (file === relative(ROOT, import.meta.filename)) return [];
      const text = readFileSync(join(ROOT, file), 'latin1');
      return FOREIGN.flatMap(([what, pattern]) => {
        const match = pattern.exec(text);
        return match === null ? [] : [`${file}: ${what}: ${match[0]}`];
      });
    });
    assert.deepEqual(found, []);
  });

  it('is searched for what it must not mention', () => {
    for (const text of ['see /work/notes', '"../shared/x"', 'https://registry.example.org/x']) {
      assert.ok(
        FOREIGN.some(([, pattern]) => pattern.test(text)),
        text,
      );
    }
    for (const text of ['/proc/7105/root/run', '../src/policy', 'the registry of expressions']) {
      assert.ok(!FOREIGN.some(([, pattern]) => pattern.test(text)), text);
    }
  });
});
