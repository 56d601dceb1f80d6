// What the servers beside it answer, as App.java does: tests/e2e/application.py.
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;

class Answers {
  static final String PASSWORD = "secret";
  final int status;
  final byte[] body; // Null: none.

  private Answers(int status, String body) {
    this.status = status;
    this.body = body == null ? null : body.getBytes();
  }

  static Answers find(String method, String target) {
    String path = target.split("\\?")[0];
    if (path.equals("/orders") && method.equals("POST")) return new Answers(201, "{\"number\": 1}");
    if (path.startsWith("/orders/") && method.equals("DELETE")) return new Answers(204, null);
    if (path.startsWith("/orders/")) return new Answers(200, "{\"state\": \"sent\"}");
    if (path.startsWith("/users/")) return new Answers(304, null);
    return new Answers(404, "{}");
  }

  static KeyManagerFactory openKeys(String store) throws Exception {
    KeyStore keys = KeyStore.getInstance("PKCS12");
    try (InputStream file = Files.newInputStream(Path.of(store))) {
      keys.load(file, PASSWORD.toCharArray());
    }
    KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    factory.init(keys, PASSWORD.toCharArray());
    return factory;
  }

  static void reportReady(int port) {
    System.out.printf("{\"event\": \"ready\", \"port\": %d}%n", port);
    System.out.flush();
  }
}
