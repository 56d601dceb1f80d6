package io.netty.handler.ssl;

import io.netty.buffer.ByteBufAllocator;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;

/** ALPN of Netty's JDK provider: Debian's Netty has its parts, and lacks the class that puts them together. */
public final class Alpn extends JdkBaseApplicationProtocolNegotiator {
  private static final JdkApplicationProtocolNegotiator.SslEngineWrapperFactory WRAPPER =
      new JdkApplicationProtocolNegotiator.AllocatorAwareSslEngineWrapperFactory() {
        @Override
        public SSLEngine wrapSslEngine(
            SSLEngine engine, ByteBufAllocator allocator, JdkApplicationProtocolNegotiator negotiator, boolean isServer) {
          return new Java9SslEngine(engine, negotiator, isServer);
        }
      };

  private Alpn(List<String> protocols) {
    super(WRAPPER, NO_FAIL_SELECTOR_FACTORY, NO_FAIL_SELECTION_LISTENER_FACTORY, protocols);
  }

  public static SslContext makeContext(KeyManagerFactory keys, String... protocols) throws Exception {
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), null, null);
    List<String> ciphers = List.of(context.getSupportedSSLParameters().getCipherSuites());
    return new JdkSslContext(
        context, false, ciphers, IdentityCipherSuiteFilter.INSTANCE, new Alpn(List.of(protocols)), ClientAuth.NONE,
        new String[] {"TLSv1.2", "TLSv1.3"}, false);
  }
}
