package io.apidae.java;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.instrument.Instrumentation;
import java.lang.ref.WeakReference;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.util.Map;
import java.util.WeakHashMap;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;

/**
 * What the patched methods of JSSE call (Patches lists them).
 *
 * <p>A patched method asks {@link #isOutermost}. Where that is true it calls a method here instead of doing its work;
 * this calls it again, now for its work, and copies the plain bytes that it moved. A thread may hold locks of the JDK
 * meanwhile (SSLEngineImpl's own in JDK 11), so nothing here waits for another thread's work. What goes wrong here is
 * counted and never reaches the application.
 */
public final class Hooks {
  private static final int MAPS = 64;

  /** What a thread does. */
  private static final class State {
    boolean isWithin; // The next patched method is to do its work.
    WeakReference<SocketChannel> channel = new WeakReference<>(null); // From which it received last,
    final Memory received = new Memory(); // and where to, until an engine used that.
  }

  private static final ThreadLocal<State> STATES =
      new ThreadLocal<State>() {
        @Override
        protected State initialValue() {
          return new State();
        }
      };
  private static final WeakHashMap<Object, Connection>[] CONNECTIONS = makeMaps();
  private static volatile Ring ring; // None: nothing is read.

  private Hooks() {}

  @SuppressWarnings({"unchecked", "rawtypes"})
  private static WeakHashMap<Object, Connection>[] makeMaps() {
    WeakHashMap<Object, Connection>[] maps = new WeakHashMap[MAPS];
    for (int at = 0; at < MAPS; at++) maps[at] = new WeakHashMap<>();
    return maps;
  }

  /** From now on what is moved goes there; null: nowhere. */
  static void readInto(Ring into) {
    ring = into;
    if (into == null) for (Map<Object, Connection> map : CONNECTIONS) synchronized (map) { map.clear(); }
  }

  public static boolean isOutermost() {
    if (ring == null) return false;
    State state = STATES.get();
    if (!state.isWithin) return true;
    state.isWithin = false;
    return false;
  }

  /** Before patches are in: what the application's threads call is ready. */
  static void prepare(Instrumentation instrumentation) throws Exception {
    try {
      Memory.open(instrumentation);
    } catch (Exception | Error failure) {
      throw failure;
    } catch (Throwable failure) {
      throw new IllegalStateException(failure);
    }
    STATES.get();
    new Connection();
  }

  public static void note(SocketChannel channel, ByteBuffer to) {
    Ring into = ring;
    if (into == null) return;
    try {
      State state = STATES.get();
      if (state.channel.get() != channel) state.channel = new WeakReference<>(channel);
      state.received.forget();
      if (to != null) state.received.set(to);
    } catch (Throwable failure) {
      into.countFailure();
    }
  }

  public static void note(SocketChannel channel, ByteBuffer[] to, int offset, int length) {
    if (ring == null || to == null || offset < 0 || offset >= to.length || length <= 0) return;
    note(channel, to[offset]);
  }

  public static int read(InputStream stream, Socket socket, byte[] to, int offset, int length) throws IOException {
    State state = STATES.get();
    state.isWithin = true;
    int moved;
    try {
      moved = stream.read(to, offset, length);
    } finally {
      state.isWithin = false;
    }
    if (moved > 0) see(socket, Ring.KIND_READ, to, offset, moved);
    return moved;
  }

  /** What is written is recorded first: the answer may arrive, in another thread, before this one goes on. */
  public static void write(OutputStream stream, Socket socket, byte[] from, int offset, int length) throws IOException {
    if (from != null && length > 0 && offset >= 0 && length <= from.length - offset)
      see(socket, Ring.KIND_WRITE, from, offset, length);
    State state = STATES.get();
    state.isWithin = true;
    try {
      stream.write(from, offset, length);
    } finally {
      state.isWithin = false;
    }
  }

  private static void see(Socket socket, int kind, byte[] memory, int offset, int size) {
    Ring into = ring;
    if (into == null) return;
    try {
      Connection connection = find(socket);
      if (connection.family == 0) connection.bind(socket);
      connection.move(into, kind, new ByteBuffer[] {ByteBuffer.wrap(memory, offset, size)}, size);
    } catch (Throwable failure) {
      into.countFailure();
    }
  }

