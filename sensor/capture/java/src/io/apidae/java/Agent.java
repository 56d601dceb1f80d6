package io.apidae.java;

import java.io.File;
import java.lang.instrument.Instrumentation;
import java.util.jar.JarFile;

/**
 * Where the JVM starts the agent: with {@code -javaagent}, or when it is attached.
 *
 * <p>The other classes go to the bootstrap class path, where the patched classes of the JDK find them. The agent never
 * fails the application: what goes wrong is one line on standard error, or the answer to who attaches it.
 */
public final class Agent {
  private static boolean isTried;

  private Agent() {}

  public static void premain(String options, Instrumentation instrumentation) {
    try {
      start(instrumentation, Ring.CAME_WITH_JVM);
    } catch (Throwable failure) {
      System.err.println("apidae: the Java agent does not start: " + failure);
    }
  }

  /** What it throws, who attaches it learns: the application runs on. */
  public static void agentmain(String options, Instrumentation instrumentation) throws Exception {
    start(instrumentation, Ring.CAME_ATTACHED).deleteOnExit();
  }

  /** Once in the life of a JVM: its class path would name a second jar, whose name others may take. Gives the jar. */
  private static synchronized File start(Instrumentation instrumentation, int way) throws Exception {
    if (isTried) throw new IllegalStateException("the Java agent was loaded before");
    isTried = true;
    File jar = new File(Agent.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    instrumentation.appendToBootstrapClassLoaderSearch(new JarFile(jar));
    Watcher.start(instrumentation, way);
    return jar;
  }
}
