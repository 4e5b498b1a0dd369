/** A process of its own that claims subnets when it is told to: `[directory, node, subnets]`, and answers with those it has got. */
import { SubnetClaims } from '../../../src/network/subnet-claims.ts';
import { formatPrefix, parsePrefix } from '../../../src/policy/address.ts';

export type Order = readonly [directory: string, node: string, subnets: readonly string[]];

process.on('message', ([directory, node, subnets]: Order) => {
  const claims = new SubnetClaims(directory, node);
  const got = subnets.flatMap((text) => {
    const subnet = parsePrefix(text);
    return subnet !== undefined && claims.take(subnet, () => false) === undefined ? [formatPrefix(subnet)] : [];
  });
  process.send?.(got);
});
process.send?.('ready');
