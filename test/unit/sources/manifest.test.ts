import assert from 'node:assert/strict';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { type Manifest, readManifest } from '../../../src/sources/manifest.ts';
import { documents, namespaceYaml, podYaml, policyYaml, problemText } from './manifests.ts';

function read(text: string): Manifest {
  return readManifest('a.yaml', text, new Sharing());
}

function ids(manifest: Manifest): string[] {
  return manifest.statements.map(({ id }) => id);
}

function refusals(manifest: Manifest): string[] {
  return manifest.refusals.map(({ id, problems }) => `${id ?? 'something'}: ${problems.map(problemText).join(', ')}`);
}

describe('a manifest file', () => {
  it('says which objects there are, and where', () => {
    const manifest = read(documents(namespaceYaml('dev'), podYaml('web'), policyYaml('deny')));
    assert.deepEqual(
      manifest.statements.map(({ id, origin, line }) => `${id} ${origin} ${line()}`),
      ['Namespace dev a.yaml#1 1', 'Pod dev/web a.yaml#2 5', 'NetworkPolicy dev/deny a.yaml#3 12'],
    );
    assert.deepEqual([manifest.refusals, manifest.problems, manifest.passedOver], [[], [], []]);
  });

  it('of one document is named without a number', () => {
    assert.equal(read(podYaml('web')).statements[0]?.origin, 'a.yaml');
  });

  it('may hold lists, typed or not, whose typed items need no kind', () => {
    const list = {
      apiVersion: 'v1',
      kind: 'List',
      items: [
        { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1' } },
        {
          apiVersion: 'v1',
          kind: 'PodList',
          items: [{ metadata: { name: 'a' } }, { kind: 'Pod', apiVersion: 'v1', metadata: { name: 'b' } }],
        },
        { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicyList', items: [{ metadata: { name: 'p' }, spec: {} }] },
        { apiVersion: 'v1', kind: 'NamespaceList', items: null },
      ],
    };
    const manifest = read(JSON.stringify(list));
    assert.deepEqual(ids(manifest), ['Node n1', 'Pod default/a', 'Pod default/b', 'NetworkPolicy default/p']);
    assert.deepEqual(manifest.problems, []);
  });

  it('says of an item of a list which it is', () => {
    const manifest = read(
      'kind: List\nitems:\n  - {kind: Pod, apiVersion: v1, metadata: {name: a}}\n  - kind: Pod\n    apiVersion: v1\n    metadata: {name: b, labels: {app: 1}}\n',
    );
    assert.deepEqual(ids(manifest), ['Pod default/a']);
    assert.deepEqual(refusals(manifest), ['Pod default/b: a.yaml:6 error TYPE_INVALID']);
    assert.equal(manifest.refusals[0]?.problems[0]?.path, 'items[1].metadata.labels[app]');
  });

  it('has problems with the line and the path of the field', () => {
    const { problems, statements } = read(policyYaml('p', '10.0.0.0/33'));
    assert.equal(statements.length, 1);
    assert.deepEqual(
      problems.map(({ path, line, object, severity }) => ({ path, line, object, severity })),
      [{ path: 'spec.ingress[0].from[0].ipBlock.cidr', line: 8, object: 'NetworkPolicy dev/p', severity: 'error' }],
    );
    assert.equal(read(policyYaml('p', '10.0.0.5/8')).problems[0]?.severity, 'warning');
  });

  it('with a broken document still says what the others say', () => {
    const manifest = read(documents(podYaml('a'), 'kind: Pod\nmetadata: {name: b\n', 'just text\n', 'a: b\n', podYaml('c')));
    assert.deepEqual(ids(manifest), ['Pod dev/a', 'Pod dev/c']);
    assert.equal(manifest.refusals.length, 3);
    assert.ok(manifest.refusals.every(({ id }) => id === undefined));
    assert.deepEqual(
      manifest.refusals.map(({ problems }) => problems[0]?.code),
      ['SYNTAX_INVALID', 'TYPE_INVALID', 'NO_OBJECT'],
    );
  });

  it('names a refused object where its name can be read', () => {
    assert.deepEqual(refusals(read(podYaml('web', '{app: y}'))), ['Pod dev/web: a.yaml:6 error TYPE_INVALID']);
    assert.deepEqual(refusals(read('apiVersion: v1\nkind: Pod\nmetadata:\n  name: 12\n')), ['something: a.yaml:4 error TYPE_INVALID']);
  });

  it('passes other kinds over', () => {
    const text = documents(
      'apiVersion: apps/v1\nkind: Deployment\n',
      'apiVersion: extensions/v1beta1\nkind: NetworkPolicy\nmetadata: {name: p}\n',
    );
    const manifest = read(text);
    assert.deepEqual(ids(manifest), []);
    assert.deepEqual(
      manifest.passedOver.map(({ what, alike, line }) => ({ what, alike, line })),
      [
        { what: 'Deployment (apps/v1)', alike: false, line: 1 },
        { what: 'NetworkPolicy (extensions/v1beta1)', alike: true, line: 4 },
      ],
    );
  });

  for (const apiVersion of ['', 'apiVersion: networking.k8s.io/v2\n', 'apiVersion: 1\n']) {
    it(`has an object in force, and reported, with ${apiVersion === '' ? 'no apiVersion' : apiVersion.trim()}`, () => {
      const manifest = read(`${apiVersion}kind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}}\n`);
      assert.deepEqual(ids(manifest), ['NetworkPolicy default/p']);
      assert.deepEqual(
        manifest.problems.map(({ code, severity }) => `${severity} ${code}`),
        ['error API_VERSION_UNKNOWN'],
      );
    });
  }

  it('has what is in lists within lists, and of what is deeper only that it is not read', () => {
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'a', name: 'p' } };
    const within = (depth: number): string => {
      const [open, close] = ['{"apiVersion":"v1","kind":"List","items":['.repeat(depth), ']}'.repeat(depth)];
      return `${open}${JSON.stringify(pod)}${close}`;
    };
    assert.deepEqual(
      read(within(8)).statements.map(({ id }) => id),
      ['Pod a/p'],
    );
    for (const depth of [9, 3_000]) {
      const { statements, refusals } = read(`${within(depth)}\n`);
      assert.deepEqual([statements, refusals.flatMap(({ problems }) => problems.map(({ code }) => code))], [[], ['LIST_TOO_DEEP']]);
    }
  });
});
