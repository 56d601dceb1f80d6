package io.apidae.java;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.concurrent.atomic.AtomicLong;

/** What is known of one connection over TLS. Only what begins like a message of HTTP leaves the process. */
final class Connection {
  private static final AtomicLong NUMBERS = new AtomicLong();
  private static final int UNKNOWN = 0;
  private static final int HTTP = 1;
  private static final int OTHER = 2;
  /** Pieces that may be the middle of a message before the connection counts as no HTTP. */
  private static final int TRIES_MAX = 64;

  /** How HTTP begins: requests (RFC 9112, section 3), a response, and the preface of HTTP/2. None begins another. */
  private static final String RESPONSE = "HTTP/1.";
  private static final String PREFACE = "PRI * HTTP/2";
  private static final String[] STARTS = {
    "GET /", "POST /", "PUT /", "DELETE /", "HEAD /", "OPTIONS /", "PATCH /", "TRACE /",
    "GET http", "POST http", "PUT http", "DELETE http", "HEAD http", "OPTIONS http", "PATCH http", "TRACE http",
    "OPTIONS *", "CONNECT ", RESPONSE, PREFACE
  };
  private static final int PREFACE_BYTES = 24;
  /** The head of a frame (RFC 9113, section 4.1): three bytes of length, its type, and more. A request has one HEADERS. */
  private static final int FRAME_HEAD_BYTES = 9;
  private static final int TYPE_AT = 3;
  private static final int HEADERS = 1;
  private static final int LONGEST = PREFACE.length();
  /** Bytes with which none of them begins, and those that are too few to say. */
  private static final String NONE = "";
  private static final String TOO_FEW = "?";

  final long number = NUMBERS.incrementAndGet();
  final byte[] localAddress = new byte[16];
  final byte[] remoteAddress = new byte[16];
  volatile int family;
  int localPort;
  int remotePort;
  private final AtomicLong[] moved = {new AtomicLong(), new AtomicLong()}; // Plain bytes read and written.
  private volatile int kind = UNKNOWN;
  private volatile boolean isTold;
  private int tries;
  private boolean isHttp2;
  private int requests; // Their direction: read by a server, written by a client.
  // Of HTTP/2, in that direction: bytes until the head of the next frame, how many of the head were seen, and its length.
  private int toHead = PREFACE_BYTES;
  private int headBytes;
  private int frameBytes;
  private volatile boolean isMuted; // From a request that the budget has no room for until the next.
  private long refusals;

  // Of each direction the last bytes that may be the beginning of such a word, while it is not known what this is.
  private final byte[][] kept = {new byte[LONGEST], new byte[LONGEST]};
  private final int[] keptBytes = new int[2];
  private final long[] keptEnds = new long[2]; // Their end in the direction.

  /** Plain bytes moved: `size` in `pieces`, from their positions. */
  void move(Ring ring, int kindOfRecord, ByteBuffer[] pieces, int size) {
    int direction = kindOfRecord - 1;
    long sequence = moved[direction].getAndAdd(size);
    if (kind == UNKNOWN) judge(ring, direction, sequence, pieces, size);
    else if (kind == HTTP) pass(ring, direction, sequence, pieces, size);
  }

  private void pass(Ring ring, int direction, long sequence, ByteBuffer[] pieces, int size) {
    if (refusals != ring.refusals()) {
      refusals = ring.refusals();
      if (ring.isRefused(number)) kind = OTHER;
    }
    if (kind != HTTP || !isGranted(ring, direction, pieces, size)) return;
    isTold = true;
    ring.put(this, direction + 1, sequence, moved[1 - direction].get(), pieces, 0, size);
  }

  /** The connection has ended. */
  void end(Ring ring) {
    if (kind == HTTP && isTold)
      ring.put(this, Ring.KIND_CLOSED, moved[1].get(), moved[0].get(), new ByteBuffer[0], 0, 0);
    kind = OTHER;
  }

