/** What the codes of lint mean: for `--list` and `--explain`, and as docs/lint.md, which a test holds to this. */
import { SluiceError } from '../errors.ts';
import type { Paint } from '../output/colour.ts';
import { nearest } from '../output/nearest.ts';
import { CODES, isLintCode, isProblemCode, LINT_CODES, type LintCode } from '../policy/lint/codes.ts';

/** @throws SluiceError `LINT_CODE_UNKNOWN`, with the one that was probably meant */
export function parseCode(text: string): LintCode {
  const code = text.trim().toUpperCase().replaceAll('-', '_');
  if (isLintCode(code)) return code;
  const near = nearest(code, LINT_CODES);
  throw new SluiceError('LINT_CODE_UNKNOWN', `there is no code ${JSON.stringify(text)}`, {
    hint: near === undefined ? 'sluice lint --list shows all of them.' : `Did you mean ${near}? sluice lint --list shows all of them.`,
    exitStatus: 2,
  });
}

/** A line for each code. */
export function listOfCodes(paint: Paint): string {
  const width = LINT_CODES.reduce((most, code) => Math.max(most, code.length), 0);
  const styles = { error: 'red', warning: 'yellow', note: 'dim' } as const;
  return LINT_CODES.map((code) => {
    const { severity, summary } = CODES[code];
    return `${code.padEnd(width)}  ${paint(styles[severity], severity.padEnd(7))}  ${summary}\n`;
  }).join('');
}

/** One code, for people. */
export function explanationOf(code: LintCode, width: number, paint: Paint): string {
  const { severity, summary, meaning, example, instead } = CODES[code];
  const indented = (yaml: string): string => yaml.replaceAll(/^/gmu, '    ');
  return [
    `${paint('bold', code)} (${severity}): ${summary}`,
    '',
    ...wrap(meaning, width),
    '',
    'Found in the spec of a policy such as',
    '',
    indented(abridged(example)),
    '',
    'Instead:',
    '',
    indented(instead),
    '',
  ].join('\n');
}

const LONGEST_EXAMPLE_LINE = 200;

/** Some examples are only one because they are long. */
function abridged(yaml: string): string {
  return yaml
    .split('\n')
    .map((line) => (line.length <= LONGEST_EXAMPLE_LINE ? line : `${line.slice(0, LONGEST_EXAMPLE_LINE / 2)} … ${line.slice(-20)}`))
    .join('\n');
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const INTRODUCTION = `# What lint finds

Each code of [\`sluice lint\`](cli/lint.md), what it means, the spec of a policy in which it is found, and what to write instead. This page is
made of the same table as \`sluice lint --explain CODE\` (\`src/policy/lint/codes.ts\`; \`node scripts/lint-page.ts\` writes it), and a test
lints every example of it.

An **error** is not in force as it is written, whatever the cluster holds. A **warning** is in force, and most likely not what was meant. A
**note** is good to know.

The examples are of a namespace \`shop\` with pods \`app: web, tier: front\` (port \`http\` 8080, behind a Service with port 80), \`app: api,
tier: back\` (\`http\` 8081, \`grpc\` 9090), \`app: db, tier: back\` (\`postgres\` 5432), \`app: tools\`, \`app: agent\` on the network of its node,
and \`app: migrate\`, which has ended. Prometheus and Grafana are in \`monitoring\` (\`team: ops, name: monitoring\`), DNS in \`kube-system\`.
Pods have addresses of 10.244.0.0/16 and fd00:244::/32, nodes of 192.168.0.0/24, Services of 10.96.0.0/12.
`;

/** docs/lint.md */
export function codesPage(): string {
  const own = LINT_CODES.filter((code) => !isProblemCode(code));
  const read = LINT_CODES.filter(isProblemCode);
  const section = (code: LintCode): string => {
    const { severity, meaning, summary, example, instead } = CODES[code];
    const title = `### ${code}\n\n*${severity}*: ${summary}.\n\n${meaning}`;
    return `${title}\n\n\`\`\`yaml\n${abridged(example)}\n\`\`\`\n\nInstead:\n\n\`\`\`yaml\n${instead}\n\`\`\`\n`;
  };
  const table = (codes: readonly LintCode[]): string =>
    [
      '| code | | |',
      '| --- | --- | --- |',
      ...codes.map((code) => `| [${code}](#${code.toLowerCase()}) | ${CODES[code].severity} | ${CODES[code].summary} |`),
      '',
    ].join('\n');
  return [
    INTRODUCTION,
    '## What policies mean\n',
    table(own),
    ...own.map(section),
    '## What the API would refuse, or reads differently\n',
    'Found when a policy is read; every source of objects reports them. [semantics.md](semantics.md#objects-that-are-not-valid) says what becomes of each.\n',
    table(read),
    ...read.map(section),
  ].join('\n');
}
