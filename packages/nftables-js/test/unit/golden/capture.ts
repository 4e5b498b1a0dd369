/**
 * Makes messages.txt beside it: what `nft` sends to the kernel for a list of commands, byte by byte.
 *
 *     sh scripts/sandbox.sh node packages/nftables-js/test/unit/golden/capture.ts > packages/nftables-js/test/unit/golden/messages.txt
 *
 * needs nft and strace. Each command is a run of its own; of the batch that it sends, the messages between begin and end are noted:
 * type, flags (both decimal) and what follows the message's header (hexadecimal).
 */
import { spawnSync } from 'node:child_process';
import { readMessages } from 'nftables-js';

const COMMANDS = [
  'add table inet g { comment "a table"; }',
  'add chain inet g regular { comment "a chain"; }',
  'add chain inet g base { type filter hook forward priority -20; policy drop; }',
  'add set inet g addresses { type ipv4_addr; size 100; comment "a set"; }',
  'add set inet g expiring { type ipv6_addr; flags dynamic,timeout; timeout 30s; }',
  'add set inet g ports { type inet_service; flags interval; }',
  'add counter inet g hits { comment "an object"; packets 5 bytes 100; }',
  'add rule inet g base ct state established,related counter accept comment "a rule"',
  'add rule inet g base ip saddr @addresses limit rate 10/second burst 7 packets log group 5 prefix "x" snaplen 64',
  'add rule inet g base ip6 saddr fe80::/10 ct mark set 5 jump regular',
  'insert rule inet g base tcp dport != 10-20 reject with tcp reset',
  'create element inet g addresses { 10.0.0.1 comment "an element" }',
  'add element inet g expiring { fd00::1 timeout 10s }',
  'delete element inet g addresses { 10.0.0.1 }',
  'flush set inet g addresses',
  'flush chain inet g base',
  'delete counter inet g hits',
  'delete set inet g expiring',
  'delete table inet g',
];

/** The buffer that the last sendmsg(2) of a run was given, from strace's hexadecimal dump. */
function lastDatagram(trace: string): Uint8Array {
  const dump = trace.slice(trace.lastIndexOf('bytes in buffer 0'));
  const bytes = [...dump.matchAll(/^ \| [0-9a-f]{5,}  (.{49})/gm)].map(([, hex = '']) => hex.replaceAll(' ', ''));
  return Buffer.from(bytes.join(''), 'hex');
}

for (const command of COMMANDS) {
  const { stderr, status } = spawnSync('strace', ['-e', 'trace=sendmsg', '-e', 'write=3', 'nft', command], { encoding: 'utf8' });
  if (status !== 0) console.error(command, stderr);
  console.log(`# nft '${command}'`);
  for (const { type, flags, payload } of readMessages(lastDatagram(stderr)))
    if (type >= 256) console.log(`${type} ${flags} ${Buffer.from(payload).toString('hex')}`);
}
