// Jetty 9 with HTTP/1.1 and HTTP/2 over TLS (JSSE). Arguments: ADDRESS KEYSTORE DIRECTORY.
import java.io.IOException;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.alpn.server.ALPNServerConnectionFactory;
import org.eclipse.jetty.http2.server.HTTP2ServerConnectionFactory;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.SecureRequestCustomizer;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.SslConnectionFactory;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.util.ssl.SslContextFactory;

public class JettyApp {
  private static final class App extends AbstractHandler {
    @Override
    public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response) throws IOException {
      request.getInputStream().readAllBytes();
      Answers answer = Answers.find(request.getMethod(), request.getRequestURI());
      response.setStatus(answer.status);
      base.setHandled(true);
      if (answer.body == null) return;
      response.setContentLength(answer.body.length);
      if (!request.getMethod().equals("HEAD")) response.getOutputStream().write(answer.body);
    }
  }

  public static void main(String[] arguments) throws Exception {
    SslContextFactory.Server tls = new SslContextFactory.Server();
    tls.setKeyStorePath(arguments[1]);
    tls.setKeyStorePassword(Answers.PASSWORD);
    HttpConfiguration config = new HttpConfiguration();
    config.addCustomizer(new SecureRequestCustomizer(false));
    ALPNServerConnectionFactory alpn = new ALPNServerConnectionFactory();
    alpn.setDefaultProtocol("http/1.1");
    Server server = new Server();
    ServerConnector connector = new ServerConnector(
        server, new SslConnectionFactory(tls, alpn.getProtocol()), alpn, new HTTP2ServerConnectionFactory(config), new HttpConnectionFactory(config));
    connector.setHost(arguments[0]);
    server.addConnector(connector);
    server.setHandler(new App());
    server.start();
    Answers.reportReady(connector.getLocalPort());
    server.join();
  }
}