  /** What is kept of before with this piece, or this piece alone, may be the beginning of a message. */
  private synchronized void judge(Ring ring, int direction, long sequence, ByteBuffer[] pieces, int size) {
    if (kind == UNKNOWN) {
      byte[] bytes = kept[direction];
      int before = keptBytes[direction], count = copy(pieces, size, bytes, before);
      String start = findStart(bytes, count);
      if (start == NONE && before > 0) {
        before = 0;
        count = copy(pieces, size, bytes, 0);
        start = findStart(bytes, count);
      }
      keptBytes[direction] = start == TOO_FEW ? count : start == NONE ? 0 : before;
      if (start == TOO_FEW) keptEnds[direction] = sequence + size;
      if (start == NONE && ++tries >= TRIES_MAX) kind = OTHER;
      if (start == TOO_FEW || start == NONE) return;
      requests = start == RESPONSE ? 1 - direction : direction;
      isHttp2 = start == PREFACE;
      kind = HTTP;
      release(ring, 1 - direction);
      release(ring, direction);
    }
    if (kind == HTTP) pass(ring, direction, sequence, pieces, size);
  }

  /** Gives the bytes that were kept. */
  private void release(Ring ring, int direction) {
    int count = keptBytes[direction];
    if (count == 0) return;
    keptBytes[direction] = 0;
    pass(ring, direction, keptEnds[direction] - count, new ByteBuffer[] {ByteBuffer.wrap(kept[direction], 0, count)}, count);
  }

  /**
   * Whether the sensor's budget has room: for a request, and then for all of its call. Of HTTP/2, where calls overlap, for
   * all requests that begin in this piece.
   */
  private boolean isGranted(Ring ring, int direction, ByteBuffer[] pieces, int size) {
    if (isHttp2) return direction != requests || ring.takeRequests(countRequests(pieces, size));
    if (direction == requests) {
      byte[] bytes = new byte[LONGEST];
      if (findStart(bytes, copy(pieces, size, bytes, 0)) != NONE) isMuted = !ring.takeRequests(1);
    }
    return !isMuted;
  }

  /** Of HTTP/2, those that begin here; each piece of their direction has to pass. */
  private int countRequests(ByteBuffer[] pieces, int size) {
    int found = 0, left = size;
    for (int at = 0; left > 0; at++) {
      ByteBuffer piece = pieces[at];
      int place = piece.position(), end = Math.min(piece.limit(), place + left);
      left -= end - place;
      while (place < end) {
        if (toHead > 0) {
          int some = Math.min(toHead, end - place);
          toHead -= some;
          place += some;
          continue;
        }
        int one = piece.get(place++) & 0xff;
        if (headBytes < TYPE_AT) frameBytes = frameBytes << 8 | one;
        else if (headBytes == TYPE_AT && one == HEADERS) found++;
        if (++headBytes == FRAME_HEAD_BYTES) {
          toHead = frameBytes;
          headBytes = frameBytes = 0;
        }
      }
    }
    return found;
  }

  /** The first bytes, as many as there is room for from `count` on; gives how many are then there. */
  private static int copy(ByteBuffer[] pieces, int size, byte[] to, int count) {
    int left = Math.min(size, to.length - count);
    for (int at = 0; left > 0; at++) {
      ByteBuffer piece = pieces[at];
      for (int place = piece.position(); left > 0 && place < piece.limit(); place++, left--) to[count++] = piece.get(place);
    }
    return count;
  }

  /** One of STARTS, NONE or TOO_FEW. */
  private static String findStart(byte[] bytes, int count) {
    String found = NONE;
    for (String start : STARTS) {
      int same = 0, length = start.length();
      while (same < count && same < length && bytes[same] == start.charAt(same)) same++;
      if (same == length) return start;
      if (same == count) found = TOO_FEW;
    }
    return found;
  }

  void bind(Socket socket) {
    bind(socket.getLocalAddress(), socket.getLocalPort(), socket.getInetAddress(), socket.getPort());
  }

  void bind(SocketChannel channel) throws java.io.IOException {
    SocketAddress local = channel.getLocalAddress(), remote = channel.getRemoteAddress();
    if (local instanceof InetSocketAddress && remote instanceof InetSocketAddress) {
      InetSocketAddress one = (InetSocketAddress) local, two = (InetSocketAddress) remote;
      bind(one.getAddress(), one.getPort(), two.getAddress(), two.getPort());
    }
  }

  private void bind(InetAddress local, int atLocal, InetAddress remote, int atRemote) {
    if (local == null || remote == null || atLocal <= 0 || atRemote <= 0) return;
    byte[] one = local.getAddress(), two = remote.getAddress();
    if (one.length != two.length) return;
    System.arraycopy(one, 0, localAddress, 0, one.length);
    System.arraycopy(two, 0, remoteAddress, 0, two.length);
    localPort = atLocal;
    remotePort = atRemote;
    family = one.length == 4 ? 4 : 6;
  }
}
