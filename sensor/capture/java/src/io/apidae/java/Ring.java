package io.apidae.java;

import java.io.FileInputStream;
import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Memory that the sensor reads: a header, and records in a ring. Its twin is sensor/capture/java/ring.py.
 *
 * <p>The file lies in memory (tmpfs) and loses its name at once: the sensor takes it over from this process. Any thread
 * writes. It reserves room and never waits: where there is no room, the record is dropped and counted. The first word of
 * a record is its position under a secret of this ring, so neither old bytes nor payload can look like a record.
 */
final class Ring {
  static final int VERSION = 2;
  static final int HEADER_BYTES = 4096;
  static final int DATA_BYTES = 1 << 22;
  static final int RECORD_BYTES = 96;
  static final int COPY_BYTES_MAX = 16384;
  static final int REFUSALS = 256;

  // Offsets in the header. The sensor writes those from TAIL to BUDGET and the refusals, this side the others.
  private static final int MAGIC = 0;
  private static final int VERSION_AT = 8;
  private static final int SIZE_AT = 12;
  private static final int SECRET = 16;
  private static final int WAY = 24;
  private static final int HEAD = 64;
  private static final int DROPPED_RECORDS = 128;
  private static final int DROPPED_BYTES = 136;
  private static final int STATE = 144;
  private static final int AMBIGUOUS = 152;
  private static final int FAILURES = 160;
  private static final int OVER_BUDGET = 168;
  private static final int TAIL = 192;
  private static final int HEARTBEAT = 200;
  private static final int COMMAND = 208;
  private static final int REFUSAL_COUNT = 216;
  private static final int BUDGET = 224;
  private static final int REFUSALS_AT = 1024;
  private static final long MAGIC_WORD = 0x3156414a44495041L; // "APIDJAV1"

  static final int STATE_WAITING = 0;
  static final int STATE_READING = 1;
  static final int STATE_FAILED = 3;

  static final int COMMAND_READ = 2;

  /** How the agent came. */
  static final int CAME_WITH_JVM = 1;
  static final int CAME_ATTACHED = 2;

  static final int KIND_READ = 1;
  static final int KIND_WRITE = 2;
  static final int KIND_CLOSED = 5;
  private static final int KIND_PAD = 0;

  /** Requests that are saved up within its budget, as time. */
  private static final long SAVED_NANOSECONDS = 1_000_000_000L;
  private static final VarHandle WORD = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

  private final ByteBuffer memory;
  private final long secret;
  private final AtomicLong paidUntil = new AtomicLong(System.nanoTime() - SAVED_NANOSECONDS);

  Ring(int way) throws IOException {
    ByteBuffer made = null;
    StringBuilder tried = new StringBuilder();
    for (String directory : new String[] {"/dev/shm", "/run", "/tmp"}) {
      try {
        made = map(Path.of(directory));
        break;
      } catch (IOException failure) {
        tried.append(tried.length() == 0 ? "" : "; ").append(failure.getMessage());
      }
    }
    if (made == null) throw new IOException("no place in memory (tmpfs) for what the sensor reads: " + tried);
    memory = made;
    secret = makeRandom();
    memory.putInt(VERSION_AT, VERSION);
    memory.putInt(SIZE_AT, DATA_BYTES);
    memory.putLong(SECRET, secret);
    memory.putInt(WAY, way);
    WORD.setRelease(memory, MAGIC, MAGIC_WORD);
  }

