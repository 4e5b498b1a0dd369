/** Rows 1 to 11: who is isolated, and whom a peer means. */
import { readPrefix } from '../../../src/policy/address.ts';
import { readSelector } from '../../../src/policy/selector.ts';
import { eachBlock, eachPeer, eachPolicy, eachRule, eachSelector, type Fields, withoutPolicies } from '../rewrite.ts';
import type { Misreading } from './misreading.ts';
import { cannotBeRead, EVERYONE, hasKeys, isEmpty, isIcmp, leaveOut, list } from './parts.ts';

const isUnreadable = (selector: unknown): boolean => selector !== undefined && readSelector(selector, '').selector === undefined;

/** `matchLabels: {k: ""}` asks something else of k. */
function emptyValues(selector: Fields, operator: 'Exists' | 'DoesNotExist'): Fields {
  const labels = Object.entries((selector['matchLabels'] ?? {}) as Fields);
  const keys = labels.flatMap(([key, value]) => (value === '' ? [key] : []));
  if (keys.length === 0) return selector;
  return {
    ...selector,
    matchLabels: Object.fromEntries(labels.filter(([, value]) => value !== '')),
    matchExpressions: [...list(selector['matchExpressions']), ...keys.map((key) => ({ key, operator }))],
  };
}

export const POLICIES_AND_PEERS: readonly Misreading[] = [
  {
    row: 1,
    reading: 'without policyTypes a policy isolates both directions',
    objects: eachPolicy((spec) => (spec['policyTypes'] === undefined ? { ...spec, policyTypes: ['Ingress', 'Egress'] } : spec)),
  },
  {
    row: 1,
    reading: 'without policyTypes a policy isolates ingress only, whatever its egress rules',
    objects: eachPolicy((spec) => (spec['policyTypes'] === undefined ? { ...spec, policyTypes: ['Ingress'] } : spec)),
  },
  {
    row: 2,
    reading: 'no rules admit everything',
    objects: eachPolicy((spec) => {
      const open = (field: string): Fields =>
        list(spec[field]).length === 0 && spec['policyTypes'] !== undefined ? { [field]: [{}] } : {};
      return { ...spec, ...open('ingress'), ...open('egress') };
    }),
  },
  { row: 2, reading: 'an empty rule admits nobody', objects: eachRule((rule) => (isEmpty(rule) ? undefined : rule)) },
  {
    row: 3,
    reading: 'a rule without peers admits pods only',
    objects: eachRule((rule, { side }) => (list(rule[side]).length === 0 ? { ...rule, [side]: [{ namespaceSelector: {} }] } : rule)),
  },
  {
    row: 3,
    reading: 'an empty list of peers admits nobody',
    objects: eachRule((rule, { side }) => (Array.isArray(rule[side]) && rule[side].length === 0 ? undefined : rule)),
  },
  {
    row: 3,
    reading: 'a rule without ports admits TCP only',
    objects: eachRule((rule) => (rule['ports'] === undefined ? { ...rule, ports: [{ protocol: 'TCP' }] } : rule)),
    concerns: (probe) => !isIcmp(probe),
  },
  { row: 4, reading: 'an empty peer is everyone', objects: eachPeer((peer) => (isEmpty(peer) ? EVERYONE : peer)) },
  {
    row: 5,
    reading: 'podSelector alone looks in every namespace',
    objects: eachPeer((peer) => (Object.keys(peer).join() === 'podSelector' ? { ...peer, namespaceSelector: {} } : peer)),
  },
  {
    row: 6,
    reading: 'namespaceSelector: {} is everyone, external addresses too',
    objects: eachPeer((peer) =>
      hasKeys(peer, 'namespaceSelector') && isEmpty(peer['namespaceSelector']) && isEmpty(peer['podSelector'] ?? {}) ? EVERYONE : peer,
    ),
  },
  {
    row: 6,
    reading: "namespaceSelector: {} leaves the policy's own namespace out",
    objects: eachPeer((peer, { namespace }) =>
      hasKeys(peer, 'namespaceSelector') && isEmpty(peer['namespaceSelector'])
        ? {
            ...peer,
            namespaceSelector: { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: [namespace] }] },
          }
        : peer,
    ),
  },
  {
    row: 7,
    reading: 'podSelector and namespaceSelector in one peer: either will do',
    objects: eachPeer((peer) =>
      hasKeys(peer, 'podSelector', 'namespaceSelector')
        ? [{ podSelector: peer['podSelector'] }, { namespaceSelector: peer['namespaceSelector'] }]
        : peer,
    ),
  },
  {
    row: 7,
    reading: 'of several peers only the first counts',
    objects: eachRule((rule, { side }) => (list(rule[side]).length > 1 ? { ...rule, [side]: list(rule[side]).slice(0, 1) } : rule)),
  },
  {
    row: 8,
    reading: 'NotIn needs the key',
    objects: eachSelector((selector) => {
      const absent = list(selector['matchExpressions']).filter((each) => hasKeys(each, 'operator') && each['operator'] === 'NotIn');
      const exists = absent.map((each) => ({ key: (each as Fields)['key'], operator: 'Exists' }));
      return exists.length === 0 ? selector : { ...selector, matchExpressions: [...list(selector['matchExpressions']), ...exists] };
    }),
  },
  {
    row: 8,
    reading: 'DoesNotExist matches nothing',
    objects: eachSelector((selector) => {
      const absent = list(selector['matchExpressions']).find((each) => hasKeys(each, 'operator') && each['operator'] === 'DoesNotExist');
      if (absent === undefined) return selector;
      const exists = { key: (absent as Fields)['key'], operator: 'Exists' };
      return { ...selector, matchExpressions: [...list(selector['matchExpressions']), exists] };
    }),
  },
  {
    row: 9,
    reading: "with a namespaceSelector, podSelector looks in the policy's namespace",
    objects: eachPeer((peer) => (hasKeys(peer, 'podSelector', 'namespaceSelector') ? { podSelector: peer['podSelector'] } : peer)),
  },
  { row: 10, reading: 'an empty value matches any value', objects: eachSelector((selector) => emptyValues(selector, 'Exists')) },
  { row: 10, reading: 'an empty value matches a missing key', objects: eachSelector((selector) => emptyValues(selector, 'DoesNotExist')) },
  {
    row: 11,
    reading: 'a peer selector that cannot be read matches everything',
    objects: eachPeer((peer) => {
      const fix = (field: string): Fields => (isUnreadable(peer[field]) ? { [field]: {} } : {});
      return { ...peer, ...fix('podSelector'), ...fix('namespaceSelector') };
    }),
  },
  {
    row: 11,
    reading: 'a CIDR that cannot be read is everyone',
    objects: eachPeer((peer) => (hasKeys(peer['ipBlock'], 'cidr') && cannotBeRead(peer['ipBlock']) ? EVERYONE : peer)),
  },
  {
    row: 11,
    reading: 'an `except` that cannot be read has no effect',
    objects: eachBlock((block) =>
      list(block['except']).some((hole) => readPrefix(String(hole)) === undefined) ? leaveOut(block, 'except') : block,
    ),
  },
  {
    row: 11,
    reading: 'of ipBlock and selectors in one peer, the selectors count',
    objects: eachPeer(({ ipBlock, ...rest }) => (ipBlock === undefined || isEmpty(rest) ? { ipBlock, ...rest } : rest)),
  },
  {
    row: 11,
    reading: 'a policy whose podSelector cannot be read selects nobody',
    objects: withoutPolicies(({ spec }) => isUnreadable(spec['podSelector'])),
  },
];
