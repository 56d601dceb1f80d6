package io.apidae.java;

import java.io.File;
import java.lang.instrument.Instrumentation;
import java.util.jar.JarFile;

/**
 * Where the JVM starts the agent: with {@code -javaagent}, or when it is attached.
 *
 * <p>The other classes go to the bootstrap class path, where the patched classes of the JDK find them. The agent never
 * fails the application: what goes wrong is one line on standard error.
 */
public final class Agent {
  private static boolean isOnPath;

  private Agent() {}

  public static void premain(String options, Instrumentation instrumentation) {
    agentmain(options, instrumentation);
  }

  public static void agentmain(String options, Instrumentation instrumentation) {
    try {
      addClasses(instrumentation);
      Watcher.start(instrumentation);
    } catch (Throwable failure) {
      System.err.println("apidae: the Java agent does not start: " + failure);
    }
  }

  /** Once: an agent that left and comes again is the first one's classes, whose jar may be gone. */
  private static synchronized void addClasses(Instrumentation instrumentation) throws Exception {
    if (isOnPath) return;
    File jar = new File(Agent.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    instrumentation.appendToBootstrapClassLoaderSearch(new JarFile(jar));
    isOnPath = true;
  }
}
