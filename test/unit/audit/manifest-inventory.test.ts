import assert from 'node:assert/strict';
import { formatPlace } from '../../../src/audit/inventory.ts';
import { inventory } from './inventory-of.ts';

const POLICY = `# first
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  podSelector: {}
  ingress:
    - from:
        - podSelector: {}
`;

describe('an inventory of manifests', () => {
  it('knows where each field of a policy is written', () => {
    const written = inventory(POLICY).written({ namespace: 'shop', name: 'web' });
    assert.ok(written);
    assert.deepEqual(written.spec, { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] });
    assert.equal(formatPlace(written.place('spec.ingress[0].from[0]')), 'cluster.yaml:11');
    assert.equal(formatPlace(written.place('spec.podSelector')), 'cluster.yaml:8');
  });

  it('knows it within a list, and in a later document of the file', () => {
    const list = `a: 1\n---\nkind: List\napiVersion: v1\nitems:\n${POLICY.replaceAll(/^(?=.)/gm, '    ').replace('    # first\n    ', '  - ')}`;
    const written = inventory(list).written({ namespace: 'shop', name: 'web' });
    assert.ok(written);
    assert.equal(formatPlace(written.place('spec.ingress[0].from[0]')), 'cluster.yaml:15');
  });

  it('shows the text of the policy that counts where it is said twice', () => {
    const { written, policies } = inventory(`${POLICY}---\n${POLICY.replace('podSelector: {}', 'podSelector: { matchLabels: { a: b } }')}`);
    assert.equal(policies[0]?.subject.text, '');
    assert.deepEqual(written({ namespace: 'shop', name: 'web' })?.spec, { podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] });
  });

  it('has nothing to show of what is not there', () => {
    assert.equal(inventory(POLICY).written({ namespace: 'shop', name: 'other' }), undefined);
  });

  it('leaves out a Service that cannot be read, and says so', async () => {
    const found = inventory('{ apiVersion: v1, kind: Service, metadata: { name: web }, spec: { ports: [{ port: many }] } }');
    assert.deepEqual((await found.services()).services, []);
    assert.deepEqual(
      found.problems.map(({ code, severity, line }) => [code, severity, line]),
      [['OBJECT_LEFT_OUT', 'warning', 1]],
    );
  });

  it('passes over what is no Kubernetes object, without taking it for an error', () => {
    const { problems } = inventory('replicas: 3\nimage: x');
    assert.deepEqual(
      problems.map(({ code, severity }) => [code, severity]),
      [['NO_OBJECT', 'notice']],
    );
  });

  it('takes an object that lacks its kind alone for an error', () => {
    const { problems } = inventory('metadata: { name: web }\nspec: { podSelector: {} }');
    assert.deepEqual(
      problems.map(({ code, severity }) => [code, severity]),
      [['KIND_MISSING', 'error']],
    );
  });

  it('has workloads of the right group only', async () => {
    const text = (group: string): string =>
      `{ apiVersion: ${group}, kind: Deployment, metadata: { name: web }, spec: { selector: { matchLabels: { a: b } }, template: {} } }`;
    assert.equal((await inventory(text('apps/v1')).workloads()).length, 1);
    assert.equal((await inventory(text('example.com/v1')).workloads()).length, 0);
  });
});
