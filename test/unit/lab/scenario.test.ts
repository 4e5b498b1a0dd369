import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readObjects, withFields } from '../../../src/lab/manifests.ts';
import { type Scenario, deletedWith, readScenario } from '../../../src/lab/scenario.ts';

const pod = (namespace: string, name: string): string => `kind: Pod\nmetadata: { namespace: ${namespace}, name: ${name} }\n`;

describe('scenario', () => {
  let directory: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  });

  afterEach(() => rmSync(directory, { recursive: true }));

  const read = (files: Readonly<Record<string, string>>): Scenario => {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(directory, dirname(path)), { recursive: true });
      writeFileSync(join(directory, path), text);
    }
    return readScenario(directory);
  };

  it('is read with its steps in the order of their numbers, sub-directories and all', () => {
    const scenario = read({
      'cluster/pods.yaml': `${pod('dev', 'a')}---\n${pod('dev', 'b')}`,
      'cluster/more/namespaces.json': '{"kind": "NamespaceList", "items": [{"metadata": {"name": "dev"}}, {"metadata": {"name": "prod"}}]}',
      '10-last/x.yaml': pod('dev', 'd'),
      '2-middle/x.yml': pod('dev', 'c'),
      '2-middle/delete.yaml': '- Pod dev/a\n- Namespace prod\n',
      '01-first/expect.yaml': 'default: deny\n',
      'notes/ignored.yaml': 'not: [an object',
      'README.md': 'nor this',
    });
    assert.deepEqual(
      scenario.steps.map((step) => step.name),
      ['01-first', '2-middle', '10-last'],
    );
    assert.deepEqual(
      scenario.cluster.objects.map((object) => object.id),
      ['Namespace dev', 'Namespace prod', 'Pod dev/a', 'Pod dev/b'],
    );
    assert.deepEqual(
      scenario.steps.map((step) => [
        step.objects.map((object) => object.id),
        step.deletions.map((deletion) => deletion.id),
        step.expectation !== undefined,
      ]),
      [
        [[], [], true],
        [['Pod dev/c'], ['Pod dev/a', 'Namespace prod'], false],
        [['Pod dev/d'], [], false],
      ],
    );
    assert.deepEqual(scenario.settings.probe, { protocols: ['TCP', 'UDP', 'SCTP'], families: ['IPv4', 'IPv6'], nodes: false });
  });

  it('says file and line of everything that is wrong with it, before anything runs', () => {
    const cluster = { 'cluster/pods.yaml': pod('dev', 'a') };
    for (const [files, message] of [
      [{}, /has no directory cluster\//],
      [{ 'cluster/a.yaml': 'kind: Pod\nmetadata:\n\tname: a\n' }, /cluster\/a\.yaml:3: /],
      [{ 'cluster/a.yaml': '# nothing\n---\nkind: Pod\n' }, /cluster\/a\.yaml:3: the Pod has no metadata\.name/],
      [{ 'cluster/a.yaml': 'kind: Namespace\nmetadata:\n  name: y\n' }, /cluster\/a\.yaml:1: the Namespace's metadata\.name is not text/],
      [{ 'cluster/a.yaml': 'metadata: { name: a }\n' }, /cluster\/a\.yaml:1: the object has no kind/],
      [{ 'cluster/a.yaml': '- a\n' }, /cluster\/a\.yaml:1: expected a Kubernetes object/],
      [
        { 'cluster/a.yaml': pod('dev', 'a'), 'cluster/b.yaml': `\n${pod('dev', 'a')}` },
        /cluster\/b\.yaml:2: Pod dev\/a stands in this step twice, also at .*a\.yaml:1/,
      ],
      [{ ...cluster, '1-x/delete.yaml': '- Pod dev/a\n- Pod dev/b\n' }, /1-x\/delete\.yaml:2: Pod dev\/b is not there to be deleted/],
      [{ ...cluster, '1-x/delete.yaml': '- dev/a\n' }, /1-x\/delete\.yaml:1: this names no object/],
      [{ ...cluster, '1-x/delete.yaml': 'Pod: dev/a\n' }, /1-x\/delete\.yaml:1: expected a list/],
      [
        { ...cluster, '1-x/node.yaml': 'kind: Node\nmetadata: { name: late }\n' },
        /1-x\/node\.yaml:1: Node late is new: nodes have to be in cluster\//,
      ],
      [{ ...cluster, 'scenario.yaml': 'title: x\nprobe:\n  ports:\n    - 80\n    - eighty\n' }, /scenario\.yaml:5: probe\.ports\.1: /],
      [{ ...cluster, 'scenario.yaml': 'titel: x\n' }, /scenario\.yaml:1: .*titel/],
      [{ ...cluster, 'scenario.yaml': 'outside:\n  far: [10.0.0.256]\n' }, /scenario\.yaml:2: outside\.far\.0: is no IP address/],
    ] as const) {
      assert.throws(() => read(files), message);
      rmSync(directory, { recursive: true });
      mkdirSync(directory);
    }
    assert.throws(() => readScenario(join(directory, 'none')), { code: 'SCENARIO_MISSING', exitStatus: 2 });
  });

  it('deletes with a namespace everything in it, and nothing else', () => {
    const objects = readObjects(
      'x.yaml',
      `${pod('dev', 'a')}---\n${pod('dev2', 'a')}---\nkind: Namespace\nmetadata: { name: dev }\n---\nkind: Node\nmetadata: { name: dev }\n`,
    );
    assert.deepEqual(deletedWith('Namespace dev', objects), ['Pod dev/a', 'Namespace dev']);
    assert.deepEqual(deletedWith('Node dev', objects), ['Node dev']);
  });

  it('keeps what the author wrote, and fills in fields around it', () => {
    const [first, second] = readObjects(
      'x.yaml',
      `# the first\n${pod('dev', 'a')}spec: {} # nothing yet\n---\n# the second\n${pod('dev', 'b')}`,
    );
    assert.ok(first !== undefined && second !== undefined);
    assert.deepEqual([first.place.line, second.place.line], [2, 7]);
    assert.match(second.text, /# the second\nkind: Pod/);
    const filled = withFields(first, [
      [['spec', 'nodeName'], 'n1'],
      [['status', 'podIPs'], [{ ip: '10.0.0.1' }]],
    ]);
    assert.match(filled.text, /# the first/);
    assert.match(filled.text, /# nothing yet/);
    assert.deepEqual(filled.value, {
      kind: 'Pod',
      metadata: { namespace: 'dev', name: 'a' },
      spec: { nodeName: 'n1' },
      status: { podIPs: [{ ip: '10.0.0.1' }] },
    });
    assert.deepEqual(readObjects('y.yaml', filled.text)[0]?.value, filled.value, 'the text says what the value says');
  });
});
