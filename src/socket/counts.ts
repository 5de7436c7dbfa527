/**
 * What is open on one host, for leak checks: everything is zero again after all processes have exited.
 */
export class SocketCounts {
  /** Open file descriptions of any kind. */
  files = 0;
  /** … of them sockets. */
  sockets = 0;
  /** Entries in wait queues: epoll items and armed calls. */
  waitEntries = 0;
  /** Files watched by epoll instances. */
  epollItems = 0;
  /** Bytes in pipes. */
  pipeBytes = 0;
}
