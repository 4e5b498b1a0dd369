/** Ports of a bridge: attaching one as the plugin bridge does, with hairpin mode. */
import type { NetlinkSocket } from 'nftables-js';
import { type Link, setMaster } from '../../rtnetlink/links.ts';

/** linux/rtnetlink.h, linux/if_link.h */
const RTM_NEWLINK = 16;
const IFINFOMSG_BYTES = 16;
const IFLA_LINKINFO = 18;
const IFLA_INFO_SLAVE_KIND = 4;
const IFLA_INFO_SLAVE_DATA = 5;
const IFLA_BRPORT_MODE = 4;

/**
 * Whether packets that came in by a port may leave by it again: a pod that reaches itself by the address of a service.
 * @throws KernelError ENODEV where it is gone; EOPNOTSUPP where it is no port of a bridge; EPERM without CAP_NET_ADMIN
 */
export function setHairpin(socket: NetlinkSocket, port: Pick<Link, 'index' | 'name'>, on: boolean): void {
  socket.request(
    RTM_NEWLINK,
    0,
    (writer) => {
      const header = new Uint8Array(IFINFOMSG_BYTES);
      new DataView(header.buffer).setInt32(4, port.index, true);
      writer.raw(header);
      const info = writer.beginNested(IFLA_LINKINFO);
      writer.string(IFLA_INFO_SLAVE_KIND, 'bridge');
      const data = writer.beginNested(IFLA_INFO_SLAVE_DATA);
      writer.u8(IFLA_BRPORT_MODE, Number(on));
      writer.endNested(data);
      writer.endNested(info);
    },
    () => {},
    `setting hairpin mode of bridge port ${port.name}`,
  );
}

/** Makes a link a port of a bridge. @throws KernelError as {@link setMaster} and {@link setHairpin} do */
export function attachPort(socket: NetlinkSocket, port: Pick<Link, 'index' | 'name'>, bridge: number, hairpin: boolean): void {
  setMaster(socket, port, bridge);
  // Off is what a new port begins with.
  if (hairpin) setHairpin(socket, port, true);
}
