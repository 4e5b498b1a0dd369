/** The kernel's WireGuard devices, read and changed over generic netlink. */
import { KernelError, NetlinkSocket, NLM_F_DUMP } from 'nftables-js';
import { SluiceError } from '../../errors.ts';
import { findGenericFamily, type GenericFamily, type GenericRequest, NETLINK_GENERIC, requestGeneric } from '../../rtnetlink/generic.ts';
import {
  type DeviceChange,
  DeviceReader,
  type DeviceState,
  splitChange,
  WG_CMD_GET_DEVICE,
  WG_CMD_SET_DEVICE,
  WIREGUARD,
  writeChange,
  writeQuestion,
} from './messages.ts';

/** What a tunnel asks of the kernel. */
export interface WireguardDevices {
  /** Undefined where there is no such device, or one of another kind. */
  read(name: string): DeviceState | undefined;
  /**
   * What comes before what is refused has been done. Never shows keys.
   * @throws KernelError ENODEV, EOPNOTSUPP where there is no such device; EADDRINUSE for a port that is taken; EPERM without CAP_NET_ADMIN
   */
  change(name: string, change: DeviceChange): void;
  close(): void;
}

export class WireguardControl implements WireguardDevices {
  readonly #socket: NetlinkSocket;
  #family: GenericFamily;

  private constructor(socket: NetlinkSocket, family: GenericFamily) {
    this.#socket = socket;
    this.#family = family;
  }

  /**
   * Belongs to the network namespace that this thread is in. The kernel loads its module, where it has one.
   * @throws SluiceError `MODULE_MISSING` where the kernel has no WireGuard
   */
  static open(): WireguardControl {
    const socket = NetlinkSocket.open(NETLINK_GENERIC);
    try {
      return new WireguardControl(socket, needFamily(socket));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  read(name: string): DeviceState | undefined {
    let reader = new DeviceReader();
    try {
      this.#request(WG_CMD_GET_DEVICE, {
        flags: NLM_F_DUMP,
        write: (writer) => writeQuestion(writer, name),
        each: (_command, attributes) => reader.add(attributes),
        doing: `reading WireGuard device ${name}`,
        restart: () => {
          reader = new DeviceReader();
        },
      });
    } catch (error) {
      if (isNoDevice(error)) return undefined;
      throw error;
    }
    return reader.finish();
  }

  change(name: string, change: DeviceChange): void {
    for (const part of splitChange(change)) {
      this.#request(WG_CMD_SET_DEVICE, {
        write: (writer) => writeChange(writer, name, part),
        doing: `changing WireGuard device ${name}`,
      });
    }
  }

  close(): void {
    this.#socket.close();
  }

  #request(command: number, request: GenericRequest): void {
    try {
      requestGeneric(this.#socket, this.#family, command, request);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== 'ENOENT') throw error;
      // The module was unloaded, and its devices with it. Loaded again it has another number.
      this.#family = needFamily(this.#socket);
      requestGeneric(this.#socket, this.#family, command, request);
    }
  }
}

/** @throws SluiceError `MODULE_MISSING` */
function needFamily(socket: NetlinkSocket): GenericFamily {
  const family = findGenericFamily(socket, WIREGUARD);
  if (family !== undefined) return family;
  throw new SluiceError('MODULE_MISSING', 'the kernel has no WireGuard: its module wireguard is missing', {
    hint:
      'Load it on the node (modprobe wireguard; Linux has it since 5.6, unless built without CONFIG_WIREGUARD), ' +
      'or choose another backend in net-conf.json, such as vxlan.',
  });
}

/** There is no such link, or it is of another kind. */
export function isNoDevice(error: unknown): boolean {
  return error instanceof KernelError && (error.code === 'ENODEV' || error.code === 'EOPNOTSUPP');
}
