// The test application over Java's com.sun.net.httpserver; see tests/e2e/application.py for what it answers.
// Arguments: ADDRESS [CERTIFICATE KEY]; with these over TLS (JSSE).
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

public class App {
  static void answer(HttpExchange exchange, int status, String body) throws IOException {
    boolean isBodiless = body == null || exchange.getRequestMethod().equals("HEAD");
    if (body != null) exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.sendResponseHeaders(status, isBodiless ? -1 : body.length());
    if (!isBodiless) exchange.getResponseBody().write(body.getBytes());
    exchange.close();
  }

  static void serve(HttpExchange exchange) throws IOException {
    exchange.getRequestBody().readAllBytes();
    String path = exchange.getRequestURI().getPath(), method = exchange.getRequestMethod();
    if (path.equals("/orders") && method.equals("POST")) {
      answer(exchange, 201, "{\"number\": 1}");
    } else if (path.startsWith("/orders/") && method.equals("DELETE")) {
      answer(exchange, 204, null);
    } else if (path.startsWith("/orders/")) {
      answer(exchange, 200, "{\"state\": \"sent\"}");
    } else if (path.startsWith("/users/")) {
      answer(exchange, 304, null);
    } else if (path.equals("/events")) {
      exchange.sendResponseHeaders(200, 0); // No length: in chunks.
      for (int size : new int[] {1, 100, 5000}) exchange.getResponseBody().write("x".repeat(size).getBytes());
      exchange.close();
    } else {
      answer(exchange, 404, "{}");
    }
  }

  static SSLContext makeContext(Path certificate, Path key) throws Exception {
    String encoded = Files.readString(key).replaceAll("-----[^-]*-----|\\s", "");
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    try (var content = Files.newInputStream(certificate)) {
      Certificate[] chain = {CertificateFactory.getInstance("X.509").generateCertificate(content)};
      var secret = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(encoded)));
      store.setKeyEntry("server", secret, new char[0], chain);
    }
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(store, new char[0]);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), null, null);
    return context;
  }

  static HttpServer makeServer(String[] arguments) throws Exception {
    InetSocketAddress address = new InetSocketAddress(arguments[0], 0);
    if (arguments.length < 3) return HttpServer.create(address, 128);
    HttpsServer server = HttpsServer.create(address, 128);
    server.setHttpsConfigurator(new HttpsConfigurator(makeContext(Path.of(arguments[1]), Path.of(arguments[2]))));
    return server;
  }

  public static void main(String[] arguments) throws Exception {
    System.setProperty("sun.net.httpserver.nodelay", "true");
    HttpServer server = makeServer(arguments);
    server.createContext("/", App::serve);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.start();
    System.out.printf("{\"event\": \"ready\", \"port\": %d}%n", server.getAddress().getPort());
    System.out.flush();
  }
}
