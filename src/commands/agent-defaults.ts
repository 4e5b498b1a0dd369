/** Settings of the agent that other commands show or take as well. */
import { InvalidArgumentError, Option } from 'commander';
import { DEFAULT_CUT_MARK } from '../enforcement/conntrack/flow-sweep.ts';

/** NFLOG group of refused packets; 0 to 10 are in common use (ulogd, Docker's examples). */
export const DEFAULT_LOG_GROUP = 100;

/** Where `sluice observe` looks for the agent of this node. */
export const DEFAULT_OBSERVE_SOCKET = '/run/sluice/observe.sock';

/** `--cut-mark`, with a value that is checked: a slip must neither mark somebody else's flows nor leave ours marked. */
export function cutMarkOption(description: string): Option {
  return new Option('--cut-mark <bit>', description).default(DEFAULT_CUT_MARK, `0x${DEFAULT_CUT_MARK.toString(16)}`).argParser(markBit);
}

/** `--bridge`, the bridges that pods are attached to. */
export function bridgeOption(description: string): Option {
  return new Option('--bridge <name...>', description).default(['cni0'], 'cni0');
}

function markBit(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0 || value > 0x8000_0000 || (value & (value - 1)) !== 0) {
    throw new InvalidArgumentError('It has to be a single bit of 32, such as 0x1000.');
  }
  return value;
}
