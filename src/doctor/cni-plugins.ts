/** Whether the programs are there that the runtime's network configuration names. */
import { join } from 'node:path';
import { configurationInUse, pluginsOf, programsOf } from './cni-configuration.ts';
import type { Evidence } from './evidence.ts';
import { blind, type CheckOutcome, foundBy, idle, inOrder } from './report.ts';
import { lines } from './shell-text.ts';

export function checkCniPlugins({ settings, cni }: Evidence): CheckOutcome {
  if (settings.cniConfFile === undefined) return idle('somebody else writes the configuration (--cni-conf-file off)');
  if ('blind' in cni) return blind(cni.blind);
  const file = configurationInUse(cni.seen);
  if (file === undefined) return idle('no configuration says which are needed');
  const plugins = pluginsOf(file.text);
  if (typeof plugins === 'string') return idle(`no configuration says which are needed: ${plugins}`);
  const there = new Set([...cni.seen.plugins.values()].flat());
  const missing = programsOf(plugins).filter((name) => !there.has(name));
  if (missing.length === 0) return inOrder();
  return foundBy([
    {
      code: 'CNI_PLUGIN_MISSING',
      severity: 'error',
      subject: missing.join(', '),
      message: `${missing.length === 1 ? 'this plugin is' : 'these plugins are'} not there: the runtime makes no pods without`,
      evidence: [
        `${join(cni.seen.directory, file.name)}: plugins ${programsOf(plugins).join(', ')}`,
        ...settings.cniBinDirs.map((directory) => `${directory}: ${cni.seen.plugins.get(directory)?.join(' ') ?? 'not there'}`),
      ],
      remedy: lines(
        missing.some((name) => name !== 'flannel')
          ? [
              '# Debian and Ubuntu have them in /usr/lib/cni; a runtime that looks elsewhere has to be told, or they linked there:',
              'apt-get install containernetworking-plugins',
            ]
          : undefined,
        missing.includes('flannel')
          ? [
              '# The plugin flannel comes with flannel’s DaemonSet:',
              `${settings.kubectl} -n kube-flannel rollout restart daemonset kube-flannel-ds`,
            ]
          : undefined,
      ),
    },
  ]);
}
