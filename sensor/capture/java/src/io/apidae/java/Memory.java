package io.apidae.java;

import java.lang.instrument.Instrumentation;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.Set;

/** Which memory a buffer is of, and whether another one is of the same. It keeps nothing alive. */
final class Memory {
  private static final String DIRECT_BUFFER = "sun.nio.ch.DirectBuffer";
  private static final long DIRECT = -1; // Beside hashes of arrays.

  /** The JDK alone knows where the memory of a direct buffer is. */
  private static final class Address {
    static final MethodHandle OF = find();

    private static MethodHandle find() {
      try {
        MethodType type = MethodType.methodType(long.class);
        MethodHandle own = MethodHandles.lookup().findVirtual(Class.forName(DIRECT_BUFFER), "address", type);
        return own.asType(MethodType.methodType(long.class, ByteBuffer.class));
      } catch (ReflectiveOperationException failure) {
        throw new IllegalStateException("this JDK is not known: " + failure, failure);
      }
    }
  }

  private long owner; // Zero: none.
  private long start;
  private long end;

  /** Before the first use of this class. */
  static void open(Instrumentation instrumentation) throws Throwable {
    Map<String, Set<Module>> exports = Map.of("sun.nio.ch", Set.of(Memory.class.getModule()));
    instrumentation.redefineModule(Object.class.getModule(), Set.of(), exports, Map.of(), Set.of(), Map.of());
    find(ByteBuffer.allocateDirect(1));
  }

  private static long find(ByteBuffer direct) throws Throwable {
    return (long) Address.OF.invokeExact(direct);
  }

  /** From now on: what of the buffer may be read or written. */
  void set(ByteBuffer buffer) throws Throwable {
    owner = findOwner(buffer);
    start = owner == 0 ? 0 : findStart(buffer);
    end = start + buffer.remaining();
  }

  void forget() {
    owner = 0;
  }

  boolean isSet() {
    return owner != 0;
  }

  /** Whether what may be read of the buffer begins in this memory. */
  boolean holds(ByteBuffer buffer) throws Throwable {
    if (owner == 0 || owner != findOwner(buffer)) return false;
    long at = findStart(buffer);
    return at < end && start < at + buffer.remaining();
  }

  private static long findOwner(ByteBuffer buffer) {
    return buffer.isDirect() ? DIRECT : buffer.hasArray() ? System.identityHashCode(buffer.array()) : 0;
  }

  private static long findStart(ByteBuffer buffer) throws Throwable {
    return buffer.position() + (buffer.isDirect() ? find(buffer) : buffer.arrayOffset());
  }
}