  public static SSLEngineResult wrap(SSLEngine engine, ByteBuffer[] from, int offset, int length, ByteBuffer to)
      throws IOException {
    ByteBuffer[] before = remember(from, offset, length);
    State state = STATES.get();
    state.isWithin = true;
    SSLEngineResult result;
    try {
      result = engine.wrap(from, offset, length, to);
    } finally {
      state.isWithin = false;
    }
    if (before != null && result.bytesConsumed() > 0)
      see(engine, state, Ring.KIND_WRITE, before, result.bytesConsumed());
    return result;
  }

  public static SSLEngineResult unwrap(SSLEngine engine, ByteBuffer from, ByteBuffer[] to, int offset, int length)
      throws IOException {
    ByteBuffer[] before = remember(to, offset, length);
    State state = STATES.get();
    boolean isReceived = state.received.isSet() && isReceived(state, from);
    state.isWithin = true;
    SSLEngineResult result;
    try {
      result = engine.unwrap(from, to, offset, length);
    } finally {
      state.isWithin = false;
    }
    if (isReceived && result.bytesConsumed() > 0) bind(engine, state);
    if (before != null && result.bytesProduced() > 0)
      see(engine, state, Ring.KIND_READ, before, result.bytesProduced());
    return result;
  }

  /** The buffers as they are now; null where they are not as they should be, which the engine itself will say. */
  private static ByteBuffer[] remember(ByteBuffer[] buffers, int offset, int length) {
    Ring into = ring;
    if (into == null || buffers == null || offset < 0 || length < 0 || length > buffers.length - offset) return null;
    try {
      ByteBuffer[] same = new ByteBuffer[length];
      for (int at = 0; at < length; at++) {
        if (buffers[offset + at] == null) return null;
        same[at] = buffers[offset + at].duplicate();
      }
      return same;
    } catch (Throwable failure) {
      into.countFailure();
      return null;
    }
  }

  /** Whether this is what the thread received last; else that is forgotten, for it was of something else. */
  private static boolean isReceived(State state, ByteBuffer from) {
    try {
      if (from != null && state.received.holds(from)) return true;
    } catch (Throwable failure) {
      Ring into = ring;
      if (into != null) into.countFailure();
    }
    state.received.forget();
    return false;
  }

  private static void see(SSLEngine engine, State state, int kind, ByteBuffer[] pieces, int size) {
    Ring into = ring;
    if (into == null) return;
    try {
      find(engine).move(into, kind, pieces, size);
    } catch (Throwable failure) {
      into.countFailure();
    }
  }

  /** An engine knows no socket: it is of the one from which its thread received what it unwraps. */
  private static void bind(SSLEngine engine, State state) {
    Ring into = ring;
    SocketChannel channel = state.channel.get();
    state.received.forget();
    if (into == null || channel == null) return;
    try {
      Connection connection = find(engine);
      if (connection.family == 0) {
        Map<Object, Connection> map = findMap(channel);
        Connection owner;
        synchronized (map) {
          owner = map.putIfAbsent(channel, connection);
        }
        if (owner == null || owner == connection) connection.bind(channel);
        else into.countAmbiguous();
      }
    } catch (Throwable failure) {
      into.countFailure();
    }
  }

  public static void close(Object socketOrEngine) {
    Ring into = ring;
    if (into == null) return;
    try {
      Map<Object, Connection> map = findMap(socketOrEngine);
      Connection connection;
      synchronized (map) {
        connection = map.get(socketOrEngine);
      }
      if (connection != null) connection.end(into);
    } catch (Throwable failure) {
      into.countFailure();
    }
  }

  private static Map<Object, Connection> findMap(Object key) {
    int hash = System.identityHashCode(key);
    return CONNECTIONS[(hash ^ hash >>> 6) & (MAPS - 1)];
  }

  private static Connection find(Object key) {
    Map<Object, Connection> map = findMap(key);
    synchronized (map) {
      Connection connection = map.get(key);
      if (connection == null) map.put(key, connection = new Connection());
      return connection;
    }
  }
}
