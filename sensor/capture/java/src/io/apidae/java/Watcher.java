package io.apidae.java;

import java.lang.instrument.Instrumentation;
import java.util.concurrent.locks.LockSupport;

/**
 * The one thread of the agent: puts the patches in while a sensor reads, and takes them out when it does not.
 *
 * <p>A sensor that ends, or is killed, no longer writes its heartbeat. Then the classes are as the JDK made them. The
 * ring stays as long as the process, so that every sensor finds that an agent is here, also one that failed.
 */
public final class Watcher extends Thread {
  private static final long LOOK_NANOSECONDS = 500_000_000L;
  private static final long SILENCE_NANOSECONDS = 5_000_000_000L;

  private final Instrumentation instrumentation;
  private final Ring ring;
  private Patches patches; // While they are in.

  private Watcher(Instrumentation instrumentation, Ring ring) {
    super(null, null, "apidae", 0, false);
    this.instrumentation = instrumentation;
    this.ring = ring;
    setDaemon(true);
  }

  /** `way`: how the agent came, for the sensor. */
  public static void start(Instrumentation instrumentation, int way) throws Exception {
    new Watcher(instrumentation, new Ring(way)).start();
  }

  @Override
  public void run() {
    long beat = ring.heartbeat(), heardAt = System.nanoTime() - SILENCE_NANOSECONDS;
    try {
      while (true) {
        long now = System.nanoTime();
        if (ring.heartbeat() != beat) {
          beat = ring.heartbeat();
          heardAt = now;
        }
        boolean isRead = ring.command() == Ring.COMMAND_READ && now - heardAt < SILENCE_NANOSECONDS;
        if (isRead && patches == null) putIn();
        if (!isRead && patches != null) takeOut(Ring.STATE_WAITING);
        Thread.interrupted(); // The application may interrupt all threads of a group: it means nothing here.
        LockSupport.parkNanos(LOOK_NANOSECONDS);
      }
    } catch (Throwable failure) {
      System.err.println("apidae: the Java agent ends: " + failure);
      try {
        takeOut(Ring.STATE_FAILED);
      } catch (Throwable second) {
        System.err.println("apidae: " + second);
      }
    }
  }

  private void putIn() throws Exception {
    Hooks.prepare(instrumentation);
    Patches fresh = new Patches();
    patches = fresh;
    fresh.putIn(instrumentation);
    Hooks.readInto(ring);
    ring.setState(Ring.STATE_READING);
  }

  private void takeOut(int state) throws Exception {
    Hooks.readInto(null);
    ring.setState(state);
    if (patches == null) return;
    Patches old = patches;
    patches = null;
    old.takeOut(instrumentation);
  }
}
