/**
 * flannel's own proxy of the udp backend, for comparing and for talking to: `proxy_amd64.c` of flannel's Go module, with a main of
 * ours that does what flanneld does around it. Built by gcc once a run.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const FLANNEL = 'v0.28.4';

/** Arguments: as proxy-process.ts. */
const MAIN = `
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "proxy_amd64.h"

static int fail(const char *what) { perror(what); return 1; }

int main(int argc, char **argv) {
  if (argc < 6 || argc % 3 != 0) { fprintf(stderr, "wrong arguments\\n"); return 2; }
  int tun = open("/dev/net/tun", O_RDWR);
  struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
  strncpy(request.ifr_name, argv[1], IFNAMSIZ - 1);
  if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0) return fail("tun");
  int sock = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in own = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[3])), .sin_addr.s_addr = inet_addr(argv[2]) };
  if (sock < 0 || bind(sock, (struct sockaddr *)&own, sizeof own) < 0) return fail("bind");
  int ctl[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ctl) < 0) return fail("socketpair");
  for (int i = 6; i < argc; i += 3) {
    char *slash = strchr(argv[i], '/');
    *slash = 0;
    command c = { 1, inet_addr(argv[i]), atoi(slash + 1), inet_addr(argv[i + 1]), (short)atoi(argv[i + 2]) };
    if (write(ctl[0], &c, sizeof c) != sizeof c) return fail("route");
  }
  printf("ready\\n");
  fflush(stdout);
  run_proxy(tun, sock, ctl[1], inet_addr(argv[4]), atoi(argv[5]), 0);
  return 0;
}
`;

export type Built = { readonly program: string } | { readonly missing: string };

/** Builds it, for as long as this process lives. `missing`: why it cannot be, for people. */
export function buildFlannelProxy(): Built {
  if (process.arch !== 'x64') return { missing: 'flannel has its C proxy for amd64 only' };
  const source = flannelSource();
  if (source === undefined) {
    return { missing: `no source of flannel: go mod download github.com/flannel-io/flannel@${FLANNEL}` };
  }
  const directory = mkdtempSync(join(tmpdir(), 'flannel-proxy-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const main = join(directory, 'main.c');
  const program = join(directory, 'flannel-proxy');
  writeFileSync(main, MAIN);
  // -O2 -g is what cgo builds with.
  const { error, status, stderr } = spawnSync(
    'gcc',
    ['-O2', '-g', '-w', '-I', source, '-o', program, main, join(source, 'proxy_amd64.c')],
    { encoding: 'utf8' },
  );
  if (error !== undefined) return { missing: 'gcc is not installed (apt-get install gcc libc6-dev)' };
  if (status !== 0) return { missing: `gcc cannot build flannel's proxy: ${stderr.split('\n')[0]}` };
  return { program };
}

/** Where Go keeps the module, if it has been downloaded. */
function flannelSource(): string | undefined {
  const { stdout, error } = spawnSync('go', ['env', 'GOMODCACHE'], { encoding: 'utf8', cwd: '/' });
  if (error !== undefined) return undefined;
  const directory = join(stdout.trim(), `github.com/flannel-io/flannel@${FLANNEL}/pkg/backend/udp`);
  return existsSync(join(directory, 'proxy_amd64.c')) ? directory : undefined;
}
