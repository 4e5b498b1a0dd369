import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { blind, type CheckOutcome, type Finding, foundBy, idle, inOrder, isInOrder, reportOf } from '../../../src/doctor/report.ts';
import { sysctlCommand, word, writeFileCommand } from '../../../src/doctor/shell-text.ts';
import { doctorTable } from '../../../src/doctor/table.ts';
import { plain } from '../../../src/output/colour.ts';

function finding(code: Finding['code'], severity: Finding['severity'], fields: Partial<Finding> = {}): Finding {
  return { code, severity, subject: 'x', message: 'it is wrong', evidence: ['read: 1'], remedy: 'true', ...fields };
}

function report(outcomes: Readonly<Record<string, CheckOutcome>>) {
  return reportOf(new Map(Object.entries(outcomes)) as Parameters<typeof reportOf>[0]);
}

describe('a report of the doctor', () => {
  it('has the worst findings first, and of each check what it came to', () => {
    const { findings, checks, ...head } = report({
      mtu: foundBy([finding('MTU_BRIDGE', 'warning')]),
      forwarding: foundBy([finding('FORWARDING_OFF', 'error')]),
      bridge: idle('there is none'),
      peers: blind('no API server'),
      devices: inOrder(),
      entries: { findings: [finding('ROUTE_MISSING', 'error')], blind: 'only in part' },
    });
    assert.deepEqual(head, { apiVersion: 'sluice/v1', kind: 'DoctorReport' });
    assert.deepEqual(
      findings.map(({ code }) => code),
      ['FORWARDING_OFF', 'ROUTE_MISSING', 'MTU_BRIDGE'],
    );
    assert.deepEqual(checks, [
      { name: 'mtu', result: 'findings' },
      { name: 'forwarding', result: 'findings' },
      { name: 'bridge', result: 'skipped', reason: 'there is none' },
      { name: 'peers', result: 'skipped', reason: 'no API server', blind: true },
      { name: 'devices', result: 'ok' },
      { name: 'entries', result: 'findings', reason: 'only in part', blind: true },
    ]);
  });

  it('is in order with nothing but notices, and only where everything was looked at', () => {
    assert.ok(isInOrder(report({ devices: inOrder(), bridge: idle('none'), mtu: foundBy([finding('CHECKSUM_OFFLOAD', 'notice')]) })));
    assert.ok(!isInOrder(report({ mtu: foundBy([finding('MTU_BRIDGE', 'warning')]) })));
    assert.ok(!isInOrder(report({ peers: blind('no API server') })));
  });

  it('fits into 80 columns, but for commands, which stay as they are', () => {
    const long = 'many words that go on and on, '.repeat(8).trim();
    const command = `ip route replace ${'10.244.1.0/24 '.repeat(10)}`;
    const lines = [
      ...doctorTable(
        'node-a',
        report({
          forwarding: foundBy([finding('FORWARDING_OFF', 'error', { message: long, evidence: [long], remedy: `# ${long}\n${command}` })]),
          peers: blind(long),
          entries: blind(long),
        }),
        plain,
        80,
      ),
    ];
    assert.ok(lines.includes(command));
    assert.deepEqual(
      lines.filter((line) => line.length > 80 && line !== command),
      [],
    );
    // One reason is told once.
    assert.equal(lines.filter((line) => /^ {2}peers, entries$/.test(line)).length, 1);
  });

  it('does not print a thousand lines of evidence', () => {
    const evidence = Array.from({ length: 1000 }, (_, index) => `entry ${index}`);
    const lines = [
      ...doctorTable(
        'a',
        report({ entries: foundBy([finding('ROUTE_MISSING', 'error', { evidence, remedy: evidence.join('\n') })]) }),
        plain,
        80,
      ),
    ];
    assert.ok(lines.length < 100);
    assert.ok(lines.some((line) => /988 more: -o json has them all/.test(line)));
  });
});

describe('text for a shell', () => {
  const echo = (command: string): string => spawnSync('sh', ['-c', command], { encoding: 'utf8' }).stdout;

  it('is read by a shell as one word, whatever is in it', () => {
    for (const text of ['plain', '', "it's", '$(rm -rf x) `x` "q" \\ *', 'a b', '{"a":1}'])
      assert.equal(echo(`printf %s ${word(text)}`), text);
  });

  it('writes files as they are', () => {
    const text = 'A="$HOME"\nB=`x` \\\n';
    assert.equal(writeFileCommand('/run/x/y.env', text), `mkdir -p /run/x\ncat > /run/x/y.env <<'END'\n${text}END`);
    assert.equal(echo(`cat <<'END'\n${text}END\n`), text);
  });

  it('names settings of the kernel so that sysctl understands them', () => {
    assert.match(sysctlCommand('net/ipv4/ip_forward', '1'), /^sysctl -w net\.ipv4\.ip_forward=1$/m);
    assert.match(sysctlCommand('net/ipv4/conf/flannel.1/rp_filter', '2'), /^sysctl -w net\/ipv4\/conf\/flannel\.1\/rp_filter=2$/m);
  });
});
