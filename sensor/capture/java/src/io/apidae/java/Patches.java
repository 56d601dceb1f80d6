package io.apidae.java;

import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.security.ProtectionDomain;
import java.util.ArrayList;
import java.util.List;

/** Which methods of the JDK are patched, and how they call Hooks. */
final class Patches implements ClassFileTransformer {
  private static final String BUFFER = "Ljava/nio/ByteBuffer;";
  private static final String ENGINE = "sun/security/ssl/SSLEngineImpl";
  private static final String SOCKET = "sun/security/ssl/SSLSocketImpl";
  private static final String CHANNEL = "sun/nio/ch/SocketChannelImpl";
  private static final String RESULT = "Ljavax/net/ssl/SSLEngineResult;";

  private static final Patch[] ALL = {
    Patch.around(ENGINE, "wrap", "([" + BUFFER + "II" + BUFFER + ")" + RESULT, "Ljavax/net/ssl/SSLEngine;", false),
    Patch.around(ENGINE, "unwrap", "(" + BUFFER + "[" + BUFFER + "II)" + RESULT, "Ljavax/net/ssl/SSLEngine;", false),
    Patch.before(ENGINE, "closeOutbound", "()V", "close", "Ljava/lang/Object;"),
    Patch.around(SOCKET + "$AppInputStream", "read", "([BII)I", "Ljava/io/InputStream;", true),
    Patch.around(SOCKET + "$AppOutputStream", "write", "([BII)V", "Ljava/io/OutputStream;", true),
    Patch.before(SOCKET, "close", "()V", "close", "Ljava/lang/Object;"),
    Patch.before(CHANNEL, "read", "(" + BUFFER + ")I", "note", "Ljava/nio/channels/SocketChannel;"),
    Patch.before(CHANNEL, "read", "([" + BUFFER + "II)J", "note", "Ljava/nio/channels/SocketChannel;"),
  };

  private final List<Class<?>> classes = new ArrayList<>();
  private volatile boolean isIn = true;
  private volatile Throwable failure;

  /** All of them, or none: throws where one does not fit this JDK. */
  void putIn(Instrumentation instrumentation) throws Exception {
    for (Patch patch : ALL) {
      Class<?> one = Class.forName(patch.owner.replace('/', '.'), false, null);
      if (!classes.contains(one)) classes.add(one);
    }
    instrumentation.addTransformer(this, true);
    instrumentation.retransformClasses(classes.toArray(new Class<?>[0]));
    if (failure != null) throw new IllegalStateException("this JDK is not known: " + failure, failure);
  }

  void takeOut(Instrumentation instrumentation) throws Exception {
    isIn = false;
    instrumentation.removeTransformer(this);
    if (!classes.isEmpty()) instrumentation.retransformClasses(classes.toArray(new Class<?>[0]));
  }

  @Override
  public byte[] transform(ClassLoader loader, String name, Class<?> redefined, ProtectionDomain domain, byte[] code) {
    if (loader != null || redefined == null || !isIn) return null;
    List<Patch> wanted = new ArrayList<>();
    for (Patch patch : ALL) if (patch.owner.equals(name)) wanted.add(patch);
    if (wanted.isEmpty()) return null;
    try {
      return new ClassFile(code).patch(wanted);
    } catch (Throwable thrown) {
      failure = thrown;
      return null;
    }
  }
}
