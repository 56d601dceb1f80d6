package io.apidae.java;

import java.io.File;
import java.lang.instrument.Instrumentation;
import java.util.Enumeration;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

/**
 * Where the JVM starts the agent: with {@code -javaagent}, or when it is attached.
 *
 * <p>This class alone runs on Java 8, where it does nothing: one jar may be given to every JVM of a host. The other
 * classes go to the bootstrap class path, where the patched classes of the JDK find them. All are loaded at once, so
 * nothing is read of the jar later, whatever becomes of it. The agent never fails the application: what goes wrong is one
 * line on standard error, or the answer to who attaches it.
 */
public final class Agent {
  private static final String SUFFIX = ".class";
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
    String version = System.getProperty("java.specification.version", "");
    if (version.startsWith("1.") || version.equals("9") || version.equals("10"))
      throw new UnsupportedOperationException("it needs Java 11, and this is Java " + version);
    if (isTried) throw new IllegalStateException("the Java agent was loaded before");
    isTried = true;
    File jar = new File(Agent.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    loadClasses(instrumentation, new JarFile(jar));
    Watcher.start(instrumentation, way);
    return jar;
  }

  private static void loadClasses(Instrumentation instrumentation, JarFile jar) throws Exception {
    instrumentation.appendToBootstrapClassLoaderSearch(jar);
    for (Enumeration<JarEntry> entries = jar.entries(); entries.hasMoreElements(); ) {
      String name = entries.nextElement().getName();
      if (!name.endsWith(SUFFIX)) continue;
      name = name.substring(0, name.length() - SUFFIX.length()).replace('/', '.');
      if (!name.equals(Agent.class.getName())) Class.forName(name, false, null);
    }
  }
}