  private static ByteBuffer map(Path directory) throws IOException {
    if (!Files.isDirectory(directory)) throw new IOException(directory + " is not there");
    String kind = Files.getFileStore(directory).type();
    if (!kind.equals("tmpfs")) throw new IOException(directory + " is on " + kind);
    Path path = directory.resolve("apidae-java-" + Long.toHexString(makeRandom()));
    var options = Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.READ, StandardOpenOption.WRITE);
    var mode = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
    FileChannel file = FileChannel.open(path, options, mode);
    kept = file;
    try {
      Object key = Files.readAttributes(path, BasicFileAttributes.class).fileKey();
      Files.delete(path);
      allow(key);
      fill(file);
      return file.map(FileChannel.MapMode.READ_WRITE, 0, HEADER_BYTES + DATA_BYTES).order(ByteOrder.LITTLE_ENDIAN);
    } catch (IOException failure) {
      file.close();
      throw failure;
    }
  }

  /** Takes all of its memory now: where that is full, this fails, and not a thread of the application that writes later. */
  private static void fill(FileChannel file) throws IOException {
    ByteBuffer zeros = ByteBuffer.allocate(HEADER_BYTES);
    for (int left = HEADER_BYTES + DATA_BYTES; left > 0; left -= HEADER_BYTES) {
      for (zeros.clear(); zeros.hasRemaining(); ) file.write(zeros);
    }
  }

  /**
   * Lets the sensor open what has lost its name, also one that runs as root without all rights of root. Nobody else gets
   * there: the only way leads through this process's directory in /proc.
   */
  private static void allow(Object key) {
    try (DirectoryStream<Path> descriptors = Files.newDirectoryStream(Path.of("/proc/self/fd"))) {
      for (Path descriptor : descriptors)
        if (Files.exists(descriptor) && key.equals(Files.readAttributes(descriptor, BasicFileAttributes.class).fileKey()))
          Files.setPosixFilePermissions(descriptor, PosixFilePermissions.fromString("rw-rw-rw-"));
    } catch (IOException | RuntimeException failure) {
      System.err.println("apidae: only a sensor with all rights of root can read this process: " + failure);
    }
  }

  /** Of the kernel's: the classes that make random numbers belong to the application, which may set them up first. */
  private static long makeRandom() throws IOException {
    try (FileInputStream kernel = new FileInputStream("/dev/urandom")) {
      return ByteBuffer.wrap(kernel.readNBytes(8)).getLong();
    }
  }

  /** By this descriptor the sensor finds the memory; it stays open. */
  private static FileChannel kept;

  long heartbeat() {
    return (long) WORD.getAcquire(memory, HEARTBEAT);
  }

  long command() {
    return (long) WORD.getAcquire(memory, COMMAND);
  }

  void setState(int state) {
    WORD.setRelease(memory, STATE, (long) state);
  }

  void countAmbiguous() {
    WORD.getAndAdd(memory, AMBIGUOUS, 1L);
  }

  void countFailure() {
    WORD.getAndAdd(memory, FAILURES, 1L);
  }

  /**
   * Whether so many more requests may be copied: as many a second as the sensor allows, and one second's saved up. Those
   * beyond them are counted.
   */
  boolean takeRequests(int count) {
    if (count == 0) return true;
    long budget = (long) WORD.getAcquire(memory, BUDGET);
    if (budget > 0) {
      long price = count * (1_000_000_000L / budget), now = System.nanoTime();
      while (true) {
        long paid = paidUntil.get(), from = Math.max(paid, now - SAVED_NANOSECONDS);
        if (from + price > now) break;
        if (paidUntil.compareAndSet(paid, from + price)) return true;
      }
    }
    WORD.getAndAdd(memory, OVER_BUDGET, (long) count);
    return false;
  }

  long refusals() {
    return (long) WORD.getAcquire(memory, REFUSAL_COUNT);
  }

  /** Whether the sensor wants no more of a connection; the latest refusals are kept. */
  boolean isRefused(long connection) {
    for (int slot = 0; slot < REFUSALS; slot++)
      if ((long) WORD.getAcquire(memory, REFUSALS_AT + 8 * slot) == connection) return true;
    return false;
  }

  /** One record; `pieces` from `first` on hold `size` bytes from their positions. */
  void put(Connection connection, int kind, long sequence, long other, ByteBuffer[] pieces, int first, int size) {
    int length = Math.min(size, COPY_BYTES_MAX);
    int room = (RECORD_BYTES + length + 7) & ~7;
    long position = reserve(room);
    if (position < 0) {
      WORD.getAndAdd(memory, DROPPED_RECORDS, 1L);
      WORD.getAndAdd(memory, DROPPED_BYTES, (long) size);
      return;
    }
    ByteBuffer to = memory.duplicate().order(ByteOrder.LITTLE_ENDIAN);
    to.position(locate(position) + 8);
    to.putInt(room).put((byte) kind).put((byte) connection.family).putShort((short) 0);
    to.putLong(System.nanoTime()).putLong(connection.number);
    to.putInt((int) sequence).putInt((int) other).putInt(size).putInt(length);
    to.putShort((short) connection.localPort).putShort((short) connection.remotePort).putInt(0);
    to.put(connection.localAddress).put(connection.remoteAddress);
    to.position(locate(position) + RECORD_BYTES);
    for (int left = length, at = first; left > 0; at++) {
      ByteBuffer piece = pieces[at];
      int some = Math.min(left, piece.remaining());
      if (some < piece.remaining()) piece.limit(piece.position() + some);
      to.put(piece);
      left -= some;
    }
    WORD.setRelease(memory, locate(position), position ^ secret);
  }

  private static int locate(long position) {
    return HEADER_BYTES + (int) (position & (DATA_BYTES - 1));
  }

  /** Position of so many bytes in a row; negative where there is no room. */
  private long reserve(int room) {
    while (true) {
      long head = (long) WORD.getVolatile(memory, HEAD);
      int left = DATA_BYTES - (int) (head & (DATA_BYTES - 1));
      int padding = left < room ? left : 0;
      long tail = (long) WORD.getAcquire(memory, TAIL);
      if (tail > head || head + padding + room - tail > DATA_BYTES) return -1;
      if (!WORD.compareAndSet(memory, HEAD, head, head + padding + room)) continue;
      if (padding == 0) return head;
      if (padding >= 16) {
        memory.putInt(locate(head) + 8, padding);
        memory.put(locate(head) + 12, (byte) KIND_PAD);
      }
      WORD.setRelease(memory, locate(head), head ^ secret);
      return head + padding;
    }
  }
}
