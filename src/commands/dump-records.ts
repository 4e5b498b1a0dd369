/** The effective rules of a node as records: what `sluice dump` prints, from the very ruleset that the agent would program. */
import { formatAddress } from '../policy/address.ts';
import type { ChainCounts, Count } from '../audit/rule-counts.ts';
import type { Pod } from '../policy/objects.ts';
import { rangeToPrefixes } from '../policy/ranges.ts';
import { formatPrefix } from '../policy/address.ts';
import { type AdmitRule, type DesiredChain, type DesiredSet, policyChainsOf, type Ruleset } from '../ruleset/objects.ts';
import type { IsolationRecord, PolicyRecord, RuleRecord, SetRecord } from './dump-document.ts';

type CountsOf = (chain: DesiredChain) => ChainCounts;

/**
 * @param pods those that a record is wanted for, in their order; of one node
 * @param countsOf what the kernel of that node has counted, where it is at hand
 */
export function dumpRecords(ruleset: Ruleset, pods: readonly Pod[], countsOf?: CountsOf): IsolationRecord[] {
  const byChain = new Map<string, string[]>();
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [address, chain] of ruleset.verdicts[direction]) byChain.set(chain, [...(byChain.get(chain) ?? []), formatAddress(address)]);
  }
  const records: IsolationRecord[] = [];
  for (const { namespace, name, node } of pods) {
    for (const direction of ['ingress', 'egress'] as const) {
      const chain = ruleset.chainOfPod(`${namespace}/${name}`, direction);
      if (chain === undefined) continue;
      const policies = policyChainsOf(ruleset, chain).map((policy) => policyRecord(ruleset, policy, countsOf));
      records.push({
        pod: `${namespace}/${name}`,
        node,
        direction,
        audited: chain.audited,
        addresses: byChain.get(chain.name) ?? [],
        chain: chain.name,
        policies,
        ...counted('refused', countsOf?.(chain).refused),
      });
    }
  }
  return records;
}

function counted<Name extends string>(name: Name, count: Count | undefined): { readonly [K in Name]?: Count } {
  return count === undefined ? {} : ({ [name]: count } as { readonly [K in Name]: Count }); // a computed name loses its type
}

function policyRecord(ruleset: Ruleset, name: string, countsOf: CountsOf | undefined): PolicyRecord {
  const chain = ruleset.chains.get(name);
  const counts = chain === undefined ? undefined : countsOf?.(chain);
  const rules = (chain?.rules ?? []).flatMap((rule, index) =>
    rule.kind === 'admit' ? [{ ...ruleRecord(ruleset, rule), ...counted('counted', counts?.rules[index]) }] : [],
  );
  return { policy: chain?.of ?? '', chain: name, rules };
}

function ruleRecord({ sets }: Ruleset, rule: AdmitRule): RuleRecord {
  const peer = rule.peer === undefined ? undefined : sets.get(rule.peer);
  const named = rule.named === undefined ? undefined : sets.get(rule.named);
  const ports = typeof rule.port === 'string' ? portsOf(sets.get(rule.port)) : rule.port === undefined ? undefined : [rangeText(rule.port)];
  return {
    path: rule.comment,
    ...(rule.family === undefined ? {} : { family: rule.family }),
    ...(peer === undefined ? {} : { peer: setRecord(peer) }),
    ...(rule.protocol === undefined ? {} : { protocol: rule.protocol }),
    ...(ports === undefined ? {} : { ports }),
    ...(named === undefined ? {} : { named: setRecord(named) }),
  };
}

function setRecord(set: DesiredSet): SetRecord {
  const { description } = set;
  const elements =
    description.kind === 'block'
      ? description.ranges.flatMap((range) => rangeToPrefixes(range).map(formatPrefix))
      : [...set.elements()].map((element) =>
          typeof element === 'object'
            ? `${bracketed(formatAddress(element.address))}:${element.port}/${element.protocol}`
            : formatAddress(element),
        );
  return { set: description.name, of: description.comment, elements };
}

function bracketed(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

function portsOf(set: DesiredSet | undefined): string[] {
  return set?.description.kind === 'ports' ? set.description.ranges.map(rangeText) : [];
}

function rangeText({ first, last }: { readonly first: number; readonly last: number }): string {
  return first === last ? `${first}` : `${first}-${last}`;
}
