package io.apidae.java;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.concurrent.atomic.AtomicLong;

/** What is known of one connection over TLS. Only what looks like HTTP leaves the process. */
final class Connection {
  private static final AtomicLong NUMBERS = new AtomicLong();
  private static final int UNKNOWN = 0;
  private static final int HTTP = 1;
  private static final int OTHER = 2;
  /** Pieces that may be the middle of a message before the connection counts as no HTTP. */
  private static final int TRIES_MAX = 64;

  /** First words of HTTP: methods, a response, and the preface of HTTP/2. */
  private static final String RESPONSE = "HTTP/1.";
  private static final String PREFACE = "PRI * ";
  private static final String[] STARTS = {
    "GET ", "POST ", "PUT ", "DELETE ", "HEAD ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ", RESPONSE, PREFACE
  };

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
  private int kindOfRequests; // Of records: reads of a server, writes of a client.
  private volatile boolean isMuted; // From a request that the budget has no room for until the next.
  private long refusals;

  /** Plain bytes moved: `size` in `pieces`, from their positions. */
  void move(Ring ring, int kindOfRecord, ByteBuffer[] pieces, int first, int size) {
    AtomicLong own = moved[kindOfRecord - 1];
    long sequence = own.getAndAdd(size);
    if (kind == OTHER) return;
    if (kind == UNKNOWN) judge(pieces, first, kindOfRecord);
    if (kind == HTTP && refusals != ring.refusals()) {
      refusals = ring.refusals();
      if (ring.isRefused(number)) kind = OTHER;
    }
    if (kind != HTTP || !isGranted(ring, kindOfRecord, pieces, first)) return;
    isTold = true;
    ring.put(this, kindOfRecord, sequence, moved[2 - kindOfRecord].get(), pieces, first, size);
  }

  /** The connection has ended. */
  void end(Ring ring) {
    if (kind == HTTP && isTold)
      ring.put(this, Ring.KIND_CLOSED, moved[1].get(), moved[0].get(), new ByteBuffer[0], 0, 0);
    kind = OTHER;
  }

  private void judge(ByteBuffer[] pieces, int first, int kindOfRecord) {
    String start = findStart(pieces, first);
    if (start != null) {
      kindOfRequests = start.equals(RESPONSE) ? Ring.KIND_READ + Ring.KIND_WRITE - kindOfRecord : kindOfRecord;
      isHttp2 = start.equals(PREFACE);
      kind = HTTP;
    } else if (++tries >= TRIES_MAX) {
      kind = OTHER;
    }
  }

  /** The first word of HTTP with which the bytes begin; null where there is none. */
  private static String findStart(ByteBuffer[] pieces, int first) {
    ByteBuffer piece = pieces[first];
    while (!piece.hasRemaining() && first + 1 < pieces.length) piece = pieces[++first];
    for (String start : STARTS) {
      int length = Math.min(start.length(), piece.remaining()), same = 0;
      while (same < length && piece.get(piece.position() + same) == start.charAt(same)) same++;
      if (length > 0 && same == length) return start;
    }
    return null;
  }

  /**
   * Whether the sensor's budget has room: for a request, and then for all of its call. Of HTTP/2 nobody sees here where
   * one begins, so each piece in the direction of requests is taken for one.
   */
  private boolean isGranted(Ring ring, int kindOfRecord, ByteBuffer[] pieces, int first) {
    if (isHttp2) return kindOfRecord != kindOfRequests || ring.takeRequest();
    if (kindOfRecord == kindOfRequests && findStart(pieces, first) != null) isMuted = !ring.takeRequest();
    return !isMuted;
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
